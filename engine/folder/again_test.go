package folder

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/notefile"
	"github.com/pannier/pannier/spec/fault"
)

// What must not make a folder send a version again, or lose one: disks that fail, or are not mounted for a while,
// requests that are purged, other settings.

// TestAsideAndNewer: a delivered file that lies under its name between, because the disk refuses to move it and to give
// its name back, is not sent again when a newer one comes under its name. That one is, once, when it can be.
func TestAsideAndNewer(t *testing.T) {
	for name, then := range map[string]func(*bench){
		"moved":                func(b *bench) { b.scans(1) },
		"moved, restarted":     func(b *bench) { b.restart(); b.scans(1) },
		"restarted, then kept": func(b *bench) { b.watch.Stop(); b.cfg.Folder.After = Keep; b.start(); b.scans(1) },
	} {
		t.Run(name, func(t *testing.T) {
			set := faults(t)
			set(map[string]error{"place": unix.EIO, "back": unix.EIO})
			b := begin(t, func(f *Folder) { f.After, f.To = Move, pathOf(t, "sent") })
			b.write("in/a", "one")
			b.until("it lies there", func() bool { return b.watch.Status(0).Staying == 1 })
			b.set(func() { b.hold = true })
			b.write("in/a", "another")
			b.until("the newer one is looked at", func() bool {
				b.scans(1)
				return slices.ContainsFunc(b.watch.Status(10).Rows, func(r Row) bool {
					return r.Path == "in/a" && (r.State == "open" || strings.Contains(r.Why, "earlier version"))
				})
			})
			then(b)
			set(nil)
			b.release()
			b.until("all have their names", func() bool {
				b.settled()
				return !slices.ContainsFunc(b.names("in"), func(s string) bool { return ofAside("f", filepath.Base(s)) != "" })
			})
			b.settled()
			if got, again := b.got("in/a"), b.got("in/a.1"); !slices.Equal(got, []string{"one", "another"}) || len(again) > 0 || b.submits != 2 {
				t.Errorf("sent were %q, and %q as a.1; %d were submitted", got, again, b.submits)
			}
		})
	}
}

// TestNameGivenBackCrash: a process that ends while a name comes and goes makes no other version of the file.
func TestNameGivenBackCrash(t *testing.T) {
	no := errors.ErrUnsupported
	for name, c := range map[string]struct {
		end    string
		refuse map[string]error
		points []string
	}{
		"moved":         {"moved", map[string]error{"place": unix.ENOSPC}, []string{"aside", "given back", "removed", "forgotten"}},
		"deleted":       {"deleted", map[string]error{"remove": unix.EPERM}, []string{"aside", "given back", "removed", "forgotten"}},
		"failed":        {"failed", map[string]error{"place": unix.ENOSPC}, []string{"aside", "given back", "removed", "forgotten"}},
		"moved, links":  {"moved", map[string]error{"aside": no, "back": no, "place": unix.ENOSPC}, []string{"second name", "one name", "aside", "linked", "given back", "removed"}},
		"failed, links": {"failed", map[string]error{"aside": no, "back": no, "place": unix.ENOSPC}, []string{"second name", "one name", "aside", "linked", "given back", "removed"}},
	} {
		for _, point := range c.points {
			for n := range int32(2) {
				t.Run(fmt.Sprintf("%s/%s/%d", name, point, n+1), func(t *testing.T) {
					end, refuse := ends[c.end], maps.Clone(c.refuse)
					faults(t)(refuse)
					ended := atPoint(t, point, n+1, runtime.Goexit)
					b := begin(t, func(f *Folder) { end.change(t, f) })
					b.set(func() { b.fails, b.hold = end.fails, true })
					b.write("in/sub/a", "one")
					b.write("in/sub/b", "two")
					b.until("both are under way", func() bool { return b.watch.Status(0).Open == 2 })
					b.release()
					b.until("it has ended there", func() bool {
						go b.watch.Scan(b.watch.ctx) // until that ends
						return ended.Load()
					})
					b.dies()
					reached = func(string) {}
					if n == 0 {
						b.start()
						b.until("both have their names", func() bool {
							b.scans(1)
							return slices.Equal(b.names("in"), []string{"in/sub/a", "in/sub/b"}) && b.quiet()
						})
						b.watch.Stop()
					}
					delete(refuse, "place") // the disk has room again; names are given by links still
					delete(refuse, "remove")
					b.start()
					b.until("both are gone", func() bool { b.scans(1); return len(b.names("in")) == 0 && b.quiet() })
					if b.submits != 2 {
						t.Errorf("%d were submitted", b.submits)
					}
				})
			}
		}
	}
}

