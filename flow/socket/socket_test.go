package socket

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/pannier/pannier/flow/flowtest"
)

func pair(t *testing.T, network string) (a, b net.Conn) {
	t.Helper()
	a, b, err := flowtest.Sockets(network)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

// TestReadAndWrite: more than the system holds goes through whole, and the end is an io.EOF.
func TestReadAndWrite(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		a, b := pair(t, network)
		want := bytes.Repeat([]byte("0123456789abcdef"), 1<<20)
		go func() {
			if n, err := Of(a).Write(want); n != len(want) || err != nil {
				t.Errorf("%s: %d written, %v", network, n, err)
			}
			a.Close()
		}()
		var got bytes.Buffer
		if n, err := io.Copy(&got, struct{ io.Reader }{Of(b)}); err != nil || !bytes.Equal(got.Bytes(), want) {
			t.Errorf("%s: %d read, %v", network, n, err)
		}
		if n, err := Of(b).Read(nil); n != 0 || err != nil {
			t.Errorf("%s: nothing wanted: %d, %v", network, n, err)
		}
	}
}

// TestTry: what the socket takes is what arrives, and nobody waits for the rest.
func TestTry(t *testing.T) {
	a, b := pair(t, "tcp")
	s := Of(a)
	want := bytes.Repeat([]byte("0123456789abcdef"), 4<<20)
	n := s.Try(want)
	if n == 0 || n == len(want) {
		t.Fatalf("%d of %d bytes went at once", n, len(want))
	}
	a.Close()
	if got, err := io.ReadAll(b); err != nil || !bytes.Equal(got, want[:n]) {
		t.Errorf("%d of %d came, %v", len(got), n, err)
	}
	if n := s.Try(want); n != 0 {
		t.Errorf("%d bytes into a closed socket", n)
	}
}

// TestErrors: errors are those of package net.
func TestErrors(t *testing.T) {
	a, b := pair(t, "tcp")
	p := make([]byte, 1<<20)
	same := func(what string, got, want error) {
		t.Helper()
		if got == nil || want == nil || got.Error() != want.Error() {
			t.Errorf("%s: %v, not %v", what, got, want)
		}
	}
	_ = a.SetDeadline(time.Now().Add(-time.Second))
	_, got := Of(a).Read(p)
	_, want := a.Read(p)
	same("late read", got, want)
	if !errors.Is(got, os.ErrDeadlineExceeded) {
		t.Error(got)
	}
	_, got = Of(a).Write(p)
	_, want = a.Write(p)
	same("late write", got, want)

	_ = a.SetDeadline(time.Time{})
	_ = b.(*net.TCPConn).SetLinger(0)
	b.Close()
	for range 100 { // until the reset is here
		if _, got = Of(a).Write(p[:1]); got != nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if !errors.Is(got, syscall.ECONNRESET) && !errors.Is(got, syscall.EPIPE) {
		t.Errorf("write after a reset: %v", got)
	}
	_, got = Of(a).Write(p)
	_, want = a.Write(p)
	same("write after a reset", got, want)

	a.Close()
	_, got = Of(a).Read(p)
	_, want = a.Read(p)
	same("read after the end", got, want)
	if !errors.Is(got, net.ErrClosed) {
		t.Error(got)
	}
	_, got = Of(a).Write(p)
	_, want = a.Write(p)
	same("write after the end", got, want)
}

// TestOfOthers: what only embeds a socket has a Read and Write of its own.
func TestOfOthers(t *testing.T) {
	a, _ := pair(t, "tcp")
	for _, c := range []any{nil, struct{ net.Conn }{a}, struct{ *net.TCPConn }{a.(*net.TCPConn)}, new(bytes.Buffer)} {
		if Of(c) != nil {
			t.Errorf("%T is a socket", c)
		}
	}
}

// TestReadWaits: a reader whose socket has nothing ends with the connection.
func TestReadWaits(t *testing.T) {
	a, _ := pair(t, "tcp")
	ended := make(chan error, 1)
	go func() { _, err := Of(a).Read(make([]byte, 1)); ended <- err }()
	time.Sleep(20 * time.Millisecond)
	a.Close()
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}
