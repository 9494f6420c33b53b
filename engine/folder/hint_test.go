package folder

import (
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/fsnotify/fsnotify"

	"github.com/pannier/pannier/flow/flowtest"
)

// said is a log, and how often something is in it.
type said struct{ flowtest.Log }

func (s *said) count(what string) int {
	return strings.Count(s.String(), what)
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
	if why := b.watch.Status(0).Hints; !strings.Contains(why, "max_user_instances") || b.watch.Status(0).Partly || log.count("only seen when") != 1 {
		t.Fatalf("%q, %s", why, log.String())
	}
	may.Store(true)
	b.settled()
	if why := b.watch.Status(0).Hints; why != "" || log.count("tells of changes again") != 1 {
		t.Fatalf("%q, %s", why, log.String())
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

// TestHintsPartly: a directory that the kernel does not watch is named, with what helps, and that others are watched is
// said, too, until a scan has found that all are.
func TestHintsPartly(t *testing.T) {
	b := begin(t, nil)
	b.settled()
	for errno, want := range map[syscall.Errno]string{
		syscall.ENOSPC: "raise fs.inotify.max_user_watches",
		syscall.EACCES: `the node's user may not read "in/closed": let it, or name the directory in exclude`,
		syscall.EIO:    `"in/closed": input/output error`,
	} {
		h := newHints(t.TempDir(), fsnotify.NewWatcher)
		t.Cleanup(h.close)
		h.add = func(*fsnotify.Watcher, string) error { return errno }
		h.enter("in/closed")
		h.over()
		why, _ := h.state()
		b.watch.hints.mu.Lock()
		b.watch.hints.why = why // as its scan has found
		b.watch.hints.mu.Unlock()
		if s := b.watch.Status(0); !strings.Contains(s.Hints, want) || !s.Partly {
			t.Errorf("%v: %q, of some only: %v", errno, s.Hints, s.Partly)
		}
		if s := b.settled(); s.Hints != "" || s.Partly {
			t.Errorf("%v, after a scan: %q, of some only: %v", errno, s.Hints, s.Partly)
		}
	}
}
