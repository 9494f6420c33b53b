package socket

import (
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// come waits until a socket of this system has n bytes to read.
func come(t *testing.T, c net.Conn, n int) {
	t.Helper()
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	for have := 0; have < n; time.Sleep(time.Millisecond) {
		if cerr := raw.Control(func(fd uintptr) { have, err = unix.IoctlGetInt(int(fd), unix.TIOCINQ) }); cerr != nil || err != nil {
			t.Fatal(cerr, err)
		}
	}
}

// TestReadRest: who reads the rest of something is woken by a good part of it, by all that can come, or when somebody hurries;
// and a Read after that, again, by one byte.
func TestReadRest(t *testing.T) {
	a, b := pair(t, "tcp")
	s := Of(b)
	if err := b.(*net.TCPConn).SetReadBuffer(4 * mostLow); err != nil {
		t.Fatal(err)
	}
	got := make(chan int, 1)
	reads := func() int {
		t.Helper()
		select {
		case n := <-got:
			return n
		case <-time.After(20 * time.Second):
			t.Fatal("not woken")
			return 0
		}
	}
	read := func(read func([]byte) (int, error), p []byte) {
		go func() {
			n, err := read(p)
			if err != nil && err != io.EOF {
				t.Error(err)
			}
			got <- n
		}()
	}
	none := func() {
		t.Helper()
		select {
		case n := <-got:
			t.Errorf("woken for %d bytes", n)
		case <-time.After(100 * time.Millisecond):
		}
	}
	parked := func() { // until who reads waits for more than a byte
		for s.low.Load() == 0 || s.hurried.Load() {
			time.Sleep(time.Millisecond)
		}
	}
	write := func(n int) {
		t.Helper()
		if _, err := a.Write(make([]byte, n)); err != nil {
			t.Fatal(err)
		}
	}
	whole := make([]byte, 1<<20)
	for range 2 {
		read(s.ReadRest, whole)
		parked()
		write(1000)
		come(t, b, 1000)
		none()
		s.Hurry()
		if n := reads(); n != 1000 {
			t.Errorf("hurried, it read %d bytes of 1000", n)
		}
		read(s.ReadRest, whole)
		parked()
		write(mostLow)
		for left := mostLow; left > 0; {
			n := reads()
			if n < leastLow && n < left {
				t.Errorf("woken for %d bytes of %d", n, left)
			}
			if left -= n; left > 0 {
				read(s.ReadRest, whole[:left])
			}
		}
		read(s.ReadRest, whole[:leastLow-1])
		write(1)
		if n := reads(); n != 1 {
			t.Errorf("%d bytes read instead of 1, where little is left", n)
		}
	}
	read(s.Read, whole)
	write(1)
	if n := reads(); n != 1 {
		t.Errorf("%d bytes read instead of 1", n)
	}
	read(s.ReadRest, whole)
	parked()
	write(10)
	a.Close()
	if n := reads(); n != 10 {
		t.Errorf("%d of the last 10 bytes came", n)
	}
	if n, err := s.ReadRest(whole); n != 0 || err != io.EOF {
		t.Error(n, err)
	}
}

// TestReadRestHoldsUpNobody: more than the buffers hold comes through, whatever is waited for.
func TestReadRestHoldsUpNobody(t *testing.T) {
	a, b := pair(t, "tcp")
	s := Of(b)
	if err := b.(*net.TCPConn).SetReadBuffer(64 << 10); err != nil { // the kernel doubles it
		t.Fatal(err)
	}
	woken := make(chan int)
	go func() {
		n, _ := s.ReadRest(make([]byte, mostLow))
		woken <- n
	}()
	for s.low.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	if _, err := a.Write(make([]byte, leastLow)); err != nil {
		t.Fatal(err)
	}
	select {
	case <-woken:
	case <-time.After(20 * time.Second):
		t.Fatal("half of the window wakes nobody")
	}
	const all = 4 << 20
	go func() { _, _ = a.Write(make([]byte, all)) }()
	for done, p := 0, make([]byte, all); done < all; {
		n, err := s.ReadRest(p[done:])
		if err != nil {
			t.Fatalf("after %d bytes: %v", done, err)
		}
		done += n
	}
}

// TestSince: kernels are told apart by the numbers of their release.
func TestSince(t *testing.T) {
	for release, want := range map[string]bool{
		"6.18.44-fc-v782": true, "5.10.0": true, "5.10": true, "5.9.16": false, "4.19.0-27-amd64": false, "10.0-rc1": true, "3.10.0-1160.el7": false, "": false, "x.y": false,
	} {
		if since(release, 5, 10) != want {
			t.Error(release)
		}
	}
}
