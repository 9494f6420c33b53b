package node

import (
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"time"

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

	changing sync.Mutex // one change after the other
	mu       sync.Mutex // guards what follows; nothing is waited for under it
	all      map[string]*watched
	stuck    map[string]*watched // that are to end, and wait for their file system
}

// stopLimit is how long a change waits for a folder to end.
const stopLimit = 5 * time.Second

// watched is one of them.
type watched struct {
	is    folder.Folder
	watch *folder.Watcher // nil: it could not begin
	err   error           // why
	stop  func()          // of watch; it may wait for a file system that does not answer
	over  chan struct{}   // closed when stop has returned
	next  bool            // somebody waits for over, to begin another of the name; guarded by folders.mu
}

var _ admin.Folders = (*folders)(nil)

// openFolders opens what they remember: the engine asks it from its first request on.
func (n *Node) openFolders() error {
	notes, err := folder.OpenNotes(filepath.Join(n.fixed.State, folderFile))
	if err != nil {
		return err
	}
	n.folders = &folders{node: n, notes: notes, all: map[string]*watched{}, stuck: map[string]*watched{}}
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
	for _, problem := range n.folders.change(cfg) {
		n.log.Error(problem)
	}
	return nil
}

// change makes the folders those of a file. Those that stay as they are go on untouched. One whose file
// system does not answer is left to itself; another of its name begins when it has ended. problems are of those that do not work.
func (f *folders) change(cfg *config.Config) (problems []string) {
	f.changing.Lock()
	defer f.changing.Unlock()
	f.stop(func(name string, w *watched) bool {
		now, ok := cfg.Folders[name]
		return !ok || !reflect.DeepEqual(w.is, now) || w.err != nil
	})
	for _, name := range slices.Sorted(maps.Keys(cfg.Folders)) {
		is := cfg.Folders[name]
		f.mu.Lock()
		old, stuck := f.all[name], f.stuck[name]
		f.mu.Unlock()
		if old != nil {
			continue
		}
		w := &watched{is: is}
		if stuck != nil {
			w.err = fault.New("begin folder", fault.Overloaded, "the folder of that name that was before has not ended: the file system of %s does not answer. It begins when that does", stuck.is.Root)
			f.beginAfter(stuck)
		} else {
			w = f.watch(is)
		}
		if w.err != nil {
			problems = append(problems, "folder "+name+" does not work: "+fault.Plain(w.err))
		}
		f.mu.Lock()
		f.all[name] = w
		f.mu.Unlock()
	}
	return problems
}

// stop ends those that are to end, as long as they take, and at most stopLimit.
func (f *folders) stop(ends func(name string, w *watched) bool) {
	f.mu.Lock()
	stopping := map[string]*watched{}
	for name, w := range f.all {
		if ends(name, w) {
			delete(f.all, name)
			if w.stop != nil {
				stopping[name], f.stuck[name] = w, w
			}
		}
	}
	f.mu.Unlock()
	for name, w := range stopping {
		go func() {
			w.stop()
			f.mu.Lock()
			delete(f.stuck, name)
			f.mu.Unlock()
			close(w.over)
		}()
	}
	limit := time.After(stopLimit)
	for name, w := range stopping {
		select {
		case <-w.over:
			continue
		default:
		}
		select {
		case <-w.over:
		case <-limit:
			f.node.log.Error("the folder does not end, and is left: its file system does not answer", "folder", name, "root", w.is.Root)
			limit = time.After(0) // nor is another waited for
		}
	}
}

// watch begins one.
func (f *folders) watch(is folder.Folder) *watched {
	w := &watched{is: is, over: make(chan struct{})}
	w.watch, w.err = folder.Watch(folder.Config{Folder: is, Node: f.node.fixed.Name, Engine: f.node.engine, Notes: f.notes, Log: f.node.log})
	if w.err == nil {
		w.stop = w.watch.Stop
	}
	return w
}

// beginAfter begins the folder that has the name of one before when that has ended.
func (f *folders) beginAfter(before *watched) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if before.next {
		return // it was asked for by an earlier change
	}
	before.next = true
	go func() {
		<-before.over
		f.changing.Lock()
		defer f.changing.Unlock()
		name := before.is.Name
		f.mu.Lock()
		w := f.all[name]
		f.mu.Unlock()
		if w == nil || w.stop != nil { // none is to begin any more, or it has begun
			return
		}
		began := f.watch(w.is)
		f.node.log.Info("the folder begins: the one of its name that was before has ended", "folder", name, "error", began.err)
		f.mu.Lock()
		f.all[name] = began
		f.mu.Unlock()
	}()
}

// end stops all of them. What they have begun goes on after the next start.
func (f *folders) end() { f.change(&config.Config{}) }

// List implements admin.Folders.
func (f *folders) List() (all []folder.Status) {
	f.mu.Lock()
	watched := maps.Clone(f.all)
	f.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(watched)) {
		all = append(all, watched[name].status(0))
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
	w, err := f.find(name)
	if err != nil {
		return folder.Status{}, err
	}
	return w.status(folder.MostRows), nil
}

// find is the folder of a name; NotFound without one.
func (f *folders) find(name string) (*watched, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if w := f.all[name]; w != nil {
		return w, nil
	}
	return nil, fault.New("find folder", fault.NotFound, "no folder is called %q%s", name, nearest.MeantOf(name, f.all))
}

// Find implements admin.Folders.
func (f *folders) Find(name string) (*folder.Watcher, error) {
	w, err := f.find(name)
	if err != nil {
		return nil, err
	}
	return w.watch, w.err
}
