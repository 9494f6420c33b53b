package guest

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/spec/fault"
)

func openNamings(t *testing.T, path string) *Namings {
	t.Helper()
	n, err := OpenNamings(path, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestCutOffBeforeItsRequest: by a rule that replaces nothing, a file whose upload a crash has cut off
// between its name and its request does not keep the name: its client, who was told nothing, may come
// again. A file that has its request, or that somebody else has put there, stays.
func TestCutOffBeforeItsRequest(t *testing.T) {
	for _, c := range []struct {
		name      string
		crashes   bool                    // before the request is registered
		meanwhile func(path string) error // while the node is down
		stays     bool
	}{
		{"cut off", true, nil, false},
		{"cut off, and its mode was changed", true, func(path string) error { return os.Chmod(path, 0o600) }, false},
		{"cut off, and its root is gone", true, func(path string) error { return os.RemoveAll(filepath.Dir(filepath.Dir(path))) }, false},
		{"has its request", false, nil, true},
		{"replaced", true, func(path string) error {
			return errors.Join(os.WriteFile(path+"-", []byte("cut off"), 0o644), os.Rename(path+"-", path))
		}, true},
		{"written to", true, func(path string) error { return os.WriteFile(path, []byte("longer than it was"), 0o644) }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, n := newDesk(t)
			d.book.Rules["send"].Exists = engine.Refuse
			notes, path := filepath.Join(t.TempDir(), "namings.json"), filepath.Join(d.send, "in/x")
			n.Namings = openNamings(t, notes)
			s := d.guest(n, User{Send: "send"})
			var then []byte
			d.submits = func() {
				var err error
				if then, err = os.ReadFile(notes); err != nil {
					t.Error(err)
				}
			}
			if _, err := uploaded(s, "/in/x", []byte("cut off")); err != nil {
				t.Fatal(err)
			}
			if text, err := os.ReadFile(notes); err != nil || strings.Contains(string(text), "in/x") || !strings.Contains(string(then), "in/x") {
				t.Fatalf("noted then %s, and still %s: %v", then, text, err)
			}
			if err := os.WriteFile(notes, then, 0o600); err != nil { // what a crash in that moment leaves
				t.Fatal(err)
			}
			if c.crashes {
				clear(d.records)
			}
			if c.meanwhile != nil {
				if err := c.meanwhile(path); err != nil {
					t.Fatal(err)
				}
			}
			n.Namings = openNamings(t, notes)
			n.Namings.Settle(t.Context(), d, "a")
			if _, err := os.Stat(path); c.stays != (err == nil) {
				t.Errorf("it stays: %v", err)
			}
			if text, err := os.ReadFile(notes); err != nil || string(text) != "[]\n" {
				t.Errorf("still noted: %s, %v", text, err)
			}
			if _, err := os.Stat(d.send); err != nil {
				return
			}
			if _, err := uploaded(s, "/in/x", []byte("again")); c.stays && fault.KindOf(err) != fault.Exists || !c.stays && err != nil {
				t.Errorf("again: %v", err)
			}
		})
	}
}

// TestNamingsUnwritten: an upload that cannot be noted fails, and leaves nothing; one that cannot be
// forgotten is, with the next that is written.
func TestNamingsUnwritten(t *testing.T) {
	d, n := newDesk(t)
	d.book.Rules["send"].Exists = engine.Refuse
	dir := filepath.Join(t.TempDir(), "state")
	away := func(is bool) {
		t.Helper()
		var err error
		if is {
			err = os.Rename(dir, dir+"-away")
		} else {
			err = os.Rename(dir+"-away", dir)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	notes := filepath.Join(dir, "namings.json")
	n.Namings = openNamings(t, notes)
	s := d.guest(n, User{Send: "send"})
	away(true)
	if _, err := uploaded(s, "/x", []byte("x")); err == nil || len(d.orders) > 0 {
		t.Errorf("%v, %v", err, d.orders)
	}
	if all, err := os.ReadDir(d.send); err != nil || len(all) > 0 {
		t.Errorf("there is %v, %v", all, err)
	}
	away(false)
	d.submits = func() { away(true) }
	if _, err := uploaded(s, "/x", []byte("x")); err != nil {
		t.Error(err)
	}
	away(false)
	if text, err := os.ReadFile(notes); err != nil || !strings.Contains(string(text), `"x"`) {
		t.Errorf("%s, %v", text, err)
	}
	n.Namings.Tidy()
	if text, err := os.ReadFile(notes); err != nil || string(text) != "[]\n" {
		t.Errorf("%s, %v", text, err)
	}
	if err := os.WriteFile(notes, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenNamings(notes, nil); fault.KindOf(err) != fault.Corrupt {
		t.Error(err)
	}
}

// TestNameStays: a file without a request whose name cannot be taken away, neither when its request was refused nor
// when the node starts, is noted until it can be, and then removed in the same life of the node. What is given its
// name meanwhile stays.
func TestNameStays(t *testing.T) {
	for _, starts := range []bool{false, true} {
		t.Run(map[bool]string{false: "refused", true: "cut off"}[starts], func(t *testing.T) {
			d, n := newDesk(t)
			d.book.Rules["send"].Exists = engine.Refuse
			notes, dir := filepath.Join(t.TempDir(), "namings.json"), filepath.Join(d.send, "in")
			n.Namings = openNamings(t, notes)
			s := d.guest(n, User{Send: "send"})
			barred := func(is bool) { // what is asked for below a file is an error, and not absent
				t.Helper()
				var err error
				if is {
					err = errors.Join(os.Rename(dir, dir+"-away"), os.WriteFile(dir, nil, 0o644))
				} else {
					err = errors.Join(os.Remove(dir), os.Rename(dir+"-away", dir))
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			d.refuse = fault.New("submit", fault.Draining, "not now")
			d.submits = func() { barred(true) }
			if _, err := uploaded(s, "/in/x", []byte("cut off")); fault.KindOf(err) != fault.Draining {
				t.Fatal(err)
			}
			d.refuse = nil
			if starts {
				n.Namings = openNamings(t, notes)
			}
			settle := func(noted string) {
				t.Helper()
				n.Namings.Settle(t.Context(), d, "a")
				n.Namings.Tidy()
				if text, err := os.ReadFile(notes); err != nil || !strings.Contains(string(text), noted) {
					t.Errorf("noted is %s, want %s: %v", text, noted, err)
				}
			}
			settle(`"in/x"`)
			barred(false)
			d.submits = func() { // while another is being named
				settle(`"y"`)
				if text, err := os.ReadFile(notes); err != nil || strings.Contains(string(text), `"in/x"`) {
					t.Errorf("noted is %s, %v", text, err)
				}
			}
			if _, err := uploaded(s, "/y", []byte("y")); err != nil {
				t.Error(err)
			}
			if _, err := os.Stat(filepath.Join(d.send, "y")); err != nil {
				t.Error(err)
			}
			if _, err := os.Stat(filepath.Join(dir, "x")); err == nil {
				t.Error("it keeps the name")
			}
			settle("[]")
			d.submits = nil
			if _, err := uploaded(s, "/in/x", []byte("again")); err != nil {
				t.Error(err)
			}
		})
	}
}
