package folder

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pannier/pannier/sideeffect"
)

// faults has steps fail until it is called with nothing.
func faults(t *testing.T) (set func(map[string]error)) {
	var mu sync.Mutex
	var now map[string]error
	faulty = func(step string) error {
		mu.Lock()
		defer mu.Unlock()
		return now[step]
	}
	t.Cleanup(func() { faulty = func(string) error { return nil } })
	return func(m map[string]error) {
		mu.Lock()
		defer mu.Unlock()
		now = m
	}
}

// names are all files below a directory of the root, with hidden ones.
func (b *bench) names(dir string) (all []string) {
	b.t.Helper()
	err := filepath.WalkDir(filepath.Join(b.root, dir), func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			all = append(all, strings.TrimPrefix(name, b.root+"/"))
		}
		return nil
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return all
}

// scans looks through it several times.
func (b *bench) scans(n int) {
	b.t.Helper()
	for range n {
		if err := b.watch.Scan(b.t.Context()); err != nil {
			b.t.Fatal(err)
		}
	}
}

// ends is how a folder may end a file: what it does, and where that leads.
var ends = map[string]struct {
	change func(*testing.T, *Folder)
	fails  string // why requests fail; "": they do not
	to     string // "": it is gone
}{
	"moved":   {change: func(t *testing.T, f *Folder) { f.After, f.To = Move, pathOf(t, "sent") }, to: "sent/sub/a"},
	"deleted": {change: func(_ *testing.T, f *Folder) { f.After = Delete }},
	"failed":  {change: func(t *testing.T, f *Folder) { f.Failed, f.FailedTo = Move, pathOf(t, "bad") }, fails: "no room there", to: "bad/sub/a"},
}

// TestNameGivenBack: a file that cannot be moved or removed, whatever step the system refuses, has its name, is
// counted, told of and not sent again, also after a restart, and goes when it can.
func TestNameGivenBack(t *testing.T) {
	for name, end := range ends {
		steps := []string{"aside", "reach", "place"}
		if end.to == "" {
			steps = []string{"aside", "remove"}
		}
		for _, step := range steps {
			errs := []error{unix.EPERM, unix.EXDEV, unix.ENOSPC, unix.EROFS}
			switch step {
			case "reach":
				errs = []error{unix.EXDEV, unix.EROFS}
			case "aside", "remove": // within one directory
				errs = []error{unix.EPERM, unix.ENOSPC, unix.EROFS}
			}
			for _, why := range errs {
				t.Run(fmt.Sprintf("%s/%s/%v", name, step, why), func(t *testing.T) {
					set := faults(t)
					set(map[string]error{step: why})
					b := begin(t, func(f *Folder) { end.change(t, f) })
					b.set(func() { b.fails = end.fails })
					b.write("in/sub/a", "one")
					b.until("that it stays is told", func() bool { return b.watch.Status(0).Staying == 1 })
					for _, after := range []func(){func() {}, func() { b.scans(2) }, func() { b.restart(); b.scans(1) }} {
						after()
						if got := b.names("in"); !slices.Equal(got, []string{"in/sub/a"}) {
							t.Fatalf("there is %q", got)
						}
						s := b.watch.Status(10)
						want := told(why)
						if s.Staying != 1 || !strings.Contains(s.Stays, want) || s.Open != 0 || s.Failed != map[bool]int{true: 1}[end.fails != ""] || len(s.Rows) != 1 || !strings.Contains(s.Rows[0].Why, "it stays: ") || !strings.Contains(s.Rows[0].Why, want) || !strings.Contains(s.Rows[0].Why, end.fails) {
							t.Fatalf("%+v", s)
						}
					}
					set(nil)
					b.until("it goes", func() bool { b.scans(1); return len(b.names("in")) == 0 })
					if end.to != "" && !exists(filepath.Join(b.root, end.to)) {
						t.Errorf("it is not %s: %q", end.to, b.names("."))
					}
					b.scans(1)
					if s := b.watch.Status(10); b.submits != 1 || s.Staying+s.Failed+s.Open > 0 {
						t.Errorf("%d were submitted; %+v", b.submits, s)
					}
				})
			}
		}
	}
}

// told is how an error is told.
func told(err error) string {
	if errors.Is(err, unix.EXDEV) {
		return "on another file system"
	}
	return err.Error()
}

