package flow

import (
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/pannier/pannier/flow/flowtest"
	"github.com/pannier/pannier/flow/wire"
	"github.com/pannier/pannier/spec/fault"
)

// TestRPCStreamsOfASession: a session of one pipe has places for gRPC, each for as long as
// its stream is open. Where all acceptors' places are taken the stream is refused, without waiting in the
// reader, which holds the session's lock.
func TestRPCStreamsOfASession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := flowtest.NewLink(flowtest.LinkConfig{})
		a, err := NewAcceptor(Config{})
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		defer func() { a.Close(); l.Close(); wg.Wait() }()
		wg.Go(func() {
			for c, err := l.Accept(); err == nil; c, err = l.Accept() {
				wg.Go(func() { a.Handle(c) })
			}
		})
		h := rawHello(1)
		h.Single = true
		var last *rawPeer
		for range maxQueuedConns/maxRPC + 1 { // nobody accepts
			p, _, err := rawConnect(t, l, h)
			if err != nil {
				t.Fatal(err)
			}
			p.listen(&wg)
			for n := range uint32(maxRPC) {
				p.send(openFrame(p.own(n+1), wire.Open{Kind: kindRPC, Window: KiB}))
			}
			settle()
			last = p
		}
		if n := len(last.refused(fault.Overloaded)); n != maxRPC {
			t.Errorf("%d streams were refused when all places of the acceptor were taken, want %d", n, maxRPC)
		}
		for range maxQueuedConns {
			if _, _, err := a.AcceptRPC(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		id := uint32(maxRPC)
		open := func() {
			id++
			last.send(openFrame(last.own(id), wire.Open{Kind: kindRPC, Window: KiB}))
			settle()
		}
		for range maxRPC {
			open()
		}
		if n := len(last.refused(fault.Overloaded)); n != maxRPC {
			t.Errorf("%d streams were refused, want %d of before", n, maxRPC)
		}
		open()
		if n := len(last.refused(fault.Overloaded)); n != maxRPC+1 {
			t.Errorf("%d streams were refused, want %d and one too many", n, maxRPC)
		}
		last.send(resetFrame(last.own(id-1), nil))
		open()
		if n := len(last.refused(fault.Overloaded)); n != maxRPC+1 {
			t.Errorf("%d streams were refused after one had ended", n)
		}
	})
}

// refused are the streams that were reset with a kind.
func (p *rawPeer) refused(kind fault.Kind) (ids []uint32) {
	for _, f := range p.got(wire.TypeReset) {
		var r wire.Reset
		if wire.Decode(f.body, &r) == nil && fault.Kind(r.Kind) == kind {
			ids = append(ids, f.Stream)
		}
	}
	return ids
}

// TestRPCConnsOfASession: the same of connections.
func TestRPCConnsOfASession(t *testing.T) {
	near, _, a, _ := pair(t, Config{}, false)
	var accepted []net.Conn
	for n := range maxRPC {
		if _, err := near.OpenRPC(t.Context()); err != nil {
			t.Fatalf("connection %d: %v", n+1, err)
		}
		c, _, err := a.AcceptRPC(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		accepted = append(accepted, c)
	}
	if _, err := near.OpenRPC(t.Context()); fault.KindOf(err) != fault.Overloaded {
		t.Errorf("one more: %v", err)
	}
	accepted[0].Close()
	accepted[0].Close() // twice is once
	if _, err := near.OpenRPC(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := near.OpenRPC(t.Context()); fault.KindOf(err) != fault.Overloaded {
		t.Errorf("one more after one had been closed: %v", err)
	}
}

// TestCloseWithError: both ends have the reason, and the connections for gRPC end, which they do not
// with a session that is closed without one.
func TestCloseWithError(t *testing.T) {
	for _, reason := range []*fault.Error{nil, fault.Concluded("session", fault.Unauthenticated, "somebody else's now")} {
		near, far, a, _ := pair(t, Config{}, false)
		c, err := near.OpenRPC(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		theirs, _, err := a.AcceptRPC(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if reason == nil {
			far.Close()
			if _, err := theirs.Write([]byte("x")); err != nil {
				t.Errorf("after Close: %v", err)
			}
			if _, err := c.Read(make([]byte, 1)); err != nil {
				t.Errorf("after Close: %v", err)
			}
			theirs.Close()
			continue
		}
		far.CloseWithError(reason)
		<-near.Done()
		var e *fault.Error
		if err := near.Err(); !errors.As(err, &e) || e.Kind != reason.Kind || e.Side != fault.Peer || !strings.Contains(err.Error(), "somebody else's now") {
			t.Errorf("the peer has %v", near.Err())
		}
		if err := far.Err(); !errors.As(err, &e) || e.Kind != reason.Kind || e.Side != fault.Inferred {
			t.Errorf("this end has %v", err)
		}
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("the connection goes on")
		}
		theirs.Close()
	}
}
