package folder

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestLinkedDirectory: who may write to the folder puts a link in the place of a directory in
// which something is known. What the link leads to, elsewhere below the rule's root, is
// neither sent nor removed: not when a file is due, nor after an event, nor by a scan.
func TestLinkedDirectory(t *testing.T) {
	for name, after := range map[string]Action{"kept": Keep, "deleted": Delete} {
		t.Run(name, func(t *testing.T) {
			b := begin(t, func(f *Folder) { f.After, f.DoneFile = after, "READY" })
			for _, name := range []string{"private/x", "private/y", "private/READY", "in/sub/x"} {
				b.write(name, name)
			}
			b.until("the bait is known", func() bool {
				rows := b.watch.Status(1).Rows
				return len(rows) == 1 && strings.Contains(rows[0].Why, "READY")
			})
			sub := filepath.Join(b.root, "in/sub")
			if err := os.Rename(sub, filepath.Join(b.root, "in/moved")); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink("../private", sub); err != nil {
				t.Fatal(err)
			}
			below := func() (all []Row) {
				for _, r := range b.watch.Status(MostRows).Rows {
					if strings.HasPrefix(r.Path, "in/sub/") {
						all = append(all, r)
					}
				}
				return all
			}
			b.watch.hints.events <- "in/sub/READY" // as an event does that is late
			b.until("it is looked at", func() bool {
				rows := below()
				return len(rows) == 0 || rows[0].Why == gone || len(b.got("in/sub/x")) > 0
			})
			b.watch.hints.events <- "in/sub/y"
			b.write("in/moved/READY", "")
			b.until("the bait is sent", func() bool { return len(b.got("in/moved/x")) == 1 })
			b.settled()
			b.cfg.Folder.walk(t.Context(), "in/sub", func(string) {}, func(part found) bool { // as a scan does that came before the link
				if len(part.files)+len(part.odd) > 0 || part.err != nil {
					t.Errorf("a scan: %+v", part)
				}
				return true
			})
			if rows := below(); len(rows) > 0 {
				t.Errorf("known still: %+v", rows)
			}
			for _, name := range []string{"x", "y"} {
				if got := b.got("in/sub/" + name); len(got) > 0 {
					t.Errorf("%s was sent: %q", name, got)
				}
				if !exists(filepath.Join(b.root, "private", name)) {
					t.Errorf("%s was removed", name)
				}
			}
		})
	}
}

// TestMovedToLink: who may write below the place where files are moved puts a link into it. What was
// delivered stays where it is, and that is said, until the link is gone; nothing comes where it leads.
func TestMovedToLink(t *testing.T) {
	for name, to := range map[string]string{"beside": "sent", "in the folder": "in/sent", "a link in the folder": "in/linked"} {
		t.Run(name, func(t *testing.T) {
			b := begin(t, func(f *Folder) { f.After, f.To, f.Interval = Move, pathOf(t, to), MinInterval })
			b.write("private/x", "before")
			link := filepath.Join(b.root, to, "sub")
			if to == "in/linked" { // the place itself is the writers'
				link = filepath.Join(b.root, to)
				b.write("private/sub/x", "before")
			}
			if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(filepath.Join(strings.Repeat("../", strings.Count(strings.TrimPrefix(filepath.Dir(link), b.root), "/")), "private"), link); err != nil {
				t.Fatal(err)
			}
			b.write("in/sub/x", "moved")
			b.until("that it stays is said", func() bool {
				said := slices.ContainsFunc(b.watch.Status(2).Rows, func(r Row) bool { return strings.Contains(r.Why, "is a link: files are moved into directories only") })
				return said || exists(filepath.Join(b.root, "private/x.1")) || exists(filepath.Join(b.root, "private/sub/x.1"))
			})
			if err := os.Remove(link); err != nil {
				t.Fatal(err)
			}
			moved := filepath.Join(b.root, to, "sub/x")
			b.until("it is moved", func() bool { return exists(moved) && !exists(filepath.Join(b.root, "in/sub/x")) })
			if exists(filepath.Join(b.root, "private/x.1")) || exists(filepath.Join(b.root, "private/sub/x.1")) {
				t.Error("a file came where the link leads")
			}
			b.settled()
		})
	}
}
