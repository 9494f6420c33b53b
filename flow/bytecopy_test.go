package flow

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/flow/flowtest"
	"github.com/pannier/pannier/flow/wire"
	"github.com/pannier/pannier/spec/fault"
)

// sockets makes a connection of the system.
func sockets(t testing.TB, network string) (a, b net.Conn) {
	t.Helper()
	a, b, err := flowtest.Sockets(network)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

// TestCopySockets: what goes into a socket comes out of another whole, and each
// end of file is passed on.
func TestCopySockets(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			near, far, _, _ := pair(t, Config{}, true)
			from, to := bytePair(t, near, far, wire.ClassRelay)
			client, in := sockets(t, network)
			out, server := sockets(t, network)
			data := content(20 * MiB)
			errs := make(chan error, 3)
			go func() {
				_, err := client.Write(data)
				errs <- errors.Join(err, client.(interface{ CloseWrite() error }).CloseWrite())
			}()
			go func() {
				n, err := from.ReadFrom(in)
				if n != int64(len(data)) {
					err = errors.Join(err, errors.New("it counted wrong"))
				}
				errs <- errors.Join(err, from.CloseWrite())
			}()
			go func() {
				n, err := to.WriteTo(out)
				if n != int64(len(data)) {
					err = errors.Join(err, errors.New("it counted wrong"))
				}
				errs <- errors.Join(err, out.(interface{ CloseWrite() error }).CloseWrite())
			}()
			got, err := io.ReadAll(server)
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("%d of %d bytes, %v", len(got), len(data), err)
			}
			for range 3 {
				if err := <-errs; err != nil {
					t.Error(err)
				}
			}
			if sent, _ := from.Counts(); sent != int64(len(data)) {
				t.Errorf("%d bytes sent", sent)
			}
			if _, read := to.Counts(); read != int64(len(data)) {
				t.Errorf("%d bytes read", read)
			}
			from.Close()
			to.Close()
		})
	}
}

// TestIdleHoldsNoBuffer: a copy that waits for its socket has nothing of the pool.
func TestIdleHoldsNoBuffer(t *testing.T) {
	near, far, _, _ := pair(t, Config{}, true)
	from, _ := bytePair(t, near, far, wire.ClassRelay)
	client, in := sockets(t, "tcp")
	done := make(chan error, 1)
	go func() { _, err := from.ReadFrom(in); done <- err }()
	client.Write([]byte("x"))
	pool := near.cfg.Pool
	largest := func() int {
		pool.mu.Lock()
		defer pool.mu.Unlock()
		return len(pool.free[2]) // of 64 KiB
	}
	for began := time.Now(); largest() == 0; runtime.Gosched() {
		if time.Since(began) > 10*time.Second {
			t.Fatal("the buffer of the first read has not come back")
		}
	}
	client.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestReadFromWaitsForCredit: nothing is taken from a source that the peer would
// not read.
func TestReadFromWaitsForCredit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far, _, stop := emulated(t, flowtest.LinkConfig{RTT: time.Millisecond}, Config{})
		defer stop()
		from, to := bytePair(t, near, far, wire.ClassRelay)
		src := &counted{Reader: bytes.NewReader(make([]byte, MiB))}
		done := make(chan error, 1)
		go func() { _, err := from.ReadFrom(src); done <- err }()
		settle()
		if n := src.n.Load(); n != 256*KiB {
			t.Errorf("%d bytes were taken, the window is 256 KiB", n)
		}
		if n, err := io.ReadFull(to, make([]byte, MiB)); err != nil {
			t.Errorf("%d bytes, %v", n, err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		from.Close()
		to.Close()
	})
}

type counted struct {
	io.Reader
	n atomic.Int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// TestWriteToFailing: a writer that fails ends the copy, and gives no credit for
// what it did not take.
func TestWriteToFailing(t *testing.T) {
	near, far, _, _ := pair(t, Config{}, true)
	from, to := bytePair(t, near, far, wire.ClassRelay)
	go from.Write(make([]byte, MiB))
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	if _, err := to.WriteTo(w); err == nil {
		t.Error("no error of a pipe without a reader")
	}
	w.Close()
	to.Reset(fault.New("copy", fault.Refused, "enough"))
	for {
		if _, err := from.Write(make([]byte, 1)); err != nil {
			var f *fault.Error
			if !errors.As(err, &f) || f.Kind != fault.Refused || f.Side != fault.Peer {
				t.Errorf("the reason came as %v", err)
			}
			break
		}
	}
}

// TestByteWindowGrows: on a long link a stream that is read fast gets the window
// the link needs, and one that is read slowly keeps what it had.
func TestByteWindowGrows(t *testing.T) {
	for _, fast := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			near, far, _, stop := emulated(t, flowtest.LinkConfig{RTT: 50 * time.Millisecond}, Config{})
			defer stop()
			from, to := bytePair(t, near, far, wire.ClassRelay)
			go from.Write(make([]byte, 64*MiB))
			for range 512 {
				io.CopyN(io.Discard, to, 64*KiB)
				if !fast {
					time.Sleep(50 * time.Millisecond)
				}
			}
			to.mu.Lock()
			w := to.window
			to.mu.Unlock()
			if fast && w < 4*MiB || !fast && w != 256*KiB {
				t.Errorf("window %d, fast %v", w, fast)
			}
			from.Close()
			to.Close()
		})
	}
}

// TestSmallFramesShareBuffers: what a peer is granted costs a small multiple of it,
// in whatever pieces it comes, and comes out as it went in.
func TestSmallFramesShareBuffers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far, _, stop := emulated(t, flowtest.LinkConfig{RTT: time.Millisecond}, Config{})
		defer stop()
		from, to := bytePair(t, near, far, wire.ClassRelay)
		data := content(20000)
		for i := 0; i < len(data); {
			n := min(len(data)-i, 1+i%7*200)
			if _, err := from.Write(data[i : i+n]); err != nil {
				t.Fatal(err)
			}
			i += n
		}
		settle()
		to.mu.Lock()
		held := 0
		for _, seg := range to.segments {
			held += len(seg.buf.mem)
		}
		to.mu.Unlock()
		if held > 5*len(data) {
			t.Errorf("%d bytes are held for %d", held, len(data))
		}
		got := make([]byte, len(data))
		if _, err := io.ReadFull(to, got); err != nil || !bytes.Equal(got, data) {
			t.Errorf("they came out different, %v", err)
		}
		for range 5000 {
			from.Write([]byte("x"))
		}
		settle()
		to.mu.Lock()
		if n := len(to.segments); n > 3 {
			t.Errorf("%d buffers for 5000 bytes", n)
		}
		to.mu.Unlock()
		from.Close()
		to.Close()
	})
}
