package engine_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/task"
	"github.com/pannier/pannier/spec/fault"
)

// TestFailuresAreReadable: what an operator reads at either end is one sentence: when
// it failed, whose failure it is, what was done, why. Nothing of the layers that passed
// it on, and nothing twice.
func TestFailuresAreReadable(t *testing.T) {
	p := newPair(t, func(n *node) {
		n.rules["push"].Receiver.Post = tasks(t, task.Table{Task: "exec", Argv: []string{"/bin/sh", "-c", "echo refused: not today; exit 3"}})
	})
	p.file("a", "x", 10)
	ref := p.submit("push", "x", "y")
	a, b := p.end(ref, lifecycle.InError)
	if want := `task exec "y": run command "/bin/sh": exit status 3: refused: not today`; b.Failure.Cause != want {
		t.Errorf("at the receiver: %q, want %q", b.Failure.Cause, want)
	}
	if want := "task exec: run command: the log there says more"; a.Failure.Cause != want || a.Failure.Side != fault.Peer {
		t.Errorf("at the sender: %q, want %q", a.Failure.Cause, want)
	}
	x, err := p.nodes["b"].engine.Explain(t.Context(), other(ref))
	if err != nil || x.Summary != "failed in the tasks after the bytes (phase POST)" || !strings.HasPrefix(x.Cause, "refused, here: task exec") {
		t.Errorf("%q, %q, %v", x.Summary, x.Cause, err)
	}
	x, err = p.nodes["a"].engine.Explain(t.Context(), ref)
	if err != nil || x.Summary != "failed before its first call was through, which has the bytes with it if they are few (phase ACCEPTED)" {
		t.Errorf("%q, %v; the partner has had all bytes", x.Summary, err)
	}
	ref = p.submit("pull", "absent", "z")
	a, _ = p.end(ref, lifecycle.InError)
	if want := "open source: no such file or directory"; a.Failure.Cause != want || a.Failure.Kind != fault.NotFound {
		t.Errorf("at the requester: %q, want %q", a.Failure.Cause, want)
	}
	_, err = p.nodes["a"].engine.Resume(t.Context(), ref)
	var f *fault.Error
	if !errors.As(err, &f) || !strings.HasSuffix(err.Error(), "the request is INERROR (phase MOVING): only what waits or was paused can be resumed") {
		t.Errorf("resume: %v", err)
	}
}
