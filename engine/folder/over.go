package folder

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/relpath"
)

// From the end of requests to the end of a file.

func timeOf(s int64) time.Time {
	if s == 0 {
		return time.Time{}
	}
	return time.Unix(s, 0)
}

// over takes the end of a request, and of all others that wait to be taken.
func (w *Watcher) over(e ending) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var files []*file
	for more := true; more; {
		w.open--
		if f := w.files[e.path]; f != nil {
			for i := range f.reqs {
				if r := &f.reqs[i]; r.ID == e.id {
					r.over, r.failed = true, e.failed
				}
			}
			if !slices.Contains(files, f) {
				files = append(files, f)
			}
		}
		if more = len(files) < mostNoted; more {
			select {
			case e = <-w.ended:
			default:
				more = false
			}
		}
	}
	w.settle(files)
	w.admit()
}

// admit looks again at as many of those that wait for others as there is room for.
func (w *Watcher) admit() {
	each := len(w.f.Partners)
	room := (w.f.Open-w.open+each-1)/each - len(w.ready) // the last may be more than there is room for, as in look
	for range min(len(w.held), room, mostNoted) {
		f := w.held[0]
		w.held[0] = nil
		w.held = w.held[1:]
		f.held = false
		if f.heap == 0 {
			w.schedule(f, 0)
		}
	}
}

// retry does after a scan what could not be done before: requests that could not be
// registered, failed ones that an operator has revived, files that stay though they should
// not.
func (w *Watcher) retry() {
	w.mu.Lock()
	var ended, left, failed, missing []*file
	for _, f := range w.files {
		switch f.state {
		case isDelivered:
			left = append(left, f)
		case isFailed:
			if w.revived(f) {
				ended = append(ended, f)
			} else if w.f.Failed == Move && f.seen == f.sent {
				failed = append(failed, f)
			}
		case isOpen:
			if !slices.ContainsFunc(f.reqs, func(r outcome) bool { return !r.Registered && !r.over }) {
				continue
			}
			if f.seen == f.sent {
				missing = append(missing, f)
			} else if f.scan < w.scan && w.scanErr == nil {
				w.supersede(f) // it is gone
			}
		}
	}
	w.settle(ended)
	w.finishAll(append(left, failed...))
	w.mu.Unlock()
	w.register(missing)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.admit()
}

// revived looks what has become of the requests of a file that has failed.
func (w *Watcher) revived(f *file) (any bool) {
	for i := range f.reqs {
		r := &f.reqs[i]
		if r.over && r.failed == "" {
			continue
		}
		s, err := w.cfg.Engine.Get(w.ctx, w.ref(r.ID))
		if err != nil {
			r.over = true
			if r.failed == "" {
				r.failed = "the request was purged"
			}
			continue
		}
		switch s.State {
		case lifecycle.Done:
			r.over, r.failed, any = true, "", true
		case lifecycle.InError:
			r.over, r.failed = true, cause(&s.Record)
		default:
			r.over, r.failed, any = false, "", true
			f.state, f.why, f.left = isOpen, "", ""
			w.await(f, r.ID)
		}
	}
	return any
}

// settle goes on with those of the files whose requests are all over.
func (w *Watcher) settle(files []*file) {
	var changes []change
	var delivered, failed []*file
	for _, f := range files {
		if f.state != isOpen && f.state != isFailed || slices.ContainsFunc(f.reqs, func(r outcome) bool { return !r.over }) {
			continue
		}
		old := w.note(f)
		switch why := failures(f); {
		case why == "":
			f.state, f.why, f.left = isDelivered, "", ""
			delivered = append(delivered, f)
			w.status.Delivered++
			w.log.Info("delivered", "file", f.path, "ids", ids(f))
			if w.f.After == Keep {
				continue // noted once, below
			}
		case f.newer || f.seen != (sideeffect.Version{}) && f.seen != f.sent:
			w.log.Info("given up for a newer version", "file", f.path, "ids", ids(f))
			f.state, f.noted, f.newer = none, nothing, false
			w.schedule(f, 0)
		default:
			if f.state != isFailed || f.why != why {
				w.log.Error("failed", "file", f.path, "ids", ids(f), "reason", why)
			}
			f.state, f.why = isFailed, why
			failed = append(failed, f)
		}
		changes = append(changes, change{path: f.path, old: old, now: w.note(f)})
	}
	if w.keep(changes) {
		reached("settled")
		w.finish(delivered)
		if w.f.Failed == Move {
			w.finish(failed)
		}
	}
}

