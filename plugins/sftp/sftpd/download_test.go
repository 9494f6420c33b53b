package sftpd

import (
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// read is READ: the bytes, or the code.
func (r *raw) read(h string, at, n int) ([]byte, int, string) {
	r.t.Helper()
	typ, f := r.do(fxRead, h, uint64(at), n)
	if typ == fxData {
		return f.bytes(), -1, ""
	}
	return nil, int(f.number()), f.text()
}

// whole reads pieces in an order, and says how often the node was asked.
func whole(t *testing.T, n *node, want []byte, piece int, order []int) int64 {
	t.Helper()
	n.put(t, "f", want)
	before := n.reading.Load()
	r := newRaw(t, n)
	h := r.open("/f", forReading)
	for _, i := range order {
		b, code, text := r.read(h, i*piece, piece)
		if code != -1 || string(b) != string(want[i*piece:min((i+1)*piece, len(want))]) {
			t.Fatalf("piece %d: %d bytes, %d %s", i, len(b), code, text)
		}
	}
	if _, code, _ := r.read(h, len(want), piece); code != statusEOF {
		t.Errorf("at the end: %d", code)
	}
	if _, code, _ := r.read(h, len(want)+1<<20, piece); code != statusEOF {
		t.Errorf("beyond the end: %d", code)
	}
	r.want(statusOK, fxClose, h)
	if r.g.early.left != maxEarly {
		t.Errorf("%d bytes are held for ever", maxEarly-r.g.early.left)
	}
	return n.reading.Load() - before
}

// TestReadInAnyOrder: what is asked for in another order within the window is read once.
func TestReadInAnyOrder(t *testing.T) {
	const piece = 32 << 10
	want := content(4<<20 + 5)
	count := len(want)/piece + 1
	straight := make([]int, count)
	for i := range straight {
		straight[i] = i
	}
	near := append([]int(nil), straight...)
	random := rand.New(rand.NewPCG(3, 4))
	for i := 0; i+16 < len(near); i += 16 {
		random.Shuffle(16, func(a, b int) { near[i+a], near[i+b] = near[i+b], near[i+a] })
	}
	n := newNode(t)
	if got := whole(t, n, want, piece, straight); got != 1 {
		t.Errorf("in order it is read %d times", got)
	}
	if got := whole(t, n, want, piece, near); got != 1 {
		t.Errorf("nearly in order it is read %d times", got)
	}
	far := random.Perm(count)
	whole(t, n, want, piece, far)
	n.change = func(c *plugins.Capabilities) { c.Offsets = false }
	whole(t, n, want, piece, near)
	whole(t, n, want, piece, far)
	n.change = nil
	n.read = func(r io.ReadCloser) io.ReadCloser {
		return struct {
			io.Reader
			io.Closer
		}{iotest.HalfReader(r), r}
	}
	whole(t, n, want, piece, near)
	n.read = nil
	whole(t, n, nil, piece, nil)
	whole(t, n, content(piece), piece, []int{0})
}

// TestJump: where a client reads on far away, the node is asked for that before what it gave is closed: it
// need not fetch the file again, nor another version.
func TestJump(t *testing.T) {
	n := newNode(t)
	want := content(12 << 20)
	n.put(t, "f", want)
	var open, asked, alone atomic.Int64
	n.read = func(r io.ReadCloser) io.ReadCloser {
		if asked.Add(1) > 1 && open.Load() == 0 {
			alone.Add(1)
		}
		open.Add(1)
		return openReader{r, &open}
	}
	r := newRaw(t, n)
	h := r.open("/f", forReading)
	for _, at := range []int{0, 9 << 20, 1 << 20, 6 << 20} {
		if b, code, text := r.read(h, at, 32<<10); code != -1 || string(b) != string(want[at:at+32<<10]) {
			t.Fatalf("at %d: %d bytes, %d %s", at, len(b), code, text)
		}
	}
	r.want(statusOK, fxClose, h)
	if asked.Load() < 3 || alone.Load() > 0 || open.Load() != 0 {
		t.Errorf("asked %d times, %d of them when nothing was open; %d are open", asked.Load(), alone.Load(), open.Load())
	}
}

// openReader is a reader that is open until it is closed.
type openReader struct {
	io.ReadCloser
	open *atomic.Int64
}

func (c openReader) Close() error {
	c.open.Add(-1)
	return c.ReadCloser.Close()
}

// closer says at its Close that bytes are missing.
type closer struct {
	io.Reader
	io.Closer
	closed *atomic.Int64
}

func (c closer) Close() error {
	c.closed.Add(1)
	_ = c.Closer.Close()
	return fault.New("read", fault.Lost, "they were cut off")
}

// TestUnconfirmed: the last piece of a file is not given, nor is CLOSE well, when the node
// does not confirm that it is the last.
func TestUnconfirmed(t *testing.T) {
	for name, size := range map[string]int64{"known size": 100_000, "no size": -1, "longer than said": 50_000} {
		n := newNode(t)
		var closed atomic.Int64
		n.read = func(r io.ReadCloser) io.ReadCloser { return closer{r, r, &closed} }
		n.wrap = func(s plugins.Session) plugins.Session { return sized{s.(*session), size} }
		n.put(t, "f", content(100_000))
		r := newRaw(t, n)
		h := r.open("/f", forReading)
		if _, code, _ := r.read(h, 0, 40_000); code != -1 {
			t.Fatalf("%s: the beginning: %d", name, code)
		}
		got := 40_000
		for {
			b, code, text := r.read(h, got, 30_000)
			if code == statusFailure && strings.Contains(text, "cut off") {
				break
			}
			if got += len(b); code != -1 || got >= 100_000 && size == 100_000 {
				t.Fatalf("%s: %d bytes, then %d %s", name, got, code, text)
			}
		}
		if text := r.want(statusFailure, fxClose, h); !strings.Contains(text, "try again later") {
			t.Error(text)
		}
		if closed.Load() != 1 {
			t.Errorf("%s: closed %d times", name, closed.Load())
		}
	}
}

// sized is a session that says another size.
type sized struct {
	*session
	size int64
}

func (s sized) Stat(ctx ctx, name string) (plugins.Attr, error) {
	a, err := s.session.Stat(ctx, name)
	a.Size = s.size
	return a, err
}

// TestReadFails: what the node says of bytes is the reply, and that of CLOSE.
func TestReadFails(t *testing.T) {
	n := newNode(t)
	n.put(t, "f", content(100_000))
	n.read = func(r io.ReadCloser) io.ReadCloser {
		return struct {
			io.Reader
			io.Closer
		}{io.MultiReader(io.LimitReader(r, 50_000), iotest.ErrReader(fault.New("read", fault.SourceChanged, "it was written to"))), r}
	}
	r := newRaw(t, n)
	h := r.open("/f", forReading)
	if b, _, _ := r.read(h, 0, 50_000); len(b) != 50_000 {
		t.Errorf("%d bytes", len(b))
	}
	if _, code, text := r.read(h, 50_000, 10); code != statusFailure || !strings.Contains(text, "it was written to") {
		t.Errorf("%d %s", code, text)
	}
	if text := r.want(statusFailure, fxClose, h); !strings.Contains(text, "it was written to") {
		t.Error(text)
	}
	n.read = func(r io.ReadCloser) io.ReadCloser {
		_ = r.Close()
		return struct {
			io.Reader
			io.Closer
		}{iotest.ErrReader(errors.New("plain")), r}
	}
	h = r.open("/f", forReading)
	if _, code, _ := r.read(h, 0, 10); code != statusFailure {
		t.Errorf("an error without a kind: %d", code)
	}
}

// TestReadBeyond: the first request may be for what is behind the end.
func TestReadBeyond(t *testing.T) {
	n := newNode(t)
	n.put(t, "f", content(1000))
	r := newRaw(t, n)
	for _, at := range []int{1000, 1001, 5 << 20, 1<<62 + 1, -1} {
		h := r.open("/f", forReading)
		if b, code, text := r.read(h, at, 10); code != statusEOF {
			t.Errorf("at %d: %d bytes, %d %s", at, len(b), code, text)
		}
		r.want(statusOK, fxClose, h)
	}
}

// TestReadGone: a stream ends with the client.
func TestReadGone(t *testing.T) {
	n := newNode(t)
	n.put(t, "f", content(100_000))
	var closed atomic.Int64
	n.read = func(r io.ReadCloser) io.ReadCloser { return closer{r, r, &closed} }
	r := newRaw(t, n)
	r.read(r.open("/f", forReading), 0, 10)
	if err := r.gone(); err != nil || closed.Load() != 1 || n.sessions.Load() != 0 {
		t.Errorf("%v, closed %d times, %d sessions", err, closed.Load(), n.sessions.Load())
	}
}
