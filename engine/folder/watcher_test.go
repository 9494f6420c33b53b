package folder

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"go.etcd.io/bbolt"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/spec/fault"
)

func TestKeep(t *testing.T) {
	b := begin(t, nil)
	b.write("in/a", "one")
	b.write("in/sub/dir/b", "two")
	b.until("both are sent", func() bool { return len(b.got("in/a")) == 1 && len(b.got("in/sub/dir/b")) == 1 })
	b.settled()
	b.restart()
	if s := b.settled(); s.Kept != 2 || b.submits != 2 {
		t.Fatalf("%+v", s)
	}
	b.write("in/a", "three")
	b.until("the newer version is sent", func() bool { return slices.Equal(b.got("in/a"), []string{"one", "three"}) })
	if err := os.Rename(filepath.Join(b.root, "in/sub/dir/b"), filepath.Join(b.root, "in/c")); err != nil {
		t.Fatal(err)
	}
	b.until("a name is sent that another file has come under", func() bool { return len(b.got("in/c")) == 1 })
	b.settled()
}

func TestDelete(t *testing.T) {
	b := begin(t, func(f *Folder) { f.After, f.DoneFile = Delete, "{name}.done" })
	b.write("in/a", "one")
	b.until("it waits for its done file", func() bool {
		s := b.watch.Status(1)
		return len(s.Rows) == 1 && s.Rows[0].Why == "its done file a.done is not there"
	})
	b.write("in/a.done", "") // after the file
	b.write("in/b.done", "") // before it
	b.until("the first is sent", func() bool { return len(b.got("in/a")) == 1 })
	b.write("in/b", "two")
	b.until("the second is sent", func() bool { return len(b.got("in/b")) == 1 })
	b.settled()
	b.until("all is gone", func() bool {
		left, _ := os.ReadDir(filepath.Join(b.root, "in"))
		return len(left) == 0
	})
	for range 3 { // the same name again, the same content
		n := len(b.got("in/a"))
		b.write("in/a.done", "")
		b.write("in/a", "one")
		b.until("it is sent again", func() bool { return len(b.got("in/a")) == n+1 })
		b.until("and gone", func() bool { return !exists(filepath.Join(b.root, "in/a")) })
	}
}

func TestMove(t *testing.T) {
	b := begin(t, func(f *Folder) { f.After, f.To = Move, pathOf(t, "in/sent") })
	for i, content := range []string{"one", "two", "three"} {
		b.write("in/sub/a", content)
		b.until("it is moved", func() bool { return len(b.got("in/sub/a")) == i+1 && !exists(filepath.Join(b.root, "in/sub/a")) })
	}
	b.settled()
	for name, want := range map[string]string{"a": "one", "a.1": "two", "a.2": "three"} {
		if got, err := os.ReadFile(filepath.Join(b.root, "in/sent/sub", name)); err != nil || string(got) != want {
			t.Errorf("%s has %q, %v", name, got, err)
		}
	}
	if b.submits != 3 {
		t.Errorf("%d were submitted: what was moved, too?", b.submits)
	}
}

// TestOverwritten: a version that waits is given up for a newer one, and neither is ever
// mixed up with the other.
func TestOverwritten(t *testing.T) {
	b := begin(t, func(f *Folder) { f.After, f.To = Move, pathOf(t, "sent") })
	b.set(func() { b.hold = true })
	b.write("in/a", "one")
	b.until("it is submitted", func() bool { return b.watch.Status(0).Open == 1 })
	b.write("in/a", "two")
	b.until("the first is given up", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.submits == 2
	})
	b.release()
	b.settled()
	if got := b.got("in/a"); !slices.Equal(got, []string{"two"}) {
		t.Fatalf("delivered %q", got)
	}
}

