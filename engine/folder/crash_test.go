package folder

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/pannier/pannier/sideeffect"
)

// atPoint does something when the work has come to a point for the n-th time.
func atPoint(t *testing.T, point string, n int32, do func()) *atomic.Bool {
	var left atomic.Int32
	left.Store(n)
	done := &atomic.Bool{}
	reached = func(p string) {
		if p == point && left.Add(-1) == 0 {
			done.Store(true)
			do()
		}
	}
	t.Cleanup(func() { reached = func(string) {} })
	return done
}

// TestCrash: whatever the last thing of a process was, the next one delivers each file once, and
// what comes after is done once.
func TestCrash(t *testing.T) {
	points := map[Action][]string{
		Keep:   {"noted", "registered", "marked", "settled", "removed", "forgotten"},
		Delete: {"noted", "registered", "marked", "settled", "looked", "aside", "removed", "forgotten"},
		Move:   {"noted", "registered", "marked", "settled", "looked", "aside", "placed", "removed", "forgotten"},
	}
	for action, points := range points {
		for _, point := range points {
			for n := range int32(2) {
				t.Run(fmt.Sprintf("%v/%s/%d", action, point, n+1), func(t *testing.T) {
					crashed := atPoint(t, point, n+1, runtime.Goexit)
					b := begin(t, func(f *Folder) {
						f.Partners = []string{"there", "far"}
						if f.After = action; action == Move {
							f.To = pathOf(t, "sent")
						}
					})
					b.write("in/a", "one")
					b.write("in/b", "two")
					b.until("it has come so far", func() bool {
						if n > 0 && !crashed.Load() { // a batch may have had both
							return len(b.got("in/a"))+len(b.got("in/b")) == 4 && b.quiet()
						}
						return crashed.Load()
					})
					b.dies()
					reached = func(string) {}
					b.start()
					b.settled()
					b.watch.Scan(t.Context())
					b.settled()
					for name, content := range map[string]string{"a": "one", "b": "two"} {
						if got := b.got("in/" + name); !slices.Equal(got, []string{content, content}) {
							t.Errorf("%s was delivered as %q", name, got)
						}
						left, _ := os.ReadDir(filepath.Join(b.root, "in"))
						sent, _ := os.ReadDir(filepath.Join(b.root, "sent"))
						if want := map[Action][2]int{Keep: {2, 0}, Delete: {0, 0}, Move: {0, 2}}[action]; len(left) != want[0] || len(sent) != want[1] {
							t.Errorf("left are %v and %v", left, sent)
						}
					}
				})
			}
		}
	}
}

// dies waits until all has ended where it was. The kernel takes back what gave hints, of which each user has few.
func (b *bench) dies() {
	b.watch.cancel()
	b.watch.work.Wait()
	b.watch.hints.close()
}

// quiet: nothing is under way, as far as can be seen.
func (b *bench) quiet() bool {
	s := b.watch.Status(0)
	return s.Open+s.Waiting+s.Held == 0
}

// TestDisposeLooksTwice: a file that comes under the name in the moment before the rename stays, also when
// the process ends then.
func TestDisposeLooksTwice(t *testing.T) {
	for i, then := range []string{"", "aside", "back", "", "aside", "back"} {
		after := []Action{Delete, Move}[i/3]
		t.Run(after.String()+"/"+then, func(t *testing.T) {
			var came, crashed atomic.Bool
			var at atomic.Value // the file's name
			reached = func(p string) {
				if p == "looked" && !came.Swap(true) {
					name := at.Load().(string)
					os.WriteFile(name+".new", []byte("two"), 0o644)
					os.Rename(name+".new", name)
				}
				if p == then && !crashed.Swap(true) {
					runtime.Goexit()
				}
			}
			t.Cleanup(func() { reached = func(string) {} })
			b := begin(t, func(f *Folder) { f.After, f.To, f.Include = after, pathOf(t, "sent"), []string{"a"} })
			at.Store(filepath.Join(b.root, "in/a"))
			b.write("in/a", "one")
			b.until("the newer file has come", came.Load)
			if then != "" {
				b.until("it has ended there", crashed.Load)
				b.dies()
				b.start()
			}
			b.until("both were sent", func() bool { return slices.Equal(b.got("in/a"), []string{"one", "two"}) })
			b.settled()
			b.until("and are gone", func() bool {
				left, _ := os.ReadDir(filepath.Join(b.root, "in"))
				return len(left) == 0
			})
			if after == Move && !slices.Equal(b.names("sent"), []string{"sent/a"}) {
				t.Errorf("moved are %q", b.names("sent"))
			}
		})
	}
}

// TestPlanted: a directory that somebody has put under the name that a file gets for a moment is said, once, and stays; the
// file does, too, and goes when the directory is gone.
func TestPlanted(t *testing.T) {
	for _, fails := range []string{"", "no"} {
		t.Run(fails, func(t *testing.T) {
			var log said
			b := begin(t, func(f *Folder) { f.After, f.Failed, f.FailedTo = Delete, Move, pathOf(t, "bad") })
			b.cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
			b.restart()
			b.mu.Lock()
			b.hold, b.fails = true, fails
			b.mu.Unlock()
			b.write("in/a", "one")
			b.until("it is under way", func() bool { return b.watch.Status(0).Open == 1 })
			fi, err := os.Lstat(filepath.Join(b.root, "in/a"))
			if err != nil {
				t.Fatal(err)
			}
			name := asideName("f", "in/a", sideeffect.VersionOf(fi).WithoutDevice())
			planted := filepath.Join(b.root, "in", name)
			if err := os.Mkdir(planted, 0o755); err != nil {
				t.Fatal(err)
			}
			b.release()
			b.until("that is said", func() bool { return log.count("is a directory") > 0 })
			for range 3 {
				b.watch.Scan(t.Context())
			}
			if n := log.count("is a directory"); n != 1 || log.count(name+" is a directory, and the file needs that name for a moment: remove it") != 1 {
				t.Errorf("said %d times: %s", n, log.String())
			}
			if s := b.watch.Status(10); fails == "" && (len(s.Rows) != 1 || !strings.Contains(s.Rows[0].Why, "is a directory")) {
				t.Errorf("%+v", s)
			}
			if !exists(planted) || !exists(filepath.Join(b.root, "in/a")) {
				t.Error("something of it is gone")
			}
			if err := os.Remove(planted); err != nil {
				t.Fatal(err)
			}
			b.until("it goes", func() bool {
				b.watch.Scan(t.Context())
				return !exists(filepath.Join(b.root, "in/a"))
			})
			if exists(filepath.Join(b.root, "bad/a")) != (fails != "") {
				t.Error("it is not where it belongs")
			}
		})
	}
}
