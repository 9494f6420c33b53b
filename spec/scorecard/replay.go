package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/flow/wire"
	"github.com/pannier/pannier/spec/fault"
)

// Of one transfer that is cut and gone on with.
const (
	replayCuts    = 20          // within one transfer
	replayBetween = mib         // bytes that get through between two cuts
	replayKept    = 512 << 10   // bytes of a captured connection
	replayPatient = time.Minute // for one transfer
)

var replay = check{
	id: 16, title: "connections cut 20 times within one transfer over plain TCP, everything the client said on earlier epochs said again: refused as stale, nothing of it arrives, the file is right",
	unit: "replays accepted", n: counts{reduced: 1, full: 50},
	mutant: "epochs are not compared",
	edits: []edit{
		{"flow/acceptor.go", "	if !s.awaits(h.Epoch) {\n", "	if !s.awaits(h.Epoch) && !mutant(\"16\") {\n"},
		{"flow/acceptor.go", "		if !s.reaches(a.ctx, h.Epoch) {\n", "		if !mutant(\"16\") && !s.reaches(a.ctx, h.Epoch) {\n"},
	},
	run: runReplay,
}

// replayRun is one transfer with its eavesdropper.
type replayRun struct {
	target string // of the acceptor
	far    atomic.Pointer[flow.Session]
	note   *note
	wg     sync.WaitGroup

	mu       sync.Mutex
	up       []*captured // connections that live
	old      []*captured // connections of epochs that are over
	passed   int64
	cuts     int
	replayed int
	accepted int // of a session there is, which must not be
}

// captured is what a client has said on one connection.
type captured struct {
	near, far net.Conn
	said      bytes.Buffer // guarded by replayRun.mu; at most replayKept
}

func runReplay(ctx context.Context, j *job) (result, error) {
	var w note
	var accepted, replayed, cuts int
	for range j.n {
		r := &replayRun{note: &w}
		content := make([]byte, replayCuts*replayBetween+j.rnd.IntN(mib))
		for i := range content {
			content[i] = byte(j.rnd.Uint32())
		}
		if err := r.transfer(ctx, content); err != nil {
			return result{}, err
		}
		accepted, replayed, cuts = accepted+r.accepted, replayed+r.replayed, cuts+r.cuts
	}
	if accepted > 0 {
		w.add("replays of old epochs were accepted")
	}
	if cuts < j.n*replayCuts/2 || replayed < cuts {
		w.add("too little happened")
	}
	return w.result(float64(accepted), "%d transfers, %d cuts, %d connections said again", j.n, cuts, replayed), nil
}

// transfer moves content over connections that are listened to, cut, and said again.
func (r *replayRun) transfer(ctx context.Context, content []byte) error {
	ctx, cancel := context.WithTimeout(ctx, replayPatient)
	defer cancel()
	acceptor, err := flow.NewAcceptor(flow.Config{BlockSize: replayBetween / 4})
	if err != nil {
		return err
	}
	direct, err1 := net.Listen("tcp", "127.0.0.1:0")
	tapped, err2 := net.Listen("tcp", "127.0.0.1:0")
	if err := errors.Join(err1, err2); err != nil {
		return fault.Wrap("listen", "", err)
	}
	r.target = direct.Addr().String()
	r.each(direct, acceptor.Handle)
	r.each(tapped, r.tap)
	defer r.wg.Wait()
	defer func() { r.cut(); direct.Close(); tapped.Close(); acceptor.Close() }()
	near, err := flow.Connect(ctx, plainDialer(tapped.Addr().String()), flow.Config{Lanes: 2, BlockSize: replayBetween / 4}) // some blocks get through between two cuts
	if err != nil {
		return err
	}
	defer near.Close()
	far, err := acceptor.Accept(ctx)
	if err != nil {
		return err
	}
	r.far.Store(far)
	got := make(chan []byte, 1)
	r.wg.Go(func() { got <- pullAll(ctx, far) })
	if err := pushAll(ctx, near, content); err != nil {
		r.note.add("the transfer failed: %v", err)
	}
	if b := <-got; !bytes.Equal(b, content) {
		r.note.add("the file is wrong: %d bytes of %d", len(b), len(content))
	}
	return nil
}

// each gives every connection of a listener to f.
func (r *replayRun) each(l net.Listener, f func(net.Conn)) {
	r.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			r.wg.Go(func() { f(c) })
		}
	})
}

