package bridge_test

import (
	"bytes"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

// lines are a log, for several to write.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// with is the first line that has the text, once there is one.
func (l *lines) with(text string) string {
	for began := time.Now(); time.Since(began) < 30*time.Second; time.Sleep(time.Millisecond) {
		l.mu.Lock()
		all := l.b.String()
		l.mu.Unlock()
		for line := range strings.Lines(all) {
			if strings.Contains(line, text) {
				return line
			}
		}
	}
	return ""
}

// TestLogNamesRequests: what the log has of a request at a bridge names it, and the chain that it belongs to.
func TestLogNamesRequests(t *testing.T) {
	follow := lifecycle.ID{0xc4}
	for line, c := range map[string]struct {
		rule  string
		begin func(w *world, s *server)
		state lifecycle.State
		then  func(w *world, ref store.Ref)
	}{
		"the file had got its name": {"push", func(_ *world, s *server) { s.lose = "commit" }, lifecycle.Done, nil},
		"the file is sent anew":     {"push", func(_ *world, s *server) { s.lose = "gone" }, lifecycle.Done, nil},
		"an unfinished file stays at a bridge": {"push", func(w *world, s *server) {
			s.lose, s.always = "before", true
			w.rules["push"].Retry.Attempts = 1
		}, lifecycle.InError, func(w *world, ref store.Ref) {
			w.shut = fault.FromPeer("log in", fault.Unauthenticated, "no more")
			w.line.Sweep(func(k lifecycle.Key) bool { return k == ref.Key }, time.Hour)
		}},
		"the file is compared without it": {"pull", func(w *world, s *server) {
			s.sumFails = fault.FromPeer("checksum", fault.DeadPeer, "no reply")
			s.can = func(c *plugins.Capabilities) { c.Checksums = []string{"md5"} }
			w.rules["pull"].Digest = sideeffect.None
		}, lifecycle.Done, nil},
	} {
		t.Run(line, func(t *testing.T) {
			w := newWorld(t, "one")
			c.begin(w, w.servers["one"])
			w.start(0, false)
			root := w.root
			if c.rule == "pull" {
				root = w.servers["one"].root
			}
			w.put(root, "x", 4<<20)
			r, _, err := w.engine.Submit(t.Context(), engine.Order{Rule: c.rule, Partner: "one", Source: path(t, "x"), Target: path(t, "x"), Follow: follow})
			if err != nil {
				t.Fatal(err)
			}
			ref := store.RefOf(&r)
			w.ends(ref, c.state)
			if c.then != nil {
				c.then(w, ref)
			}
			if got := w.log.with(line); !strings.Contains(got, "id="+ref.Key.ID.String()+" ") || !strings.Contains(got, "follow="+follow.String()+" ") || !strings.Contains(got, "one") {
				left, _ := filepath.Glob(filepath.Join(w.servers["one"].root, ".*"))
				t.Errorf("the log says %q, of %v, which follows %v; left is %q", got, ref.Key.ID, follow, left)
			}
		})
	}
}
