package folder

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"
)

// TestHung: while a file system does not answer, the folder says how it was, and that it does not; and
// goes on when it does.
func TestHung(t *testing.T) {
	let, hangs := make(chan struct{}), make(chan struct{})
	var hang atomic.Bool
	faulty = func(string) error {
		if hang.CompareAndSwap(true, false) {
			close(hangs)
			<-let
		}
		return nil
	}
	t.Cleanup(func() { faulty = func(string) error { return nil } })
	b := begin(t, func(f *Folder) { f.After = Delete })
	b.fake.set(func() { b.hold = true })
	b.write("in/a", "x")
	b.until("it is sent", func() bool { return b.watch.Status(0).Open == 1 })
	ids := b.watch.Status(10).Rows[0].IDs
	hang.Store(true)
	b.release()
	<-hangs
	came := make(chan Status, 2)
	go func() {
		came <- b.watch.Status(10)
		came <- b.watch.Status(0)
	}()
	for _, rows := range []int{1, 0} {
		select {
		case s := <-came:
			if s.Folder.Name != "f" || s.Open != 1 || len(s.Rows) != rows || rows > 0 && !slices.Equal(s.Rows[0].IDs, ids) {
				t.Errorf("%+v", s)
			}
		case <-time.After(time.Minute):
			t.Error("nobody hears how the folder is")
		}
	}
	if s := b.watch.before(0, time.Now().Add(-time.Hour)); !strings.Contains(s.Trouble, "has not answered since") {
		t.Errorf("%+v", s)
	}
	close(let)
	b.until("it goes on", func() bool { s := b.watch.Status(0); return s.Open == 0 && s.Trouble == "" })
}

// TestStatusIsCheap: what is counted makes no text of each file.
func TestStatusIsCheap(t *testing.T) {
	b := begin(t, nil)
	b.watch.mu.Lock()
	for i := range 10_000 {
		path := fmt.Sprint("in/", i)
		b.watch.files[path] = &file{path: path, state: isKept, noted: &noted{reqs: make([]outcome, 3)}}
	}
	b.watch.mu.Unlock()
	// Others of the process allocate, too, now and then: the least of some tries is what counts.
	least := func(rows int) float64 {
		n := math.Inf(1)
		for range 10 {
			n = min(n, testing.AllocsPerRun(1, func() { b.watch.Status(rows) }))
		}
		return n
	}
	if n := least(0); n > 1000 {
		t.Errorf("%v allocations", n)
	}
	if n := least(10); n > 2000 {
		t.Errorf("%v allocations for ten rows", n)
	}
}

// TestHungHints: a directory that the kernel never says to watch holds up nobody who asks how it goes.
func TestHungHints(t *testing.T) {
	h := newHints(t.TempDir(), fsnotify.NewWatcher)
	t.Cleanup(h.close)
	let, hangs := make(chan struct{}), make(chan struct{})
	h.add = func(*fsnotify.Watcher, string) error { close(hangs); <-let; return syscall.ENOSPC }
	entered := make(chan struct{})
	go func() { h.enter("."); close(entered) }()
	<-hangs
	said := make(chan string)
	go func() {
		why, _ := h.state()
		said <- why
	}()
	select {
	case why := <-said:
		if why != "" {
			t.Error(why)
		}
	case <-time.After(time.Minute):
		t.Error("nobody hears how the folder is")
	}
	close(let)
	<-entered
	if why, partly := h.state(); why != trouble(".", syscall.ENOSPC) || !partly {
		t.Errorf("%q, of some only: %v", why, partly)
	}
}