// TestRewrittenAfterGivenBack: once the note has what the renames have made, a file that differs in its change time alone
// is another version, as ever.
func TestRewrittenAfterGivenBack(t *testing.T) {
	set := faults(t)
	set(map[string]error{"place": unix.ENOSPC})
	b := begin(t, func(f *Folder) { f.After, f.To = Move, pathOf(t, "sent") })
	b.write("in/a", "one")
	b.until("it stays", func() bool { return b.watch.Status(0).Staying == 1 })
	b.watch.Stop()
	name := filepath.Join(b.root, "in/a")
	fi, err := os.Lstat(name)
	if err != nil {
		t.Fatal(err)
	}
	b.write("in/a", "two")
	if err := os.Chtimes(name, time.Time{}, fi.ModTime()); err != nil {
		t.Fatal(err)
	}
	set(nil)
	b.start()
	b.until("it is moved", func() bool { b.scans(1); return len(b.names("in")) == 0 && b.quiet() })
	if got := b.got("in/a"); !slices.Equal(got, []string{"one", "two"}) {
		t.Errorf("sent were %q", got)
	}
}

// TestStayingCommits: files that stay cost a scan no commit each, and none at all if nothing was renamed.
func TestStayingCommits(t *testing.T) {
	const number = 20
	for step, c := range map[string]struct {
		why  error
		most int
	}{"place": {unix.ENOSPC, 2}, "reach": {unix.EROFS, 0}} {
		t.Run(step, func(t *testing.T) {
			faults(t)(map[string]error{step: c.why})
			b := begin(t, func(f *Folder) { f.After, f.To = Move, pathOf(t, "sent") })
			for i := range number {
				b.write(fmt.Sprint("in/", i), "x")
			}
			b.until("all stay", func() bool { b.scans(1); return b.watch.Status(0).Staying == number })
			before := b.commits()
			b.scans(3)
			if n := b.commits() - before; n > 3*c.most {
				t.Errorf("%d commits in 3 scans", n)
			}
			if s := b.watch.Status(0); s.Staying != number || b.submits != number {
				t.Errorf("%d were submitted; %+v", b.submits, s)
			}
		})
	}
}

// commits is how often the notes were written.
func (b *bench) commits() (n int) {
	b.t.Helper()
	if err := b.notes.db.View(func(tx *bbolt.Tx) error { n = tx.ID(); return nil }); err != nil {
		b.t.Fatal(err)
	}
	return n
}

// TestOpenFewerThanPartners: a limit that is less than the partners of one file holds nobody for ever.
func TestOpenFewerThanPartners(t *testing.T) {
	b := begin(t, func(f *Folder) { f.Open, f.Partners = 1, []string{"there", "far", "farther"} })
	for _, name := range []string{"in/a", "in/b", "in/c"} {
		b.write(name, name)
	}
	b.until("all are sent", func() bool { b.scans(1); return b.watch.Status(0).Kept == 3 })
}

// TestOtherDirectory: a folder that is given another directory, whatever its name's length, leaves what it knows of the
// first alone, and knows it when it comes back.
func TestOtherDirectory(t *testing.T) {
	b := begin(t, func(f *Folder) { f.After, f.Failed, f.FailedTo = Keep, Move, pathOf(t, "bad") })
	b.write("in/sub/a", "one")
	b.until("it is sent", func() bool { return b.watch.Status(0).Kept == 1 })
	for _, dir := range []string{"a/longer/one", "on"} {
		b.watch.Stop()
		b.cfg.Folder.Dir = pathOf(t, dir)
		b.write(dir+"/sub/a", dir)
		b.start()
		b.until("what is there is sent", func() bool { return len(b.got(dir+"/sub/a")) == 1 })
		b.settled()
	}
	b.watch.Stop()
	b.cfg.Folder.Dir = pathOf(t, "in")
	b.start()
	if s := b.settled(); s.Kept != 1 || b.submits != 3 {
		t.Errorf("%d were submitted; %+v", b.submits, s)
	}
}

