package node_test

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
)

// stopping is a store that stops at a commit until the test lets it go on: what is killed meanwhile
// is killed at that moment and no other. Which commit that is says a file beside the configuration,
// which has another name once it has come.
type stopping struct {
	store.Store
	dir string
}

// Commits at which a node stops: before or after them.
const (
	registered = "registered" // a new record
	committed  = "committed"  // the file has its name
	begun      = "begun"      // a task
	taskEnded  = "ended"
	concluded  = "concluded" // DONE
)

func stopFile(dir string) string    { return filepath.Join(dir, "stop") }
func stoppedFile(dir string) string { return filepath.Join(dir, "stopped") }

// stopAt has the node of that directory stop there, once.
func stopAt(dir, when, commit string) error {
	_ = os.Remove(stoppedFile(dir))
	return os.WriteFile(stopFile(dir), []byte(when+" "+commit), 0o600)
}

func stopped(dir string) bool {
	_, err := os.Stat(stoppedFile(dir))
	return err == nil
}

// goOn lets it go on, if it has stopped, and stop no more.
func goOn(dir string) { _, _ = os.Remove(stopFile(dir)), os.Remove(stoppedFile(dir)) }

// stop stops if one of the commits is the one.
func (s *stopping) stop(when string, commits []string) {
	want, err := os.ReadFile(stopFile(s.dir))
	if err != nil {
		return
	}
	for _, c := range commits {
		if string(want) != when+" "+c || os.Rename(stopFile(s.dir), stoppedFile(s.dir)) != nil {
			continue
		}
		for stopped(s.dir) {
			time.Sleep(time.Millisecond)
		}
	}
}

// commitsOf are the commits that events are.
func commitsOf(events []lifecycle.Event) (all []string) {
	for _, e := range events {
		switch e := e.(type) {
		case lifecycle.Advance:
			if e.To == lifecycle.Committed {
				all = append(all, committed)
			}
		case lifecycle.BeginTask:
			all = append(all, begun)
		case lifecycle.EndTask:
			all = append(all, taskEnded)
		case lifecycle.Conclude:
			all = append(all, concluded)
		}
	}
	return all
}

func (s *stopping) Register(ctx context.Context, r lifecycle.Record, events ...lifecycle.Event) (lifecycle.Record, bool, error) {
	all := append(commitsOf(events), registered)
	s.stop(before, all)
	got, made, err := s.Store.Register(ctx, r, events...)
	s.stop(after, all)
	return got, made, err
}

func (s *stopping) Apply(ctx context.Context, ref store.Ref, now time.Time, events ...lifecycle.Event) (lifecycle.Record, error) {
	all := commitsOf(events)
	s.stop(before, all)
	r, err := s.Store.Apply(ctx, ref, now, events...)
	s.stop(after, all)
	return r, err
}
