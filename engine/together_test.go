package engine_test

import (
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"testing"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/sideeffect"
)

// readLayer counts what is read of sources, of a node that receives nothing.
type readLayer struct {
	sideeffect.Layer
	bytes atomic.Int64
}

func (c *readLayer) Reads(f *os.File) io.ReaderAt { return counted{f, &c.bytes} }

type counted struct {
	io.ReaderAt
	bytes *atomic.Int64
}

func (r counted) ReadAt(p []byte, off int64) (int, error) {
	n, err := r.ReaderAt.ReadAt(p, off)
	r.bytes.Add(int64(n))
	return n, err
}

// TestTogether: a file that is sent to eight nodes at once is read once; each has a request, a
// digest and a state of its own, whatever becomes of the others.
func TestTogether(t *testing.T) {
	const size = 20<<20 + 7
	names := []string{"a"}
	for i := range 8 {
		names = append(names, fmt.Sprint("b", i))
	}
	layer := &readLayer{}
	p := newGroup(t, func(n *node) {
		if n.name == "a" {
			n.limits.Layer, n.limits.Shared = layer, 16<<20
		}
		if n.name == "b7" {
			n.rules["push"].Quota = size - 1
		}
	}, names...)
	content := p.file("a", "x", size)
	var records []lifecycle.Record
	for _, to := range names[1:] {
		r, _, err := p.nodes["a"].engine.Submit(t.Context(), engine.Order{Partner: to, Rule: "push", Source: path(t, "x"), Together: 8})
		if err != nil {
			t.Fatal(err)
		}
		records = append(records, r)
	}
	for i, to := range names[1:] {
		r, err := p.nodes["a"].engine.Wait(t.Context(), store.RefOf(&records[i]))
		if err != nil {
			t.Fatal(err)
		}
		if to == "b7" {
			if r.State != lifecycle.InError {
				t.Errorf("%s: %v", to, r.State)
			}
			continue
		}
		if r.State != lifecycle.Done || r.Proof == "" {
			t.Errorf("%s: %v, digest %q: %v", to, r.State, r.Proof, r.Failure)
		}
		p.has(to, "x", content)
	}
	if n := layer.bytes.Load(); n < size || n > size*105/100 {
		t.Errorf("%d bytes were read of %d", n, size)
	}
	if n := p.nodes["a"].engine.SharedBytes(); n != layer.bytes.Load() {
		t.Errorf("%d bytes are told, %d were read", n, layer.bytes.Load())
	}
}
