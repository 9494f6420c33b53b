package engine

import (
	"testing"
	"time"

	"github.com/pannier/pannier/flow/flowtest"
	"github.com/pannier/pannier/spec/relpath"
)

// TestRelatedHung: where a file system does not answer, directories may be related, and what a file is called there
// is known when it answers.
func TestRelatedHung(t *testing.T) {
	hung, well := t.TempDir(), t.TempDir()
	end, err := flowtest.HungMount(hung)
	if err != nil {
		t.Skip("a file system that does not answer: ", err)
	}
	t.Cleanup(func() {
		if err := end(); err != nil {
			t.Error(err)
		}
		present.Soon(time.Minute, hung) // who has asked meanwhile is over, too
	})
	file, err := relpath.Parse("x")
	if err != nil {
		t.Fatal(err)
	}
	looked := make(chan struct{})
	go func() {
		defer close(looked)
		if Related(well, t.TempDir()) || !Related(hung, well) || !Related(well, hung) {
			t.Error("related are others than those that may be")
		}
		there, here := &Rule{Name: "there", Root: hung}, &Rule{Name: "here", Root: well}
		for _, rules := range [][2]*Rule{{there, here}, {here, there}} {
			if _, err := rules[0].nameOf(rules[1], file); !IsSilentRoot(err) {
				t.Error(err)
			}
		}
	}()
	select {
	case <-looked:
	case <-time.After(time.Minute):
		t.Error("it waits for a file system that does not answer")
	}
}
