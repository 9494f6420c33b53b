package flow

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pannier/pannier/spec/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// tcp is a Dialer to one loopback listener, whose connections it remembers.
type tcp struct {
	addr   string
	single bool
	mu     sync.Mutex
	conns  []net.Conn
	down   bool
}

func (d *tcp) Single() bool { return d.single }

func (d *tcp) Dial(ctx context.Context) (net.Conn, error) {
	d.mu.Lock()
	down := d.down
	d.mu.Unlock()
	if down {
		return nil, fault.New("dial", fault.Lost, "the link is down")
	}
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", d.addr)
	if err == nil {
		d.mu.Lock()
		d.conns = append(d.conns, c)
		d.mu.Unlock()
	}
	return c, err
}

// cut closes every connection made so far.
func (d *tcp) cut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range d.conns {
		c.Close()
	}
	d.conns = nil
}

// pair makes two ends of a session over loopback TCP.
func pair(t testing.TB, cfg Config, single bool) (near, far *Session, a *Acceptor, d *tcp) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a, err = NewAcceptor(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { a.Handle(c) })
		}
	})
	d = &tcp{addr: l.Addr().String(), single: single}
	near, err = Connect(t.Context(), d, cfg)
	if err != nil {
		t.Fatal(err)
	}
	far, err = a.Accept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		near.Close()
		a.Close()
		l.Close()
		wg.Wait()
	})
	return near, far, a, d
}

// content is size bytes that tell where they belong.
func content(size int) []byte {
	b := make([]byte, size)
	r := rand.NewChaCha8([32]byte{1})
	r.Read(b)
	return b
}

// push sends all of data on b, as often as the session rewinds.
func push(ctx context.Context, b *BlockStream, data []byte) ([]byte, error) {
	for {
		for {
			blk, err := b.Next(ctx)
			if err != nil {
				return nil, err
			}
			n := copy(blk.Data, data[blk.Offset:])
			last := blk.Offset+int64(n) == int64(len(data))
			blk.More = !last
			if err := b.Send(ctx, blk, n); err != nil {
				return nil, err
			}
			if last {
				break
			}
		}
		if err := b.End([]byte("trailer")); err != nil {
			return nil, err
		}
		v, err := b.Verdict(ctx)
		if !errors.Is(err, ErrRewound) {
			return v, err
		}
	}
}

// pull receives everything and answers with verdict "ok".
func pull(ctx context.Context, b *BlockStream) ([]byte, error) {
	var got bytes.Buffer
	for {
		blk, err := b.Recv(ctx)
		if err == io.EOF {
			return got.Bytes(), b.Finish([]byte("ok"))
		}
		if err != nil {
			return nil, err
		}
		got.Write(blk.Data)
		blk.Release()
	}
}

// carry moves data from near to far and returns what arrived.
func carry(t testing.TB, near, far *Session, data []byte, o Open) ([]byte, error) {
	t.Helper()
	return carryFor(t, 30*time.Second, near, far, data, o)
}

// carryFor is carry that takes so long at most.
func carryFor(t testing.TB, most time.Duration, near, far *Session, data []byte, o Open) ([]byte, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), most)
	defer cancel()
	type result struct {
		got []byte
		err error
	}
	res := make(chan result, 1)
	go func() {
		in, err := far.AcceptStream(ctx)
		if err != nil {
			res <- result{nil, err}
			return
		}
		b, err := in.AcceptBlocks(AcceptBlocks{Start: -1})
		if err != nil {
			res <- result{nil, err}
			return
		}
		got, err := pull(ctx, b)
		res <- result{got, err}
	}()
	o.Kind, o.Send = "test", true
	b, err := near.OpenBlocks(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	v, err := push(ctx, b, data)
	r := <-res
	if err == nil && string(v) != "ok" {
		t.Errorf("verdict is %q", v)
	}
	return r.got, errors.Join(err, r.err)
}

