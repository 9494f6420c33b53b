package folder

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/relpath"
)

// From ready to registered.

// perSubmit is how many requests are registered at a time: they share commits.
const perSubmit = 128

// note is what is to be remembered of a file; nil: nothing.
func (w *Watcher) note(f *file) *note {
	if f.state == none {
		return nil
	}
	n := &note{Version: f.sent.Encode(), State: states[f.state], Gone: timeOf(f.gone), Renaming: f.renaming}
	for _, r := range f.reqs {
		n.Requests = append(n.Requests, r.request)
	}
	if f.state == isFailed {
		n.Why = f.why
	}
	return n
}

// keep makes notes durable, mostNoted at a time. If one cannot be noted, all are as if they had not been done: they
// are done again.
func (w *Watcher) keep(changes []change) bool {
	for some := range slices.Chunk(changes, mostNoted) {
		if err := w.cfg.Notes.keep(w.f.Name, some); err != nil {
			w.trouble(err)
			return false
		}
	}
	return true
}

// load takes up what the notes have. Those of another directory, which the folder had before, rest until it is
// the folder's again.
func (w *Watcher) load() error {
	return w.cfg.Notes.all(w.f.Name, func(path string, n *note) {
		if !below(w.f.Dir, path) {
			return
		}
		f := &file{noted: &noted{sent: n.version(), renaming: n.Renaming}, path: path, why: n.Why}
		for i, s := range states {
			if s == n.State {
				f.state = stateCode(i)
			}
		}
		if !n.Gone.IsZero() {
			f.gone = n.Gone.Unix()
		}
		for _, r := range n.Requests {
			f.reqs = append(f.reqs, outcome{request: r})
		}
		w.files[path] = f
	})
}

// resume goes on with what an earlier process has left.
func (w *Watcher) resume() {
	w.mu.Lock()
	defer w.mu.Unlock()
	var left, renaming []*file
	for _, f := range w.files {
		switch f.state {
		case isOpen:
			w.follow(f)
		case isDelivered:
			left = append(left, f)
		}
		if f.renaming {
			renaming = append(renaming, f)
		}
	}
	w.regain(renaming)
	w.finishAll(left)
}

// follow waits for what is registered of a file, and registers the rest if the file is still
// the version.
func (w *Watcher) follow(f *file) {
	missing := false
	for i := range f.reqs {
		r := &f.reqs[i]
		_, err := w.cfg.Engine.Get(w.ctx, w.ref(r.ID))
		switch known := err == nil; {
		case known:
			r.Registered = true
			w.await(f, r.ID)
		case fault.KindOf(err) != fault.NotFound: // the store has failed, and the node ends
			return
		case r.Registered:
			r.over, r.failed = true, "the request was purged before the folder has seen its end"
		default:
			missing = true
		}
	}
	if missing && w.leaveOut(f) {
		missing = false
	}
	if !missing {
		w.settle([]*file{f})
		return
	}
	f.seen = sideeffect.Version{} // the scan says whether it is still the version
	w.retract(f)
}

// leaveOut takes out of a file of which some requests are registered those that are not, and never will be,
// because their partner is the folder's no more. It reports whether no other one is missing.
func (w *Watcher) leaveOut(f *file) (all bool) {
	registered := func(r outcome) bool { return r.Registered }
	if !slices.ContainsFunc(f.reqs, registered) {
		return false // what is ready of the file is noted anew
	}
	f.reqs = slices.DeleteFunc(f.reqs, func(r outcome) bool { return !r.Registered && !slices.Contains(w.f.Partners, r.Partner) })
	return !slices.ContainsFunc(f.reqs, func(r outcome) bool { return !r.Registered })
}

// retract takes back the note of a file whose requests are not all registered: what is
// ready of it is noted and registered again, under the same ids if it is the same version.
// Those that are registered and of a version that is gone are given up.
func (w *Watcher) retract(f *file) {
	if slices.ContainsFunc(f.reqs, func(r outcome) bool { return r.Registered }) {
		return // retry has the others
	}
	old := w.note(f)
	f.state, f.noted = none, nothing
	w.keep([]change{{path: f.path, old: old}})
}

// await waits for the end of a request.
func (w *Watcher) await(f *file, id textID) {
	w.open++
	path := f.path
	w.work.Go(func() {
		r, err := w.cfg.Engine.Wait(w.ctx, w.ref(id))
		e := ending{path: path, id: id}
		switch {
		case err == nil && r.State == lifecycle.Done:
		case err == nil:
			e.failed = cause(&r)
		case fault.KindOf(err) == fault.NotFound:
			e.failed = "the request was purged"
		default:
			return // the folder ends, or the node does
		}
		select {
		case w.ended <- e:
		case <-w.ctx.Done():
		}
	})
}

