package guest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

// remains has the node keep what breaks off.
func (n *Node) keepIn(t *testing.T, path string) {
	t.Helper()
	var err error
	if n.Remains, err = OpenRemains(path, nil, slog.New(slog.NewTextHandler(t.Output(), nil))); err != nil {
		t.Fatal(err)
	}
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

// begun is an upload with its first bytes.
func begun(t *testing.T, s plugins.Session, name string, w plugins.WriteRequest, b []byte) plugins.Staged {
	t.Helper()
	st, err := s.(plugins.Writer).Write(t.Context(), name, w)
	if err != nil {
		t.Fatal(err)
	}
	for len(b) > 0 { // in pieces that fit no block
		n := min(len(b), 100_003)
		if _, err := st.Write(b[:n]); err != nil {
			t.Fatal(err)
		}
		b = b[n:]
	}
	return st
}

var (
	anew   = plugins.WriteRequest{Size: -1}
	goesOn = plugins.WriteRequest{Size: -1, Resume: plugins.ResumeKept}
)

// TestUploadGoesOn: what has broken off is kept for its user, also beyond the node's life, and
// nothing has its name until it is whole.
func TestUploadGoesOn(t *testing.T) {
	d, n := newDesk(t)
	d.book.Rules["send"].Quota = sideeffect.NoQuota
	notes := filepath.Join(t.TempDir(), "uploads.json")
	n.keepIn(t, notes)
	s := d.guest(n, User{Send: "send"})
	want := random(3<<20 + 11)
	const first = 1<<20 + 77
	if c := s.Capabilities(); !c.Kept || !c.Resume {
		t.Errorf("it can %+v", c)
	}
	resume, err := begun(t, s, "/in/x", anew, want[:first]).Abort(t.Context(), true)
	if err != nil || !bytes.Equal(resume, plugins.ResumeKept) {
		t.Fatalf("%q, %v", resume, err)
	}
	if _, err := s.Stat(t.Context(), "/in/x"); fault.KindOf(err) != fault.NotFound || len(d.orders) > 0 {
		t.Errorf("it has its name: %v, %v", err, d.orders)
	}
	for a, err := range s.(plugins.Lister).List(t.Context(), "/in") {
		t.Errorf("it is listed: %v, %v", a, err)
	}
	other := User{Name: "other", Partner: "b", Send: "send"}
	n.SetUsers([]User{other})
	if _, err := n.session(other, "").(plugins.Writer).Write(t.Context(), "/in/x", goesOn); fault.KindOf(err) != fault.NotFound {
		t.Error("somebody else goes on with it:", err)
	}

	n2 := &Node{Listener: "x", Engine: d, Far: d, Log: n.Log} // after another start
	n2.keepIn(t, notes)
	s = d.guest(n2, User{Send: "send"})
	for range 2 { // looking where it ends changes nothing
		st := begun(t, s, "/in/x", goesOn, nil)
		if st.Offset() != first/keptBlock*keptBlock {
			t.Fatalf("it goes on at %d", st.Offset())
		}
		if _, err := st.Abort(t.Context(), true); err != nil {
			t.Fatal(err)
		}
	}
	st := begun(t, s, "/in/x", goesOn, nil)
	if _, err := st.Write(want[st.Offset():]); err != nil {
		t.Fatal(err)
	}
	if a, err := st.Commit(t.Context()); err != nil || a.Size != int64(len(want)) {
		t.Fatalf("%+v, %v", a, err)
	}
	if got, err := os.ReadFile(filepath.Join(d.send, "in/x")); !bytes.Equal(got, want) {
		t.Errorf("the file has %d bytes, and is another: %v", len(got), err)
	}
	if all, err := os.ReadDir(filepath.Join(d.send, "in")); len(all) != 1 {
		t.Errorf("there is %v, %v", all, err)
	}
	if text, err := os.ReadFile(notes); err != nil || strings.Contains(string(text), "in/x") {
		t.Errorf("it is noted still: %s, %v", text, err)
	}
	if len(d.orders) != 1 {
		t.Errorf("requests: %v", d.orders)
	}
}

// TestUploadGoesOnAfterACrash: with nothing but what has come to the disk.
func TestUploadGoesOnAfterACrash(t *testing.T) {
	d, n := newDesk(t)
	d.book.Rules["send"].Quota = sideeffect.NoQuota
	notes := filepath.Join(t.TempDir(), "uploads.json")
	n.keepIn(t, notes)
	n.Remains.every = 1 << 20
	want := random(5 << 20)
	st := begun(t, d.guest(n, User{Send: "send"}), "/x", anew, want)
	seen := t.TempDir() // as a crash would leave it
	if err := os.CopyFS(seen, os.DirFS(d.send)); err != nil {
		t.Fatal(err)
	}
	after := &Node{Listener: "x", Engine: d, Far: d, Log: n.Log}
	text, err := os.ReadFile(notes)
	if err != nil || !strings.Contains(string(text), `"x"`) {
		t.Fatalf("nothing is noted: %s, %v", text, err)
	}
	after.keepIn(t, notes)
	if _, err := st.Abort(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	d.book.Rules["send"].Root = seen
	again := begun(t, d.guest(after, User{Send: "send"}), "/x", goesOn, nil)
	if at := again.Offset(); at < 1<<20 || at >= 5<<20 {
		t.Fatalf("it goes on at %d", at)
	}
	if _, err := again.Write(want[again.Offset():]); err != nil {
		t.Fatal(err)
	}
	if _, err := again.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(seen, "x")); !bytes.Equal(got, want) {
		t.Errorf("the file has %d bytes, and is another: %v", len(got), err)
	}
}

// TestNotKept: what nobody could go on with leaves nothing.
func TestNotKept(t *testing.T) {
	d, n := newDesk(t)
	n.keepIn(t, filepath.Join(t.TempDir(), "uploads.json"))
	s := d.guest(n, User{Send: "send"})
	if err := os.WriteFile(filepath.Join(d.send, "there"), []byte("older"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		size int
		keep bool
	}{{"/small", keptBlock - 1, true}, {"/unwanted", 2 * keptBlock, false}, {"/there", 2 * keptBlock, true}, {"/empty", 0, true}} {
		resume, err := begun(t, s, c.name, anew, random(c.size)).Abort(t.Context(), c.keep)
		if err != nil || resume != nil {
			t.Errorf("%s: %q, %v", c.name, resume, err)
		}
		if _, err := s.(plugins.Writer).Write(t.Context(), c.name, goesOn); fault.KindOf(err) != fault.NotFound {
			t.Errorf("%s is gone on with: %v", c.name, err)
		}
	}
	if all, _ := os.ReadDir(d.send); len(all) != 1 {
		t.Errorf("there is %v", all)
	}
	if _, err := s.(plugins.Writer).Write(t.Context(), "/x", plugins.WriteRequest{Resume: []byte("else")}); fault.KindOf(err) != fault.Invalid {
		t.Error("with somebody else's token:", err)
	}
}

// TestMarked: uploads with marks do not go on with each other, nor does one without, and they replace
// what has the name.
func TestMarked(t *testing.T) {
	d, n := newDesk(t)
	n.keepIn(t, filepath.Join(t.TempDir(), "uploads.json"))
	s := d.guest(n, User{Send: "send"})
	if _, err := uploaded(s, "/x", []byte("older")); err != nil {
		t.Fatal(err)
	}
	want := random(3 * keptBlock)
	one, other := plugins.WriteRequest{Size: -1, Resume: plugins.ResumeMarked("one")}, plugins.WriteRequest{Size: -1, Resume: plugins.ResumeMarked("other")}
	if _, err := begun(t, s, "/x", one, want[:2*keptBlock]).Abort(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	st := begun(t, s, "/x", other, nil)
	if st.Offset() != 0 {
		t.Errorf("another goes on at %d", st.Offset())
	}
	if _, err := st.Abort(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if st = begun(t, s, "/x", one, nil); st.Offset() != 2*keptBlock {
		t.Fatalf("it goes on at %d", st.Offset())
	}
	impatient, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := s.(plugins.Writer).Write(impatient, "/x", one); fault.KindOf(err) != fault.Deadline { // with more patience it is fault.Overloaded
		t.Error("twice at once:", err)
	}
	if _, err := st.Write(want[st.Offset():]); err != nil {
		t.Fatal(err)
	}
	if _, err := st.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(d.send, "x")); !bytes.Equal(got, want) {
		t.Errorf("the file has %d bytes, and is another: %v", len(got), err)
	}

	if _, err := begun(t, s, "/x", one, want).Abort(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	parts, err := filepath.Glob(filepath.Join(d.send, ".x.pannier-r"+strings.Repeat("?", 32)))
	if err != nil || len(parts) != 1 {
		t.Fatalf("%v, %v", parts, err)
	}
	f, err := os.OpenFile(parts[0], os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteAt([]byte{want[0] + 1}, 0)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	if st = begun(t, s, "/x", one, nil); st.Offset() != 0 {
		t.Errorf("what somebody has changed is gone on with at %d", st.Offset())
	}
	if _, err := st.Abort(t.Context(), false); err != nil {
		t.Error(err)
	}
}

// TestTwoUploads: who begins anew while an earlier upload to that name still runs, as after a
// connection of whose end nobody knows, is not turned away, and who goes on waits no longer than
// it has to.
func TestTwoUploads(t *testing.T) {
	d, n := newDesk(t)
	n.keepIn(t, filepath.Join(t.TempDir(), "uploads.json"))
	s := d.guest(n, User{Send: "send"})
	first := begun(t, s, "/x", anew, random(2*keptBlock))
	if _, err := s.(plugins.Writer).Write(t.Context(), "/x", goesOn); fault.KindOf(err) != fault.NotFound {
		t.Error("both write to it:", err)
	}
	if _, err := uploaded(s, "/x", []byte("second")); err != nil {
		t.Fatal(err)
	}
	if _, err := first.Abort(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(d.send, "x")); string(got) != "second" {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if all, _ := os.ReadDir(d.send); len(all) != 1 {
		t.Errorf("there is %v", all)
	}
}

// TestSweep: what nobody goes on with is removed after its time, but for what is in use.
func TestSweep(t *testing.T) {
	d, n := newDesk(t)
	n.keepIn(t, filepath.Join(t.TempDir(), "uploads.json"))
	s := d.guest(n, User{Send: "send"})
	for _, name := range []string{"/x", "/used"} {
		if _, err := begun(t, s, name, anew, random(2*keptBlock)).Abort(t.Context(), true); err != nil {
			t.Fatal(err)
		}
	}
	used := begun(t, s, "/used", goesOn, nil)
	files := func() int {
		all, _ := os.ReadDir(d.send)
		return len(all)
	}
	n.Remains.Sweep(time.Now())
	if files() != 4 { // each with its state
		t.Errorf("%d files", files())
	}
	n.Remains.Sweep(time.Now().Add(keptFor + time.Hour))
	if files() != 2 || len(n.Remains.all) != 1 || n.Remains.all[0].Name != "used" {
		t.Errorf("%d files, %v", files(), n.Remains.all)
	}
	if _, err := used.Commit(t.Context()); err != nil {
		t.Error(err)
	}
	if files() != 1 || len(n.Remains.all) != 0 {
		t.Errorf("%d files, %v", files(), n.Remains.all)
	}
}

// TestNoRoomToKeep: an upload that cannot be noted goes on, and is not kept if it breaks off. The log
// says so once. One user leaves room for the others, and what is noted already can be gone on with.
func TestNoRoomToKeep(t *testing.T) {
	d, n := newDesk(t)
	d.book.Rules["send"].Quota = sideeffect.NoQuota
	n.keepIn(t, filepath.Join(t.TempDir(), "uploads.json"))
	n.Remains.every = keptBlock
	var log bytes.Buffer
	n.Remains.log = slog.New(slog.NewTextHandler(&log, nil))
	greedy, modest := User{Name: "greedy", Partner: "b", Send: "send"}, User{Name: "modest", Partner: "b", Send: "send"}
	n.SetUsers([]User{greedy, modest})
	s, other := n.session(greedy, ""), n.session(modest, "")
	if _, err := begun(t, s, "/mine", anew, random(2*keptBlock)).Abort(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	noted := n.Remains.all[0]
	for i := range 1000 { // with marks, which are no other users
		n.Remains.all = append(n.Remains.all, remain{Root: d.send, Name: fmt.Sprint("old", i), Key: noted.Key + "\x00mark", When: time.Now()})
	}
	want := random(4*keptBlock + 5)
	for i := range 3 {
		if _, err := begun(t, s, fmt.Sprint("/whole", i), anew, want).Commit(t.Context()); err != nil {
			t.Error("an upload that cannot be noted:", err)
		}
	}
	if resume, err := begun(t, s, "/broken", anew, want).Abort(t.Context(), true); err != nil || resume != nil {
		t.Errorf("%q, %v", resume, err)
	}
	if parts, _ := filepath.Glob(filepath.Join(d.send, ".broken*")); len(parts) > 0 {
		t.Errorf("what nobody has noted stays: %v", parts)
	}
	if k := strings.Count(log.String(), "begin anew if it broke off"); k != 1 {
		t.Errorf("the log has %d lines: %s", k, &log)
	}
	for _, c := range []struct {
		s    plugins.Session
		name string
		w    plugins.WriteRequest
	}{{other, "/its", anew}, {s, "/mine", goesOn}} {
		st := begun(t, c.s, c.name, c.w, nil)
		if _, err := st.Write(want[st.Offset():]); err != nil {
			t.Fatal(c.name, err)
		}
		if resume, err := st.Abort(t.Context(), true); err != nil || resume == nil {
			t.Errorf("%s is not kept: %v", c.name, err)
		}
	}
}

// TestFewAreAlwaysKept: when all places are taken each user has a few, and no more.
func TestFewAreAlwaysKept(t *testing.T) {
	r, err := OpenRemains(filepath.Join(t.TempDir(), "uploads.json"), nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for i := range mostKept {
		r.all = append(r.all, remain{Name: "x", Key: remainKey("l", fmt.Sprint("user", i), "")})
	}
	for i := range fewKept + 1 {
		_, err := r.add(remain{Name: fmt.Sprint(i), Key: remainKey("l", "late", "")})
		if full := i == fewKept; full != (fault.KindOf(err) == fault.Overloaded) || !full && err != nil {
			t.Errorf("the %dth: %v", i+1, err)
		}
	}
	r.all = nil
	for i := range mostOfUser + 1 {
		_, err := r.add(remain{Name: fmt.Sprint(i), Key: remainKey("l", "u", fmt.Sprint(i))})
		if full := i == mostOfUser; full != (fault.KindOf(err) == fault.Overloaded) || !full && err != nil {
			t.Errorf("the %dth: %v", i+1, err)
		}
	}
	if _, err := r.add(remain{Name: "0", Key: remainKey("l", "u", "0")}); err != nil {
		t.Error("what is noted cannot be noted again:", err)
	}
}

// TestBegunAnew: what was noted of an upload goes with the one that takes its place, however that ends.
func TestBegunAnew(t *testing.T) {
	for name, end := range map[string]func(st plugins.Staged) error{
		"commit":  func(st plugins.Staged) error { _, err := st.Commit(t.Context()); return err },
		"abort":   func(st plugins.Staged) error { _, err := st.Abort(t.Context(), false); return err },
		"nothing": func(st plugins.Staged) error { _, err := st.Abort(t.Context(), true); return err },
	} {
		d, n := newDesk(t)
		notes := filepath.Join(t.TempDir(), "uploads.json")
		n.keepIn(t, notes)
		s := d.guest(n, User{Send: "send"})
		if _, err := begun(t, s, "/x", anew, random(2*keptBlock)).Abort(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		if len(n.Remains.all) != 1 {
			t.Fatalf("%v", n.Remains.all)
		}
		if err := end(begun(t, s, "/x", anew, []byte("small"))); err != nil {
			t.Fatal(err)
		}
		if text, err := os.ReadFile(notes); err != nil || strings.Contains(string(text), `"x"`) {
			t.Errorf("%s: it is noted still: %s, %v", name, text, err)
		}
	}
}

// TestSweepOfTakenOver: what an upload has taken over since the sweep began is that upload's, while it
// runs and when it has broken off again; and its note is not the earlier one's to drop.
func TestSweepOfTakenOver(t *testing.T) {
	for _, w := range []plugins.WriteRequest{anew, goesOn} {
		d, n := newDesk(t)
		n.keepIn(t, filepath.Join(t.TempDir(), "uploads.json"))
		s := d.guest(n, User{Send: "send"})
		if _, err := begun(t, s, "/x", anew, random(keptBlock)).Abort(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		old := n.Remains.all[0] // the sweep has come as far as this
		st := begun(t, s, "/x", w, random(2*keptBlock))
		if err := n.Remains.drop(old); err != nil || len(n.Remains.all) != 1 {
			t.Errorf("notes while it runs: %v, %v", n.Remains.all, err)
		}
		if _, err := st.Abort(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		if err := n.Remains.remove(old); fault.KindOf(err) != fault.Overloaded {
			t.Error("the sweep:", err)
		}
		if err := n.Remains.drop(old); err != nil || len(n.Remains.all) != 1 {
			t.Errorf("notes: %v, %v", n.Remains.all, err)
		}
		if st := begun(t, s, "/x", goesOn, nil); st.Offset() == 0 {
			t.Error("nothing is left of it")
		} else if _, err := st.Commit(t.Context()); err != nil {
			t.Error(err)
		}
		if len(n.Remains.all) != 0 {
			t.Errorf("notes: %v", n.Remains.all)
		}
	}
}
