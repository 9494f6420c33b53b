package flow

import (
	"bytes"
	"errors"
	"io"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/pannier/pannier/flow/wire"
)

// rested waits until n connections are watched.
func rested(t *testing.T, n int) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		idlers.mu.Lock()
		now := len(idlers.of)
		none := idlers.poll == nil
		idlers.mu.Unlock()
		if now == n && none == (n == 0) {
			return
		}
	}
	t.Fatalf("not %d connections are watched", n)
}

// socketPair are the two ends of a connection.
func socketPair(t *testing.T) (client, local *net.TCPConn) {
	t.Helper()
	c, a := sockets(t, "tcp")
	return c.(*net.TCPConn), a.(*net.TCPConn)
}

func overNow(t *testing.T, over chan error) error {
	t.Helper()
	select {
	case err := <-over:
		return err
	case <-time.After(30 * time.Second):
		t.Fatal("it does not end")
		return nil
	}
}

// TestCollect: an idle connection has no goroutine; what comes then is carried as before, and
// each end of it is told once.
func TestCollect(t *testing.T) {
	for _, end := range []string{"at its end", "closed here", "closed here while busy", "broken off", "stream over"} {
		t.Run(end, func(t *testing.T) {
			near, far, _, _ := pair(t, Config{}, false)
			a, b := bytePair(t, near, far, wire.ClassRelay)
			client, local := socketPair(t)
			over := make(chan error, 2)
			before := runtime.NumGoroutine()
			c := a.Collect(local, func(err error) { over <- err })
			c.Begin()
			exchange := func(n int) {
				t.Helper()
				want := content(n)
				go client.Write(want)
				got := make([]byte, n)
				if _, err := io.ReadFull(b, got); err != nil || !bytes.Equal(got, want) {
					t.Fatal(err)
				}
			}
			exchange(100_000)
			rested(t, 1)
			for end := time.Now().Add(30 * time.Second); runtime.NumGoroutine() > before+1; time.Sleep(time.Millisecond) { // the last ones are on their way out
				if time.Now().After(end) {
					t.Fatalf("%d goroutines while it is idle, %d before: the watch has one", runtime.NumGoroutine(), before)
				}
			}
			exchange(1)
			rested(t, 1)
			if end == "closed here while busy" {
				exchange(1)
			}
			switch end {
			case "at its end":
				client.CloseWrite()
			case "closed here", "closed here while busy":
				local.Close()
				c.Wake()
			case "broken off":
				client.SetLinger(0)
				client.Close()
			case "stream over":
				a.Reset(errors.New("enough"))
				local.Close()
				c.Wake()
			}
			if err := overNow(t, over); (err == nil) != (end == "at its end") {
				t.Error(err)
			}
			c.Wake()
			rested(t, 0)
			if len(over) > 0 {
				t.Error("it was over twice")
			}
		})
	}
}

// TestCollectMany: many become idle and are woken again and again, by bytes and by
// those who close them, and nothing is lost.
func TestCollectMany(t *testing.T) {
	const n = 100
	near, far, _, _ := pair(t, Config{MaxStreams: 2 * n}, false)
	over := make(chan error, 2*n)
	type one struct {
		client, local *net.TCPConn
		c             *Collection
		b             *ByteStream
	}
	all := make([]one, n)
	for i := range all {
		o := &all[i]
		var a *ByteStream
		a, o.b = bytePair(t, near, far, wire.ClassRelay)
		o.client, o.local = socketPair(t)
		o.c = a.Collect(o.local, func(err error) { over <- err })
		o.c.Begin()
	}
	for range 2 {
		rested(t, n)
		for i := range all {
			all[i].client.Write([]byte{byte(i)})
		}
		for i := range all {
			var got [1]byte
			if _, err := io.ReadFull(all[i].b, got[:]); err != nil || got[0] != byte(i) {
				t.Fatal(got, err)
			}
		}
	}
	rested(t, n)
	for i, o := range all {
		go func() {
			if i%2 == 0 {
				o.client.Write([]byte("last"))
				o.client.Close()
				return
			}
			o.client.Write([]byte("lost"))
			o.local.Close()
			o.c.Wake()
		}()
	}
	for range n {
		overNow(t, over)
	}
	rested(t, 0)
	if len(over) > 0 {
		t.Error("one was over twice")
	}
	for i := 0; i < n; i += 2 {
		got := make([]byte, 4)
		if _, err := io.ReadFull(all[i].b, got); err != nil || string(got) != "last" {
			t.Fatalf("%q, %v", got, err)
		}
	}
}
