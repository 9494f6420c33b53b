package relay

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/flow/wire"
	"github.com/pannier/pannier/spec/fault"
)

// What happens in the moments between two steps, and what a partner does that takes nothing.

// TestUDPEndsUnread: an entry that takes nothing any more and ends its stream keeps nothing at the exit: no
// socket, no goroutine, and a hub that closes.
func TestUDPEndsUnread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := join(t, Config{}, allowAll("udp://10.0.0.5:53"), false)
		defer w.stop()
		server := w.udpServer("10.0.0.5:53")
		meta, _ := wire.AppendMeta(nil, &connAsk{Relay: "x", To: "udp://10.0.0.5:53", Datagram: 65507})
		st, err := w.near.OpenBytes(t.Context(), flow.Open{Kind: KindUDP, Meta: meta})
		if err != nil {
			t.Fatal(err)
		}
		frame := func(s sort, payload string) {
			b := binary.BigEndian.AppendUint32([]byte{byte(s)}, 1)
			b = append(binary.BigEndian.AppendUint16(b, uint16(len(payload))), payload...)
			if _, err := st.Write(b); err != nil {
				t.Fatal(err)
			}
		}
		frame(newSource, "192.0.2.1:500")
		for range 2 { // the second time it has heard the server
			frame(datagram, "ask")
			_, from, err := server.ReadFrom(make([]byte, 10))
			if err != nil {
				t.Fatal(err)
			}
			for range 100 { // more than the stream's window
				if _, err := server.WriteTo(make([]byte, 60000), from); err != nil {
					t.Fatal(err)
				}
			}
			synctest.Wait()
		}
		if err := st.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * lastWords)
		if n := w.east.Stats()[0].Open; n != 0 {
			t.Errorf("%d sources are open", n)
		}
		closed := make(chan struct{})
		go func() { w.east.Close(); close(closed) }()
		select {
		case <-closed:
		case <-time.After(time.Minute):
			t.Error("the hub does not close")
			st.Reset(nil)
		}
	})
}

// TestBurst: more at a time than the rate's burst passes, later.
func TestBurst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		if err := (Limits{Rate: 64 << 10, Bytes: -1}).meter().take(t.Context(), 256<<10); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took < 3*time.Second-time.Millisecond || took > 3*time.Second+time.Millisecond {
			t.Errorf("256 KiB at 64 KiB a second, 64 KiB at once, in %v", took)
		}
	})
}

// onListen is a log that is told of a relay that listens.
type onListen struct {
	slog.Handler
	told func()
}

func (o onListen) Enabled(context.Context, slog.Level) bool { return true }

func (o onListen) Handle(_ context.Context, r slog.Record) error {
	if r.Message == "relay listens" {
		o.told()
	}
	return nil
}

// TestRemovedWhileItOpens: a relay that is removed in the moment in which it has opened its listener leaves none behind.
func TestRemovedWhileItOpens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		var h *Hub
		log := slog.New(onListen{slog.DiscardHandler, func() {
			if err := h.Remove("x"); err != nil {
				t.Error(err)
			}
		}})
		var err error
		if h, err = New(Config{Network: w.network(), Logger: log}); err != nil {
			t.Fatal(err)
		}
		accept, err := ParseAccept("tcp://127.0.0.1:9000")
		if err != nil {
			t.Fatal(err)
		}
		to, err := ParseTo("tcp://10.0.0.5:80")
		if err != nil {
			t.Fatal(err)
		}
		if err := h.Add(Relay{Name: "x", Partner: "east", Accept: []Endpoint{accept}, At: Here, To: to}); fault.KindOf(err) != fault.Draining && fault.KindOf(err) != fault.NotFound {
			t.Errorf("%v", err)
		}
		if len(w.serve) > 0 {
			t.Error("it still listens")
		}
		closed := make(chan struct{})
		go func() { h.Close(); close(closed) }()
		select {
		case <-closed:
		case <-time.After(time.Minute):
			t.Error("the hub does not close")
			for _, l := range w.serve {
				l.Close()
			}
		}
	})
}

