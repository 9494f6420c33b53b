package sideeffect

import (
	"os"
	"path/filepath"
	"testing"
)

// TestUndoTakesItsOwn: a sink that writes in place and gives up removes the file that it has made, and not one that another
// program has put in its place meanwhile.
func TestUndoTakesItsOwn(t *testing.T) {
	for _, replaced := range []bool{false, true} {
		dir := t.TempDir()
		root, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		s, err := File(root, "a").OpenSink(SinkSpec{Mode: Truncate})
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(dir, "a")
		if replaced {
			if err := os.WriteFile(name+".new", []byte("another's"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(name+".new", name); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Abort(false); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(name); replaced != (err == nil) {
			t.Errorf("replaced %v: %v", replaced, err)
		}
	}
}
