package folder

import (
	"bytes"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/fsnotify/fsnotify"
)

// said is a log that can be read while it is written to.
type said struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *said) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(b)
}

func (s *said) count(what string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Count(s.text.String(), what)
}

// TestHintsAgain: a folder that the kernel gives nothing says so once, asks again at each rescan,
// and sees changes by itself when it has got something.
func TestHintsAgain(t *testing.T) {
	var log said
	var may atomic.Bool
	b := begin(t, nil)
	b.cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
	b.cfg.watcher = func() (*fsnotify.Watcher, error) {
		if !may.Load() {
			return nil, os.NewSyscallError("inotify_init1", syscall.EMFILE)
		}
		return fsnotify.NewWatcher()
	}
	b.restart()
	b.settled()
	b.settled()
	if why := b.watch.Status(0).Hints; !strings.Contains(why, "max_user_instances") || log.count("only seen when") != 1 {
		t.Fatalf("%q, %s", why, &log.text)
	}
	may.Store(true)
	b.settled()
	if why := b.watch.Status(0).Hints; why != "" || log.count("tells of changes again") != 1 {
		t.Fatalf("%q, %s", why, &log.text)
	}
	b.write("in/a", "one") // the next rescan is far
	b.until("it is sent", func() bool { return len(b.got("in/a")) == 1 })
}

// TestFlat: what is in a directory of a folder that is not recursive is not sent, and that is said;
// not of directories that are the folder's own, or excluded.
func TestFlat(t *testing.T) {
	b := begin(t, func(f *Folder) {
		f.Recursive, f.After, f.To, f.Exclude = false, Move, pathOf(t, "in/sent"), []string{"old"}
	})
	for _, name := range []string{"in/a", "in/sub/b", "in/old/c"} {
		b.write(name, "x")
	}
	if s := b.settled(); s.Skipped != 1 || len(b.got("in/a")) != 1 || len(b.got("in/sub/b")) != 0 {
		t.Fatalf("%+v", s)
	}
	if s := b.settled(); len(s.Rows) != 1 || s.Rows[0].Path != "in/sub" || !strings.Contains(s.Rows[0].Why, "not recursive") {
		t.Errorf("%+v", s.Rows)
	}
}

// TestHintsPartly: a directory that the kernel does not watch is said until a scan has found that
// it does.
func TestHintsPartly(t *testing.T) {
	b := begin(t, nil)
	b.settled()
	h := b.watch.hints
	h.mu.Lock()
	h.why = trouble(syscall.ENOSPC) // as a scan has found
	h.mu.Unlock()
	if why := b.watch.Status(0).Hints; !strings.Contains(why, "max_user_watches") {
		t.Error(why)
	}
	b.settled()
	if why := b.watch.Status(0).Hints; why != "" {
		t.Error(why)
	}
}
