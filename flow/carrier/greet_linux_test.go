package carrier

import (
	"context"
	"errors"
	"io"
	"os"
	"testing"
	"time"
)

// silent is the other end of far, a listener's pair of FIFOs: it has said what a dialer
// says first and says no more. It reads if reads is set.
func silent(t *testing.T, far Address, reads bool) (answers *os.File) {
	t.Helper()
	w, err := os.OpenFile(far.Path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	if _, err := w.Write(greeting{kind: greetCall, from: [16]byte{1}}.append(nil)); err != nil {
		t.Fatal(err)
	}
	if !reads {
		return nil
	}
	if answers, err = os.OpenFile(far.Out, os.O_RDWR, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = answers.Close() })
	return answers
}

// TestListenerGivesUp: who calls and says no more, or does not even listen, does not hold a
// listener for longer than its patience.
func TestListenerGivesUp(t *testing.T) {
	for _, reads := range []bool{false, true} {
		_, far := fifos(t)
		a, err := ParseAddress(plain(far))
		if err != nil {
			t.Fatal(err)
		}
		silent(t, a, reads)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		c, err := openOnePipe(ctx, a, Options{HandshakeTimeout: 20 * time.Millisecond}, true)
		if c != nil || err == nil || ctx.Err() != nil {
			t.Errorf("it reads: %v: %v, %v", reads, err, ctx.Err())
		}
	}
}

// TestListenerIsClosed: whoever is in the middle of a greeting does not keep a listener from its end.
func TestListenerIsClosed(t *testing.T) {
	_, far := fifos(t)
	a, err := ParseAddress(plain(far))
	if err != nil {
		t.Fatal(err)
	}
	answers := silent(t, a, true)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := openOnePipe(ctx, a, Options{HandshakeTimeout: time.Minute}, true)
		ended <- err
	}()
	if _, err := io.ReadFull(answers, make([]byte, greetingSize)); err != nil {
		t.Fatal(err)
	}
	cancel()
	select {
	case err := <-ended:
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Error("it goes on")
	}
}

// TestGreetingLeavesNoDeadline: the waits of the greeting are not those of the connection.
func TestGreetingLeavesNoDeadline(t *testing.T) {
	near, far := fifos(t)
	l := serve(t, plain(far), Options{})
	c := mustDial(t, plain(near), Options{})
	writePreface(t, c)
	s := <-l.lane
	defer s.Close()
	readPreface(t, s)
	time.Sleep(leastRing + 50*time.Millisecond)
	swap(t, c, s)
}
