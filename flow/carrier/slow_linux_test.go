package carrier

import (
	"bytes"
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/pannier/pannier/flow"
)

// slowly is a listener in front of address that hands on 2 KiB every 100 ms to it, and at once what comes back.
func slowly(t *testing.T, address string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	t.Cleanup(func() { l.Close(); all.Wait() })
	all.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", address)
			if err != nil {
				t.Error(err)
				near.Close()
				return
			}
			all.Go(func() {
				defer far.Close()
				for p := make([]byte, 2<<10); ; time.Sleep(100 * time.Millisecond) {
					n, err := near.Read(p)
					if _, werr := far.Write(p[:n]); err != nil || werr != nil {
						return
					}
				}
			})
			all.Go(func() {
				defer near.Close()
				_, _ = io.Copy(near, far)
			})
		}
	})
	return l.Addr().String()
}

// TestSlowBlock: a block that takes longer than a peer may be silent shows that it lives, by each part of it that comes.
func TestSlowBlock(t *testing.T) {
	a, l := accepting(t, "tcp://127.0.0.1:0", Options{})
	d, err := NewDialer("tcp://"+slowly(t, l.Addr().String()), Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	cfg := sessionConfig()
	cfg.KeepaliveTimeout = 5 * time.Second // the acceptor acknowledges parts once a second, and a busy host stands still
	s, err := flow.Connect(ctx, d, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	data := randomBytes(120 << 10) // 6 s; the acceptor takes 1.5 s of silence for the end
	var got []byte
	var sinkErr error
	var wg sync.WaitGroup
	wg.Go(func() {
		got, sinkErr = drain(ctx, a, s.ID(), func(int64) {})
		if sinkErr != nil {
			cancel()
		}
	})
	err = pour(ctx, s, data)
	epoch := s.Stats().Epoch
	if err != nil {
		cancel()
	}
	wg.Wait()
	if err != nil || sinkErr != nil || !bytes.Equal(got, data) {
		t.Fatalf("%d bytes of %d: %v, %v", len(got), len(data), err, sinkErr)
	}
	if epoch != 1 {
		t.Errorf("the peer was taken for dead: the session was connected %d times", epoch)
	}
}
