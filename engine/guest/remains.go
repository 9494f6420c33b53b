package guest

import (
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/pannier/pannier/engine/statefile"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/relpath"
)

const (
	// keptFor is how long what an upload has left waits for its user.
	keptFor = 7 * 24 * time.Hour
	// mostKept is how many there are at most. The file is written whole for each of them.
	mostKept = 1000
	// syncEvery is how much of an upload comes until it is written down how far the file is on
	// disk, bytes: from there a crash of the node lets its user go on.
	syncEvery = 64 << 20
)

// remain is a partial file that an upload may leave, or has left.
type remain struct {
	Root string    `json:"root"` // of the rule
	Name string    `json:"name"` // of the file below it
	Key  string    `json:"key"`  // whose it is
	When time.Time `json:"when"`
}

// Remains are those of a node, in a file: so that somebody removes them when nobody comes to go
// on with them.
type Remains struct {
	path  string
	layer sideeffect.Layer // nil: the operating system
	log   *slog.Logger
	every int64 // syncEvery

	mu  sync.Mutex // of the file, too
	all []remain
}

// OpenRemains reads the file; there need not be one.
func OpenRemains(path string, layer sideeffect.Layer, log *slog.Logger) (*Remains, error) {
	r := &Remains{path: path, layer: layer, log: log, every: syncEvery}
	data, err := statefile.Read(path)
	if err != nil || data == nil {
		return r, err
	}
	if err := json.Unmarshal(data, &r.all); err != nil {
		return nil, fault.New("read what uploads have left", fault.Corrupt, "%s: %v; it can be removed: pannier check finds the files, too", path, err)
	}
	return r, nil
}

func (a remain) same(b remain) bool { return a.Root == b.Root && a.Name == b.Name && a.Key == b.Key }

// add notes one durably.
func (r *Remains) add(e remain) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := slices.DeleteFunc(slices.Clone(r.all), e.same)
	if len(now) >= mostKept {
		return fault.New("keep upload", fault.Overloaded, "%d uploads have broken off and wait to be gone on with, as many as may be", len(now))
	}
	e.When = time.Now()
	return r.write(append(now, e))
}

// drop forgets one.
func (r *Remains) drop(e remain) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := slices.DeleteFunc(slices.Clone(r.all), e.same)
	if len(now) == len(r.all) {
		return nil
	}
	return r.write(now)
}

// write replaces the file. r.mu is held.
func (r *Remains) write(now []remain) error {
	data, err := json.Marshal(now)
	if err == nil {
		err = statefile.Write(r.path, append(data, '\n'))
	}
	if err == nil {
		r.all = now
	}
	return err
}

// Has tells whether the file of that name, in that directory of a rule's root, waits to be gone on
// with.
func (r *Remains) Has(root, name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.all, func(e remain) bool {
		p, err := relpath.Parse(e.Name)
		if err == nil {
			p, err = sideeffect.PartialName(p, e.Key)
		}
		return err == nil && e.Root == root && p.String() == name
	})
}

// Sweep removes what nobody has gone on with for long.
func (r *Remains) Sweep(now time.Time) {
	r.mu.Lock()
	all := slices.Clone(r.all)
	r.mu.Unlock()
	for _, e := range all {
		if now.Sub(e.When) < keptFor {
			continue
		}
		err := r.remove(e)
		if fault.KindOf(err) == fault.Overloaded {
			continue // somebody goes on with it just now
		}
		if err == nil {
			err = r.drop(e)
		}
		if err != nil {
			r.log.Warn("what a foreign client has begun to upload stays", "root", e.Root, "name", e.Name, "error", err)
			continue
		}
		r.log.Info("what a foreign client has begun to upload is removed: nobody has gone on with it", "root", e.Root, "name", e.Name, "since", e.When)
	}
}

// remove removes a partial file; it need not be there, nor the root.
func (r *Remains) remove(e remain) error {
	root, err := os.OpenRoot(e.Root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer root.Close()
	name, err := relpath.Parse(e.Name)
	if err != nil {
		return err
	}
	return sideeffect.Kept{Layer: r.layer, Root: root, Name: name, Key: e.Key}.Discard()
}
