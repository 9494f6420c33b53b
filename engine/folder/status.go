package folder

import (
	"cmp"
	"context"
	"os"
	"slices"
	"time"

	"github.com/pannier/pannier/sideeffect"
)

// MostRows is how many files a Status has at most.
const MostRows = 1000

// Status is how a folder is doing.
type Status struct {
	Folder  Folder
	Trouble string // why it cannot be looked through, or noted; empty: it can
	Hints   string // why events of the kernel are missing; empty: they are not
	Partly  bool   // they are of some directories only
	Waiting int    // files that are not ready
	Held    int    // that are ready, while as many requests as may are open
	Open    int    // files under way
	Kept    int    // that were delivered and are there
	Failed  int
	Skipped int

	Staying int    // files that were delivered, or have failed, and could not be moved or removed; each scan tries again
	Stays   string // why the first of them could not; empty: there is none

	Scanned time.Time // when the last scan ended; zero: none has
	Took    time.Duration
	Dirs    int // that it has listed
	Scans   int // without an error, since the process began

	Submitted int64 // requests, since the process began
	Delivered int64 // files, to all partners
	Rows      []Row // those that wait, are under way, have failed or are skipped, then kept ones
}

// Row is a file of a folder.
type Row struct {
	Path  string // below the rule's root; any bytes
	State string // send, waiting, held, open, delivered, kept, failed, skipped or excluded
	Why   string
	IDs   []string // of its requests
	Size  int64    // -1: not known
}

// busyFor is how long a folder may be at its files before its Status says so.
const busyFor = 5 * time.Second

// Status is the folder as it is now, with at most that many rows. While its file system does not
// answer it is as it was when it was last asked for.
func (w *Watcher) Status(rows int) Status {
	since, ok := w.mu.tryLock()
	if !ok {
		return w.before(rows, since)
	}
	defer w.mu.Unlock()
	s := w.status
	s.Hints, s.Partly = w.hints.state()
	s.Skipped = len(w.odd)
	first := ""
	for _, f := range w.files {
		if f.state == isDelivered && f.gone != 0 {
			continue // nothing is left of it but the note
		}
		r := f.row()
		if f.left != "" {
			if s.Staying++; first == "" || f.path < first {
				first, s.Stays = f.path, f.left
			}
		}
		switch r.State {
		case "delivered":
			if f.left == "" { // it is about to be
				s.Open++
			}
		case "open":
			s.Open++
		case "kept":
			s.Kept++
		case "failed":
			s.Failed++
		case "held":
			s.Held++
		default:
			s.Waiting++
		}
		if rows > 0 {
			if s.Rows = append(s.Rows, r); len(s.Rows) >= 4*rows+1000 {
				s.Rows = firstRows(s.Rows, rows)
			}
		}
	}
	if rows > 0 {
		for name, o := range w.odd {
			s.Rows = append(s.Rows, Row{Path: name, State: "skipped", Why: o.why, Size: -1})
		}
		s.Rows = firstRows(s.Rows, rows)
		for i := range s.Rows {
			if f := w.files[s.Rows[i].Path]; f != nil && s.Rows[i].State != "skipped" {
				s.Rows[i].IDs = ids(f)
			}
		}
	}
	kept := s
	if old := w.told.Load(); rows == 0 && old != nil {
		kept.Rows = old.Rows
	}
	w.told.Store(&kept)
	return s
}

// before is the last Status that was made, and since when there is none after it.
func (w *Watcher) before(rows int, since time.Time) Status {
	s := Status{Folder: w.cfg.Folder}
	if old := w.told.Load(); old != nil {
		s = *old
	}
	s.Rows = s.Rows[:min(rows, len(s.Rows))]
	if time.Since(since) > busyFor {
		s.Trouble = "its file system has not answered since " + since.Format(time.RFC3339) + "; what is said here is from before"
	}
	return s
}

// order is how rows are sorted: what needs somebody first.
var order = []string{"failed", "skipped", "delivered", "send", "waiting", "held", "open", "kept", "excluded"}

func firstRows(all []Row, most int) []Row {
	slices.SortFunc(all, func(a, b Row) int {
		return cmp.Or(cmp.Compare(slices.Index(order, a.State), slices.Index(order, b.State)), cmp.Compare(a.Path, b.Path))
	})
	return all[:min(len(all), most)]
}

// row is what is to be said of a file, without the ids of its requests.
func (f *file) row() Row {
	r := Row{Path: f.path, Why: f.why, State: "waiting", Size: f.seen.Size()}
	switch {
	case f.seen == (sideeffect.Version{}) && f.state != none:
		r.State, r.Size = string(states[f.state]), f.sent.Size()
	case f.state != none && (f.sent == f.seen || f.newer):
		r.State = string(states[f.state])
	case f.held:
		r.State = "held"
	}
	switch {
	case f.left == "":
	case r.State == string(Delivered):
		r.Why = "delivered, but it stays: " + f.left
	case r.State == string(Failed):
		r.Why += "; and it stays: " + f.left
	}
	return r
}

// Scan looks through the folder now, and returns when that is done, and what was ready has been
// submitted.
func (w *Watcher) Scan(ctx context.Context) error {
	done := make(chan struct{})
	select {
	case w.asked <- done:
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-w.ctx.Done():
		return context.Cause(w.ctx)
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Test says of each file that is there what would become of it now. It changes nothing.
// The counts are of all, the rows at most that many. The error is that of the first directory that cannot be
// listed; what follows is looked at all the same.
func (w *Watcher) Test(ctx context.Context, most int) (rows []Row, counts map[string]int, err error) {
	counts = map[string]int{}
	add := func(r Row) {
		counts[r.State]++
		if rows = append(rows, r); len(rows) >= 4*most+1000 {
			rows = firstRows(rows, most)
		}
	}
	root, err := os.OpenRoot(w.f.Root)
	if err != nil {
		return nil, counts, err
	}
	defer root.Close()
	all := *w.f // what is left out is to be seen, too
	all.Include, all.Exclude, all.DoneFile = nil, nil, ""
	all.walk(ctx, at(w.f.Dir), func(string) {}, func(part found) bool {
		if part.err != nil && err == nil {
			err = part.err
		}
		for _, o := range part.odd {
			add(Row{Path: o.path, State: "skipped", Why: o.why, Size: -1})
		}
		for _, s := range part.files {
			add(w.verdict(root, s))
		}
		return ctx.Err() == nil
	})
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return firstRows(rows, most), counts, err
}

// verdict is what would become of a file now.
func (w *Watcher) verdict(root *os.Root, s sight) Row {
	r := Row{Path: s.path, Size: s.version.Size(), State: "excluded"}
	if r.Why = w.f.unwanted(s.path); r.Why != "" {
		return r
	}
	if !w.f.reaches(s.path) {
		r.Why = "a directory above it is left out"
		return r
	}
	w.mu.Lock()
	f, same := w.files[s.path], time.Duration(0)
	if f != nil && f.state != none && f.sent == s.version {
		defer w.mu.Unlock()
		r := f.row()
		r.IDs = ids(f)
		return r
	}
	held := f != nil && f.held
	if f != nil && f.seen == s.version {
		same = time.Duration(w.now() - f.since)
	}
	w.mu.Unlock()
	r.State = "waiting"
	v, why, _ := w.f.examine(root, s.path, s.version, same, 0)
	switch {
	case why != "":
		r.Why = why
	case v != s.version:
		r.Why = "it changes"
	case held:
		r.State, r.Why = "held", "as many of the folder's requests as may are open"
	default:
		r.State = "send"
	}
	return r
}
