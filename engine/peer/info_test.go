package peer

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/peerpb"
	"github.com/pannier/pannier/spec/relpath"
)

// shelf makes paris's rules over a directory with files.
func shelf(t testing.TB, p *pair) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string]string{"a.txt": "alpha", "sub/b.txt": "beta", ".a.txt.pannier-r0123456789012345": "part", "sub/.x": "dot", ".a.pannier-x/a.txt": "alpha"} {
		must(0, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
		must(0, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
	}
	must(0, os.WriteFile(filepath.Join(dir, "bad\nname"), nil, 0o600))
	must(0, os.WriteFile(filepath.Join(dir, "bad\xffname"), nil, 0o600))
	must(0, os.Symlink("/etc/passwd", filepath.Join(dir, "link")))
	must(0, os.Symlink("/etc", filepath.Join(dir, "away")))
	must(0, syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o600))
	p.book.Rules = map[string]*engine.Rule{
		"out":    {Name: "out", Direction: engine.Receive, Partners: []string{"lyon"}, Root: dir},
		"all":    {Name: "all", Direction: engine.Receive, Partners: []string{engine.AnyPartner}, Root: dir},
		"in":     {Name: "in", Direction: engine.Send, Partners: []string{"lyon"}, Root: dir},
		"others": {Name: "others", Direction: engine.Receive, Partners: []string{"nice"}, Root: dir},
		"gone":   {Name: "gone", Direction: engine.Receive, Partners: []string{"lyon"}, Root: filepath.Join(dir, "no such root")},
	}
	return dir
}

func TestNode(t *testing.T) {
	on(t, func(t *testing.T, scheme string) {
		p := start(t, scheme)
		n, err := p.line.Node(within(t), "paris")
		if err != nil || n.Name != "paris" || n.Version != "1.2.3" || !slices.Equal(n.Features, []string{"peer/1"}) || n.Time.IsZero() {
			t.Errorf("%+v, %v", n, err)
		}
	})
}