// TestStatsBesideAdd: relays may be listed while they are added.
func TestStatsBesideAdd(t *testing.T) {
	w := newWorld()
	h, err := New(Config{Network: w.network()})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	to, err := ParseTo("tcp://10.0.0.5:80")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	over := make(chan struct{})
	wg.Go(func() {
		for {
			select {
			case <-over:
				return
			default:
				h.Stats()
			}
		}
	})
	for i := range 500 {
		accept, err := ParseAccept(fmt.Sprintf("tcp://127.0.0.1:%d", 9000+i))
		if err == nil {
			err = h.Add(Relay{Name: fmt.Sprint("x", i), Partner: fmt.Sprint("east", i), Accept: []Endpoint{accept}, At: Here, To: to})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	close(over)
	wg.Wait()
}

// TestRefusalsAreCalm: a partner that is refused again and again writes a bounded log, which says how many there were.
func TestRefusalsAreCalm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := join(t, Config{}, Config{}, false) // who allows nothing
		defer w.stop()
		meta, _ := wire.AppendMeta(nil, &connAsk{Relay: "x", To: "tcp://10.0.0.5:80"})
		for range 100 {
			for range 50 {
				if _, err := w.near.OpenBytes(t.Context(), flow.Open{Kind: KindConn, Meta: meta}); fault.KindOf(err) != fault.Permission {
					t.Fatal(err)
				}
			}
			time.Sleep(time.Second)
		}
		n := len(w.eastLog.with("not relayed"))
		if n < 100 || n > 210 {
			t.Errorf("%d records of 5000", n)
		}
		if len(w.eastLog.with("unlogged=")) < 90 {
			t.Error("nobody says how many there were besides")
		}
	})
}

// TestUDPManyUnread: an entry that takes nothing of many streams has one bound for all of them, and what waits for it is
// given back when they end.
func TestUDPManyUnread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := join(t, Config{}, allowAll("udp://10.0.0.5:53"), false)
		defer w.stop()
		server := w.udpServer("10.0.0.5:53")
		ask := func() *flow.ByteStream {
			st := rawUDP(t, w.near, connAsk{Relay: "x", To: "udp://10.0.0.5:53"})
			frameTo(t, st, newSource, 1, "192.0.2.1:500")
			frameTo(t, st, datagram, 1, "ask")
			_, from, err := server.ReadFrom(make([]byte, 10))
			if err != nil {
				t.Fatal(err)
			}
			for range 2 { // what is being written, and what waits behind that
				for range 30 {
					server.WriteTo(make([]byte, 60000), from)
				}
				synctest.Wait()
			}
			return st
		}
		const many, window = 60, 256 << 10
		var all [many]*flow.ByteStream
		for i := range all {
			all[i] = ask()
		}
		given := func() (n int64) {
			for _, c := range w.east.Conns() {
				n += c.ToPeer
			}
			return n
		}
		if n := given(); n > maxQueuedAll+many*window || n < maxQueuedAll/2 {
			t.Errorf("%d bytes wait, or are in the windows", n)
		}
		for _, st := range all {
			st.Reset(nil)
		}
		time.Sleep(time.Second)
		if n := (*w.east.policy.Load())[0].use.queued.Load(); n != 0 {
			t.Errorf("%d bytes are still counted", n)
		}
		if s := w.east.Stats()[0]; s.Sent+s.Dropped != many*60 || s.ToPeer != s.Sent*60000 {
			t.Errorf("%d datagrams, %d bytes, were sent and %d dropped of %d", s.Sent, s.ToPeer, s.Dropped, many*60)
		}
		ask()
		if given() == 0 {
			t.Error("nothing is sent any more")
		}
	})
}

// TestUDPManyWords: what may not be dropped has a bound for all streams, too, which ends those that have most of it.
func TestUDPManyWords(t *testing.T) {
	use := newUsage(Limits{})
	few := newQueue(use)
	few.put(gone, 1, nil)
	var all []*queue
	for range 24 {
		q := newQueue(use)
		for s := range uint32(maxQueued / frameHead) {
			q.put(gone, s, nil)
		}
		all = append(all, q)
	}
	if n := use.queued.Load(); n > maxQueuedAll+maxQueuedAllWords+24*(fewQueued+frameHead) {
		t.Errorf("%d bytes wait", n)
	}
	if few.send(1, &tally{use: few.use}, []byte("x")) || !few.put(gone, 1, nil) {
		t.Error("a datagram has room beyond the bound, or an end has none")
	}
	for _, q := range append(all, few) {
		q.end()
	}
	if n := use.queued.Load(); n != 0 {
		t.Errorf("%d bytes are still counted", n)
	}
}
