package sideeffect

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"testing/iotest"
	"time"

	"github.com/pannier/pannier/spec/fault"
)

// readerFunc and writerFunc are a reader and a writer of the user's.
type (
	readerFunc func(p []byte) (int, error)
	writerFunc func(p []byte) (int, error)
)

func (f readerFunc) Read(p []byte) (int, error)  { return f(p) }
func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

var errTorn = errors.New("torn")

// endsWith gives b, and then or with the last bytes err.
func endsWith(b []byte, err error, together bool) io.Reader {
	r := bytes.NewReader(b)
	return readerFunc(func(p []byte) (int, error) {
		n, _ := r.Read(p)
		if r.Len() == 0 && (together || n == 0) {
			return n, err
		}
		return n, nil
	})
}

// TestReaderErrors: whatever a reader says but io.EOF fails the transfer, however it says it, and its contract is not
// believed to be kept.
func TestReaderErrors(t *testing.T) {
	t.Parallel()
	b := content(3 * testBlock)
	for name, tc := range map[string]struct {
		r    io.Reader
		size int64
		want error // nil: it is sent
	}{
		"end with the last bytes":                {iotest.DataErrReader(bytes.NewReader(b)), -1, nil},
		"byte by byte":                           {iotest.OneByteReader(bytes.NewReader(b)), -1, nil},
		"nothing now and then":                   {io.MultiReader(readerFunc(hesitant(5)), bytes.NewReader(b)), -1, nil},
		"error with the last bytes":              {endsWith(b, errTorn, true), -1, errTorn},
		"error with the last of a known size":    {endsWith(b, errTorn, true), int64(len(b)), errTorn},
		"error behind the last bytes":            {endsWith(b, errTorn, false), -1, errTorn},
		"content that is not whole":              {endsWith(b, io.ErrUnexpectedEOF, false), -1, io.ErrUnexpectedEOF},
		"the same, in the middle of a block":     {endsWith(b[:testBlock+7], io.ErrUnexpectedEOF, false), -1, io.ErrUnexpectedEOF},
		"less than its size":                     {bytes.NewReader(b[1:]), int64(len(b)), fault.SourceChanged},
		"nothing, for ever":                      {readerFunc(func([]byte) (int, error) { return 0, nil }), -1, io.ErrNoProgress},
		"more than was asked for":                {readerFunc(func(p []byte) (int, error) { return len(p) + 1, nil }), -1, fault.Invalid},
		"less than nothing":                      {readerFunc(func([]byte) (int, error) { return -1, nil }), -1, fault.Invalid},
		"more than was asked for, of known size": {readerFunc(func(p []byte) (int, error) { return len(p) + 1, io.EOF }), int64(len(b)), fault.Invalid},
	} {
		var got bytes.Buffer
		r := transfer(t, descriptor(Reader(tc.r, tc.size)), descriptor(Buffer(&got)), nil)
		switch {
		case tc.want == nil && (r.sendErr != nil || r.storeErr != nil || !bytes.Equal(got.Bytes(), b)):
			t.Errorf("%s: %v, %v, %d bytes", name, r.sendErr, r.storeErr, got.Len())
		case tc.want != nil && (!errors.Is(r.sendErr, tc.want) || r.storeErr == nil || got.Len() > 0):
			t.Errorf("%s: %v, want %v; the sink says %v, %d bytes", name, r.sendErr, tc.want, r.storeErr, got.Len())
		}
	}
}

// hesitant is a reader that gives nothing n times, then ends.
func hesitant(n int) func([]byte) (int, error) {
	return func([]byte) (int, error) {
		if n--; n >= 0 {
			return 0, nil
		}
		return 0, io.EOF
	}
}

// drip is a reader that gives a byte at a time, cancels the transfer once, and waits until it is told.
type drip struct {
	cancel context.CancelFunc
	told   chan struct{}
	after  int // Reads
}

func (d *drip) Read(p []byte) (int, error) {
	select {
	case <-d.told:
		d.after++
	default:
		d.cancel()
		<-d.told
	}
	p[0] = 1
	return 1, nil
}

func (d *drip) SetDeadline(time.Time) error { close(d.told); return nil }

// TestDripIsCancelled: a transfer that was cancelled does not wait until a slow reader has filled a block.
func TestDripIsCancelled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	d := &drip{cancel: cancel, told: make(chan struct{})}
	r := transferCtx(ctx, t, descriptor(Reader(d, -1)), descriptor(Buffer(&bytes.Buffer{})), nil)
	if wantKind(t, r.sendErr, fault.Canceled); d.after > 0 {
		t.Errorf("read %d times after the end", d.after)
	}
}

// TestWriterErrors: a writer's contract is not believed to be kept either.
func TestWriterErrors(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		n    func(int) int
		want error
	}{
		"short":             {func(n int) int { return n - 1 }, io.ErrShortWrite},
		"long":              {func(n int) int { return n + 1 }, fault.Invalid},
		"less than nothing": {func(int) int { return -1 }, fault.Invalid},
	} {
		w := writerFunc(func(p []byte) (int, error) { return tc.n(len(p)), nil })
		if r := transfer(t, descriptor(Memory(content(10))), descriptor(Writer(w)), nil); !errors.Is(r.storeErr, tc.want) {
			t.Errorf("%s: %v, want %v", name, r.storeErr, tc.want)
		}
		conn, peer := conduits(t)
		go func() { _, _ = peer.Write([]byte("x")) }()
		if _, err := PipeAll(context.Background(), conn, Duplex(peerless{}, w), unlimited); !errors.Is(err, tc.want) {
			t.Errorf("pipe, %s: %v, want %v", name, err, tc.want)
		}
	}
}

// peerless is a reader of nothing.
type peerless struct{}

func (peerless) Read([]byte) (int, error) { return 0, io.EOF }

// TestPipeOfNothing: a reader that gives nothing for ever ends its pipe, and one that says too much does.
func TestPipeOfNothing(t *testing.T) {
	t.Parallel()
	for want, f := range map[error]readerFunc{
		io.ErrNoProgress: func([]byte) (int, error) { return 0, nil },
		fault.Invalid:    func(p []byte) (int, error) { return len(p) + 1, nil },
	} {
		conn, _ := conduits(t)
		if _, err := PipeAll(context.Background(), conn, Duplex(f, io.Discard), unlimited); !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
	}
}

// TestBufferOfNil is said, and no panic.
func TestBufferOfNil(t *testing.T) {
	t.Parallel()
	_, err := Buffer(nil).OpenSource(SourceSpec{})
	wantKind(t, err, fault.Invalid)
	_, err = Buffer(nil).OpenSink(SinkSpec{})
	wantKind(t, err, fault.Invalid)
}
