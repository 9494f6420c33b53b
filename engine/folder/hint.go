package folder

import (
	"errors"
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
	events chan string   // paths below the rule's root, as the system has them
	lost   chan struct{} // some were: look at everything
	watch  *fsnotify.Watcher
	done   chan struct{}

	mu  sync.Mutex
	why string // there are none, or not of all directories
}

func newHints(root string) *hints {
	h := &hints{root: root, events: make(chan string, hintBacklog), lost: make(chan struct{}, 1), done: make(chan struct{})}
	w, err := fsnotify.NewWatcher()
	if err != nil {
		h.why = trouble(err)
		close(h.done)
		return h
	}
	h.watch = w
	go h.pass()
	return h
}

// trouble says what to do about a kernel that gives no hints.
func trouble(err error) string {
	switch {
	case errors.Is(err, syscall.ENOSPC):
		return "the kernel has no watches left: raise fs.inotify.max_user_watches"
	case errors.Is(err, syscall.EMFILE):
		return "the kernel gives this user no more: raise fs.inotify.max_user_instances"
	}
	return err.Error()
}

// enter watches a directory from now on.
func (h *hints) enter(dir string) {
	if h.watch == nil {
		return
	}
	err := h.watch.Add(filepath.Join(h.root, dir)) // the same again is nothing new
	if err != nil && !errors.Is(err, syscall.ENOENT) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.why = trouble(err)
	}
}

// state is empty where all directories are watched, or says why not.
func (h *hints) state() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.why
}

func (h *hints) pass() {
	defer close(h.done)
	for {
		select {
		case e, ok := <-h.watch.Events:
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
		case _, ok := <-h.watch.Errors:
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

func (h *hints) close() {
	if h.watch != nil {
		_ = h.watch.Close()
	}
	<-h.done
}
