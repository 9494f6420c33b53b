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
