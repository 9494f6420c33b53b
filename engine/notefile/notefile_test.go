package notefile

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/pannier/pannier/spec/fault"
)

// TestFile: what is written is there after the next start, and in a backup; a second process, and a file
// that is none, are told apart.
func TestFile(t *testing.T) {
	dir := t.TempDir()
	path, bucket := filepath.Join(dir, "x.db"), []byte("b")
	open := func(path string) File {
		f, err := Open(path, "tests", bucket, []byte("c"))
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	has := func(f File) (v string) {
		_ = f.View(func(tx *bbolt.Tx) error { v = string(tx.Bucket(bucket).Get([]byte("k"))); return nil })
		return v
	}
	f := open(path)
	if err := f.Update(func(tx *bbolt.Tx) error { return tx.Bucket(bucket).Put([]byte("k"), []byte("v")) }); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, "tests", bucket); fault.KindOf(err) != fault.Exists || !strings.Contains(err.Error(), "open the notes of tests") {
		t.Errorf("a second time: %v", err)
	}
	copied := filepath.Join(dir, "copy.db")
	w, err := os.OpenFile(copied, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Backup(w); err != nil {
		t.Fatal(err)
	}
	w.Close()
	for _, path := range []string{path, copied} {
		f.Close()
		if f = open(path); has(f) != "v" {
			t.Errorf("%s has %q", path, has(f))
		}
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(path, []byte(strings.Repeat("x", 10_000)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, "tests", bucket); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("no such file: %v", err)
	}
}
