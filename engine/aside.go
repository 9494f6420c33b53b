package engine

import (
	"maps"
	"slices"
	"time"

	"github.com/pannier/pannier/engine/store"
)

// How often it is looked whether the file systems answer that requests are in, and how soon again if one does not.
const (
	silentLook  = 30 * time.Second
	silentAgain = 5 * time.Second
)

// attend sets aside, for as long as the engine runs, what is in a file system that does not answer. One look is
// not enough: a disk that has very much to do is slow, and more at a time would make it slower.
func (e *Engine) attend() {
	defer e.work.Done()
	wait := time.NewTimer(silentLook)
	defer wait.Stop()
	var before map[string]bool // silent at the last look
	for {
		select {
		case <-wait.C:
			now := SilentDirs(e.rootsInUse()...)
			twice := maps.Clone(now)
			maps.DeleteFunc(twice, func(dir string, _ bool) bool { return !before[dir] })
			e.setAside(twice)
			before = now
			if wait.Reset(silentLook); len(now) > 0 {
				wait.Reset(silentAgain)
			}
		case <-e.ctx.Done():
			return
		}
	}
}

// rootsInUse are the roots of those rules by which something runs.
func (e *Engine) rootsInUse() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	dirs := map[string]bool{}
	for _, x := range e.runs {
		if x.dir != "" {
			dirs[x.dir] = true
		}
	}
	return slices.Collect(maps.Keys(dirs))
}

// setAside does it with the runs in such directories, and takes others back.
func (e *Engine) setAside(silent map[string]bool) {
	changed := map[store.Ref]bool{}
	e.mu.Lock()
	for ref, x := range e.runs {
		if is := silent[x.dir] && !x.lends; is != x.aside {
			e.aside(x, is)
			changed[ref] = is
		}
	}
	e.mu.Unlock()
	for ref, is := range changed {
		e.log.Warn("a request runs in a file system that does not answer, or that does again", append(e.named(ref), "answers", !is)...)
	}
	if len(changed) > 0 {
		e.kick()
	}
}

// aside takes the run's places out of account, or into it again: what is in a system call cannot be ended,
// and others need not wait for it. Those of its own rule find the root silent, so that no more of
// them get there. When it answers there may be more at a time than the limits say, for a while. e.mu is held.
func (e *Engine) aside(x *run, is bool) {
	if x.aside == is {
		return
	}
	n := 1
	if is {
		n = -1
		e.queue.cleared(x) // other suspects need not wait for it either
	}
	x.aside = is
	if x.line != nil {
		x.line.running += n
		if !x.guest {
			e.queue.running += n
		}
	}
	if x.caller != "" {
		e.serving += n
		e.served[x.caller] += n
	}
}

// isIn notes the directory that the run is about to be in.
func (x *run) isIn(dir string) {
	x.engine.mu.Lock()
	defer x.engine.mu.Unlock()
	x.dir = dir
}