func ids(f *file) (all []string) {
	for _, r := range f.reqs {
		all = append(all, lifecycle.ID(r.ID).String())
	}
	return all
}

// finishAll is finish, of as many as there are.
func (w *Watcher) finishAll(files []*file) {
	for some := range slices.Chunk(files, mostNoted) {
		w.finish(some)
	}
}

// finishing is one run of finish.
type finishing struct {
	*Watcher
	root    *os.Root
	dirs    map[string]bool // to be synced
	changes []change
	done    []*file // of which the notes go
	later   []*file // whose names are to be changed in a way that has to be noted first
}

// finish does what comes after, then forgets the notes of what is gone.
func (w *Watcher) finish(files []*file) {
	if len(files) == 0 {
		return
	}
	root, err := os.OpenRoot(w.f.Root)
	if err != nil {
		w.trouble(fault.Wrap("open the rule's root", w.f.Root, err))
		return // the next scan begins it again
	}
	defer root.Close()
	run := finishing{Watcher: w, root: root, dirs: map[string]bool{}}
	for _, f := range files {
		run.end(f)
	}
	if later := run.later; w.expectRenames(later) {
		for _, f := range later {
			run.end(f)
		}
	}
	reached("removed")
	if err := syncDirs(root, run.dirs); err != nil {
		w.trouble(err)
		return
	}
	if !w.keep(run.changes) {
		return
	}
	reached("forgotten")
	for _, f := range run.done {
		w.forgotten(root, f)
	}
}

// end ends one file as far as it can be.
func (w *finishing) end(f *file) {
	old := w.note(f)
	if f.state == isDelivered && w.f.After == Keep {
		f.state, f.reqs = isKept, nil
		w.changes = append(w.changes, change{path: f.path, old: old, now: w.note(f)})
		if f.newer || f.seen != f.sent && f.seen != (sideeffect.Version{}) {
			f.newer = false
			w.schedule(f, 0)
		}
		return
	}
	d, err := w.disposal(f)
	var went bool
	if err == nil {
		var dirs []string
		went, dirs, err = d.do(w.root)
		for _, dir := range dirs {
			w.dirs[dir] = true
		}
	}
	switch {
	case errors.Is(err, errUnnoted):
		w.later = append(w.later, f)
	case err != nil:
		if text := fault.Plain(err); f.left != text {
			f.left = text
			w.log.Warn("a file stays that is to be moved or removed; that is tried again", "file", f.path, "state", states[f.state], "error", err)
		}
		w.changes = append(w.changes, w.renamed(f, d.now)...)
	case d.missing && f.state == isDelivered:
		f.left, f.seen, f.newer = "", sideeffect.Version{}, false
		w.unschedule(f)
		w.changes = append(w.changes, w.missed(f)...)
	default:
		if went {
			w.log.Info(map[stateCode]string{isDelivered: w.f.After.String() + "d", isFailed: "moved away"}[f.state], "file", f.path)
		}
		w.changes = append(w.changes, change{path: f.path, old: old})
		w.done = append(w.done, f)
	}
}

// forgotten goes on with a name whose file is gone: with what has it now.
func (w *Watcher) forgotten(root *os.Root, f *file) {
	f.state, f.noted, f.newer, f.why = none, nothing, false, ""
	fi, err := w.f.lstat(root, f.path)
	switch {
	case err == nil && fi.Mode().IsRegular():
		f.seen = sideeffect.Version{}
		w.sighted(f.path, sideeffect.VersionOf(fi).WithoutDevice(), f.scan)
	case errors.Is(err, fs.ErrNotExist):
		w.unschedule(f)
		delete(w.files, f.path)
	}
}

// disposal is what is to be done with a file, and its done file.
func (w *Watcher) disposal(f *file) (d disposal, err error) {
	p, err := relpath.Parse(f.path)
	if err != nil {
		return d, err
	}
	d = disposal{folder: w.f, path: p, version: f.sent, aside: asideName(w.f.Name, f.path, f.sent), failed: f.state == isFailed, noted: f.renaming}
	action, place := w.f.After, w.f.To
	if f.state == isFailed {
		action, place = Move, w.f.FailedTo
	}
	if action == Move {
		if _, err = place.Join(d.below()); err != nil { // it is too long, perhaps
			return d, err
		}
		d.to = place
	}
	if isOwnDone(w.f.DoneFile) {
		d.done = doneName(w.f.DoneFile, p.Base())
	}
	return d, nil
}
