package audit

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/spec/fault"
)

// TestCopyHangs: a second place that does not answer, as a mount whose server is gone, keeps nobody from recording,
// nor the log from being closed; when it answers, it gets the last checkpoint.
func TestCopyHangs(t *testing.T) {
	to := filepath.Join(t.TempDir(), "kept")
	pipe := to + ".new"
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "audit")
	l, err := Open(Config{Dir: dir, Node: "hosta", Each: true, Checkpoint: 2, Copy: to})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for i := range 20 {
		if err := l.Record(ctx, Entry{Who: "uid 1000", Do: "Submit", On: fmt.Sprint(i)}); err != nil {
			t.Fatalf("record %d: %v", i, err)
		}
	}
	if err := l.Admits(); err != nil {
		t.Error(err)
	}
	closed := make(chan error, 1)
	go func() { closed <- l.Close() }()
	select {
	case err := <-closed:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Fatal("the log is not closed")
	}
	answers(t, pipe)
	<-l.copies.over
	last, err := os.ReadFile(filepath.Join(dir, checkpointFile))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(to); err != nil || string(got) != string(last) {
		t.Errorf("the copy is %q, %v, want %q", got, err, last)
	}
}

// answers lets who opens a pipe go on, to an error; who opens its name after that makes a file.
func answers(t *testing.T, pipe string) {
	t.Helper()
	err := os.Rename(pipe, pipe+".open")
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(pipe + ".open")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_, _ = io.Copy(io.Discard, f)
}

// TestDiskHangs: a disk that does not answer is as one that is full: who waits for a record is told
// after a while, and orders are refused until it answers.
func TestDiskHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &Log{cfg: Config{Each: true}, kick: make(chan struct{}, 1)} // nobody writes
		l.busy(time.Now())
		begun := time.Now()
		if err := l.Admits(); err != nil {
			t.Error(err)
		}
		if err := l.Record(t.Context(), Entry{Who: "x"}); fault.KindOf(err) != fault.Deadline || time.Since(begun) != mostWait {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
		if err := l.Admits(); fault.KindOf(err) != fault.IO {
			t.Errorf("orders are taken: %v", err)
		}
		l.busy(time.Time{})
		if err := l.Admits(); err != nil {
			t.Error(err)
		}
		l.quit, l.over = make(chan struct{}), make(chan struct{})
		if begun = time.Now(); fault.KindOf(l.Close()) != fault.Deadline || time.Since(begun) != mostWait {
			t.Errorf("closed after %v", time.Since(begun))
		}
	})
}
