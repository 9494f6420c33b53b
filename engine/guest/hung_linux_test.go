package guest

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/flow/flowtest"
	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/relpath"
)

// TestRootHung: roots whose file systems do not answer hold up neither a start of the node nor a client,
// who is told to try again. Nothing that is noted is forgotten, and open downloads are cancelled.
func TestRootHung(t *testing.T) {
	d, n := newDesk(t)
	id := lifecycle.ID{7}
	target, err := relpath.Parse(fetched + id.String() + "/x")
	if err != nil {
		t.Fatal(err)
	}
	open := lifecycle.Record{Key: lifecycle.Key{Requester: "a", ID: id}, Role: lifecycle.Requester, State: lifecycle.ToSubmit, Spec: lifecycle.Spec{Rule: "get", Target: target}}
	d.records[store.RefOf(&open)] = open
	was := newName{Root: d.send, Name: "x", Request: lifecycle.ID{8}.String()}
	fi, err := os.Stat(secretFile(t, "", 0o600))
	if err != nil {
		t.Fatal(err)
	}
	was.Version = sideeffect.VersionOf(fi).Encode()
	noted, err := json.Marshal([]newName{was})
	if err != nil {
		t.Fatal(err)
	}
	notes := filepath.Join(t.TempDir(), "namings.json")
	if err := os.WriteFile(notes, noted, 0o600); err != nil {
		t.Fatal(err)
	}
	n.Namings = openNamings(t, notes)
	n.keepIn(t, filepath.Join(t.TempDir(), "uploads.json"))
	if _, err := n.Remains.add(remain{Root: d.send, Name: "y", Key: remainKey("x", "me", "")}); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{d.send, d.get} {
		end, err := flowtest.HungMount(dir)
		if err != nil {
			t.Skip("a file system that does not answer: ", err)
		}
		t.Cleanup(func() {
			if err := end(); err != nil {
				t.Error(err)
			}
		})
	}
	soon := func(what string, do func()) {
		t.Helper()
		done := make(chan struct{})
		go func() { defer close(done); do() }()
		select {
		case <-done:
		case <-time.After(time.Minute):
			t.Fatal(what, " waits for a file system that does not answer")
		}
	}
	soon("Sweep", func() { n.Remains.Sweep(time.Now().Add(2 * keptFor)) })
	soon("Settle", func() { n.Namings.Settle(t.Context(), d, "a") })
	soon("Leftover", func() {
		remove, err := n.Leftover(t.Context(), "a", "get")
		if err != nil {
			t.Error(err)
			return
		}
		remove()
	})
	if len(n.Remains.all) != 1 || len(n.Namings.left()) != 1 || len(d.cancelled) != 1 {
		t.Errorf("%d uploads and %d names are noted, %d downloads cancelled, want one of each", len(n.Remains.all), len(n.Namings.left()), len(d.cancelled))
	}
	up, down := d.guest(n, User{Send: "send"}), n.session(User{Name: "me", Partner: "b", Get: "get"}, "1.2.3.4:5")
	if err := os.WriteFile(filepath.Join(d.far, "x"), []byte("hello"), 0o644); err != nil {
		t.Fatal(err)
	}
	d.end = func(r *lifecycle.Record) error { r.File = r.Spec.Target; r.Spec.Rule = ""; return nil } // it has come, before
	for what, do := range map[string]func() error{
		"stat":  func() error { _, err := up.Stat(context.Background(), "/x"); return err },
		"mkdir": func() error { return up.(plugins.Maker).Mkdir(context.Background(), "/d") },
		"write": func() error { _, err := uploaded(up, "/x", nil); return err },
		"list": func() error {
			for _, err := range up.(plugins.Lister).List(context.Background(), "/") {
				return err
			}
			return nil
		},
		"read": func() error {
			n.SetUsers([]User{{Name: "me", Partner: "b", Get: "get"}})
			defer n.SetUsers([]User{{Name: "me", Partner: "b", Send: "send"}})
			_, err := down.Read(context.Background(), "/x", 0)
			return err
		},
	} {
		soon(what, func() {
			if err := do(); fault.KindOf(err) != fault.IO || strings.Contains(fault.Text(err), filepath.Dir(d.send)) {
				t.Errorf("%s: %v; a client is told %q", what, err, fault.Text(err))
			}
		})
	}
	if fmt.Sprint(n.files.now) != "map[]" {
		t.Errorf("places are kept: %v", n.files.now)
	}
}
