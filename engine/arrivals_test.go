package engine_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/sideeffect"
)

// TestArrivals: what a process that was killed has left of a small file, of which there is no record yet, is
// removed by the next one, where small files have come, and nothing else is.
func TestArrivals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, func(n *node) { n.limits.Arrivals = filepath.Join(n.dir, "arrivals.json") })
		b := p.nodes["b"]
		p.file("a", "x", 10_000)
		p.end(p.submit("push", "x", "sub/y"), lifecycle.Done)
		p.end(p.submit("push", "x", "sub/z"), lifecycle.Done)
		p.end(p.submit("push", "x", "linked/y"), lifecycle.Done)
		noted := func() string {
			data, err := os.ReadFile(b.limits.Arrivals)
			if err != nil {
				t.Fatal(err)
			}
			return string(data)
		}
		if got := noted(); strings.Count(got, `"Dir":"sub"`) != 1 {
			t.Errorf("written down is %s", got)
		}
		p.stop("b")
		time.Sleep(2 * time.Hour)
		key := lifecycle.Key{Requester: "a", ID: lifecycle.ID{7}}
		r, err := lifecycle.Accept(key, lifecycle.Receiver, lifecycle.Spec{Partner: "a", Rule: "push", Source: path(t, "x"), Target: path(t, "sub/kept"), Follow: key.ID}, time.Now(), time.Now().Add(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		p.register("b", r)
		if err := os.Mkdir(filepath.Join(b.root, "other"), 0o755); err != nil {
			t.Fatal(err)
		}
		left := map[string]bool{}
		mine := func(base string, ago time.Duration, uid int) { // a file of somebody's own, which stays
			full := filepath.Join(b.root, "sub", base)
			when := time.Now().Add(-ago)
			if err := errors.Join(os.WriteFile(full, make([]byte, 100), 0o600), os.Chtimes(full, when, when)); err != nil {
				t.Fatal(err)
			}
			if uid >= 0 {
				if err := os.Chown(full, uid, uid); err != nil {
					t.Fatal(err)
				}
			}
			left[full] = true
		}
		mine(".old.pannier-r00112233445566778899aabbccddeeff", 24*time.Hour, -1) // it was there before small files came
		mine(".short.pannier-r0011223344556677", time.Hour, -1)                  // such a name has no request's
		if os.Getuid() == 0 {
			mine(".other.pannier-r00112233445566778899aabbccddeeff", time.Hour, 65534)
		}
		leave := func(target string, id byte, size int, stays, state, late bool) {
			name, err := sideeffect.PartialName(path(t, target), engine.PartialKey(lifecycle.Key{Requester: "a", ID: lifecycle.ID{id}}))
			if err != nil {
				t.Fatal(err)
			}
			full := filepath.Join(b.root, name.String())
			if err := os.WriteFile(full, make([]byte, size), 0o600); err != nil {
				t.Fatal(err)
			}
			if state {
				if err := os.WriteFile(full+".state", nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			when := time.Now().Add(-time.Hour)
			if late {
				when = when.Add(2 * time.Hour)
			}
			if err := os.Chtimes(full, when, when); err != nil {
				t.Fatal(err)
			}
			left[full] = stays
		}
		leave("sub/killed", 1, 100, false, false, false)
		leave("sub/empty", 2, 0, false, false, false)
		leave("sub/kept", 7, 100, true, false, false)       // a request goes on with it
		leave("sub/large", 3, 16<<10+1, true, false, false) // had a record first
		leave("sub/noted", 4, 100, true, true, false)       // has noted how far it came
		leave("sub/new", 5, 100, true, false, true)         // came since
		leave("other/killed", 6, 100, true, false, false)   // where no small file was announced
		outside := t.TempDir()
		for name := range left { // a directory that has become a link to another, with the same files
			if err := os.WriteFile(filepath.Join(outside, filepath.Base(name)), make([]byte, 100), 0o600); err != nil {
				t.Fatal(err)
			}
			when := time.Now().Add(-time.Hour)
			if err := os.Chtimes(filepath.Join(outside, filepath.Base(name)), when, when); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(os.Remove(filepath.Join(b.root, "linked", "y")), os.Remove(filepath.Join(b.root, "linked")), os.Symlink(outside, filepath.Join(b.root, "linked"))); err != nil {
			t.Fatal(err)
		}
		p.start("b")
		synctest.Wait()
		for full, stays := range left {
			if _, err := os.Lstat(full); (err == nil) != stays {
				t.Errorf("%s: stays: %t, want %t", filepath.Base(full), err == nil, stays)
			}
		}
		if there, err := os.ReadDir(outside); err != nil || len(there) != len(left) {
			t.Errorf("outside of the root are %d files of %d: %v", len(there), len(left), err)
		}
		for _, name := range []string{"sub/y", "sub/z"} {
			if _, err := os.Lstat(filepath.Join(b.root, name)); err != nil {
				t.Error(err)
			}
		}
		if got := noted(); strings.TrimSpace(got) != "[]" {
			t.Errorf("written down still is %s", got)
		}
		p.end(p.submit("push", "x", "sub/y2"), lifecycle.Done)
		if got := noted(); strings.Count(got, `"Dir":"sub"`) != 1 {
			t.Errorf("written down is %s", got)
		}
	})
}
