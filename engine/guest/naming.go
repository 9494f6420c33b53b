package guest

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"sync"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/statefile"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/relpath"
)

// By a rule that replaces nothing, a file whose upload has come to no request would keep its name
// from every later one. So what a crash has cut off between the two is written down before.

// newName is a file that gets its name, and the request that is registered then.
type newName struct {
	Root    string `json:"root"`    // of the rule
	Name    string `json:"name"`    // of the file below it
	Version []byte `json:"version"` // of the file
	Request string `json:"request"` // its id

	version sideeffect.Version // zero: there is none yet
	stays   bool               // it has come to no request, and the name could not be taken away
}

// Namings are those of a node, in a file.
type Namings struct {
	path string
	log  *slog.Logger

	mu   sync.Mutex // of the file, too
	all  []newName
	over map[string]bool // by request: in the file though they are over, since it could not be written
	due  map[string]bool // by request: to be settled, of an earlier life, or since the name could not be taken away
}

// OpenNamings reads the file; there need not be one.
func OpenNamings(path string, log *slog.Logger) (*Namings, error) {
	n := &Namings{path: path, log: log, over: map[string]bool{}, due: map[string]bool{}}
	data, err := statefile.Read(path)
	if err != nil || data == nil {
		return n, err
	}
	if err := json.Unmarshal(data, &n.all); err != nil {
		return nil, fault.New("read which uploads were being named", fault.Corrupt, "%s: %v; it can be removed: a file whose upload has come to no request may keep its name then", path, err)
	}
	for _, e := range n.all {
		n.due[e.Request] = true
	}
	return n, nil
}

// add writes one down durably.
func (n *Namings) add(e newName) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	e.Version = e.version.Encode()
	return n.write(append(n.left(), e))
}

// end is of one that has its request, or its name no more; or of one that stays, which Settle tries again.
func (n *Namings) end(e newName) {
	if e.stays {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.due[e.Request] = true
		return
	}
	n.drop(e)
}

// drop forgets one that is over. If that cannot be written down now, the next write does.
func (n *Namings) drop(e newName) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.due, e.Request)
	n.over[e.Request] = true
	if err := n.write(n.left()); err != nil {
		n.log.Warn("an upload that has its request is still noted as one that has none", "name", e.Name, "error", err)
	}
}

// Tidy writes down what could not be.
func (n *Namings) Tidy() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.over) == 0 {
		return
	}
	if err := n.write(n.left()); err != nil {
		n.log.Warn("uploads that have their requests are still noted as ones that have none", "error", err)
	}
}

// left are those that are not over. n.mu is held.
func (n *Namings) left() []newName {
	return slices.DeleteFunc(slices.Clone(n.all), func(e newName) bool { return n.over[e.Request] })
}

// write replaces the file. n.mu is held.
func (n *Namings) write(now []newName) error {
	data, err := json.Marshal(now)
	if err == nil {
		err = statefile.Write(n.path, append(data, '\n'))
	}
	if err == nil {
		n.all = now
		clear(n.over)
	}
	return err
}

// Settle ends what an earlier life of the node has left, or this one could not end: a file whose request was not
// registered is removed, since nobody was told that it was taken. It is called before a listener serves, and now
// and then for what could not be removed yet.
func (n *Namings) Settle(ctx context.Context, e Engine, node string) {
	n.mu.Lock()
	all := slices.DeleteFunc(n.left(), func(e newName) bool { return !n.due[e.Request] })
	n.mu.Unlock()
	for _, is := range all {
		n.settle(ctx, is, e, node)
	}
}

func (n *Namings) settle(ctx context.Context, is newName, e Engine, node string) {
	defer naming.lock(is.turn())()
	id, err := parseID(is.Request)
	if err == nil {
		is.version, err = sideeffect.ParseVersion(is.Version)
	}
	if err == nil {
		_, err = e.Get(ctx, store.Ref{Key: lifecycle.Key{Requester: node, ID: id}, Role: lifecycle.Requester})
	}
	if fault.KindOf(err) == fault.NotFound {
		var was bool
		if was, err = is.remove(); was {
			n.log.Info("an upload that was cut off before its request is removed: its client has not been told that it was taken", "root", is.Root, "name", is.Name)
		}
	}
	if err != nil {
		n.log.Warn("a file whose upload has come to no request keeps its name for now: it is tried again in an hour, and at the next start", "root", is.Root, "name", is.Name, "error", err)
		return
	}
	n.drop(is)
}

// turn is by which one waits that nobody else gives or takes the name.
func (e newName) turn() string { return e.Root + "\x00" + e.Name }

// parseID reads the id of a request.
func parseID(text string) (id lifecycle.ID, err error) {
	b, err := hex.DecodeString(text)
	if err != nil || copy(id[:], b) != len(b) || len(b) != len(id) {
		return id, fault.New("parse id", fault.Invalid, "%.40q is none", text)
	}
	return id, nil
}

// remove takes the name away again, durably, and says whether the file had it.
func (e newName) remove() (was bool, err error) {
	const op = "remove upload"
	name, err := relpath.Parse(e.Name)
	if err != nil {
		return false, err
	}
	if e.version.IsZero() {
		return false, nil
	}
	root, err := engine.OpenRoot(e.Root)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fault.Wrap(op, e.Root, err)
	}
	defer root.Close()
	fi, err := root.Lstat(name.String())
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil || !sideeffect.VersionOf(fi).WithoutDevice().Touched(e.version.WithoutDevice()) {
		return false, fault.Wrap(op, e.Name, err)
	}
	if err = root.Remove(name.String()); err == nil {
		err = syncDir(root, name)
	}
	return err == nil, fault.Wrap(op, e.Name, err)
}

// syncDir makes durable what names there are in the directory of a file.
func syncDir(root *os.Root, name relpath.Path) error {
	dir := "."
	if d := name.Dir(); !d.IsZero() {
		dir = d.String()
	}
	f, err := root.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