// tap forwards one connection and remembers what the client says.
func (r *replayRun) tap(near net.Conn) {
	far, err := net.Dial("tcp", r.target)
	if err != nil {
		near.Close()
		return
	}
	c := &captured{near: near, far: far}
	r.mu.Lock()
	r.up = append(r.up, c)
	r.mu.Unlock()
	r.wg.Go(func() { _, _ = io.Copy(near, far); near.Close() })
	p := make([]byte, 64<<10)
	for {
		n, err := near.Read(p)
		if err == nil {
			_, err = far.Write(p[:n])
		}
		if err != nil {
			far.Close()
			return
		}
		if r.remember(c, p[:n]) {
			r.cut()
			r.wg.Go(r.again)
		}
	}
}

// remember keeps what was said and reports whether it is time for a cut.
func (r *replayRun) remember(c *captured, p []byte) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	c.said.Write(p[:min(len(p), replayKept-c.said.Len())])
	r.passed += int64(len(p))
	if r.cuts < replayCuts && r.passed > int64(r.cuts+1)*replayBetween/2 {
		r.cuts++
		return true
	}
	return false
}

func (r *replayRun) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.up {
		c.near.Close()
		c.far.Close()
	}
	r.old, r.up = append(r.old, r.up...), nil
}

// again says everything that belongs to epochs that are over once more. Of the
// present one it says nothing: without encryption whoever listens knows the
// token, and may add a lane.
func (r *replayRun) again() {
	r.mu.Lock()
	var sayings [][]byte
	for _, c := range r.old {
		sayings = append(sayings, bytes.Clone(c.said.Bytes()))
	}
	r.mu.Unlock()
	for _, said := range sayings {
		h, ok := helloIn(said)
		far := r.far.Load()
		if !ok || far == nil || h.Session == [16]byte{} || int(h.Epoch) >= far.Stats().Epoch { // the very first one asks for a session of its own
			continue
		}
		accepted := r.say(said)
		r.mu.Lock()
		r.replayed++
		if accepted {
			r.accepted++
		}
		r.mu.Unlock()
	}
}

// say reports whether a replayed connection was welcome. One that breaks off
// without an answer was not.
func (r *replayRun) say(said []byte) bool {
	c, err := net.Dial("tcp", r.target)
	if err != nil {
		return false
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(rawTimeout))
	r.wg.Go(func() { _, _ = c.Write(said) })
	_, ack, err := readAck(c)
	if err == nil && ack.Kind != 0 && fault.Kind(ack.Kind) != fault.Stale {
		r.mu.Lock()
		r.note.add("refused with %v", fault.Kind(ack.Kind))
		r.mu.Unlock()
	}
	return err == nil && ack.Kind == 0
}

// helloIn is the introduction that a captured connection begins with.
func helloIn(said []byte) (h wire.Hello, ok bool) {
	if len(said) < len(wire.Preface)+wire.HeaderSize {
		return h, false
	}
	said = said[len(wire.Preface):]
	head, err := wire.ParseHeader(said[:wire.HeaderSize])
	if err != nil || head.Type != wire.TypeHello || len(said) < wire.HeaderSize+8*int(head.Ext)+int(head.Length) {
		return h, false
	}
	body := said[wire.HeaderSize+8*int(head.Ext):][:head.Length]
	return h, wire.Decode(body, &h) == nil
}

// plainDialer dials TCP.
type plainDialer string

// Single implements flow.Dialer.
func (plainDialer) Single() bool { return false }

// Dial implements flow.Dialer.
func (d plainDialer) Dial(ctx context.Context) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "tcp", string(d))
}

// pushAll sends content on a new stream, from wherever the session goes back to.
func pushAll(ctx context.Context, s *flow.Session, content []byte) error {
	b, err := s.OpenBlocks(ctx, flow.Open{Kind: "x", Send: true})
	for err == nil {
		var blk *flow.Block
		if blk, err = b.Next(ctx); err != nil {
			return err
		}
		n := copy(blk.Data, content[blk.Offset:])
		if err = b.Send(ctx, blk, n); err != nil || blk.Offset+int64(n) < int64(len(content)) {
			continue
		}
		if err = b.End(nil); err == nil {
			if _, err = b.Verdict(ctx); !errors.Is(err, flow.ErrRewound) {
				return err
			}
			err = nil
		}
	}
	return err
}

// pullAll receives one stream; nil if it fails.
func pullAll(ctx context.Context, s *flow.Session) []byte {
	in, err := s.AcceptStream(ctx)
	if err != nil {
		return nil
	}
	b, err := in.AcceptBlocks(flow.AcceptBlocks{Start: -1})
	if err != nil {
		return nil
	}
	var got []byte
	for {
		blk, err := b.Recv(ctx)
		switch {
		case err == io.EOF && b.Finish(nil) == nil:
			return got
		case err != nil:
			return nil
		}
		got = append(got, blk.Data...)
		blk.Release()
	}
}
