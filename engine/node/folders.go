package node

import (
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"sync"

	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/engine/config"
	"github.com/pannier/pannier/engine/folder"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/metrics"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/nearest"
)

// folderFile is what watch folders remember, in the state directory.
const folderFile = "folders.db"

// folders are the node's watch folders.
type folders struct {
	node  *Node
	notes *folder.Notes

	mu  sync.Mutex
	all map[string]*watched
}

// watched is one of them.
type watched struct {
	is    folder.Folder
	watch *folder.Watcher // nil: it could not begin
	err   error           // why
}

var _ admin.Folders = (*folders)(nil)

// openFolders opens what they remember: the engine asks it from its first request on.
func (n *Node) openFolders() error {
	notes, err := folder.OpenNotes(filepath.Join(n.fixed.State, folderFile))
	if err != nil {
		return err
	}
	n.folders = &folders{node: n, notes: notes, all: map[string]*watched{}}
	n.undone(notes.Close)
	n.notes = append(n.notes, part{folderFile, notes.Backup})
	return nil
}

// beginFolders begins those of a file. They end before the engine.
func (n *Node) beginFolders(cfg *config.Config) error {
	n.undone(func() error { n.folders.end(); return nil })
	ended := func(id lifecycle.ID) bool { return n.hasEnded(lifecycle.Key{Requester: n.fixed.Name, ID: id}) }
	if err := n.folders.notes.Sweep(ended); err != nil {
		return err
	}
	n.folders.change(cfg)
	return nil
}

// change makes the folders those of a file. Those that stay as they are go on untouched.
func (f *folders) change(cfg *config.Config) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var stopping sync.WaitGroup
	for name, w := range f.all {
		if now, ok := cfg.Folders[name]; ok && reflect.DeepEqual(w.is, now) && w.err == nil {
			continue
		}
		delete(f.all, name)
		if w.watch != nil {
			stopping.Go(w.watch.Stop)
		}
	}
	stopping.Wait() // before one of the same name begins
	for name, is := range cfg.Folders {
		if f.all[name] != nil {
			continue
		}
		w := &watched{is: is}
		w.watch, w.err = folder.Watch(folder.Config{Folder: is, Node: f.node.fixed.Name, Engine: f.node.engine, Notes: f.notes, Log: f.node.log})
		if w.err != nil {
			f.node.log.Error("the folder does not work", "folder", name, "error", w.err)
		}
		f.all[name] = w
	}
}

// end stops all of them. What they have begun goes on after the next start.
func (f *folders) end() { f.change(&config.Config{}) }

// List implements admin.Folders.
func (f *folders) List() (all []folder.Status) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(f.all)) {
		all = append(all, f.all[name].status(0))
	}
	return all
}

// measured is for the metrics.
func (f *folders) measured() (all []metrics.Folder) {
	for _, s := range f.List() {
		all = append(all, metrics.Folder{
			Name: s.Folder.Name, Waiting: s.Waiting, Held: s.Held, Open: s.Open, Kept: s.Kept, Failed: s.Failed, Skipped: s.Skipped, Staying: s.Staying,
			Events: s.Hints == "" && s.Trouble == "", Trouble: s.Trouble != "", Scanned: s.Scanned,
		})
	}
	return all
}

func (w *watched) status(rows int) folder.Status {
	if w.err != nil {
		return folder.Status{Folder: w.is, Trouble: fault.Plain(w.err)}
	}
	return w.watch.Status(rows)
}

// Show implements admin.Folders.
func (f *folders) Show(name string) (folder.Status, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	w := f.all[name]
	if w == nil {
		return folder.Status{}, f.noFolder(name)
	}
	return w.status(folder.MostRows), nil
}

// noFolder is the error of a name that none has. f.mu is held.
func (f *folders) noFolder(name string) error {
	return fault.New("find folder", fault.NotFound, "no folder is called %q%s", name, nearest.MeantOf(name, f.all))
}

// Find implements admin.Folders.
func (f *folders) Find(name string) (*folder.Watcher, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	w := f.all[name]
	if w == nil {
		return nil, f.noFolder(name)
	}
	return w.watch, w.err
}