func TestCarry(t *testing.T) {
	for _, single := range []bool{false, true} {
		for _, compress := range []Compression{CompressOff, CompressAuto, CompressZstd} {
			near, far, _, _ := pair(t, Config{}, single)
			for _, size := range []int{0, 1, 4095, 256 * KiB, 256*KiB + 1, 5 << 20} {
				for _, data := range [][]byte{content(size), make([]byte, size)} {
					got, err := carry(t, near, far, data, Open{Compress: compress})
					if err != nil || !bytes.Equal(got, data) {
						t.Errorf("single %v, compression %d, %d bytes: %d arrived, %v", single, compress, size, len(got), err)
					}
				}
			}
			if g := far.Stats().Granted; g != 0 {
				t.Errorf("%d bytes are still granted", g)
			}
		}
	}
}

func TestManyAtOnce(t *testing.T) {
	near, far, _, _ := pair(t, Config{SessionBudget: 16 * MiB}, false)
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	const n = 300
	data := content(200_000)
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			in, err := far.AcceptStream(ctx)
			if err != nil {
				t.Error(err)
				return
			}
			b, err := in.AcceptBlocks(AcceptBlocks{Start: -1})
			if err != nil {
				t.Error(err)
				return
			}
			if got, err := pull(ctx, b); err != nil || !bytes.Equal(got, data) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		})
	}
	sem := make(chan struct{}, 100)
	for range n {
		sem <- struct{}{}
		wg.Go(func() {
			defer func() { <-sem }()
			b, err := near.OpenBlocks(ctx, Open{Kind: "x", Send: true})
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := push(ctx, b, data); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestResumeAfterCuts(t *testing.T) {
	near, far, _, d := pair(t, Config{Lanes: 3}, false)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	data := content(40 << 20)
	wg.Go(func() {
		for seen := int64(0); ; { // a cut while the stream is being opened would end it
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
				if in := far.Stats().BytesIn; in > seen+4*MiB {
					seen = in
					d.cut()
				}
			}
		}
	})
	got, err := carry(t, near, far, data, Open{})
	close(stop)
	wg.Wait()
	if err != nil || !bytes.Equal(got, data) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	if e := near.Stats().Epoch; e < 2 {
		t.Errorf("the session was never cut: epoch %d", e)
	}
}

func TestByteStream(t *testing.T) {
	near, far, _, _ := pair(t, Config{}, true)
	done := make(chan error, 1)
	go func() {
		in, err := far.AcceptStream(t.Context())
		if err != nil {
			done <- err
			return
		}
		b, err := in.AcceptBytes([]byte("hi"))
		if err != nil {
			done <- err
			return
		}
		_, err = io.Copy(b, b)
		b.CloseWrite()
		done <- err
	}()
	b, err := near.OpenBytes(t.Context(), Open{Kind: "echo"})
	if err != nil {
		t.Fatal(err)
	}
	data := content(3 << 20)
	go func() { b.Write(data); b.CloseWrite() }()
	got, err := io.ReadAll(b)
	if err != nil || !bytes.Equal(got, data) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	b.Close()
}

func BenchmarkCarry(b *testing.B) {
	near, far, _, _ := pair(b, Config{}, false)
	data := make([]byte, 256<<20)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		ctx := b.Context()
		done := make(chan error, 1)
		go func() {
			in, err := far.AcceptStream(ctx)
			if err != nil {
				done <- err
				return
			}
			s, _ := in.AcceptBlocks(AcceptBlocks{Start: -1})
			for {
				blk, err := s.Recv(ctx)
				if err != nil {
					s.Finish(nil)
					done <- err
					return
				}
				blk.Release()
			}
		}()
		s, err := near.OpenBlocks(ctx, Open{Kind: "x", Send: true})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := push(ctx, s, data); err != nil {
			b.Fatal(err)
		}
		if err := <-done; err != io.EOF {
			b.Fatal(err)
		}
	}
}