// TestRetriedAfterGivenBack: the request of a failed file that got its name back can be retried: it is the version that
// it was.
func TestRetriedAfterGivenBack(t *testing.T) {
	faults(t)(map[string]error{"place": unix.ENOSPC})
	b := begin(t, func(f *Folder) { f.Failed, f.FailedTo = Move, pathOf(t, "bad") })
	b.set(func() { b.fails = "no room there" })
	b.write("in/a", "one")
	b.until("it stays", func() bool { return b.watch.Status(0).Staying == 1 })
	b.mu.Lock()
	b.fails = ""
	for _, r := range b.records { // an operator's retry
		b.carryOut(r)
	}
	b.mu.Unlock()
	b.until("the retry counts", func() bool { b.scans(1); return b.watch.Status(0).Kept == 1 })
	if s := b.watch.Status(0); s.Staying != 0 || !slices.Equal(b.got("in/a"), []string{"one"}) {
		t.Errorf("%+v, %q", s, b.got("in/a"))
	}
}

// TestNoNameBack: where a file lies whose name cannot be given back either is told, and it goes when it can. What comes
// under its name meanwhile is neither replaced nor taken for it.
func TestNoNameBack(t *testing.T) {
	for name, end := range ends {
		for _, taken := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/%v", name, taken), func(t *testing.T) {
				last := "place"
				if end.to == "" {
					last = "remove"
				}
				set := faults(t)
				set(map[string]error{last: unix.EIO, "back": unix.EIO})
				b := begin(t, func(f *Folder) { end.change(t, f); f.Partners = f.Partners[:1] })
				b.set(func() { b.fails = end.fails })
				b.write("in/sub/a", "one")
				b.until("where it lies is told", func() bool {
					s := b.watch.Status(10)
					left := b.names("in")
					return s.Staying == 1 && len(left) == 1 && strings.Contains(s.Rows[0].Why, "it lies as "+left[0])
				})
				if taken {
					b.mu.Lock()
					b.hold = true
					b.mu.Unlock()
					b.write("in/sub/a", "another")
				}
				set(nil)
				want := []string{end.to}
				if end.to == "" {
					want = nil
				}
				b.until("it goes", func() bool {
					b.scans(1)
					got := b.names("in")
					return taken && slices.Contains(got, "in/sub/a") && !strings.Contains(strings.Join(got, " "), asideMark) || !taken && len(got) == 0 && slices.Equal(slices.DeleteFunc(b.names("."), func(s string) bool { return !strings.Contains(s, "/") }), want)
				})
				if content, err := os.ReadFile(filepath.Join(b.root, "in/sub/a")); taken && (err != nil || string(content) != "another") {
					t.Errorf("under its name is %q, %v", content, err)
				}
				all := ""
				for _, name := range b.names(".") {
					content, _ := os.ReadFile(filepath.Join(b.root, name))
					all += string(content) + ";"
				}
				if end.to != "" && !strings.Contains(all, "one;") {
					t.Errorf("the file is lost: %q", b.names("."))
				}
			})
		}
	}
}

