package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/pannier/pannier/spec/adminpb"
)

// TestFolderMany: many files are sent, the daemon is killed in the middle, and each is at the other end
// once. PANNIER_FOLDER_FILES says how many; without it 5,000.
func TestFolderMany(t *testing.T) {
	files := 5_000
	if text := os.Getenv("PANNIER_FOLDER_FILES"); text != "" {
		var err error
		if files, err = strconv.Atoi(text); err != nil || files < 100 {
			t.Fatalf("PANNIER_FOLDER_FILES is %q: write how many, 100 or more", text)
		}
	}
	c := folderPair(t, "stable = \"20ms\"\n")
	name := func(i int) string { return fmt.Sprintf("d%d/f%d", i%100, i) }
	for i := range files {
		c.drop(name(i), name(i))
	}
	began := time.Now()
	c.start(c.b, c.a)
	// delivered is how many files the folder has had delivered, as its counts say.
	delivered := func() int64 {
		t.Helper()
		f, err := c.client(c.a).ShowFolder(t.Context(), &adminpb.ShowFolderRequest{Name: "box"})
		if err != nil {
			t.Fatal(err)
		}
		if f.GetFailed() > 0 {
			t.Fatalf("%d have failed", f.GetFailed())
		}
		return int64(f.GetKept())
	}
	wait := func(until int) {
		t.Helper()
		last, moved := int64(-1), time.Now()
		for {
			n := delivered()
			if n >= int64(until) {
				return
			}
			if n > last {
				last, moved = n, time.Now()
			}
			if time.Since(moved) > 2*time.Minute {
				t.Fatalf("nothing moves any more: %d of %d are delivered", n, files)
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
	wait(files / 3)
	at := delivered()
	c.a.Kill()
	if at >= int64(files) {
		t.Fatal("all was sent before the daemon was killed")
	}
	c.start(c.a)
	wait(files)
	t.Logf("%d files in %v; the daemon was killed after %d", files, time.Since(began).Round(time.Millisecond), at)
	c.does("folder", "scan", "box")
	ended := c.ended()
	if len(ended) != files {
		t.Errorf("requests for %d files have ended", len(ended))
	}
	for i := range files {
		if n := ended["box/"+name(i)]; n != 1 {
			t.Errorf("%s has come %d times", name(i), n)
		}
		if !c.arrived(name(i), name(i)) {
			t.Errorf("%s is not there", name(i))
		}
	}
	there := 0
	err := filepath.WalkDir(filepath.Join(c.b.Root, "box"), func(_ string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			there++
		}
		return err
	})
	if err != nil || there != files {
		t.Errorf("%d files are there, %v", there, err)
	}
}
