package flow

import (
	"io"
	"testing"
	"time"

	"github.com/pannier/pannier/flow/wire"
)

// TestDrains: while a Write waits, a peer that reads is seen to by what its system acknowledges, and one that
// does not is not.
func TestDrains(t *testing.T) {
	c, peer := sockets(t, "tcp")
	written := make(chan struct{})
	go func() {
		defer close(written)
		_, _ = c.Write(make([]byte, 64*MiB))
	}()
	defer func() { c.Close(); peer.Close(); <-written }()
	l := &lane{s: newSession(Config{}), conn: c, raw: socketOf(c)}
	if l.raw == nil {
		t.Fatal("the system does not say what a socket has queued")
	}
	looks := func() bool { // whether it is seen to move
		l.stuck.Store(1)
		l.drains()
		return l.stuck.Load() > 1
	}
	still := 0
	for began := time.Now(); still < 20 && time.Since(began) < 10*time.Second; still++ {
		time.Sleep(10 * time.Millisecond)
		if looks() {
			still = -1
		}
	}
	if still < 20 {
		t.Fatal("it moves, and nobody reads")
	}
	go func() { _, _ = io.CopyN(io.Discard, peer, 32*MiB) }()
	for began := time.Now(); !looks(); time.Sleep(time.Millisecond) {
		if time.Since(began) > 10*time.Second {
			t.Fatal("the peer reads, and it does not move")
		}
	}
}

// TestPingBehindAFullBuffer: a PING that waits in this end's system behind what the peer's takes slowly is
// answered late, by a peer that lives. Where nothing is taken it is dead.
func TestPingBehindAFullBuffer(t *testing.T) {
	c, peer := sockets(t, "tcp")
	cfg, err := Config{}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	s := newSession(cfg)
	s.created = time.Now().Add(-time.Hour)
	defer s.wg.Wait()
	l := newLane(s, &turns{}, c, wire.Control, 1)
	for n, silent := 0, 0; silent < 3; { // until both systems are full
		if err := c.SetWriteDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		n, err = c.Write(make([]byte, MiB))
		l.wrote.Add(int64(n))
		if silent++; n > 0 {
			silent = 0
		}
		if err == nil {
			silent = 0
		}
	}
	ago := func(d time.Duration) int64 { return s.ticks() - int64(d) }
	l.drains()
	dead := func() bool { // in the tenth second after the PING
		l.heard.Store(ago(20 * time.Second))
		l.pinged.Store(ago(11 * time.Second))
		l.asks.Store(l.pinged.Load())
		l.asked.Store(ago(10 * time.Second))
		l.drained = ago(10 * time.Second)
		s.check(l)
		return l.cause.Load() != nil
	}
	before := l.queued
	if before == 0 {
		t.Fatal("the system says that nothing is queued")
	}
	go func() { _, _ = io.CopyN(io.Discard, peer, 8*MiB) }()
	for began := time.Now(); ; time.Sleep(time.Millisecond) {
		if n, ok := queued(l.raw); !ok || time.Since(began) > 10*time.Second {
			t.Fatal("the peer reads, and its system takes nothing")
		} else if n < before {
			break
		}
	}
	if dead() {
		t.Error("a peer whose system takes what is queued before the PING is dead")
	}
	for n, still := -1, 0; still < 10; time.Sleep(100 * time.Millisecond) { // until nothing moves any more
		l.drains()
		if still++; n != l.queued {
			n, still = l.queued, 0
		}
	}
	if !dead() {
		t.Error("a peer whose system takes nothing any more lives")
	}
}