// TestStray: a process that ends between the two renames leaves a file under a name that nobody knows: the next one
// finds it, also when the note is lost, or the folder is told to do something else.
func TestStray(t *testing.T) {
	long := strings.Repeat("l", 240)
	for name, c := range map[string]struct {
		end  string
		file string // "": a
		then func(*bench)
		ends []string
		sent int // requests
	}{
		"delivered":              {end: "moved", ends: []string{"sent/sub/a"}, sent: 1},
		"deleted":                {end: "deleted", sent: 1},
		"failed":                 {end: "failed", ends: []string{"bad/sub/a"}, sent: 1},
		"failed, a long name":    {end: "failed", file: long, ends: []string{"bad/sub/" + long}, sent: 1},
		"failed, and then kept":  {end: "failed", then: func(b *bench) { b.cfg.Folder.Failed = Keep }, ends: []string{"in/sub/a"}, sent: 1},
		"moved, and then kept":   {end: "moved", then: func(b *bench) { b.cfg.Folder.After = Keep }, ends: []string{"in/sub/a"}, sent: 1},
		"no note":                {end: "failed", then: (*bench).forget, ends: []string{"bad/sub/a"}, sent: 2},
		"delivered, kept, taken": {end: "moved", then: func(b *bench) { b.cfg.Folder.After = Keep; b.write("in/sub/a", "another") }, ends: []string{"in/sub/a", "in/sub/a.1"}, sent: 2},
		"its name is taken":      {end: "failed", then: func(b *bench) { b.cfg.Folder.Failed = Keep; b.write("in/sub/a", "another") }, ends: []string{"in/sub/a", "in/sub/a.1"}, sent: 3},
	} {
		t.Run(name, func(t *testing.T) {
			ended := atPoint(t, "aside", 1, runtime.Goexit)
			end := ends[c.end]
			b := begin(t, func(f *Folder) { end.change(t, f) })
			b.set(func() { b.fails = end.fails })
			file := c.file
			if file == "" {
				file = "a"
			}
			b.write("in/sub/"+file, "one")
			b.until("it has ended there", ended.Load)
			b.dies()
			reached = func(string) {}
			if got := b.names("in"); len(got) != 1 || !strings.Contains(got[0], asideMark) {
				t.Fatalf("there is %q", got)
			}
			if c.then != nil {
				c.then(b)
			}
			b.start()
			b.scans(1)
			b.until("all have their names", func() bool {
				b.scans(1)
				return slices.Equal(b.names("."), c.ends) && b.quiet()
			})
			if b.submits != c.sent {
				t.Errorf("%d were submitted, want %d", b.submits, c.sent)
			}
		})
	}
}

// forget loses the notes, in which the folder starts anew.
func (b *bench) forget() {
	notes, err := OpenNotes(filepath.Join(b.dir, "lost.db"))
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { notes.Close() })
	b.cfg.Notes, b.fake.notes = notes, notes
}

