package folder

import (
	"container/heap"
	"errors"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

// What is there: scans, hints, and whether a file is ready.

// beginScan looks through everything, after the scan that runs if one does.
func (w *Watcher) beginScan() {
	if w.scanning {
		w.again = true
		return
	}
	w.scanning, w.again, w.scanErr, w.scanFrom = true, false, nil, time.Now()
	w.scan++
	w.hints.begin()
	w.walk(at(w.f.Dir), w.scan, true)
}

// walk passes what is below a directory on to the loop.
func (w *Watcher) walk(dir string, scan uint32, whole bool) {
	w.work.Go(func() {
		give := func(part found) bool {
			part.scan = scan
			select {
			case w.founds <- part:
				return true
			case <-w.ctx.Done():
				return false
			}
		}
		dirs := w.f.walk(w.ctx, dir, w.hints.enter, give)
		give(found{over: whole, dir: dir, dirs: dirs, err: errPartial(whole)})
	})
}

// errOver ends the scan of a single directory.
var errOver = errors.New("over")

func errPartial(whole bool) error {
	if whole {
		return nil
	}
	return errOver
}

// merge takes what a scan has found.
func (w *Watcher) merge(part found) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case part.err == errOver:
		w.partial--
		return
	case part.err != nil:
		w.scanErr = part.err
		w.trouble(part.err)
	}
	for _, s := range part.files {
		w.sighted(s.path, s.version, part.scan)
	}
	for _, o := range part.odd {
		w.strange(o, part.scan)
	}
	w.strays(part.aside, part.scan)
	if part.over {
		w.scanned(part.dirs)
	}
}

// trouble says once what is wrong with the folder.
func (w *Watcher) trouble(err error) {
	text := fault.Plain(err)
	if w.status.Trouble != text {
		w.log.Error("the folder cannot be looked through", "error", err)
	}
	w.status.Trouble = text
}

// strange notes what cannot be sent, and says it once.
func (w *Watcher) strange(o oddity, scan uint32) {
	old, known := w.odd[o.path]
	if !known && len(w.odd) >= mostOdd {
		return
	}
	w.odd[o.path] = oddAt{o.why, scan}
	if !known || old.why != o.why {
		w.log.Warn("skipped", "file", o.path, "reason", o.why)
	}
}

// sighted takes what a scan or a look has seen.
func (w *Watcher) sighted(name string, v sideeffect.Version, scan uint32) {
	f := w.files[name]
	if f == nil {
		f = &file{noted: nothing, path: name}
		w.files[name] = f
	}
	f.scan = max(f.scan, scan)
	if f.gone != 0 {
		w.back = append(w.back, f)
	}
	if f.seen == v {
		return
	}
	f.seen, f.since, f.tries = v, w.now(), 0
	if f.state != none && f.sent == v {
		w.unschedule(f)
		if why := failures(f); f.state == isFailed && why != "" { // a sight in between has had another reason
			f.why = why
		}
		return
	}
	if f.why == "" || f.state != none {
		f.why = "it is watched until it stays the same"
	}
	w.schedule(f, w.quiet())
}

// quiet is how long a version has to stay the same before somebody looks whether it is
// ready.
func (w *Watcher) quiet() time.Duration {
	if w.f.Closed {
		return MinStable
	}
	return w.f.Stable
}

// scanned ends a scan of everything.
func (w *Watcher) scanned(dirs int) {
	w.scanning = false
	switch why, changed := w.hints.over(); {
	case changed && why != "":
		what := "files"
		if _, partly := w.hints.state(); partly {
			what = "files of some directories"
		}
		w.log.Warn(what+" are only seen when everything is looked through", "interval", w.f.Interval, "reason", why)
	case changed:
		w.log.Info("the kernel tells of changes again")
	}
	w.status.Scanned, w.status.Took, w.status.Dirs = time.Now(), time.Since(w.scanFrom), dirs
	if w.scanErr == nil {
		w.status.Trouble = ""
		w.status.Scans++
		w.missing()
	}
	gone := fault.KindOf(w.scanErr) == fault.NotFound // the folder itself is: a directory in it that goes meanwhile is no error
	for name, o := range w.odd {
		if gone || w.scanErr == nil && o.scan < w.scan {
			delete(w.odd, name)
		}
	}
	for _, f := range w.files { // what waits for something that no event tells
		if f.heap == 0 && f.seen != (sideeffect.Version{}) && f.seen != f.sent && !f.newer && !f.held {
			w.schedule(f, 0)
		}
	}
	w.lookAgain()
}

