package flow

import (
	"bytes"
	"context"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/flow/flowtest"
	"github.com/pannier/pannier/flow/wire"
	"github.com/pannier/pannier/spec/fault"
)

// deafPeer accepts a session, grants a lot, says something every second, and
// never reads. It answers nothing that the victim asks.
func deafPeer(t *testing.T, l *flowtest.Link, every func() []byte, say ...[]byte) {
	p, err := rawAccept(t, l, nil)
	if err != nil {
		t.Error(err)
		return
	}
	settle() // the victim has opened its stream
	p.send(say...)
	for err == nil {
		_, err = p.conn.Write(p.seal(every()))
		time.Sleep(time.Second)
	}
}

// TestPeerThatTalksAndDoesNotRead: what this end writes to such a peer waits no
// longer than a silent one would live, and a cancelled transfer ends then. One that acknowledges a byte now and
// then holds it for some minutes.
func TestPeerThatTalksAndDoesNotRead(t *testing.T) {
	ping := func() []byte { return wire.AppendPing(nil, 1) }
	talksAndDoesNotRead(t, ping, 13*time.Second, 20*time.Second)
	acknowledged := uint64(0)
	ack := func() []byte { acknowledged++; return wire.AppendPipeAck(nil, acknowledged-1) } // nothing before anything has come
	talksAndDoesNotRead(t, ack, frameTime, 2*frameTime)
}

func talksAndDoesNotRead(t *testing.T, every func() []byte, least, most time.Duration) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := flowtest.NewLink(flowtest.LinkConfig{Single: true, SendBuffer: 64 * KiB, RecvBuffer: 64 * KiB})
		var wg sync.WaitGroup
		defer wg.Wait()
		defer l.Close()
		wg.Go(func() {
			deafPeer(t, l, every, control(wire.TypeAccept, 1, &wire.Accept{BlockSize: testBlock, Window: 16 * MiB}))
		})
		near, err := Connect(t.Context(), l, Config{ResumeTimeout: -1})
		if err != nil {
			t.Fatal(err)
		}
		defer near.Close()
		b, err := near.OpenBlocks(t.Context(), Open{Kind: "x", Send: true, BlockSize: testBlock})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		began := time.Now()
		go func() { _, err := push(ctx, b, content(4*MiB)); ended <- err }()
		settle()
		cancel()
		select {
		case err := <-ended:
			if took := time.Since(began); took < least {
				t.Errorf("given up after %v: %v", took, err)
			}
		case <-time.After(most):
			t.Error("the cancelled source is still in its Write")
			l.Cut()
			<-ended
		}
		settle()
		if err := near.Err(); fault.KindOf(err) != fault.DeadPeer {
			t.Errorf("the session ended with %v", err)
		}
	})
}

