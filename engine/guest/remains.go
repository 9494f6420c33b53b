package guest

import (
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/statefile"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/relpath"
)

const (
	// keptFor is how long what an upload has left waits for its user.
	keptFor = 7 * 24 * time.Hour
	// mostKept is how many there are, after which a user has fewKept at most; before, mostOfUser.
	// The file is written whole for each of them.
	mostKept   = 1000
	mostOfUser = 100
	fewKept    = 10
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

	hand uint64 // whose it is: of the upload that has the file now, or had it last
}

// Remains are those of a node, in a file: so that somebody removes them when nobody comes to go
// on with them.
type Remains struct {
	path  string
	layer sideeffect.Layer // nil: the operating system
	log   *slog.Logger
	every int64 // syncEvery

	mu    sync.Mutex // of the file, too
	all   []remain
	hands uint64          // given out
	full  map[string]bool // owners that the log has been told of
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

// remainKey is the key of a user's uploads, or of those with a mark.
func remainKey(listener, user, mark string) string {
	key := "guest\x00" + listener + "\x00" + user
	if mark != "" {
		key += "\x00" + mark
	}
	return key
}

// owner is the user whose it is, whatever its mark.
func (a remain) owner() string {
	fields := strings.SplitN(a.Key, "\x00", 4)
	return strings.Join(fields[:min(3, len(fields))], "\x00")
}

func (a remain) same(b remain) bool { return a.Root == b.Root && a.Name == b.Name && a.Key == b.Key }

// is tells whether it is that very note, and not what another upload has made of it since.
func (a remain) is(b remain) bool { return a.same(b) && a.hand == b.hand }

// add notes one durably, and returns it as it was noted. Overloaded: there is no room for another.
func (r *Remains) add(e remain) (remain, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := slices.DeleteFunc(slices.Clone(r.all), e.same)
	if len(now) == len(r.all) {
		own := 0
		for _, other := range now {
			if other.owner() == e.owner() {
				own++
			}
		}
		if own >= mostOfUser || own >= fewKept && len(now) >= mostKept {
			return e, fault.New("keep upload", fault.Overloaded, "%d uploads of this user, of %d in all, have broken off and wait to be gone on with, as many as may be", own, len(now))
		}
	}
	r.hands++
	e.When, e.hand = time.Now(), r.hands
	err := r.write(append(now, e))
	if err == nil {
		delete(r.full, e.owner())
	}
	return e, err
}

// claim is for an upload that has taken over a partial file: if that was noted, the note is its own
// from now on, and not that of whoever had the file before.
func (r *Remains) claim(e remain) (_ remain, noted bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.IndexFunc(r.all, e.same)
	if i < 0 {
		return e, false
	}
	r.hands++
	r.all[i].hand = r.hands
	return r.all[i], true
}

// drop forgets one, unless another upload has it by now.
func (r *Remains) drop(e remain) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := slices.DeleteFunc(slices.Clone(r.all), e.is)
	if len(now) == len(r.all) {
		return nil
	}
	return r.write(now)
}

// unkept tells the log that an upload of its owner is not kept, once until one is again.
func (r *Remains) unkept(e remain, err error) {
	r.mu.Lock()
	told := r.full[e.owner()]
	if r.full == nil {
		r.full = map[string]bool{}
	}
	r.full[e.owner()] = true
	r.mu.Unlock()
	if !told {
		r.log.Warn("an upload goes on, but would begin anew if it broke off", "root", e.Root, "name", e.Name, "error", err)
	}
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

// still tells whether a note has not changed.
func (r *Remains) still(e remain) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.all, e.is)
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
			continue // somebody goes on with it just now, or has
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

// remove removes a partial file; it need not be there, nor the root. Overloaded: it is another
// upload's by now.
func (r *Remains) remove(e remain) error {
	root, err := engine.OpenRoot(e.Root)
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
	return sideeffect.Kept{Layer: r.layer, Root: root, Name: name, Key: e.Key}.DiscardIf(func() bool { return r.still(e) })
}
