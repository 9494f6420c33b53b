package flow

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"

	"github.com/pannier/pannier/flow/wire"
)

// TestLittleIsHandedOn: small frames reach a socket whole and in order, whether it takes them at once or its reader
// has stopped for a while; and the lane goes on meanwhile.
func TestLittleIsHandedOn(t *testing.T) {
	near, far, _, _ := pair(t, Config{}, false)
	a, b := bytePair(t, near, far, wire.ClassRelay)
	w, r := sockets(t, "tcp")
	_ = w.(*net.TCPConn).SetWriteBuffer(4 * KiB)
	_ = r.(*net.TCPConn).SetReadBuffer(4 * KiB)
	_ = w.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
	before, _ := w.Write(make([]byte, 64*MiB)) // it takes no more
	_ = w.SetWriteDeadline(time.Time{})
	over := make(chan error, 1)
	b.Deliver(w, func(err error) { over <- err; w.Close() })
	want := content(128 * KiB)
	for i := 0; i < len(want); i += 512 { // more than the socket takes
		if _, err := a.Write(want[i : i+512]); err != nil {
			t.Fatal(err)
		}
		for came := int64(0); came < int64(i+512); { // each comes alone, so that the lane's reader tries it
			b.mu.Lock()
			came = b.arrived
			b.mu.Unlock()
			time.Sleep(20 * time.Microsecond)
		}
	}
	beside, other := bytePair(t, near, far, wire.ClassRelay)
	if _, err := beside.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	_ = other.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := other.Read(make([]byte, 1)); err != nil {
		t.Errorf("another stream has nothing: %v", err)
	}
	go func() { _ = a.CloseWrite() }()
	_ = r.SetReadDeadline(time.Now().Add(10 * time.Second))
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got[min(before, len(got)):], want) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if err := <-over; err != nil {
		t.Error(err)
	}
}