// missing looks at what a scan without an error has not come to.
func (w *Watcher) missing() {
	var root *os.Root
	var changes []change
	for _, f := range w.files {
		if f.scan >= w.scan {
			continue
		}
		if root == nil {
			var err error
			if root, err = os.OpenRoot(w.f.Root); err != nil {
				return
			}
			defer root.Close()
		}
		fi, err := w.f.lstat(root, f.path)
		switch {
		case err == nil && fi.Mode().IsRegular() && w.f.reaches(f.path) && w.f.wants(f.path):
			w.sighted(f.path, sideeffect.VersionOf(fi).WithoutDevice(), w.scan)
		case err == nil || errors.Is(err, fs.ErrNotExist):
			changes = append(changes, w.vanished(f)...)
		}
	}
	w.keep(changes)
}

// regained notes of what was missed that it is there.
func (w *Watcher) regained() {
	var changes []change
	for _, f := range w.back {
		if f.gone != 0 && w.files[f.path] == f {
			old := w.note(f)
			f.gone = 0
			changes = append(changes, change{path: f.path, old: old, now: w.note(f)})
		}
	}
	w.back = nil
	w.keep(changes)
}

// vanished forgets a file that is not there, or notes since when it is not.
func (w *Watcher) vanished(f *file) []change {
	f.seen = sideeffect.Version{}
	w.unschedule(f)
	switch f.state {
	case none:
		delete(w.files, f.path)
	case isFailed:
		delete(w.files, f.path)
		return []change{{path: f.path, old: w.note(f)}}
	case isKept:
		return w.missed(f)
	}
	return nil
}

// missed notes since when a file that was delivered is not there, and forgets it after a while: its file system may
// be back until then.
func (w *Watcher) missed(f *file) []change {
	old, now := w.note(f), time.Now().Unix()
	if f.gone == 0 {
		f.gone = now
		return []change{{path: f.path, old: old, now: w.note(f)}}
	}
	if time.Duration(now-f.gone)*time.Second > forgetAfter && w.now() > int64(w.cfg.young) {
		delete(w.files, f.path)
		return []change{{path: f.path, old: old}}
	}
	return nil
}

// hinted looks at what the kernel says has changed.
func (w *Watcher) hinted(name string) {
	if !w.f.Dir.IsZero() && name != w.f.Dir.String() && !below(w.f.Dir, name) || name == "." || name == at(w.f.Dir) || !w.f.reaches(name) {
		return
	}
	base := path.Base(name)
	if isDone(w.f.DoneFile, base) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.wake(path.Dir(name), base)
		return
	}
	root, err := os.OpenRoot(w.f.Root)
	if err != nil {
		return
	}
	defer root.Close()
	fi, err := root.Lstat(name)
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case err != nil: // the scan says whether it is gone
	case fi.IsDir():
		if !w.f.Recursive || !w.f.enters(name) {
			return
		}
		if w.partial >= mostPartial {
			w.beginScan()
			return
		}
		w.partial++
		w.walk(name, w.scan, false)
	case !w.f.wants(name):
	case w.f.refuses(name) != "":
		w.strange(oddity{name, w.f.refuses(name)}, w.scan)
	case !fi.Mode().IsRegular():
		w.strange(oddity{name, kindOf(fi.Mode())}, w.scan)
	default:
		w.sighted(name, sideeffect.VersionOf(fi).WithoutDevice(), w.scan)
	}
}

// wake looks at the files of a directory that wait for that done file.
func (w *Watcher) wake(dir, done string) {
	wake := func(f *file) {
		if f != nil && f.heap == 0 && f.seen != f.sent && !f.newer && !f.held {
			w.schedule(f, 0)
		}
	}
	if before, after, ok := strings.Cut(w.f.DoneFile, "{name}"); ok {
		if name, ok := between(before, after, done); ok {
			wake(w.files[path.Join(dir, name)])
		}
		return
	}
	for _, f := range w.files {
		if path.Dir(f.path) == dir && doneName(w.f.DoneFile, path.Base(f.path)) == done {
			wake(f)
		}
	}
}

// lookDue looks at all that is due.
func (w *Watcher) lookDue() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lookAgain()
}

