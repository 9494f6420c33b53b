package statefile

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/pannier/pannier/spec/fault"
)

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x")
	if b, err := Read(path); b != nil || err != nil {
		t.Errorf("of a file that is not there: %q, %v", b, err)
	}
	for _, want := range [][]byte{[]byte("first"), {}, bytes.Repeat([]byte("x"), 1<<20)} {
		if err := Write(path, want); err != nil {
			t.Fatal(err)
		}
		if b, err := Read(path); err != nil || !bytes.Equal(b, want) {
			t.Errorf("%d bytes are %d: %v", len(want), len(b), err)
		}
		fi, err := os.Stat(path)
		if err != nil || fi.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", fi.Mode(), err)
		}
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestWriteFails: what cannot be written leaves the old content, and nothing else.
func TestWriteFails(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x")
	if err := Write(filepath.Join(dir, "none", "x"), []byte("new")); err == nil {
		t.Error("there is no such folder")
	}
	if err := os.Mkdir(path, 0o700); err != nil { // that no file takes the place of
		t.Fatal(err)
	}
	if err := Write(path, []byte("new")); err == nil {
		t.Error("a folder was replaced")
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestReadRefuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x")
	if err := Write(path, []byte("mine")); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []os.FileMode{0o620, 0o602, 0o666} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if b, err := Read(path); fault.KindOf(err) != fault.Permission || b != nil {
			t.Errorf("mode %04o: %q, %v", mode, b, err)
		}
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(path); err != nil {
		t.Error(err)
	}
	if err := os.Truncate(path, most+1); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(path); fault.KindOf(err) != fault.TooLong {
		t.Error(err)
	}
}

// TestWriteTooMuch: what could not be read again is not written.
func TestWriteTooMuch(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x")
	if err := Write(path, []byte("old")); err != nil {
		t.Fatal(err)
	}
	if err := Write(path, make([]byte, most+1)); fault.KindOf(err) != fault.TooLong {
		t.Errorf("too much: %v", err)
	}
	if b, err := Read(path); string(b) != "old" || err != nil {
		t.Errorf("then: %q, %v", b[:min(len(b), 10)], err)
	}
}
