package boltstore

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	berrors "go.etcd.io/bbolt/errors"

	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/spec/fault"
)

// TestSyncFails: a commit whose sync has failed is the last one, and says that the store itself
// has failed, which ends the process, whatever the system calls it: nobody knows what is on disk.
func TestSyncFails(t *testing.T) {
	for _, errno := range []error{unix.EIO, unix.EROFS, unix.ESTALE, unix.ENOSPC, unix.EDQUOT, unix.EBADF} {
		s := must[*Store](t)(Open(Config{Path: filepath.Join(t.TempDir(), "store")}))
		request(t, s, 1)
		s.log.sync = func(*os.File) error { return os.NewSyscallError("fdatasync", errno) } // the committer waits
		err := finished(t, s, 2)
		if fault.KindOf(err) != fault.IO || !errors.Is(err, errno) {
			t.Errorf("%v: %v", errno, err)
		}
		for range 2 { // it may not go on in the log's other file
			if again := finished(t, s, 3); fault.KindOf(again) != fault.IO {
				t.Errorf("after %v, another commit: %v", errno, again)
			}
		}
		_ = s.Close()
	}
}

// TestNoRoom: what a commit may fail of without an end of the store's use.
func TestNoRoom(t *testing.T) {
	write := func(errno error) error { return &fs.PathError{Op: "write", Path: "x", Err: errno} }
	for _, c := range []struct {
		err  error
		want fault.Kind
	}{
		{write(unix.ENOSPC), fault.NoSpace},
		{write(unix.EDQUOT), fault.NoSpace},
		{write(unix.EFBIG), fault.NoSpace},
		{berrors.ErrMaxSizeReached, fault.NoSpace},
		{write(unix.EROFS), fault.IO},
		{write(unix.ESTALE), fault.IO},
		{&fs.PathError{Op: "sync", Path: "x", Err: unix.ENOSPC}, fault.IO},
		{unix.ENOSPC, fault.IO}, // as bbolt says it of its sync
		{berrors.ErrInvalid, fault.IO},
		{fault.New("read", fault.Corrupt, "damaged"), fault.Corrupt},
	} {
		s := must[*Store](t)(Open(Config{Path: filepath.Join(t.TempDir(), "store")}))
		if err := s.fail(c.err); fault.KindOf(err) != c.want || !errors.Is(err, c.err) {
			t.Errorf("%v: %v, want %v", c.err, err, c.want)
		}
		if ended := s.broken() != nil; ended != (c.want != fault.NoSpace) {
			t.Errorf("%v ends the store's use: %v", c.err, ended)
		}
		_ = s.Close()
	}
}

// TestRemoved: nothing is said to be durable in a file that nobody finds again, and what was is found where it can be:
// in the store's file, if the log alone is gone.
func TestRemoved(t *testing.T) {
	for what, c := range map[string]struct {
		gone  []string
		keeps bool
	}{
		"all":       {gone: []string{"", ".log-0", ".log-1"}},
		"the store": {gone: []string{""}},
		"the log":   {gone: []string{".log-0", ".log-1"}, keeps: true},
		"one log":   {gone: []string{".log-1"}, keeps: true},
	} {
		path := filepath.Join(t.TempDir(), "store")
		s := must[*Store](t)(Open(Config{Path: path}))
		told := request(t, s, 1)
		if err := s.Check(); err != nil {
			t.Errorf("%s: a look before: %v", what, err)
		}
		for _, name := range c.gone {
			if err := os.Remove(path + name); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Check(); fault.KindOf(err) != fault.IO || !errors.Is(err, errRemoved) || s.broken() != nil {
			t.Errorf("%s: a look: %v, then %v", what, err, s.broken())
		}
		for range 2 {
			if err := finished(t, s, 2); fault.KindOf(err) != fault.IO {
				t.Errorf("%s: a commit: %v", what, err)
			}
		}
		_ = s.Close()
		if !c.keeps {
			continue
		}
		again := must[*Store](t)(Open(Config{Path: path}))
		if r, err := again.Get(t.Context(), store.RefOf(&told)); err != nil || r.Version != told.Version {
			t.Errorf("%s: what was acknowledged: %+v, %v", what, r, err)
		}
		_ = again.Close()
	}
}

// TestCheckBesideClose: who looks after the store's files, and is not waited for, says nothing wrong of
// one that is being closed.
func TestCheckBesideClose(t *testing.T) {
	for range 20 {
		s := must[*Store](t)(Open(Config{Path: filepath.Join(t.TempDir(), "store")}))
		var looks sync.WaitGroup
		looks.Go(func() {
			for range 100 {
				if err := s.Check(); err != nil {
					t.Errorf("a look: %v", err)
					return
				}
			}
		})
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		looks.Wait()
	}
}
