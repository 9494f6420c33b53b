package plugintest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// What checks do with files.

// content is n bytes that do not repeat, different for each seed.
func content(n int, seed byte) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

func (t *try) writer() (plugins.Writer, error) {
	w, ok := t.s.(plugins.Writer)
	if !ok || !t.can.Write {
		return nil, absent("the server cannot be written to")
	}
	return w, nil
}

// begin begins a file; size -1 is one that is not declared.
func (t *try) begin(name string, size int64) (plugins.Staged, error) {
	w, err := t.writer()
	if err != nil {
		return nil, err
	}
	return w.Write(t.ctx, name, plugins.WriteRequest{Size: size})
}

// put writes a file whole.
func (t *try) put(name string, b []byte) error {
	s, err := t.begin(name, int64(len(b)))
	if err != nil {
		return err
	}
	if _, err = s.Write(b); err == nil {
		_, err = s.Commit(t.ctx)
	}
	if err != nil {
		_, _ = s.Abort(t.ctx, false)
		return fmt.Errorf("write %q: %w", name, err)
	}
	return nil
}

// beyond is the size of a file whose offsets have more than 32 bits.
var beyond = int64(4<<30 + 7)

// beyondCheck is the check that makes one.
const beyondCheck = "beyond 4 GiB"

// zeros writes a file of them.
func (t *try) zeros(name string, size int64) error {
	s, err := t.begin(name, size)
	if err != nil {
		return err
	}
	piece := make([]byte, 1<<20)
	for left := size; left > 0 && err == nil; left -= int64(len(piece)) {
		_, err = s.Write(piece[:min(left, int64(len(piece)))])
	}
	if err == nil {
		_, err = s.Commit(t.ctx)
	}
	if err != nil {
		_, _ = s.Abort(t.ctx, false)
		return fmt.Errorf("write %d bytes: %w", size, err)
	}
	return nil
}

// sample is a file to read: the harness's, or a new one of that many bytes.
func (t *try) sample(n int) (name string, b []byte, err error) {
	if _, err := t.writer(); err != nil {
		if t.h.Sample == "" {
			return "", nil, skip("the server cannot be written to, and the harness has no sample")
		}
		return t.h.Sample, t.h.Content, nil
	}
	name, b = t.name("sample"), content(n, 1)
	return name, b, t.put(name, b)
}

// read reads from an offset to the end.
func (t *try) read(ctx context.Context, name string, offset int64) ([]byte, error) {
	r, err := t.s.Read(ctx, name, offset)
	if err != nil {
		return nil, err
	}
	return t.all(r)
}

// all reads to the end, if that comes before anything a check wants: a driver that begins a file of 4 GiB where it
// should not is to fail a check, and not to take all memory.
func (t *try) all(r io.ReadCloser) ([]byte, error) {
	most := int64(max(64<<20, len(t.h.Content)))
	var b bytes.Buffer
	n, err := io.Copy(&b, io.LimitReader(r, most+1))
	if n > most {
		err = fmt.Errorf("it does not end after %d bytes, and no check reads as many", most)
	}
	return b.Bytes(), errors.Join(err, r.Close())
}

// same reads a file whole and compares, with its size too.
func (t *try) same(name string, b []byte) error {
	got, err := t.read(t.ctx, name, 0)
	if err != nil {
		return fmt.Errorf("read %q: %w", name, err)
	}
	if !bytes.Equal(got, b) {
		return fmt.Errorf("%q has %d bytes that are not the %d that were written", name, len(got), len(b))
	}
	a, err := t.s.Stat(t.ctx, name)
	if err != nil {
		return fmt.Errorf("stat %q: %w", name, err)
	}
	if a.Dir || a.Size >= 0 && a.Size != int64(len(b)) {
		return fmt.Errorf("stat %q says %+v of a file of %d bytes", name, a, len(b))
	}
	return nil
}

// absent is nil if there is no such file.
func (t *try) absent(name string) error {
	_, err := t.s.Stat(t.ctx, name)
	return want(fmt.Sprintf("stat of %q, which nobody has committed,", name), err, fault.NotFound)
}
