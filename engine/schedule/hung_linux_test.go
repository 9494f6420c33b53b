package schedule

import (
	"context"
	"testing"
	"time"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/flow/flowtest"
)

// TestRootHung: a run whose pattern is of a root that does not answer ends, to be tried again.
func TestRootHung(t *testing.T) {
	s := minutely(t)
	s.Root, s.Source = t.TempDir(), "*.txt"
	end, err := flowtest.HungMount(s.Root)
	if err != nil {
		t.Skip("a file system that does not answer: ", err)
	}
	t.Cleanup(func() {
		if err := end(); err != nil {
			t.Error(err)
		}
	})
	made := make(chan error, 1)
	go func() {
		_, err := (&job{is: s, run: Run{Due: time.Now()}}).do(context.Background())
		made <- err
	}()
	select {
	case err := <-made:
		if !engine.IsSilentRoot(err) {
			t.Errorf("%v; want one that has it tried again", err)
		}
	case <-time.After(time.Minute):
		t.Error("it waits for a file system that does not answer")
	}
}