// TestSlowLineIsNotDead: a block takes longer than a peer may be silent. Both directions are full, so that acknowledgements wait behind
// whole blocks, and nothing acknowledges control frames.
func TestSlowLineIsNotDead(t *testing.T) {
	t.Parallel() // virtual time: load does not matter
	for _, buffer := range []int{4 * KiB, 64 * KiB} {
		synctest.Test(t, func(t *testing.T) {
			near, far, stop := slowLine(t, buffer, 24_000)
			defer stop()
			want := content(600_000)
			var wg sync.WaitGroup
			for _, ends := range [][2]*Session{{near, far}, {far, near}} {
				wg.Go(func() {
					if got, err := carryFor(t, time.Hour, ends[0], ends[1], want, Open{}); err != nil || !bytes.Equal(got, want) {
						t.Errorf("buffers of %d: %d bytes, %v", buffer, len(got), err)
					}
				})
			}
			wg.Wait()
			if n := near.stats.losses.Load() + far.stats.losses.Load(); n != 0 {
				t.Errorf("buffers of %d: the connection was given up %d times", buffer, n)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		near, far, stop := slowLine(t, 4*KiB, 8_000) // a PING waits for half a minute behind what the peer only hears
		defer stop()
		const streams = 10
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		var wg sync.WaitGroup
		wg.Go(func() {
			for range streams {
				if in, err := far.AcceptStream(ctx); err == nil {
					in.Refuse(fault.New("x", fault.Refused, "no"))
				}
			}
		})
		for range streams {
			wg.Go(func() {
				_, err := near.OpenBytes(ctx, Open{Kind: "x", Meta: content(30 * KiB)})
				if fault.KindOf(err) != fault.Refused {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n := near.stats.losses.Load() + far.stats.losses.Load(); n != 0 {
			t.Errorf("control frames: the connection was given up %d times", n)
		}
	})
}

func slowLine(t *testing.T, buffer int, rate int64) (near, far *Session, stop func()) {
	near, far, _, stop = emulated(t, flowtest.LinkConfig{RTT: 10 * time.Millisecond, Rate: rate, Single: true, SendBuffer: buffer, RecvBuffer: buffer}, Config{})
	return near, far, stop
}

// brake slows down its connections, in the middle of a Write.
type brake struct {
	*flowtest.Link
	on    atomic.Bool
	write int // bytes a second
	read  int // the same; 0: as they come
}

func (d *brake) Dial(ctx context.Context) (net.Conn, error) {
	c, err := d.Link.Dial(ctx)
	return braked{c, d}, err
}

type braked struct {
	net.Conn
	*brake
}

func (c braked) Write(p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		part := p[n:]
		if c.on.Load() {
			time.Sleep(time.Second)
			part = part[:min(len(part), c.write)]
		}
		m, werr := c.Conn.Write(part)
		n, err = n+m, werr
	}
	return n, err
}

func (c braked) Read(p []byte) (int, error) {
	if c.read > 0 && c.on.Load() {
		time.Sleep(time.Second)
		p = p[:min(len(p), c.read)]
	}
	return c.Conn.Read(p)
}

// TestPieces: on a fast link frames go out whole soon. Where it becomes slow in the
// middle of one, its acknowledgements say that it moves, and the Writes after that are
// short again.
func TestPieces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := flowtest.NewLink(flowtest.LinkConfig{RTT: 2 * time.Millisecond, Single: true})
		d := &brake{Link: l, write: KiB}
		near, far, stop := joinedBy(t, l, d, Config{BlockSize: 64 * KiB})
		defer stop()
		size := func() int {
			near.mu.Lock()
			defer near.mu.Unlock()
			l := near.control
			l.turns.mu.Lock()
			defer l.turns.mu.Unlock()
			return l.piece.size
		}
		want := content(8 * MiB)
		if _, err := carry(t, near, far, want, Open{}); err != nil {
			t.Error(err)
		}
		if n := size(); n < 64*KiB {
			t.Errorf("pieces of %d bytes on a fast link", n)
		}
		d.on.Store(true)
		want = want[:300_000]
		if got, err := carryFor(t, time.Hour, near, far, want, Open{}); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		if n := size(); n > 2*KiB {
			t.Errorf("pieces of %d bytes on a slow link", n)
		}
		if n := near.stats.losses.Load() + far.stats.losses.Load(); n != 0 {
			t.Errorf("the connection was given up %d times", n)
		}
	})
}

// TestFastLinkTurnsSlow: while transfers fill both directions, so that acknowledgements wait behind them, a Write
// that was begun on the fast link does not take so long that the peer is given up.
func TestFastLinkTurnsSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := flowtest.NewLink(flowtest.LinkConfig{RTT: 2 * time.Millisecond, SendBuffer: 16 * KiB, RecvBuffer: 16 * KiB})
		d := &brake{Link: l, write: 8 * KiB, read: 8 * KiB}
		near, far, stop := joinedBy(t, l, d, Config{})
		defer stop()
		want := content(8 * MiB)
		for _, slow := range []bool{false, true} {
			d.on.Store(slow)
			var wg sync.WaitGroup
			for _, ends := range [][2]*Session{{near, far}, {far, near}} {
				wg.Go(func() {
					if got, err := carryFor(t, time.Hour, ends[0], ends[1], want, Open{}); err != nil || !bytes.Equal(got, want) {
						t.Errorf("%d bytes, %v", len(got), err)
					}
				})
			}
			wg.Wait()
			want = want[:MiB]
		}
		if n := near.stats.losses.Load() + far.stats.losses.Load(); n != 0 {
			t.Errorf("the connection was given up %d times", n)
		}
	})
}