// lookAgain is lookDue with mu held, for as many as one commit takes.
func (w *Watcher) lookAgain() {
	if len(w.due) == 0 || w.due[0].at > w.now() {
		return
	}
	root, err := os.OpenRoot(w.f.Root)
	if err != nil {
		w.trouble(fault.Wrap("open the rule's root", w.f.Root, err))
		for len(w.due) > 0 && w.due[0].at <= w.now() {
			heap.Pop(&w.due) // the next scan has them again
		}
		return
	}
	defer root.Close()
	for len(w.due) > 0 && w.due[0].at <= w.now() && len(w.ready) < mostNoted {
		w.look(root, heap.Pop(&w.due).(*file))
	}
}

// look puts a file in line if it is ready.
func (w *Watcher) look(root *os.Root, f *file) {
	if f.seen == (sideeffect.Version{}) || f.state != none && f.sent == f.seen {
		return
	}
	v, why, after := w.f.examine(root, f.path, f.seen, time.Duration(w.now()-f.since), f.tries)
	switch {
	case v != f.seen && v != (sideeffect.Version{}):
		f.why = "it changes"
		w.sighted(f.path, v, f.scan)
	case why == gone && f.state == none: // as a temporary name that was renamed
		f.seen = sideeffect.Version{}
		delete(w.files, f.path)
	case why == gone: // the scan forgets it, or notes that it is missed
		f.seen, f.why = sideeffect.Version{}, gone
	case why != "":
		f.why = why
		if why == busy {
			f.tries = min(f.tries+1, 1000)
		}
		if after > 0 {
			w.schedule(f, after)
		}
	case f.state == isOpen:
		w.supersede(f)
	case w.owes(root, f):
		f.why = "its earlier version was delivered, and is to be moved or removed first"
		if f.left != "" {
			f.why += ": " + f.left
		}
	case w.open+len(w.ready)*len(w.f.Partners) >= w.f.Open:
		f.why = "as many of the folder's requests as may are open"
		if !f.held {
			f.held = true
			w.held = append(w.held, f)
		}
	default:
		w.ready = append(w.ready, f)
	}
}

// owes reports whether what was delivered has its name between still: the note says what is to be done with it.
func (w *Watcher) owes(root *os.Root, f *file) bool {
	if f.state != isDelivered && f.state != isKept {
		return false
	}
	aside, err := w.aside(root, f)
	return aside || err != nil
}

// Reasons that are looked at.
const (
	gone = "it is not there"
	busy = "a process has it open for writing"
)

// examine tells whether the version that has been the same for so long is ready; v is the one that is
// there. why says why it is not, and after when to look again: 0, when something tells.
func (f *Folder) examine(root *os.Root, name string, seen sideeffect.Version, same time.Duration, tries uint16) (v sideeffect.Version, why string, after time.Duration) {
	in, err := f.openDir(root, path.Dir(name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return v, "this node cannot open its directory: " + plain(err), 0
	}
	if err != nil {
		return v, gone, 0
	}
	defer in.Close()
	file, fi, err := openVersion(in, path.Base(name))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return v, gone, 0
	case errors.Is(err, errNoFile):
		return v, kindOf(fi.Mode()), 0
	case err != nil:
		return v, "this node cannot open it: " + plain(err), 0
	}
	defer file.Close()
	if v = sideeffect.VersionOf(fi).WithoutDevice(); v != seen {
		return v, "", 0
	}
	is, known := writing(file)
	switch {
	case is:
		return v, busy, min(writerFirst<<min(tries/2, 8), writerMost)
	case (!f.Closed || !known) && same < f.Stable:
		why = "it has to stay the same for " + f.Stable.String()
		if f.Closed && foreign(fi) {
			why += ": whether it is closed the kernel does not tell this node, as it is another user's (CAP_LEASE, see packaging.md)"
		}
		return v, why, f.Stable - same
	}
	if age := max(same, time.Since(fi.ModTime())); age < f.MinAge {
		return v, "it has to be " + f.MinAge.String() + " old", f.MinAge - age
	}
	if f.DoneFile != "" {
		done := doneName(f.DoneFile, path.Base(name))
		if fi, err := in.Lstat(done); err != nil || !fi.Mode().IsRegular() {
			return v, "its done file " + done + " is not there", 0
		}
	}
	return v, "", 0
}
