package schedule

import (
	"path"
	"slices"
	"strings"
	"time"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
)

// What has come while the awaiter did not run, and what its channel had no place for, is looked
// for in the store: for all that is expected at once, beside the loop, which answers meanwhile.

// mostHeld is how many files that come during a search are kept for its end; with more there is
// another, of the time since it began.
const mostHeld = 4096

// from is where files come from.
type from struct{ partner, rule string }

// arrival is a file that has come.
type arrival struct {
	key  lifecycle.Key
	at   time.Time
	from from
	file string
}

func arrivalOf(r *lifecycle.Record) arrival {
	return arrival{r.Key, r.Changed, from{r.Spec.Partner, r.Spec.Rule}, r.Spec.Target.String()}
}

// fitting says which file is expected by whom. It is never changed.
type fitting struct {
	by map[from]*wanted
}

// wanted is what is expected from one partner by one rule.
type wanted struct {
	exact    map[string][]*expecting // that are no patterns
	patterns []*expecting
}

func newFitting(all map[string]*expecting) *fitting {
	f := &fitting{by: map[from]*wanted{}}
	for _, it := range all {
		at := from{it.is.Partner, it.is.Rule}
		n := f.by[at]
		if n == nil {
			n = &wanted{exact: map[string][]*expecting{}}
			f.by[at] = n
		}
		if strings.ContainsAny(it.is.File, `*?[{\`) {
			n.patterns = append(n.patterns, it)
		} else {
			n.exact[it.is.File] = append(n.exact[it.is.File], it)
		}
	}
	return f
}

// wants reports whether anything is expected from there.
func (f *fitting) wants(r *lifecycle.Record) bool {
	return f.by[from{r.Spec.Partner, r.Spec.Rule}] != nil
}

// of are those that expect a file, by name.
func (f *fitting) of(a arrival) (all []*expecting) {
	n := f.by[a.from]
	if n == nil {
		return nil
	}
	all = slices.Clone(n.exact[path.Base(a.file)])
	if strings.Contains(a.file, "/") {
		all = append(all, n.exact[a.file]...)
	}
	for _, it := range n.patterns {
		if it.is.fits(a.file) {
			all = append(all, it)
		}
	}
	slices.SortFunc(all, func(a, b *expecting) int { return strings.Compare(a.is.Name, b.is.Name) })
	return all
}

// search is one that is over.
type search struct {
	began time.Time
	all   map[string]*expecting // as it was then
	found []arrival             // the oldest first
	err   error
}

// look begins a search.
func (w *Awaiter) look(now time.Time) {
	since := map[string]time.Time{} // by partner
	for _, it := range w.all {
		at := it.note.Seen.Add(-overlapping)
		if first, ok := since[it.is.Partner]; !ok || at.Before(first) {
			since[it.is.Partner] = at
		}
	}
	w.looking = true
	all, fits := w.all, w.fits.Load()
	w.work.Go(func() {
		s := w.search(now, since, fits)
		s.all = all
		w.found <- s
	})
}

// search looks in the store for what has come. What has come by a clock that was far ahead is none
// of it: its date says nothing.
func (w *Awaiter) search(now time.Time, since map[string]time.Time, fits *fitting) search {
	s := search{began: now}
	for partner, at := range since {
		q := store.Query{States: []lifecycle.State{lifecycle.Done}, Partner: partner, Since: at}
		for r, err := range w.cfg.Find(w.ctx, q) {
			if err != nil {
				s.err = err
				return s
			}
			if r.Side != lifecycle.Receiver || r.Changed.After(now.Add(setBack)) {
				continue
			}
			if a := arrivalOf(&r.Record); len(fits.of(a)) > 0 {
				s.found = append(s.found, a)
			}
		}
	}
	slices.SortFunc(s.found, func(a, b arrival) int { return a.at.Compare(b.at) })
	return s
}

// looked counts what a search has found, and what has come during it.
func (w *Awaiter) looked(s *search) {
	came := append(s.found, w.held...)
	w.looking, w.held = false, nil
	if s.err != nil {
		if w.ctx.Err() == nil {
			w.log.Error("what has come is not looked through, and tried again", "error", s.err)
		}
		w.lookAt = time.Now().Add(again)
		w.lost.Store(true)
		return
	}
	slices.SortStableFunc(came, func(a, b arrival) int { return a.at.Compare(b.at) })
	for _, a := range came {
		w.count(a)
	}
	for name, it := range w.all {
		switch was := s.all[name]; {
		case was == nil: // it began after the search
		case !was.is.Same(&it.is):
			w.lost.Store(true) // it was another file that was looked for
		default:
			w.saw(name, it, s.began)
		}
		w.pass(name, it, s.began)
	}
}

// saw notes that all that has come up to then was looked at.
func (w *Awaiter) saw(name string, it *expecting, until time.Time) {
	if until.After(it.note.Seen) {
		it.note.Seen = until
		w.dirty[name] = true
	}
}

// settled reports whether all that has come was looked at.
func (w *Awaiter) settled() bool { return !w.looking && !w.lost.Load() && len(w.came) == 0 }

// arrived takes a file that was told of.
func (w *Awaiter) arrived(a arrival) {
	switch {
	case !w.looking:
		w.count(a)
	case len(w.held) < mostHeld:
		w.held = append(w.held, a)
	default:
		w.lost.Store(true)
	}
}

// count gives a file to whoever expects it.
func (w *Awaiter) count(a arrival) {
	for _, it := range w.fits.Load().of(a) {
		w.take(it, a)
	}
}
