package bench

import (
	"bytes"
	"os"
	"testing"

	"github.com/pannier/pannier/spec/fault"
)

func TestVerify(t *testing.T) {
	const size = 100_000
	for _, c := range []struct {
		name   string
		change func([]byte) []byte
		kind   fault.Kind // 0: verified
	}{
		{"same", func(b []byte) []byte { return b }, 0},
		{"flipped bit", func(b []byte) []byte { b[size/2] ^= 1; return b }, fault.Corrupt},
		{"short", func(b []byte) []byte { return b[:size-1] }, fault.Corrupt},
		{"long", func(b []byte) []byte { return append(b, 0) }, fault.Corrupt},
		{"empty", func(b []byte) []byte { return nil }, fault.Corrupt},
		{"none", nil, fault.NotFound},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, err := openWorkspace(t.TempDir(), size, size)
			if err != nil {
				t.Fatal(err)
			}
			defer w.close()
			job := Job{Dir: w.dir, Size: size, Concurrent: 1}
			if c.change != nil {
				content, err := os.ReadFile(job.Source())
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(job.Target(0), c.change(bytes.Clone(content)), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			err = w.verify(job)
			if (err == nil) != (c.kind == 0) || err != nil && fault.KindOf(err) != c.kind {
				t.Errorf("%v, want %v", err, c.kind)
			}
			if err := w.discard(job); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestTargetsAreNew(t *testing.T) {
	job := Job{Dir: t.TempDir()}
	for _, want := range []bool{true, false} {
		f, err := createTarget(job, 0)
		if (err == nil) != want {
			t.Errorf("%v, want success %v", err, want)
		}
		if err == nil {
			f.Close()
		}
	}
}