// TestExpected: a request that is carried out when the file was changed already sends
// nothing of it, and nothing newer is removed.
func TestExpected(t *testing.T) {
	b := begin(t, func(f *Folder) { f.After, f.Stable = Delete, 300*time.Millisecond })
	b.set(func() { b.hold = true })
	b.write("in/a", "one")
	b.until("it is submitted", func() bool { return b.watch.Status(0).Open == 1 })
	b.write("in/a", "half of tw")
	b.carryOutAll() // and hold what comes: half of it may be seen for long enough
	b.until("it has failed", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, r := range b.records {
			if r.State == lifecycle.InError {
				return true
			}
		}
		return false
	})
	if got := b.got("in/a"); len(got) > 0 {
		t.Fatalf("delivered %q", got)
	}
	b.write("in/a", "two")
	b.release()
	b.until("the newer is delivered", func() bool { return slices.Equal(b.got("in/a"), []string{"two"}) })
}

func TestFailed(t *testing.T) {
	b := begin(t, func(f *Folder) { f.After = Delete })
	b.set(func() { b.fails = "no such rule there" })
	b.write("in/a", "one")
	b.until("it has failed", func() bool { return b.watch.Status(0).Failed == 1 })
	b.restart()
	s := b.settled()
	if s.Failed != 1 || b.submits != 1 || !strings.Contains(s.Rows[0].Why, "no such rule there") || !exists(filepath.Join(b.root, "in/a")) {
		t.Fatalf("%+v", s)
	}
	b.mu.Lock()
	b.fails = ""
	for _, r := range b.records { // an operator's retry
		b.carryOut(r)
	}
	b.mu.Unlock()
	b.until("the retry counts", func() bool {
		b.watch.Scan(t.Context())
		return !exists(filepath.Join(b.root, "in/a"))
	})
}

func TestFailedMoves(t *testing.T) {
	b := begin(t, func(f *Folder) { f.Failed, f.FailedTo = Move, pathOf(t, "bad") })
	b.set(func() { b.fails = "no" })
	b.write("in/x/a", "one")
	b.until("it is moved away", func() bool { return exists(filepath.Join(b.root, "bad/x/a")) })
	b.settled()
}

