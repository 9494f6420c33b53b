package carrier

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"os"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// counting counts the writes that reach the connection.
type counting struct {
	HalfCloser
	mu    sync.Mutex
	sizes []int
}

func (c *counting) Write(p []byte) (int, error) {
	c.mu.Lock()
	c.sizes = append(c.sizes, len(p))
	c.mu.Unlock()
	return c.HalfCloser.Write(p)
}

// lanePair is both ends of a tls lane over a pipe.
func lanePair(t interface{ Fatal(...any) }, client, server *Identity) (c, s *tlsConn, wire *counting) {
	co := Options{Identity: client, Pins: Pins{server.Key()}, Protocols: []string{ProtocolLane}}
	so := Options{Identity: server, Pins: Pins{client.Key()}, Protocols: []string{ProtocolLane}}
	ccfg, err := co.clientConfig("peer")
	if err != nil {
		t.Fatal(err)
	}
	x, y := NewPair()
	wire = &counting{HalfCloser: x}
	craw, sraw := newBatcher(wire), newBatcher(y)
	ct, st := tls.Client(craw, ccfg), tls.Server(sraw, so.laneConfig())
	done := make(chan error, 1)
	go func() { done <- st.Handshake() }()
	if err := errors.Join(ct.Handshake(), <-done); err != nil {
		t.Fatal(err)
	}
	return newTLS(ct, craw), newTLS(st, sraw), wire
}

func TestRecordsOfOneWriteLeaveTogether(t *testing.T) {
	id := newIdentity(t)
	c, s, wire := lanePair(t, id, id)
	wire.sizes = nil
	block := make([]byte, 6*16<<10)
	done := make(chan error, 1)
	go func() {
		_, err := io.ReadFull(s, make([]byte, len(block)+1))
		done <- err
	}()
	for _, p := range [][]byte{block, {1}} {
		if n, err := c.Write(p); n != len(p) || err != nil {
			t.Fatal(n, err)
		}
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if len(wire.sizes) != 3 || wire.sizes[0] != gatherSize || wire.sizes[1] != gatherSize || wire.sizes[2] != 1+22 {
		t.Errorf("writes of %v, want two of %d and one of 23", wire.sizes, gatherSize)
	}
	_ = c.Close()
	_ = s.Close()
}

// Concurrent writers and closes: every Write that returned has left, whole.
func TestBatcherLosesNothing(t *testing.T) {
	id := newIdentity(t)
	rapid.Check(t, func(t *rapid.T) {
		c, s, _ := lanePair(t, id, id)
		sizes := rapid.SliceOfN(rapid.IntRange(0, 100<<10), 1, 8).Draw(t, "sizes")
		total, got := 0, new(bytes.Buffer)
		done := make(chan error, 1)
		go func() {
			_, err := io.Copy(got, s)
			done <- err
		}()
		var wg sync.WaitGroup
		for i, n := range sizes {
			total += n
			wg.Go(func() { _, _ = c.Write(bytes.Repeat([]byte{byte(i)}, n)) })
		}
		wg.Wait()
		if err := errors.Join(c.CloseWrite(), <-done); err != nil {
			t.Fatal(err)
		}
		if got.Len() != total {
			t.Fatalf("%d bytes written, %d read", total, got.Len())
		}
		for i, n := range sizes {
			if bytes.Count(got.Bytes(), []byte{byte(i)}) != n {
				t.Fatalf("write %d is not whole", i)
			}
		}
		_, _ = c.Close(), s.Close()
	})
}

// After a write that timed out part of a record may have left: nothing may follow.
func TestFailedFlushIsFinal(t *testing.T) {
	id := newIdentity(t)
	c, s, _ := lanePair(t, id, id)
	_ = c.SetWriteDeadline(time.Now().Add(-time.Second))
	if _, err := c.Write(make([]byte, 100)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("write: %v", err)
	}
	_ = c.SetWriteDeadline(time.Time{})
	if n, err := c.Write([]byte("x")); n != 0 || err == nil {
		t.Errorf("write after a failed one: %d, %v", n, err)
	}
	if n, err := c.raw.Write([]byte("alert")); n != 0 || err == nil {
		t.Errorf("record after a failed one: %d, %v", n, err)
	}
	_ = c.Close()
	_ = s.Close()
}
