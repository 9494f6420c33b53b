package carrier

import "testing"

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