// TestStrayTold: a stray is told of; one of another folder, or of what is no file, is left alone.
func TestStrayTold(t *testing.T) {
	dir := t.TempDir()
	mine, others, old := asideName("f", "in/a", sideeffect.Version{}), asideName("g", "in/a", sideeffect.Version{}), ".0123456789abcdef.pannier-w"
	if err := os.MkdirAll(filepath.Join(dir, "root/in"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{mine, others, old} {
		if err := os.WriteFile(filepath.Join(dir, "root/in", name), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b := beginIn(t, dir, func(f *Folder) { f.After, f.To, f.Stable = Move, pathOf(t, "sent"), time.Hour })
	b.until("it is looked through", func() bool { return b.watch.Status(0).Scans == 1 })
	var rows string
	for _, r := range b.watch.Status(10).Rows {
		rows += r.Path + " " + r.State + ": " + r.Why + "\n"
	}
	for _, want := range []string{"in/" + mine + " skipped: it was to be moved or removed, which came to no end; it is in/a again", "in/" + old + " skipped: a watch folder was to move or remove it", "in/a waiting: "} {
		if !strings.Contains(rows, want) {
			t.Errorf("not told: %s\n%s", want, rows)
		}
	}
	if got := b.names("in"); !slices.Equal(got, slices.Sorted(slices.Values([]string{"in/a", "in/" + others, "in/" + old}))) || strings.Contains(rows, others) {
		t.Errorf("there is %q\n%s", got, rows)
	}
	b.scans(1)
	if s := b.watch.Status(10); s.Skipped != 1 {
		t.Errorf("it is told of for ever: %+v", s.Rows)
	}
}

// TestLinked: where a rename can replace only, names are given by links.
func TestLinked(t *testing.T) {
	for _, point := range []string{"", "linked"} {
		t.Run(point, func(t *testing.T) {
			no := errors.ErrUnsupported
			faults(t)(map[string]error{"aside": no, "place": no, "back": no})
			ended := atPoint(t, point, 1, runtime.Goexit)
			b := begin(t, func(f *Folder) { f.After, f.To = Move, pathOf(t, "sent") })
			b.write("sent/sub/a", "before")
			b.write("in/sub/a", "one")
			if point != "" {
				b.until("it has ended there", ended.Load)
				b.dies()
				b.start()
			}
			b.until("it is moved", func() bool { b.scans(1); return len(b.names("in")) == 0 && b.quiet() })
			if got := b.names("sent"); !slices.Equal(got, []string{"sent/sub/a", "sent/sub/a.1"}) || b.submits != 1 {
				t.Errorf("there is %q, %d were submitted", got, b.submits)
			}
		})
	}
}

const nobody = 65534

// TestOthersFiles: files of another user, to which the kernel allows no second name, in a directory of the node's
// user: they are moved and deleted.
func TestOthersFiles(t *testing.T) {
	const variable = "PANNIER_TEST_OTHERS_FILES"
	if dir := os.Getenv(variable); dir != "" {
		othersFiles(t, dir)
		return
	}
	if os.Getuid() != 0 {
		t.Skip("not root: nothing can be of another user")
	}
	for name := range ends {
		t.Run(name, func(t *testing.T) {
			dir, err := os.MkdirTemp("", "others")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.RemoveAll(dir) })
			for _, err := range []error{
				os.Chmod(dir, 0o755), os.MkdirAll(filepath.Join(dir, "root/in/sub"), 0o755), os.Chown(dir, nobody, nobody), os.Chown(filepath.Join(dir, "root"), nobody, nobody),
				os.Chown(filepath.Join(dir, "root/in"), nobody, nobody), os.Chown(filepath.Join(dir, "root/in/sub"), nobody, nobody), os.WriteFile(filepath.Join(dir, "root/in/sub/a"), []byte("one"), 0o644),
			} {
				if err != nil {
					t.Fatal(err)
				}
			}
			cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^TestOthersFiles$", "-test.v")
			cmd.Env = append(os.Environ(), variable+"="+dir, variable+"_END="+name)
			cmd.Dir = "/"
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
			if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: TestOthersFiles") {
				t.Fatalf("%v\n%s", err, out)
			}
		})
	}
}

// othersFiles is the folder of the user nobody, in a process of its own.
func othersFiles(t *testing.T, dir string) {
	end := ends[os.Getenv("PANNIER_TEST_OTHERS_FILES_END")]
	if err := os.Link(filepath.Join(dir, "root/in/sub/a"), filepath.Join(dir, "root/linked")); err == nil {
		t.Log("the kernel allows links to the files of others: fs.protected_hardlinks is 0")
		os.Remove(filepath.Join(dir, "root/linked"))
	}
	b := beginIn(t, dir, func(f *Folder) { end.change(t, f) })
	b.set(func() { b.fails = end.fails }) // before it can have become ready
	b.until("it is taken away", func() bool { b.scans(1); return len(b.names("in")) == 0 && b.quiet() })
	if got := b.names("."); !slices.Equal(got, slices.DeleteFunc([]string{end.to}, func(s string) bool { return s == "" })) || b.submits != 1 {
		t.Errorf("there is %q, %d were submitted", got, b.submits)
	}
}

// TestOverlay: a file of an overlay has another device than its directory, and is moved.
func TestOverlay(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("not root: nothing can be mounted")
	}
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	mount := func(what, on, options string) {
		t.Helper()
		if err := unix.Mount(what, at(on), what, 0, options); err != nil {
			t.Skipf("no %s can be mounted: %v", what, err)
		}
		t.Cleanup(func() {
			if err := unix.Unmount(at(on), unix.MNT_DETACH); err != nil {
				t.Error(err)
			}
		})
	}
	for _, name := range []string{"lower", "upper", "work", "root"} {
		if err := os.MkdirAll(at(name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	mount("tmpfs", "lower", "") // with one file system below, all devices are the same
	if err := os.Mkdir(at("lower/in"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(at("lower/in/below"), []byte("below"), 0o644); err != nil {
		t.Fatal(err)
	}
	mount("overlay", "root", fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s,xino=off", at("lower"), at("upper"), at("work")))
	if file, dir := deviceOf(t, at("root/in/below")), deviceOf(t, at("root/in")); file == dir {
		t.Fatalf("both are on device %d: this kernel's overlays are others", file)
	}
	b := beginIn(t, dir, func(f *Folder) { f.After, f.To = Move, pathOf(t, "sent") })
	b.write("in/above", "above")
	b.until("both are moved", func() bool {
		b.scans(1)
		return slices.Equal(b.names("."), []string{"sent/above", "sent/below"})
	})
	if b.settled(); b.submits != 2 {
		t.Errorf("%d were submitted: %v", b.submits, b.delivered)
	}
}

// deviceOf is what stat says of a name.
func deviceOf(t *testing.T, name string) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(name, &st); err != nil {
		t.Fatal(err)
	}
	return uint64(st.Dev)
}