// TestSkipped: what is no file of a request is said, and harms nobody.
func TestSkipped(t *testing.T) {
	b := begin(t, func(f *Folder) { f.Include, f.Exclude = []string{"*.x", "deep/**"}, []string{"no*", "deep/no/**"} })
	in := filepath.Join(b.root, "in")
	for _, name := range []string{"in/good.x", "in/deep/y", "in/no.x", "in/deep/no/y", "in/other", "in/.q.pannier-rff.x", "in/bad\nname.x", "in/bad\xff.x", "in/bad\\.x"} {
		b.write(name, name)
	}
	if err := syscall.Mkfifo(filepath.Join(in, "fifo.x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("good.x", filepath.Join(in, "link.x")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/", filepath.Join(in, "deep", "out")); err != nil {
		t.Fatal(err)
	}
	s := b.settled()
	var skipped []string
	for _, r := range s.Rows {
		if r.State == "skipped" {
			skipped = append(skipped, r.Path)
		}
	}
	slices.Sort(skipped)
	if want := []string{"in/bad\nname.x", "in/bad\\.x", "in/bad\xff.x", "in/deep/out", "in/fifo.x", "in/link.x"}; !slices.Equal(skipped, want) {
		t.Errorf("skipped %q, want %q", skipped, want)
	}
	if b.submits != 2 || s.Kept != 2 {
		t.Errorf("%d submitted, %+v", b.submits, s)
	}
	_, counts, err := b.watch.Test(t.Context(), MostRows)
	if want := map[string]int{"kept": 2, "skipped": 6, "excluded": 3}; err != nil || fmt.Sprint(counts) != fmt.Sprint(want) {
		t.Errorf("%v, %v, want %v", counts, err, want)
	}
}

// TestUnlisted: a directory that cannot be listed is an error, and nothing is concluded from
// it; nor from one that is not mounted for a while.
func TestUnlisted(t *testing.T) {
	b := begin(t, nil)
	b.write("in/a", "one")
	b.until("it is sent", func() bool { return b.watch.Status(0).Kept == 1 })
	in, away := filepath.Join(b.root, "in"), filepath.Join(b.root, "away")
	if err := os.Rename(in, away); err != nil {
		t.Fatal(err)
	}
	b.watch.Scan(t.Context())
	if s := b.watch.Status(0); s.Trouble != `list directory "in": not found: no such file or directory` || s.Kept != 1 {
		t.Fatalf("%+v", s)
	}
	if err := os.Mkdir(in, 0o755); err != nil { // as a mount point without its mount
		t.Fatal(err)
	}
	b.watch.Scan(t.Context())
	b.restart()
	b.watch.Scan(t.Context())
	if err := os.Remove(in); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(away, in); err != nil {
		t.Fatal(err)
	}
	s := b.settled()
	if s.Trouble != "" || s.Kept != 1 || b.submits != 1 {
		t.Fatalf("%d submitted, %+v", b.submits, s)
	}
}

// TestVanished: of a folder that is gone nothing is said to be skipped any more; that it is gone is
// said.
func TestVanished(t *testing.T) {
	b := begin(t, nil)
	in := filepath.Join(b.root, "in")
	if err := os.Symlink("nowhere", filepath.Join(in, "link")); err != nil {
		t.Fatal(err)
	}
	if err := b.watch.Scan(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := b.watch.Status(10); s.Skipped != 1 || s.Trouble != "" {
		t.Fatalf("%+v", s)
	}
	if err := os.RemoveAll(in); err != nil {
		t.Fatal(err)
	}
	if err := b.watch.Scan(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := b.watch.Status(10); s.Skipped != 0 || len(s.Rows) != 0 || !strings.Contains(s.Trouble, "in") {
		t.Fatalf("%+v", s)
	}
}

// TestTemporaryName: a name that a file had before it was renamed is shown no more, without a scan.
func TestTemporaryName(t *testing.T) {
	b := begin(t, func(f *Folder) { f.Stable = 300 * time.Millisecond })
	b.write("in/a.new", "one")
	b.until("it is seen", func() bool { return b.watch.Status(0).Waiting == 1 })
	if err := os.Rename(filepath.Join(b.root, "in/a.new"), filepath.Join(b.root, "in/a")); err != nil {
		t.Fatal(err)
	}
	b.until("it is sent, and nothing else waits", func() bool { return len(b.got("in/a")) == 1 && b.watch.Status(0).Waiting == 0 })
	if s := b.watch.Status(MostRows); len(s.Rows) != 1 || s.Scans != 1 {
		t.Errorf("%+v", s)
	}
}

// TestOpenLimit: no more requests are open than may be, and all come through.
func TestOpenLimit(t *testing.T) {
	b := begin(t, func(f *Folder) { f.Open, f.Partners = 6, []string{"there", "far"} })
	b.set(func() { b.hold = true })
	for i := range 50 {
		b.write(fmt.Sprint("in/", i), "x")
	}
	b.until("some wait", func() bool { s := b.watch.Status(0); return s.Open == 3 && s.Held == 47 })
	b.release()
	if s := b.settled(); s.Kept != 50 || b.submits != 100 {
		t.Fatalf("%+v", s)
	}
}

// TestWriter: a file that a process has open for writing is not ready, however long it stays
// the same, and is at once when it is closed.
func TestWriter(t *testing.T) {
	b := begin(t, func(f *Folder) { f.Closed, f.Stable, f.MinAge = true, time.Hour, 0 })
	f, err := os.Create(filepath.Join(b.root, "in/a"))
	if err != nil {
		t.Fatal(err)
	}
	if is, known := writing(f); !is && !known {
		t.Log("this kernel does not tell of writers")
	}
	f.WriteString("half")
	b.until("it is found open", func() bool {
		s := b.watch.Status(10)
		return len(s.Rows) == 1 && s.Rows[0].Why == busy
	})
	f.WriteString("whole")
	f.Close()
	b.until("it is sent", func() bool { return slices.Equal(b.got("in/a"), []string{"halfwhole"}) })
}

// TestRefused: what cannot be registered is said, and tried again.
func TestRefused(t *testing.T) {
	b := begin(t, nil)
	b.set(func() { b.refuse = fault.New("submit", fault.Permission, "rule does not list partner") })
	b.write("in/a", "one")
	b.until("it is refused", func() bool {
		s := b.watch.Status(10)
		return len(s.Rows) == 1 && strings.Contains(s.Rows[0].Why, "does not list")
	})
	b.restart()
	b.set(func() { b.refuse = nil })
	b.settled()
	if len(b.got("in/a")) != 1 {
		t.Fatal("it was not sent")
	}
}

// TestLost: when hints are lost, or there are none, the files are found all the same.
func TestLost(t *testing.T) {
	const number = hintBacklog + 500
	b := begin(t, func(f *Folder) { f.Open = 2000 })
	b.write("in/first", "x")
	b.until("the first is sent", func() bool { return len(b.got("in/first")) == 1 })
	b.watch.mu.Lock() // the loop stands still
	for i := range number {
		b.write(fmt.Sprint("in/", i), "x")
	}
	b.watch.mu.Unlock()
	b.until("all are found", func() bool { return b.watch.Status(0).Kept == number+1 })

	b.watch.hints.watch.Close()
	b.write("in/late", "x")
	if b.settled(); len(b.got("in/late")) != 1 {
		t.Fatal("a scan does not find what nobody has told of")
	}
}

// TestPartly: nothing is removed that one of the partners has not got.
func TestPartly(t *testing.T) {
	b := begin(t, func(f *Folder) { f.After, f.Partners = Delete, []string{"there", "far"} })
	b.set(func() { b.failsFor = "far" })
	b.write("in/a", "one")
	b.until("one has it", func() bool { return b.watch.Status(0).Failed == 1 })
	b.watch.Scan(t.Context())
	if len(b.got("in/a")) != 1 || !exists(filepath.Join(b.root, "in/a")) {
		t.Fatalf("%+v", b.watch.Status(10))
	}
	if !slices.Equal(b.together, []int{2, 2}) {
		t.Errorf("submitted together: %v", b.together)
	}
}

// TestPurged: a request that was forgotten before the folder has seen its end is not made again.
func TestPurged(t *testing.T) {
	b := begin(t, nil)
	b.set(func() { b.hold = true })
	b.write("in/a", "one")
	b.until("it is submitted", func() bool { return b.watch.Status(0).Open == 1 })
	b.watch.Stop()
	b.set(func() { clear(b.records) })
	b.start()
	if s := b.settled(); b.submits != 1 || s.Failed != 1 || !strings.Contains(s.Rows[0].Why, "purged") {
		t.Fatalf("%d submitted, %+v", b.submits, s)
	}
}

// TestNotesLost: without its notes a folder makes the same requests, which are known.
func TestNotesLost(t *testing.T) {
	b := begin(t, nil)
	b.write("in/a", "one")
	b.until("it is sent", func() bool { return b.watch.Status(0).Kept == 1 })
	b.watch.Stop()
	err := b.notes.db.Update(func(tx *bbolt.Tx) error { return tx.DeleteBucket(noteBucket) })
	if err == nil {
		err = b.notes.db.Update(func(tx *bbolt.Tx) error { _, err := tx.CreateBucket(noteBucket); return err })
	}
	if err != nil {
		t.Fatal(err)
	}
	b.start()
	if s := b.settled(); b.submits != 1 || s.Kept != 1 {
		t.Fatalf("%d submitted, %+v", b.submits, s)
	}
}

// TestFileSize: a hundred thousand files are known in little memory.
func TestFileSize(t *testing.T) {
	if size := unsafe.Sizeof(file{}); size > 112 { // the next that is allocated is 128
		t.Errorf("a file takes %d bytes", size)
	}
}