func TestInfo(t *testing.T) {
	p := start(t, "tls", func(p *pair) { shelf(t, p) })
	ctx, top := within(t), relpath.Path{}
	for _, rule := range []string{"out", "all"} {
		page, err := p.line.List(ctx, "paris", rule, top, "")
		var got []string
		for _, e := range page.Entries {
			got = append(got, fmt.Sprint(e.Name, e.Kind, e.Size))
			if e.Modified.IsZero() {
				t.Errorf("%s has no time", e.Name)
			}
		}
		if want := []string{"a.txt1 5", "away3 0", "fifo3 0", "link3 0", "sub2 0"}; err != nil || !slices.Equal(got, want) || page.Omitted != 4 || page.Next != "" {
			t.Errorf("%q, %+v, %v; want %q and 4 omitted", got, page, err, want)
		}
	}
	if page, err := p.line.List(ctx, "paris", "out", path("sub"), ".x"); err != nil || len(page.Entries) != 1 || page.Entries[0].Name != "b.txt" {
		t.Errorf("after .x: %+v, %v", page, err)
	}
	if e, err := p.line.Stat(ctx, "paris", "out", path("sub/b.txt")); err != nil || e.Name != "b.txt" || e.Size != 4 || e.Kind != FileEntry {
		t.Errorf("%+v, %v", e, err)
	}
	want := sha256.Sum256([]byte("beta"))
	if e, sum, err := p.line.Digest(ctx, "paris", "out", path("sub/b.txt"), sideeffect.SHA256); err != nil || e.Size != 4 || string(sum.Bytes) != string(want[:]) {
		t.Errorf("%+v, %v, %v", e, sum, err)
	}
	for _, tc := range []struct {
		what string
		ask  *peerpb.InfoAsk
		kind fault.Kind
	}{
		{"no rule", &peerpb.InfoAsk{What: 1}, fault.Invalid},
		{"unknown rule", &peerpb.InfoAsk{What: 1, Rule: "nothing"}, fault.Permission},
		{"a rule that receives here", &peerpb.InfoAsk{What: 1, Rule: "in"}, fault.Permission},
		{"another's rule", &peerpb.InfoAsk{What: 1, Rule: "others"}, fault.Permission},
		{"another's file", &peerpb.InfoAsk{What: 2, Rule: "others", Path: "a.txt"}, fault.Permission},
		{"another's digest", &peerpb.InfoAsk{What: 3, Rule: "others", Path: "a.txt", Algorithm: 1}, fault.Permission},
		{"no root", &peerpb.InfoAsk{What: 1, Rule: "gone"}, fault.IO},
		{"no file", &peerpb.InfoAsk{What: 2, Rule: "out", Path: "b.txt"}, fault.NotFound},
		{"no path", &peerpb.InfoAsk{What: 2, Rule: "out"}, fault.Invalid},
		{"a path that leads out", &peerpb.InfoAsk{What: 1, Rule: "out", Path: "../x"}, fault.Invalid},
		{"a long name to go on after", &peerpb.InfoAsk{What: 1, Rule: "out", After: strings.Repeat("x", 256)}, fault.Invalid},
		{"a partial file", &peerpb.InfoAsk{What: 2, Rule: "out", Path: ".a.txt.pannier-r0123456789012345"}, fault.Invalid},
		{"a partial file's digest", &peerpb.InfoAsk{What: 3, Rule: "out", Path: ".a.txt.pannier-r0123456789012345", Algorithm: 1}, fault.Invalid},
		{"below a directory of such a name", &peerpb.InfoAsk{What: 2, Rule: "out", Path: ".a.pannier-x/a.txt"}, fault.Invalid},
		{"a list of one", &peerpb.InfoAsk{What: 1, Rule: "out", Path: ".a.pannier-x"}, fault.Invalid},
		{"digest of none", &peerpb.InfoAsk{What: 3, Rule: "out", Path: "a.txt"}, fault.Invalid},
		{"digest of a later version", &peerpb.InfoAsk{What: 3, Rule: "out", Path: "a.txt", Algorithm: 257}, fault.Invalid},
		{"digest of a directory", &peerpb.InfoAsk{What: 3, Rule: "out", Path: "sub", Algorithm: 1}, fault.Invalid},
		{"digest of a FIFO", &peerpb.InfoAsk{What: 3, Rule: "out", Path: "fifo", Algorithm: 1}, fault.Invalid},
		{"something else", &peerpb.InfoAsk{What: 4, Rule: "out", Path: "a.txt"}, fault.Invalid},
		{"something less", &peerpb.InfoAsk{What: -1, Rule: "out", Path: "a.txt"}, fault.Invalid},
	} {
		reply, err := p.line.info(ctx, "paris", tc.ask)
		if fault.KindOf(err) != tc.kind || reply.GetEntry() != nil || reply.GetPage() != nil {
			t.Errorf("%s: %v, %v; want %v", tc.what, reply, err, tc.kind)
		}
		if err != nil && strings.Contains(err.Error(), p.book.Rules["out"].Root) {
			t.Errorf("%s: the root's name travelled: %v", tc.what, err)
		}
	}
	// A link never leads out of the root.
	for _, ask := range []*peerpb.InfoAsk{{What: 1, Rule: "out", Path: "away"}, {What: 2, Rule: "out", Path: "away/passwd"},
		{What: 3, Rule: "out", Path: "link", Algorithm: 1}, {What: 3, Rule: "out", Path: "away/passwd", Algorithm: 1}} {
		if reply, err := p.line.info(ctx, "paris", ask); err == nil {
			t.Errorf("%v: %v", ask, reply)
		}
	}
	// What a rule says now counts.
	b := p.book
	b.Rules = map[string]*engine.Rule{}
	must(0, p.server.SetBook(b))
	_, err := p.line.List(ctx, "paris", "out", top, "")
	wantKind(t, err, fault.Permission)
}