// TestUnmounted: a delivered file that stays, and whose file system is away for a while, is not sent again when it is
// back. It goes then.
func TestUnmounted(t *testing.T) {
	for name, mountPoint := range map[string]bool{"a mount point is left": true, "nothing is left": false} {
		for _, restart := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				set := faults(t)
				set(map[string]error{"place": unix.ENOSPC})
				b := begin(t, func(f *Folder) { f.After, f.To = Move, pathOf(t, "sent") })
				b.write("in/sub/a", "one")
				b.until("it stays", func() bool { return b.watch.Status(0).Staying == 1 })
				in, away := filepath.Join(b.root, "in"), filepath.Join(b.root, "away")
				if restart {
					b.watch.Stop()
				}
				if err := os.Rename(in, away); err != nil {
					t.Fatal(err)
				}
				if mountPoint {
					if err := os.Mkdir(in, 0o755); err != nil {
						t.Fatal(err)
					}
				}
				set(nil)
				if restart {
					b.start()
				}
				b.scans(2)
				if mountPoint {
					if err := os.Remove(in); err != nil {
						t.Fatal(err)
					}
				}
				if err := os.Rename(away, in); err != nil {
					t.Fatal(err)
				}
				b.until("it is moved", func() bool { b.scans(1); return len(b.names("in")) == 0 && b.quiet() })
				if got := b.names("sent"); !slices.Equal(got, []string{"sent/sub/a"}) || b.submits != 1 {
					t.Errorf("there is %q, %d were submitted", got, b.submits)
				}
			})
		}
	}
}

