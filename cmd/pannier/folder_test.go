package main

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pannier/pannier/engine/doctor"
	"github.com/pannier/pannier/spec/adminpb"
)

const folderRule = "[[rule]]\nname = \"out\"\ndirection = \"send\"\npartners = [\"*\"]\nroot = \"%ROOT%\"\nretry = { delay = \"1s\" }\n"

// folderPair is two nodes, and hosta's folder "box" in its directory box.
func folderPair(t *testing.T, settings string) *conduit {
	t.Helper()
	c := newConduit(t)
	c.write(folderRule+"[[folder]]\nname = \"box\"\nrule = \"out\"\npartner = \"hostb\"\ndir = \"box\"\nrecursive = true\n"+settings, folderRule)
	if err := os.Mkdir(filepath.Join(c.a.Root, "box"), 0o755); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *conduit) drop(name, content string) {
	c.t.Helper()
	full := filepath.Join(c.a.Root, "box", name)
	err := os.MkdirAll(filepath.Dir(full), 0o755)
	if err == nil {
		err = os.WriteFile(full, []byte(content), 0o644)
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *conduit) arrived(name, content string) bool {
	got, err := os.ReadFile(filepath.Join(c.b.Root, "box", name))
	return err == nil && string(got) == content
}

// ended is how many requests hostb has concluded, by target.
func (c *conduit) ended() map[string]int {
	c.t.Helper()
	s, err := c.client(c.b).List(c.t.Context(), &adminpb.ListRequest{States: []adminpb.Request_State{adminpb.Request_DONE}})
	if err != nil {
		c.t.Fatal(err)
	}
	all := map[string]int{}
	for {
		r, err := s.Recv()
		if err == io.EOF {
			return all
		}
		if err != nil {
			c.t.Fatal(err)
		}
		all[r.GetTarget()]++
	}
}

// TestFolder: files that appear are at the partner, and what operators see of it; a folder is
// changed, taken away and brought back by the file.
func TestFolder(t *testing.T) {
	c := folderPair(t, "stable = \"30ms\"\nafter = \"move\"\nto = \"sent\"\nexclude = [\"*.tmp\"]\n")
	c.drop("before", "one")
	c.start(c.b, c.a)
	c.until("what was there has arrived", func() bool { return c.arrived("before", "one") })
	c.drop("sub/dir/later", "two")
	c.drop("no.tmp", "x")
	c.until("what came later, too", func() bool { return c.arrived("sub/dir/later", "two") })
	c.until("both are moved", func() bool {
		_, err := os.Stat(filepath.Join(c.a.Root, "sent/sub/dir/later"))
		_, err2 := os.Stat(filepath.Join(c.a.Root, "sent/before"))
		return err == nil && err2 == nil
	})
	if err := syscall.Mkfifo(filepath.Join(c.a.Root, "box/pipe"), 0o644); err != nil {
		t.Fatal(err)
	}
	if out := c.does("folder", "scan", "box"); !strings.Contains(out, "box/pipe\t-\tskipped\t-\tit is a FIFO") {
		t.Errorf("scan says\n%s", out)
	}
	if out := c.does("folder", "list"); !strings.Contains(out, "box\t"+c.a.Root+"/box\thostb\tout\tmove\t0\t0\t0\t0\t0\t1\t") {
		t.Errorf("list says\n%s", out)
	}
	if out := c.does("folder", "test", "box"); !strings.Contains(out, "box/no.tmp\t1\texcluded\t-\texclude has *.tmp") {
		t.Errorf("test says\n%s", out)
	}
	if _, said, err := c.pannier("folder", "show", "bix"); err == nil || !strings.Contains(said, `no folder is called "bix"; did you mean "box"?`) {
		t.Errorf("%v, %s", err, said)
	}
	if _, said, err := c.pannier("folder", "scan", "nope"); err == nil || !strings.Contains(said, "Folders: box (pannier folder list)") {
		t.Errorf("%v: %s", err, said)
	}

	text, err := os.ReadFile(c.a.Config())
	if err != nil {
		t.Fatal(err)
	}
	reload := func(text string) string {
		t.Helper()
		if err := os.WriteFile(c.a.Config(), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return c.does("reload")
	}
	without, _, _ := strings.Cut(string(text), "[[folder]]")
	if out := reload(without); !strings.Contains(out, "folder box is gone") {
		t.Errorf("reload says %s", out)
	}
	c.drop("gone", "three")
	time.Sleep(200 * time.Millisecond) // long enough to be sent, if anybody looked
	if c.arrived("gone", "three") {
		t.Error("a folder that is gone sends")
	}
	reload(string(text))
	if out := reload(string(text)); out != "nothing has changed\n" {
		t.Errorf("reload of the same says %q", out)
	}
	c.until("it is back", func() bool { return c.arrived("gone", "three") })
	c.until("each was sent once", func() bool {
		n := c.ended()
		return len(n) == 3 && n["box/before"] == 1 && n["box/sub/dir/later"] == 1
	})
	if err := os.Rename(filepath.Join(c.a.Root, "box"), filepath.Join(c.a.Root, "away")); err != nil {
		t.Fatal(err)
	}
	if out, said, err := c.pannier("folder", "scan", "box"); err == nil || !strings.Contains(said, "scan folder") || !strings.Contains(out, "box") {
		t.Errorf("a folder that is not there: %v, %s%s", err, out, said)
	}
}

// TestFolderKilled: the node is killed again and again while files come, are renamed in and overwritten. Each
// arrives once in its last version, and is moved away once.
func TestFolderKilled(t *testing.T) {
	c := folderPair(t, "stable = \"20ms\"\nclosed = true\nafter = \"move\"\nto = \"sent\"\nopen = 8\n")
	rnd := rand.New(rand.NewPCG(6, 2))
	c.start(c.b, c.a)
	const kills, each = 8, 12
	last := map[string]string{}
	for k := range kills {
		for i := range each {
			name := fmt.Sprintf("d%d/file%d", i%3, k*each+i)
			last[name] = strings.Repeat(name, 1+rnd.IntN(20000))
			switch i % 3 {
			case 0:
				c.drop(name, last[name])
			case 1:
				c.drop(name, "early")
				c.drop(name, last[name])
			case 2:
				c.drop("../temp", last[name])
				full := filepath.Join(c.a.Root, "box", name)
				if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.Rename(filepath.Join(c.a.Root, "temp"), full); err != nil {
					t.Fatal(err)
				}
			}
		}
		time.Sleep(time.Duration(rnd.IntN(250)) * time.Millisecond)
		c.a.Kill()
		c.start(c.a)
	}
	c.until("all is over", func() bool {
		f, err := c.client(c.a).ScanFolder(t.Context(), &adminpb.ScanFolderRequest{Name: "box"})
		if err != nil {
			t.Fatal(err)
		}
		return f.GetWaiting()+f.GetHeld()+f.GetOpen()+f.GetKept()+f.GetFailed() == 0
	})
	ended := c.ended()
	for name, content := range last {
		if !c.arrived(name, content) {
			t.Errorf("%s has not arrived as it was last", name)
		}
		if got, err := os.ReadFile(filepath.Join(c.a.Root, "sent", name)); err != nil || string(got) != content {
			if got2, err := os.ReadFile(filepath.Join(c.a.Root, "sent", name+".1")); err != nil || string(got2) != content {
				t.Errorf("%s was not moved: %d bytes, %v", name, len(got), err)
			}
		}
		moved, err := filepath.Glob(filepath.Join(c.a.Root, "sent", name) + "*")
		numbered := 0
		for _, m := range moved {
			if rest := strings.TrimPrefix(m, filepath.Join(c.a.Root, "sent", name)); rest == "" || rest[0] == '.' {
				numbered++
			}
		}
		if n := ended["box/"+name]; err != nil || n != numbered { // early versions that made it are there, too
			t.Errorf("%s was delivered %d times, and %d versions were moved", name, n, numbered)
		}
	}
}

// TestFolderOverwritten: a file that is written anew while its request waits for the partner: nothing
// half-written is sent in its place, and the newer version is when it is whole.
func TestFolderOverwritten(t *testing.T) {
	c := folderPair(t, "closed = true\nstable = \"1h\"\n")
	c.start(c.a)
	show := func() *adminpb.Folder {
		t.Helper()
		f, err := c.client(c.a).ShowFolder(t.Context(), &adminpb.ShowFolderRequest{Name: "box"})
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	c.drop("file", "first")
	c.until("it is submitted", func() bool { return show().GetSubmitted() == 1 })
	f, err := os.OpenFile(filepath.Join(c.a.Root, "box/file"), os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString("sec"); err != nil {
		t.Fatal(err)
	}
	id := show().GetFiles()[0].GetIds()[0]
	c.start(c.b)
	r, err := c.client(c.a).Wait(t.Context(), &adminpb.WaitRequest{Ref: &adminpb.Ref{Id: id}})
	if err != nil || r.GetState() != adminpb.Request_INERROR || !strings.Contains(r.GetFailure().GetCause(), "changed after it was submitted") {
		t.Errorf("the request is %v, %v", r, err)
	}
	if _, err := os.Stat(filepath.Join(c.b.Root, "box/file")); err == nil {
		t.Error("something has arrived")
	}
	if _, err := f.WriteString("ond"); err != nil {
		t.Fatal(err)
	}
	f.Close()
	c.until("the newer version has arrived", func() bool { return c.arrived("file", "second") })
}

// TestFolderLinked: what a link in the place of a directory leads to is neither sent nor
// removed, with the engine's own ways of opening files.
func TestFolderLinked(t *testing.T) {
	c := folderPair(t, "stable = \"30ms\"\nafter = \"delete\"\ndone_file = \"READY\"\n")
	private := filepath.Join(c.a.Root, "private")
	if err := os.Mkdir(private, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"x", "READY"} {
		if err := os.WriteFile(filepath.Join(private, name), []byte("private"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	c.drop("sub/x", "bait")
	c.start(c.b, c.a)
	c.until("the bait is known", func() bool { return strings.Contains(c.does("folder", "show", "box"), "box/sub/x") })
	sub := filepath.Join(c.a.Root, "box/sub")
	if err := os.Rename(sub, filepath.Join(c.a.Root, "box/moved")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../private", sub); err != nil {
		t.Fatal(err)
	}
	c.does("folder", "scan", "box")
	c.drop("moved/READY", "")
	c.until("the bait has arrived", func() bool { return c.arrived("moved/x", "bait") })
	c.until("nothing is known below the link", func() bool {
		c.does("folder", "scan", "box")
		return c.ended()["box/sub/x"] > 0 || !strings.Contains(c.does("folder", "show", "box"), "box/sub/x")
	})
	if c.ended()["box/sub/x"] > 0 {
		t.Error("it was sent")
	}
	if _, err := os.Stat(filepath.Join(private, "x")); err != nil {
		t.Error("it was removed: ", err)
	}
}

// TestFolderStays: what cannot be moved is seen by who looks from afar: in the list, in the file's row, by doctor.
func TestFolderStays(t *testing.T) {
	c := folderPair(t, "stable = \"30ms\"\nafter = \"move\"\nto = \"sent\"\n")
	if err := os.WriteFile(filepath.Join(c.a.Root, "sent"), nil, 0o644); err != nil { // no directory can be made there
		t.Fatal(err)
	}
	c.drop("one", "one")
	c.start(c.b, c.a)
	c.until("it is told", func() bool {
		return strings.Contains(c.does("folder", "list"), "\thostb\tout\tmove\t0\t0\t0\t0\t1\t0\t")
	})
	if out := c.does("folder", "list"); !strings.Contains(out, "1 to be moved or removed, and cannot be: ") {
		t.Errorf("list says\n%s", out)
	}
	if out := c.does("folder", "show", "box"); !strings.Contains(out, "\tdelivered, but it stays: ") {
		t.Errorf("show says\n%s", out)
	}
	all, _ := c.finds()
	c.found(all, doctor.Fail, "folder", "1 to be moved or removed, and cannot be: ")
	if err := os.Remove(filepath.Join(c.a.Root, "sent")); err != nil {
		t.Fatal(err)
	}
	c.does("folder", "scan", "box")
	if out := c.does("folder", "list"); !strings.Contains(out, "\thostb\tout\tmove\t0\t0\t0\t0\t0\t0\t") || strings.Contains(out, "cannot be") {
		t.Errorf("list says\n%s", out)
	}
	if _, err := os.Stat(filepath.Join(c.a.Root, "sent/one")); err != nil {
		t.Error(err)
	}
}