func cause(r *lifecycle.Record) string {
	if r.Failure.Cause == "" {
		return r.Failure.Kind.String()
	}
	return r.Failure.Cause
}

// submit notes and registers what is ready.
func (w *Watcher) submit() {
	w.mu.Lock()
	w.regained()
	ready := w.ready
	w.ready = nil
	var changes []change
	for _, f := range ready {
		old := w.note(f)
		f.state, f.noted, f.why = isOpen, &noted{sent: f.seen}, ""
		for _, p := range w.f.Partners {
			f.reqs = append(f.reqs, outcome{request: request{Partner: p, ID: textID(idOf(w.f.Name, p, f.path, f.sent))}})
		}
		changes = append(changes, change{path: f.path, old: old, now: w.note(f)})
	}
	if len(ready) == 0 || !w.keep(changes) {
		for _, f := range ready {
			f.state, f.noted = none, nothing
			f.why = w.status.Trouble
			w.schedule(f, w.f.Interval)
		}
		w.mu.Unlock()
		return
	}
	w.mu.Unlock()
	reached("noted")
	w.register(ready)
}

// register registers the requests of files that are noted.
func (w *Watcher) register(files []*file) {
	type result struct {
		f   *file
		i   int
		err error
	}
	var mu sync.Mutex
	var results []result
	var group sync.WaitGroup
	slots := make(chan struct{}, perSubmit)
	for _, f := range files {
		for i := range f.reqs {
			if f.reqs[i].Registered {
				continue
			}
			slots <- struct{}{}
			group.Go(func() {
				defer func() { <-slots }()
				err := w.order(f, &f.reqs[i])
				mu.Lock()
				defer mu.Unlock()
				results = append(results, result{f, i, err})
			})
		}
	}
	group.Wait()
	if len(results) > 0 {
		reached("registered")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range results {
		if r.err != nil {
			r.f.why = "not registered: " + fault.Plain(r.err)
			continue
		}
		r.f.reqs[r.i].Registered = true
		w.status.Submitted++
		id := lifecycle.ID(r.f.reqs[r.i].ID).String()
		w.log.Info("submitted", "file", r.f.path, "partner", r.f.reqs[r.i].Partner, "id", id, "follow", id) // it follows none
	}
	var changes []change
	for _, f := range files {
		if all := !slices.ContainsFunc(f.reqs, func(r outcome) bool { return !r.Registered }); all {
			f.why = ""
		} else if w.ctx.Err() == nil {
			w.log.Error("a file is not submitted, and tried again", "file", f.path, "reason", f.why)
		}
		changes = append(changes, change{path: f.path, old: w.note(f), now: w.note(f)})
	}
	w.keep(changes)
	if len(results) > 0 {
		reached("marked")
	}
	for _, r := range results {
		if r.err == nil {
			w.await(r.f, r.f.reqs[r.i].ID)
		}
	}
}

// order registers one request.
func (w *Watcher) order(f *file, r *outcome) error {
	p, err := relpath.Parse(f.path)
	if err == nil {
		_, _, err = w.cfg.Engine.Submit(w.ctx, engine.Order{ID: lifecycle.ID(r.ID), Partner: r.Partner, Rule: w.f.Rule, Source: p, Together: len(f.reqs)})
	}
	return err
}

// supersede cancels the requests of an earlier version. The newer one follows when they are
// over.
func (w *Watcher) supersede(f *file) {
	f.newer, f.why = true, "its earlier version is under way, and given up for it"
	for i := range f.reqs {
		if r := &f.reqs[i]; r.Registered && !r.over {
			ref := w.ref(r.ID)
			w.work.Go(func() { // one that can be cancelled no more is DONE soon
				_, _ = w.cfg.Engine.Cancel(context.WithoutCancel(w.ctx), ref, "a newer version of the file is sent instead")
			})
		} else {
			r.over, r.failed = true, "not registered"
		}
	}
	w.settle([]*file{f})
}

// failures are why requests have failed, by partner.
func failures(f *file) string {
	var all []string
	for _, r := range f.reqs {
		if r.failed != "" {
			all = append(all, r.Partner+": "+r.failed)
		}
	}
	return strings.Join(all, "; ")
}
