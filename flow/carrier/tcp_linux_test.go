package carrier

import (
	"net"
	"testing"

	"github.com/pannier/pannier/flow/flowtest"
)

// Who says nothing is not accepted: the kernel has it.
func TestSilentAreNotAccepted(t *testing.T) {
	l := serve(t, "tcp://127.0.0.1:0", Options{})
	for range 10 { // fewer than one source may have
		rawDial(t, l)
	}
	writePreface(t, rawDial(t, l)) // after them in any queue
	_ = (<-l.lane).Close()
	if s := l.Stats(); s.Accepted != 1 {
		t.Errorf("%d accepted, want the one that speaks", s.Accepted)
	}
}

// TestDoesNotPace: neither end of a connection between two processes of this host paces what it sends.
func TestDoesNotPace(t *testing.T) {
	want, err := flowtest.LoopbackCongestion()
	if err != nil {
		t.Fatal(err)
	}
	l := serve(t, "tcp://127.0.0.1:0", Options{})
	d, err := NewDialer(l.Address().String(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	c, err := d.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	writePreface(t, c)
	accepted := <-l.lane
	defer accepted.Close()
	for _, c := range []net.Conn{c, accepted} {
		if got, err := flowtest.Congestion(c); got != want || err != nil {
			t.Errorf("%s, %v; want %s", got, err, want)
		}
	}
}
