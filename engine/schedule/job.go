package schedule

import (
	"context"
	"crypto/sha256"
	"fmt"
	"sync"
	"time"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/relpath"
)

// job is a run that is to be made.
type job struct {
	runner *Runner
	is     Schedule
	since  time.Time
	run    Run
	before *Run // the last that is over; nil without one
}

// perSubmit is how many requests are registered at a time: they share commits.
const perSubmit = 64

// Follow is the id that the requests of a run have in common.
func follow(name string, since time.Time, run *Run) (id lifecycle.ID) {
	sum := sha256.Sum256(fmt.Appendf(nil, "pannier schedule %d:%s%d %d %q", len(name), name, since.UnixNano(), run.Due.UnixNano(), run.By))
	copy(id[:], sum[:])
	return id
}

func idOf(follow lifecycle.ID, partner string, p relpath.Path) (id lifecycle.ID) {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s%d:%s%s", follow[:], len(partner), partner, p))
	copy(id[:], sum[:])
	return id
}

// Follow is what the requests of one of its runs have in common.
func (s *Status) Follow(run *Run) lifecycle.ID { return follow(s.Schedule.Name, s.Since, run) }

// do makes the run: each of its requests is registered, by an id that is made of it. An
// error is that it has to be tried again.
func (j *job) do(ctx context.Context) (Run, error) {
	run := Run{Due: j.run.Due, By: j.run.By}
	over := func(what Outcome, why string) (Run, error) {
		run.At, run.What, run.Why = j.runner.cfg.Clock().Round(0), what, why
		return run, nil
	}
	if j.is.Overlap == Wait && run.By == "" && j.before != nil {
		open := []lifecycle.State{lifecycle.ToSubmit, lifecycle.Running, lifecycle.Interrupted}
		for _, err := range j.runner.cfg.Engine.Find(ctx, store.Query{States: open, Follow: follow(j.is.Name, j.since, j.before), Limit: 1}) {
			if err != nil {
				return run, err
			}
			return over(Passed, "requests of the run before are open")
		}
	}
	at := run.Due.In(j.is.Times.zone())
	files, odd, err := j.is.files(ctx, at, MaxFiles)
	if ctx.Err() != nil {
		return run, context.Cause(ctx)
	}
	if engine.IsSilentRoot(err) { // which files there are is not known yet
		return run, err
	}
	if err != nil {
		return over(Failed, fault.Plain(err))
	}
	for _, name := range odd {
		j.runner.log.Warn("a file cannot be sent: its name is no path of a request", "schedule", j.is.Name, "file", name)
	}
	first, again := j.submit(ctx, &run, files, at)
	if again != nil {
		return run, again
	}
	reached("registered")
	if run.Failed > 0 {
		return over(Failed, fault.Plain(first))
	}
	return over(Made, "")
}

// submit registers the requests. again is that it has to be tried again; first is why one was
// refused for good.
func (j *job) submit(ctx context.Context, run *Run, files []relpath.Path, at time.Time) (first, again error) {
	var mu sync.Mutex
	var group sync.WaitGroup
	slots := make(chan struct{}, perSubmit)
	of := follow(j.is.Name, j.since, &j.run)
	for _, file := range files {
		for _, partner := range j.is.Partners {
			slots <- struct{}{}
			group.Go(func() {
				defer func() { <-slots }()
				target, err := j.is.target(file, at)
				if err == nil {
					_, _, err = j.runner.cfg.Engine.Submit(ctx, engine.Order{
						ID: idOf(of, partner, file), Partner: partner, Rule: j.is.Rule, Source: file, Target: target,
						Priority: j.is.Priority, Follow: of, Info: j.is.info(), Together: len(j.is.Partners),
					})
				}
				reached("one")
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil || fault.KindOf(err) == fault.Exists: // it was registered as the schedule was then
					run.Requests++
				case passes(err):
					again = err
				default:
					run.Failed++
					first = err
				}
			})
		}
	}
	group.Wait()
	return first, again
}

// passes reports whether a request that was not registered may be the next time.
func passes(err error) bool {
	switch fault.KindOf(err) {
	case fault.Draining, fault.Canceled, fault.Deadline, fault.IO, fault.NoSpace, fault.Corrupt, fault.Overloaded:
		return true
	}
	return false
}
