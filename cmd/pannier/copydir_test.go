package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/pannier/pannier/flow/flowtest/ftpserver"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

// places makes files below a directory; each has its name as content.
func places(t *testing.T, dir string, names ...string) {
	t.Helper()
	for _, n := range names {
		path := filepath.Join(dir, n)
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(n), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// tells are the files below a directory, which have to have their names as content.
func tells(t *testing.T, dir string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if b, err := os.ReadFile(path); err != nil || string(b) != name {
			t.Errorf("%s has %q: %v", path, b, err)
		}
		names = append(names, name)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// TestCopyDirectory: directories from bridge to bridge, by rules.
func TestCopyDirectory(t *testing.T) {
	c := newConduit(t)
	box, other := t.TempDir(), t.TempDir()
	c.write(bridgeRules+dirBridge("box", box)+dirBridge("other", other), bridgeRules)
	c.start(c.a)
	places(t, filepath.Join(box, "out"), "a.csv", "b.txt", "deep/er/c.csv", "tmp/d.csv", "x.pannier-0123456789ab.part")
	into := func(dir string) string { return filepath.Join(other, dir) }

	c.does("copy", "box:/out/", "other:/all/", "--wait")
	if got, want := tells(t, into("all")), []string{"a.csv", "b.txt", "deep/er/c.csv", "tmp/d.csv"}; !slices.Equal(got, want) {
		t.Errorf("all: %q, want %q", got, want)
	}
	c.does("copy", "box:/out/", "other:/some/", "--include", "*.csv", "--exclude", "tmp", "--wait")
	if got, want := tells(t, into("some")), []string{"a.csv", "deep/er/c.csv"}; !slices.Equal(got, want) {
		t.Errorf("some: %q, want %q", got, want)
	}

	// Only what is new, has another size, or is older at the destination.
	if out, said, err := c.pannier("copy", "box:/out/", "other:/all/", "--update", "--wait"); err != nil || out != "" || !strings.Contains(said, "nothing is new") {
		t.Errorf("again: %v, %s%s", err, out, said)
	}
	places(t, filepath.Join(box, "out"), "deep/new")
	if err := os.WriteFile(into("all/b.txt"), []byte("longer than it was"), 0o644); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(into("all/a.csv"), old, old); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(c.does("copy", "box:/out/", "other:/all/", "--update", "--wait"), "\n"); n != 3 {
		t.Errorf("%d requests for the three that differ", n)
	}
	if got := tells(t, into("all")); len(got) != 5 {
		t.Errorf("updated: %q", got)
	}

	// More than can be kept in memory.
	defer func(most int) { mostSeen = most }(mostSeen)
	for most, fits := range map[int]bool{8: false, 9: true} { // six files; tmp, deep and deep/er
		mostSeen = most
		_, err := (&choice{existing: replaceAll}).below(t.Context(), c.client(c.a), "box", "out", "other", "x")
		if fits != (err == nil) || !fits && fault.KindOf(err) != fault.TooLong {
			t.Errorf("with %d entries at most: %v", most, err)
		}
	}

	// Only what is not there at all.
	places(t, filepath.Join(box, "out"), "deep/newer")
	if err := os.WriteFile(into("all/b.txt"), []byte("it stays"), 0o644); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(c.does("copy", "box:/out/", "other:/all/", "--existing", "skip", "--wait"), "\n"); n != 1 {
		t.Errorf("%d requests for the one that is not there", n)
	}
	if b, err := os.ReadFile(into("all/b.txt")); err != nil || string(b) != "it stays" {
		t.Errorf("skipped: %q, %v", b, err)
	}
	if out, said, err := c.pannier("copy", "box:/out/", "other:/all/", "--existing", "skip"); err != nil || out != "" || !strings.Contains(said, "nothing is new") {
		t.Errorf("skipped again: %v, %s%s", err, out, said)
	}
	places(t, into("all"), "b.txt")
	if got := tells(t, into("all")); len(got) != 6 {
		t.Errorf("skipped: %q", got)
	}

	// The same order twice is the same requests.
	first, again := c.does("copy", "box:/out/", "other:/keyed/", "--id", "monday"), c.does("copy", "box:/out/", "other:/keyed/", "--id", "monday")
	if first != again || strings.Count(first, "\n") != 6 {
		t.Errorf("first %q, again %q", first, again)
	}

	for _, bad := range []struct {
		args []string
		say  string
	}{
		{[]string{"copy", "box:/out/", "other:/x"}, "write a folder"},
		{[]string{"copy", "box:/out/", "box:/out/sub/"}, "into itself"},
		{[]string{"copy", "box:/", "box:/sub/"}, "into itself"},
		{[]string{"copy", "box:/none/", "other:/x/"}, "not found"},
		{[]string{"copy", "box:/out/", "other:/x/", "--include", "*.pdf"}, "no file that is to be copied"},
		{[]string{"copy", "box:/out/", "other:/x/", "--include", "["}, "is no pattern"},
		{[]string{"copy", "box:/out/a.csv", "other:/x/", "--update"}, "of directories"},
		{[]string{"copy", "box:/out/a.csv", "other:/x/", "--existing", "skip"}, "of directories"},
		{[]string{"copy", "box:/out/", "other:/x/", "--existing", "older"}, "it is replace, newer or skip"},
		{[]string{"copy", "box:/out/", "other:/x/", "--existing", "skip", "--update"}, "--update is --existing newer"},
	} {
		if out, said, err := c.pannier(bad.args...); err == nil || out != "" || !strings.Contains(said, bad.say) {
			t.Errorf("%q: %v, %s%s", bad.args, err, out, said)
		}
	}
	if _, err := os.Stat(into("x")); err == nil {
		t.Error("what was refused has been begun")
	}
}

// A link that leads back is an error, and no request is made.
func TestCopyDirectoryLoop(t *testing.T) {
	c := newConduit(t)
	box, other := t.TempDir(), t.TempDir()
	c.write(bridgeRules+dirBridge("box", box)+dirBridge("other", other), bridgeRules)
	c.start(c.a)
	names := make([]string, 70)
	for i := range names {
		names[i] = "d"
	}
	places(t, box, strings.Join(names, "/")+"/f")
	if out, said, err := c.pannier("copy", "box:/", "other:/"); err == nil || out != "" || !strings.Contains(said, "leads back") {
		t.Errorf("%v, %s%s", err, out, said)
	}
}

// TestFXPDirectoryKilled: two FTP servers send each other a directory, and the daemon that
// told them to is killed: all files arrive, none of them by the node. Of small ones that it
// was killed within, something unfinished may stay.
func TestFXPDirectoryKilled(t *testing.T) {
	const files = 40
	from, to := ftpserver.Start(t, "proftpd", ftpserver.FXP), ftpserver.Start(t, "vsftpd", ftpserver.FXP)
	c := newConduit(t)
	c.write(bridgeRules+ftpBridge(t, "one", "two", from)+ftpBridge(t, "two", "one", to), bridgeRules)
	c.start(c.a)
	var names []string
	for i := range files {
		names = append(names, fmt.Sprintf("d%d/%02d", i%3, i))
	}
	slices.Sort(names)
	places(t, filepath.Join(from.Data, "out"), names...)
	ids := strings.Fields(c.does("copy", "one:/out/", "two:/in/"))
	if len(ids) != files {
		t.Fatalf("%d requests", len(ids))
	}
	client := c.client(c.a)
	c.until("some are done", func() bool {
		for _, id := range ids {
			if r, err := client.Get(t.Context(), &adminpb.Ref{Id: id}); err == nil && r.GetState() == adminpb.Request_DONE {
				return true
			}
		}
		return false
	})
	c.a.Kill()
	c.start(c.a)
	for _, id := range ids {
		if out, said, err := c.pannier("wait", id); err != nil {
			t.Fatalf("%v: %s%s", err, out, said)
		}
		if shown := c.does("show", id); !strings.Contains(shown, "direct") {
			t.Errorf("show says\n%s", shown)
		}
	}
	parts, err := filepath.Glob(filepath.Join(to.Data, "in/*/*.part"))
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range parts { // which a crash leaves of small files
		if err := os.Remove(part); err != nil {
			t.Fatal(err)
		}
	}
	if got := tells(t, filepath.Join(to.Data, "in")); !slices.Equal(got, names) {
		t.Errorf("%q have arrived", got)
	}
	if _, said, err := c.pannier("copy", "one:/out/"+names[0], "two:/once", "--wait"); err != nil || !strings.Contains(said, ", directly from server to server\n") {
		t.Errorf("copy says %v\n%s", err, said)
	}
}

func TestSame(t *testing.T) {
	entry := func(size int64, age time.Duration) *adminpb.BrowseEntry {
		return &adminpb.BrowseEntry{Size: size, Modified: timestamppb.New(noon.Add(-age))}
	}
	for _, c := range []struct {
		from, to *adminpb.BrowseEntry
		want     bool
	}{
		{entry(1, 0), entry(1, 0), true}, {entry(1, time.Hour), entry(1, 0), true}, {entry(1, 0), entry(1, time.Hour), false},
		{entry(1, 0), entry(2, 0), false}, {entry(-1, 0), entry(-1, 0), false}, {entry(1, 0), nil, false},
		{entry(1, 0), &adminpb.BrowseEntry{Size: 1}, false}, {entry(1, 0), &adminpb.BrowseEntry{Size: 1, Directory: true, Modified: timestamppb.New(noon)}, false},
	} {
		if same(c.from, c.to) != c.want {
			t.Errorf("%v, %v: not %v", c.from, c.to, c.want)
		}
	}
	if err := (&choice{exclude: []string{""}}).check(); fault.KindOf(err) != fault.Invalid {
		t.Errorf("an empty pattern: %v", err)
	}
}