// TestPages: a large directory comes in pages, each name once and in order.
func TestPages(t *testing.T) {
	var dir string
	p := start(t, "unix", func(p *pair) { dir = shelf(t, p) })
	must(0, os.Mkdir(filepath.Join(dir, "large"), 0o755))
	const files = 2*MaxPage + 5
	for i := range files {
		must(0, os.WriteFile(filepath.Join(dir, "large", fmt.Sprintf("%04d", (i*7919)%files)), nil, 0o600))
	}
	n, pages, after := 0, 0, ""
	for {
		page, err := p.line.List(within(t), "paris", "out", path("large"), after)
		if err != nil || len(page.Entries) > MaxPage {
			t.Fatalf("%d entries, %v", len(page.Entries), err)
		}
		for _, e := range page.Entries {
			if want := fmt.Sprintf("%04d", n); e.Name != want {
				t.Fatalf("entry %q, want %q", e.Name, want)
			}
			n++
		}
		if pages++; page.Next == "" {
			break
		}
		after = page.Next
	}
	if n != files || pages != 3 {
		t.Errorf("%d names on %d pages", n, pages)
	}
}

// TestHostilePages: what a partner says of its files is held to the same limits.
func TestHostilePages(t *testing.T) {
	file := func(name string) *peerpb.Entry {
		return &peerpb.Entry{Name: name, Kind: peerpb.EntryKind_ENTRY_KIND_FILE}
	}
	for what, p := range map[string]*peerpb.Page{
		"too many":             {Entries: slices.Repeat([]*peerpb.Entry{file("a")}, MaxPage+1)},
		"not sorted":           {Entries: []*peerpb.Entry{file("c"), file("b")}},
		"twice":                {Entries: []*peerpb.Entry{file("b"), file("b")}},
		"what was before":      {Entries: []*peerpb.Entry{file("a")}},
		"it leads back":        {Entries: []*peerpb.Entry{file("c")}, Next: "a"},
		"a path":               {Entries: []*peerpb.Entry{file("b/c")}},
		"a name that is none":  {Entries: []*peerpb.Entry{file("b\n")}},
		"no name":              {Entries: []*peerpb.Entry{file("")}},
		"no kind":              {Entries: []*peerpb.Entry{{Name: "b"}}},
		"kind 257":             {Entries: []*peerpb.Entry{{Name: "b", Kind: 257}}},
		"a negative size":      {Entries: []*peerpb.Entry{{Name: "b", Kind: 1, Size: -1}}},
		"a long name to go on": {Next: strings.Repeat("x", 256)},
		"nothing in an entry":  {Entries: []*peerpb.Entry{nil}},
	} {
		if _, err := readPage(p, "a"); fault.KindOf(err) != fault.Protocol {
			t.Errorf("%s: %v", what, err)
		}
	}
	for what, n := range map[string]*peerpb.Node{
		"no name": {}, "long name": {Name: strings.Repeat("x", 65)}, "long version": {Name: "x", Version: strings.Repeat("x", 65)},
		"many features": {Name: "x", Features: slices.Repeat([]string{"x"}, 33)}, "long feature": {Name: "x", Features: []string{strings.Repeat("x", 65)}}, "nothing": nil,
	} {
		if _, err := readNode(n); fault.KindOf(err) != fault.Protocol {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestDigestsAreBounded: MaxDigests files are read at a time; who waits for a turn,
// or reads, stops with the call.
func TestDigestsAreBounded(t *testing.T) {
	dir := t.TempDir()
	must(0, os.WriteFile(filepath.Join(dir, "f"), make([]byte, 1<<20), 0o600))
	s := NewShelf(func() engine.Book {
		return engine.Book{Rules: map[string]*engine.Rule{"r": {Name: "r", Direction: engine.Receive, Partners: []string{"p"}, Root: dir}}}
	})
	for range MaxDigests {
		s.digests <- struct{}{}
	}
	ctx, cancel := context.WithCancel(within(t))
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			_, _, err := s.Digest(ctx, "p", "r", path("f"), sideeffect.SHA256)
			if fault.KindOf(err) != fault.Canceled {
				t.Errorf("waiting: %v", err)
			}
		})
	}
	time.Sleep(10 * time.Millisecond)
	cancel()
	wg.Wait()
	<-s.digests
	if _, _, err := s.Digest(within(t), "p", "r", path("f"), sideeffect.SHA256); err != nil || len(s.digests) != MaxDigests-1 {
		t.Errorf("with room for one: %v; %d taken", err, len(s.digests))
	}
	if _, _, err := s.Digest(ctx, "p", "r", path("f"), sideeffect.SHA256); fault.KindOf(err) != fault.Canceled {
		t.Errorf("a call that is over reads: %v", err)
	}
	if _, err := s.List(ctx, "p", "r", relpath.Path{}, ""); fault.KindOf(err) != fault.Canceled {
		t.Errorf("a call that is over lists: %v", err)
	}
}

