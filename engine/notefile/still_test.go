package notefile

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/pannier/pannier/spec/fault"
)

// stuck takes nothing until it is let go on.
type stuck struct {
	reached chan struct{} // gets one when something is written first
	goOn    chan struct{}
	n       int64
}

func (s *stuck) Write(p []byte) (int, error) {
	if s.n == 0 {
		s.reached <- struct{}{}
		<-s.goOn
	}
	s.n += int64(len(p))
	return len(p), nil
}

// TestStillHoldsNothing: whoever takes a backup and does not read keeps nobody from writing, not even when the file
// has to be mapped anew, and leaves nothing in the directory.
func TestStillHoldsNothing(t *testing.T) {
	path, bucket := filepath.Join(t.TempDir(), "x.db"), []byte("b")
	f, err := Open(path, "tests", bucket)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	put := func(key string, size int) error {
		return f.Update(func(tx *bbolt.Tx) error { return tx.Bucket(bucket).Put([]byte(key), make([]byte, size)) })
	}
	if err := put("before", 1000); err != nil {
		t.Fatal(err)
	}
	w := &stuck{reached: make(chan struct{}, 1), goOn: make(chan struct{})}
	sent, wrote := make(chan error, 1), make(chan error, 1)
	go func() { sent <- f.Backup(w) }()
	<-w.reached
	go func() { wrote <- put("after", 1<<20) }() // more than is mapped
	select {
	case err := <-wrote:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Error("a writer waits for the reader of a backup")
	}
	if all, err := os.ReadDir(filepath.Dir(path)); err != nil || len(all) != 1 {
		t.Errorf("beside the file: %v, %v", all, err)
	}
	close(w.goOn)
	if err := <-sent; err != nil || w.n < 4096 || w.n > 1<<20 {
		t.Errorf("%d bytes, %v: not as it was when it began", w.n, err)
	}
}

// TestStillWithoutRoom: a disk without room for the copy gets nothing written to it, and the error says what it takes.
func TestStillWithoutRoom(t *testing.T) {
	f, err := Open(filepath.Join(t.TempDir(), "x.db"), "tests", []byte("b"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var asked string
	err = still(f.DB, io.Discard, func(dir string) (int64, error) { asked = dir; return 1<<20 + 100, nil })
	if fault.KindOf(err) != fault.NoSpace || !strings.Contains(err.Error(), "make room") || asked != filepath.Dir(f.Path()) {
		t.Errorf("%v; asked about %q", err, asked)
	}
	if err := still(f.DB, io.Discard, func(string) (int64, error) { return 64<<20 + 1<<20, nil }); err != nil {
		t.Error(err)
	}
	wrong := errors.New("wrong")
	if err := still(f.DB, io.Discard, func(string) (int64, error) { return 0, wrong }); !errors.Is(err, wrong) {
		t.Error(err)
	}
}
