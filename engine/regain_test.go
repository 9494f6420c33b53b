package engine_test

import (
	"fmt"
	"path/filepath"
	"testing"
	"testing/synctest"

	"github.com/pannier/pannier/engine/lifecycle"
)

// TestFullAtEveryCommit has no room for one commit of either node, each in turn:
// the request goes on by itself, without a restart.
func TestFullAtEveryCommit(t *testing.T) {
	for _, rule := range []string{"push", "pull"} {
		for _, victim := range []string{"a", "b"} {
			for at, more := 1, true; more && at < 100; at++ {
				t.Run(fmt.Sprintf("%s/%s/%d", rule, victim, at), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { more = fullAt(t, rule, victim, at) })
				})
				if testing.Short() && at > 3 {
					break
				}
			}
		}
	}
}

// fullAt reports false when the request was over before the victim's at-th commit.
func fullAt(t *testing.T, rule, victim string, at int) bool {
	log := filepath.Join(t.TempDir(), "log")
	p := crashPair(t, log)
	from, to := p.nodes["a"], p.nodes["b"]
	if rule == "pull" {
		from, to = to, from
	}
	content := p.file(from.name, "x", crashSize)
	ref := p.submit(rule, "x", "y") // of which the first commit is
	gate := p.nodes[victim].gate
	begun := gate.Commits()
	gate.Fill(at)
	p.end(ref, lifecycle.Done)
	p.has(to.name, "done/y", content)
	p.ran(log, 1) // the task whose end there was no room for
	return gate.Commits()-begun >= at
}
