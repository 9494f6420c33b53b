package engine_test

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/folder"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/schedule"
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

// TestTogetherAtTimes: what a schedule and a watch folder send to several partners is read once.
func TestTogetherAtTimes(t *testing.T) {
	const size = 20<<20 + 7
	names := []string{"a", "b0", "b1", "b2", "b3"}
	for _, by := range []string{"schedule", "folder"} {
		t.Run(by, func(t *testing.T) {
			p := newGroup(t, func(*node) {}, names...)
			a := p.nodes["a"]
			content := p.file("a", "x", size)
			if by == "schedule" {
				notes, err := schedule.OpenNotes(filepath.Join(t.TempDir(), "schedules.db"))
				if err != nil {
					t.Fatal(err)
				}
				defer notes.Close()
				never, err := schedule.ParseCron("0 0 29 2 *")
				if err != nil {
					t.Fatal(err)
				}
				runner, err := schedule.Start(schedule.Config{Engine: a.engine, Notes: notes}, map[string]schedule.Schedule{"s": {
					Name: "s", Times: schedule.Times{Cron: never, Zone: time.UTC}, Most: 1, Grace: schedule.MinGrace, Rule: "push", Send: true, Root: a.root, Partners: names[1:], Source: "x",
				}})
				if err != nil {
					t.Fatal(err)
				}
				defer runner.Stop()
				if _, run, err := runner.Run(t.Context(), "s", "operator"); err != nil || run.Requests != 4 {
					t.Fatalf("%+v, %v", run, err)
				}
			} else {
				notes, err := folder.OpenNotes(filepath.Join(t.TempDir(), "folders.db"))
				if err != nil {
					t.Fatal(err)
				}
				defer notes.Close()
				w, err := folder.Watch(folder.Config{Node: "a", Engine: a.engine, Notes: notes, Folder: folder.Folder{
					Name: "f", Rule: "push", Root: a.root, Partners: names[1:], Stable: folder.MinStable, Interval: folder.MinInterval, Open: 10,
				}})
				if err != nil {
					t.Fatal(err)
				}
				defer w.Stop()
			}
			done := 0
			for done < 4 {
				done = 0
				for s, err := range a.engine.Find(t.Context(), store.Query{}) {
					if err != nil || s.State == lifecycle.InError {
						t.Fatal(s.Failure, err)
					}
					if s.State == lifecycle.Done {
						done++
					}
				}
				if t.Context().Err() != nil {
					t.Fatal("not in time")
				}
				time.Sleep(5 * time.Millisecond)
			}
			for _, to := range names[1:] {
				p.has(to, "x", content)
			}
			if n := a.engine.SharedBytes(); n < size || n > size*105/100 {
				t.Errorf("%d bytes were read of %d", n, size)
			}
		})
	}
}
