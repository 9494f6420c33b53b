package carrier

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/spec/fault"
	"pgregory.net/rapid"
)

// connectPipe makes one connection over p.
func connectPipe(t *testing.T, p *Pipe) (dialer, acceptor net.Conn) {
	t.Helper()
	done := make(chan net.Conn, 1)
	go func() {
		c, err := p.Accept()
		if err != nil {
			t.Error(err)
		}
		done <- c
	}()
	dialer, err := p.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return dialer, <-done
}

func TestPipeHasOneConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPipe()
		for i := range 3 {
			a, b := connectPipe(t, p)
			if _, err := p.Dial(t.Context()); !errors.Is(err, fault.Overloaded) || !p.Single() {
				t.Errorf("second connection: %v", err)
			}
			_ = []net.Conn{a, b}[i%2].Close() // either end frees the pipe
			_ = b.Close()
			_ = a.Close()
		}
		_ = p.Close()
		if _, err := p.Dial(t.Context()); !errors.Is(err, fault.Lost) {
			t.Errorf("dial after close: %v", err)
		}
		if _, err := p.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("accept after close: %v", err)
		}
	})
}

func TestPipeDialIsCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPipe()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := p.Dial(ctx); !errors.Is(err, fault.Deadline) {
			t.Errorf("dial that nobody accepts: %v", err)
		}
		connectPipe(t, p)
	})
}

func TestPairDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := NewPair()
		begin := time.Now()
		_ = a.SetReadDeadline(begin.Add(time.Second))
		if _, err := a.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(begin) != time.Second {
			t.Errorf("read: %v after %v", err, time.Since(begin))
		}
		_ = a.SetWriteDeadline(time.Now().Add(time.Second))
		n, err := a.Write(make([]byte, 2*pipeBuffer))
		if n != pipeBuffer || !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(begin) != 2*time.Second {
			t.Errorf("write: %d, %v after %v", n, err, time.Since(begin))
		}
		_ = a.SetDeadline(time.Time{})
		go func() {
			time.Sleep(time.Second)
			_, _ = b.Write([]byte("x"))
		}()
		if n, err := a.Read(make([]byte, 2)); n != 1 || err != nil {
			t.Errorf("read after the deadline is gone: %d, %v", n, err)
		}
		go func() {
			time.Sleep(time.Second)
			_ = a.SetReadDeadline(time.Now())
		}()
		if _, err := a.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read interrupted by a deadline: %v", err)
		}
	})
}

func TestPairCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := NewPair()
		_, _ = a.Write([]byte("last"))
		_ = a.CloseWrite()
		if _, err := a.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
			t.Errorf("write after CloseWrite: %v", err)
		}
		if got, err := io.ReadAll(b); string(got) != "last" || err != nil {
			t.Errorf("read %q, %v", got, err)
		}
		_, _ = b.Write([]byte("answer"))
		_ = b.Close()
		if got, err := io.ReadAll(a); string(got) != "answer" || err != nil {
			t.Errorf("read %q, %v", got, err)
		}
		_, err := b.Read(make([]byte, 1))
		if _, werr := b.Write([]byte("x")); !errors.Is(err, net.ErrClosed) || !errors.Is(werr, net.ErrClosed) {
			t.Errorf("use of a closed end: %v, %v", err, werr)
		}
		c, d := NewPair()
		go func() {
			time.Sleep(time.Second)
			_ = d.Close()
		}()
		if _, err := c.Write(make([]byte, 2*pipeBuffer)); !errors.Is(err, syscall.EPIPE) {
			t.Errorf("write that the peer will not read: %v", err)
		}
	})
}

// Whatever the sizes of writes and reads, the bytes come out as they went in.
func TestPairKeepsBytes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := NewPair()
		sizes := rapid.SliceOfN(rapid.IntRange(0, pipeBuffer+1000), 1, 6).Draw(t, "writes")
		reads := rapid.SliceOfN(rapid.IntRange(1, pipeBuffer), 1, 6).Draw(t, "reads")
		var want bytes.Buffer
		done := make(chan struct{})
		for i, n := range sizes {
			p := make([]byte, n)
			for j := range p {
				p[j] = byte(i + j*7 + j/251)
			}
			want.Write(p)
		}
		go func() {
			defer close(done)
			rest := want.Bytes()
			for _, n := range sizes {
				_, _ = a.Write(rest[:n])
				rest = rest[n:]
			}
			_ = a.Close()
		}()
		var got bytes.Buffer
		for i := 0; ; i++ {
			p := make([]byte, reads[i%len(reads)])
			n, err := b.Read(p)
			got.Write(p[:n])
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		<-done
		if !bytes.Equal(got.Bytes(), want.Bytes()) {
			t.Fatalf("%d bytes in, %d other bytes out", want.Len(), got.Len())
		}
	})
}