// TestMissedAgain: the week for which a kept file's note stays is counted anew each time the file is missed.
func TestMissedAgain(t *testing.T) {
	b := begin(t, nil)
	b.watch.Stop()
	b.cfg.young = time.Nanosecond
	b.start()
	b.write("in/a", "one")
	b.until("it is sent", func() bool { return b.watch.Status(0).Kept == 1 })
	in, away := filepath.Join(b.root, "in"), filepath.Join(b.root, "away")
	move := func(from, to string) {
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	missed := func() {
		t.Helper()
		move(in, away)
		if err := os.Mkdir(in, 0o755); err != nil {
			t.Fatal(err)
		}
		b.start()
		b.scans(1)
		b.watch.Stop()
		if err := os.Remove(in); err != nil {
			t.Fatal(err)
		}
		move(away, in)
	}
	b.watch.Stop()
	b.set(func() { clear(b.records) }) // it was purged
	missed()
	b.age(t, 8*24*time.Hour)
	b.start() // it is there again
	b.scans(1)
	b.watch.Stop()
	missed()
	b.start()
	if s := b.settled(); s.Kept != 1 || b.submits != 1 {
		t.Errorf("%d were submitted; %+v", b.submits, s)
	}
}

// TestForgotten: what has been missed for more than a week is forgotten, delivered or kept; but not by a process that has
// just begun.
func TestForgotten(t *testing.T) {
	for _, after := range []Action{Keep, Delete} {
		t.Run(after.String(), func(t *testing.T) {
			b := begin(t, func(f *Folder) { f.After = after })
			b.set(func() { b.hold = true })
			b.write("in/a", "one")
			b.until("it is registered", func() bool { b.mu.Lock(); defer b.mu.Unlock(); return b.submits == 1 })
			if err := os.Remove(filepath.Join(b.root, "in/a")); err != nil {
				t.Fatal(err)
			}
			b.mu.Lock()
			for _, r := range b.records { // it was opened before
				r.State = lifecycle.Done
			}
			b.cond.Broadcast()
			b.mu.Unlock()
			b.until("it is missed", func() bool { b.scans(1); n := b.note(t); return n != nil && !n.Gone.IsZero() })
			b.watch.Stop()
			b.age(t, 8*24*time.Hour)
			b.start()
			b.scans(2)
			if b.note(t) == nil {
				t.Error("a process that has just begun forgets it")
			}
			b.watch.Stop()
			b.cfg.young = time.Nanosecond
			b.start()
			b.scans(2)
			b.watch.Stop()
			if b.note(t) != nil || len(b.watch.files) > 0 {
				t.Error("it is not forgotten")
			}
		})
	}
}

// note is the only one there is; nil: none.
func (b *bench) note(t *testing.T) (only *note) {
	t.Helper()
	if err := b.notes.all("f", func(_ string, n *note) { only = n }); err != nil {
		t.Fatal(err)
	}
	return only
}

// age makes what is missed missed for longer.
func (b *bench) age(t *testing.T, by time.Duration) {
	t.Helper()
	err := b.notes.db.Update(func(tx *bbolt.Tx) error {
		notes := tx.Bucket(noteBucket)
		return notes.ForEach(func(k, v []byte) error {
			n, ok := readNote(k, v)
			if !ok {
				t.Errorf("%q is damaged", k)
			}
			if n.Gone.IsZero() {
				t.Errorf("%q is not missed", k)
			}
			n.Gone = n.Gone.Add(-by)
			v, err := json.Marshal(n)
			if err != nil {
				return err
			}
			return notes.Put(k, notefile.Seal(k, v))
		})
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestPurgedPartly: of a file that one partner has, and that cannot be registered for another, the request that is done is
// purged: it is not made again.
func TestPurgedPartly(t *testing.T) {
	b := begin(t, func(f *Folder) { f.Partners = []string{"there", "far"} })
	b.set(func() { b.refuseFor = "far" })
	b.write("in/a", "one")
	b.until("one has it", func() bool { b.scans(1); return len(b.got("in/a")) == 1 })
	b.watch.Stop()
	b.set(func() { clear(b.records); b.refuseFor = "" })
	b.start()
	b.settled()
	b.scans(1)
	b.settled()
	n := 0
	for _, r := range b.records {
		if n++; r.Spec.Partner != "far" || r.State != lifecycle.Done {
			t.Errorf("%s: %v", r.Spec.Partner, r.State)
		}
	}
	if n != 1 || b.submits != 2 {
		t.Errorf("%d are known, %d were submitted", n, b.submits)
	}
}

// TestPartnerTakenOut: a file that one partner has, and that was registered for another no more when the
// node was killed, waits for nobody who has been taken out of the folder since.
func TestPartnerTakenOut(t *testing.T) {
	b := begin(t, func(f *Folder) { f.After, f.Partners = Delete, []string{"there", "far"} })
	b.set(func() { b.refuseFor = "far" })
	b.write("in/a", "one")
	b.until("one has it", func() bool { b.scans(1); return len(b.got("in/a")) == 1 })
	b.watch.Stop()
	b.cfg.Folder.Partners = []string{"there"}
	b.start()
	b.until("it is over", func() bool { b.scans(1); return b.watch.Status(0).Open == 0 && !exists(filepath.Join(b.root, "in/a")) })
	if len(b.got("in/a")) != 1 {
		t.Errorf("sent %d times", len(b.got("in/a")))
	}
}

// TestDoneFile: a template by which every file would be a done file, or whose files nobody could tell apart, is refused.
func TestDoneFile(t *testing.T) {
	for template, ok := range map[string]bool{
		"": true, "READY": true, "{name}.done": true, "{stem}.ok": true, ".{name}": true,
		"{name}": false, "{stem}": false, "{name}.{stem}": false, "{stem}{name}": false, "{other}": false, "a/{name}": false, "..": false,
	} {
		if err := CheckDoneFile(template); (err == nil) != ok || err != nil && fault.KindOf(err) != fault.Invalid {
			t.Errorf("%q: %v", template, err)
		}
	}
}
