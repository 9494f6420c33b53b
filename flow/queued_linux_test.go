package flow

import (
	"io"
	"net"
	"testing"
	"time"
)

// TestDrains: while a Write waits, a peer that reads is seen to by what its system acknowledges, and one that
// does not is not.
func TestDrains(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	peer, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
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