// TestListsAreBounded: MaxLists directories are read at a time; who waits for a turn
// stops with the call.
func TestListsAreBounded(t *testing.T) {
	dir := t.TempDir()
	s := NewShelf(func() engine.Book {
		return engine.Book{Rules: map[string]*engine.Rule{"r": {Name: "r", Direction: engine.Receive, Partners: []string{"p"}, Root: dir}}}
	})
	for range MaxLists {
		s.lists <- struct{}{}
	}
	ctx, cancel := context.WithCancel(within(t))
	over := make(chan error)
	go func() {
		_, err := s.List(ctx, "p", "r", relpath.Path{}, "")
		over <- err
	}()
	select {
	case err := <-over:
		t.Fatalf("one more is read: %v", err)
	case <-time.After(10 * time.Millisecond):
	}
	cancel()
	wantKind(t, <-over, fault.Canceled)
	<-s.lists
	if _, err := s.List(within(t), "p", "r", relpath.Path{}, ""); err != nil || len(s.lists) != MaxLists-1 {
		t.Errorf("with room for one: %v; %d taken", err, len(s.lists))
	}
}

// TestInfoTakesAPlace: a call about files counts as served while it lasts.
func TestInfoTakesAPlace(t *testing.T) {
	p := start(t, "tls", func(p *pair) { shelf(t, p) })
	ctx := within(t)
	looks := map[string]func() error{
		"list": func() error { _, err := p.line.List(ctx, "paris", "out", relpath.Path{}, ""); return err },
		"stat": func() error { _, err := p.line.Stat(ctx, "paris", "out", path("a.txt")); return err },
		"digest": func() error {
			_, _, err := p.line.Digest(ctx, "paris", "out", path("a.txt"), sideeffect.SHA256)
			return err
		},
	}
	for what, look := range looks {
		p.fake.full = true
		if err := look(); fault.KindOf(err) != fault.Overloaded || !strings.Contains(err.Error(), "later") {
			t.Errorf("%s without a place: %v", what, err)
		}
		p.fake.full = false
		if err := look(); err != nil || p.fake.inside != 0 {
			t.Errorf("%s: %v; %d places are still taken", what, err, p.fake.inside)
		}
	}
	p.fake.full = true
	if _, err := p.line.Node(ctx, "paris"); err != nil {
		t.Errorf("who it is: %v", err)
	}
}

// meddler writes to a file while it is read: whenever somebody looks at the context.
type meddler struct {
	context.Context
	write func()
}

func (m meddler) Err() error {
	m.write()
	return m.Context.Err()
}

// TestChangedDigest: a digest is of the file that its entry says, or none.
func TestChangedDigest(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "f")
	s := NewShelf(func() engine.Book {
		return engine.Book{Rules: map[string]*engine.Rule{"r": {Name: "r", Direction: engine.Receive, Partners: []string{"p"}, Root: dir}}}
	})
	for what, change := range map[string]func(){
		"longer":     func() { must(0, os.WriteFile(name, make([]byte, 1000), 0o600)) },
		"shorter":    func() { must(0, os.Truncate(name, 10)) },
		"other time": func() { must(0, os.Chtimes(name, time.Unix(1, 0), time.Unix(1, 0))) },
	} {
		must(0, os.WriteFile(name, make([]byte, 100), 0o600))
		if _, _, err := s.Digest(meddler{within(t), change}, "p", "r", path("f"), sideeffect.BLAKE3); fault.KindOf(err) != fault.SourceChanged {
			t.Errorf("%s: %v", what, err)
		}
	}
}
