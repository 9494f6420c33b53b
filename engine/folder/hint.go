package folder

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/fsnotify/fsnotify"
)

// hintBacklog is how many events wait for the loop; more, and a rescan is asked for.
const hintBacklog = 4096

// hints are what the kernel says has changed. They may be missing.
type hints struct {
	root   string
	open   func() (*fsnotify.Watcher, error)
	add    func(w *fsnotify.Watcher, dir string) error
	events chan string   // paths below the rule's root, as the system has them
	lost   chan struct{} // some were: look at everything
	work   sync.WaitGroup

	mu    sync.Mutex        // guards what follows
	watch *fsnotify.Watcher // nil: the kernel has given none
	why   string            // there are none, or not of all directories, as of the last scan
	found string            // what the scan that runs has found of that
}

func newHints(root string, open func() (*fsnotify.Watcher, error)) *hints {
	h := &hints{root: root, open: open, add: (*fsnotify.Watcher).Add, events: make(chan string, hintBacklog), lost: make(chan struct{}, 1)}
	h.begin()
	return h
}

// begin is called before everything is looked through: it tries again what the kernel refused.
func (h *hints) begin() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.found = ""
	if h.watch != nil {
		return
	}
	w, err := h.open()
	if err != nil {
		h.found = trouble("", err)
		return
	}
	h.watch = w
	h.work.Go(func() { h.pass(w) })
}

// over is called after it: what is so now, and whether it was otherwise before.
func (h *hints) over() (why string, changed bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	changed, h.why = h.why != h.found, h.found
	return h.why, changed
}

// trouble says what to do about a kernel that gives no hints, or none of a directory.
func trouble(dir string, err error) string {
	switch {
	case errors.Is(err, fs.ErrPermission) && dir != "":
		return fmt.Sprintf("the node's user may not read %q: let it, or name the directory in exclude", dir)
	case errors.Is(err, syscall.ENOSPC):
		return "the kernel has no watches left: raise fs.inotify.max_user_watches"
	case errors.Is(err, syscall.EMFILE):
		return "the kernel gives this user no more: raise fs.inotify.max_user_instances"
	}
	if dir != "" {
		return fmt.Sprintf("%q: %v", dir, err)
	}
	return err.Error()
}

// enter watches a directory from now on.
func (h *hints) enter(dir string) {
	h.mu.Lock()
	w := h.watch
	h.mu.Unlock()
	if w == nil {
		return
	}
	err := h.add(w, filepath.Join(h.root, dir)) // the same again is nothing new; without the lock, because a file system may never answer
	if err != nil && !errors.Is(err, syscall.ENOENT) {
		h.mu.Lock()
		h.found = trouble(dir, err)
		h.mu.Unlock()
	}
}

// state is empty where all directories are watched, or says why not, and whether others are.
func (h *hints) state() (why string, partly bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	why = cmp.Or(h.why, h.found)
	return why, why != "" && h.watch != nil
}

func (h *hints) pass(w *fsnotify.Watcher) {
	for {
		select {
		case e, ok := <-w.Events:
			if !ok {
				return
			}
			rel, err := filepath.Rel(h.root, e.Name)
			if err != nil {
				continue
			}
			select {
			case h.events <- rel:
			default:
				h.lose()
			}
		case _, ok := <-w.Errors:
			if !ok {
				return
			}
			h.lose() // of the queue's overflow, or what is as bad
		}
	}
}

func (h *hints) lose() {
	select {
	case h.lost <- struct{}{}:
	default:
	}
}

// close ends it; nothing is looked through any more.
func (h *hints) close() {
	h.mu.Lock()
	w := h.watch
	h.mu.Unlock()
	if w != nil {
		_ = w.Close()
	}
	h.work.Wait()
}
