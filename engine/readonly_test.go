package engine_test

import (
	"io/fs"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/relpath"
)

// readOnly is a file system that is read-only.
type readOnly struct{}

func (readOnly) Dir(_ *os.Root, dir relpath.Path) (sideeffect.Dir, error) {
	return nil, &fs.PathError{Op: "openat", Path: dir.String(), Err: unix.EROFS}
}

// TestReadOnlyDisk: a disk that has become read-only, as one with errors does, is waited for within
// the rule's attempts, at either end, under a service manager, too.
func TestReadOnlyDisk(t *testing.T) {
	t.Setenv("INVOCATION_ID", "1")
	for rule, receiver := range map[string]string{"push": "b", "pull": "a"} {
		for _, mended := range []bool{true, false} {
			synctest.Test(t, func(t *testing.T) {
				p := newPair(t, func(n *node) {
					n.rules[rule].Retry = engine.Retry{Delay: time.Hour, Attempts: 3}
					if n.name == receiver {
						n.limits.Layer = readOnly{}
					}
				})
				content := p.file(map[string]string{"b": "a", "a": "b"}[receiver], "x", 2<<20)
				ref := p.submit(rule, "x", "y")
				time.Sleep(10 * time.Minute)
				why, err := p.nodes["a"].engine.Explain(t.Context(), ref)
				if err != nil || why.State != lifecycle.Interrupted || why.Reason != lifecycle.Retrying || !strings.Contains(why.Cause, "read-only") {
					t.Fatalf("%s: %v %v %q %v", rule, why.State, why.Reason, why.Cause, err)
				}
				want := lifecycle.InError
				if mended {
					want = lifecycle.Done
					p.stop(receiver)
					p.nodes[receiver].limits.Layer = nil
					p.start(receiver)
				}
				p.endWithin(ref, want, 24*time.Hour)
				if mended {
					p.has(receiver, "y", content)
				}
			})
		}
	}
}
