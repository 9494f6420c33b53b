package sideeffect

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/relpath"
)

// TestPartialName: where OpenSink keeps what has arrived, and known again by its name.
func TestPartialName(t *testing.T) {
	seen := map[string]bool{}
	long := strings.Repeat("ü", 127)
	for _, target := range []string{"a", "dir/b.txt", "x/" + long, "x/" + long + "1", "12", "1"} {
		for _, key := range []string{"", "k", "2", "2k"} {
			p, err := relpath.Parse(target)
			if err != nil {
				t.Fatal(err)
			}
			got, err := PartialName(p, key)
			if err != nil || got.Base() != partialName(p.Base(), key) || got.Dir() != p.Dir() || !IsPartial(got.Base()) || seen[got.String()] {
				t.Errorf("%q, key %q: %q %v", target, key, got, err)
			}
			seen[got.String()] = true
			if _, err := got.Dir().Join(stateName(got.Base()) + newSuffix); err != nil {
				t.Errorf("%q, key %q: %v", target, key, err)
			}
		}
	}
	for _, name := range []string{"", "a", ".a", tempName("a"), stateName(partialName("a", "")), ".a.pannier-r", "a.pannier-r0123456789abcdef", ".pannier-r0123456789abcdef",
		".a.pannier-r0123456789abcdeg", ".a.pannier-r0123456789abcdef0", ".a.pannier-r0123456789ABCDEF"} {
		if IsPartial(name) {
			t.Errorf("%q", name)
		}
	}
}

// TestOwnNames: nobody reads or writes what transfers keep for themselves, nor below
// a directory of such a name, by File.
func TestOwnNames(t *testing.T) {
	root, dir := newRoot(t)
	partial := partialName("f", "")
	noError(t, os.Mkdir(filepath.Join(dir, ".d.pannier-x"), 0o755))
	write(t, dir, ".d.pannier-x/f", []byte("f"))
	for _, name := range []string{partial, stateName(partial), stateName(partial) + newSuffix, partialName("f", "key"), tempName("f"), ".f.PANNIER-r", ".d.pannier-x/f"} {
		if filepath.Dir(name) == "." {
			write(t, dir, name, []byte("unfinished"))
		}
		d := descriptor(File(root, name))
		_, err := d.OpenSource(t.Context())
		wantKind(t, err, fault.Invalid)
		if err == nil || !strings.Contains(fault.Text(err), "use another name") || strings.Contains(fault.Text(err), name) {
			t.Errorf("%s: what the other end reads of it is %q", name, fault.Text(err))
		}
		for _, mode := range []Mode{Replace, CreateNew, Truncate, Append, AtOffset} {
			d.Mode = mode
			d.Resume = mode == Replace
			_, err := d.OpenSink(-1, ResumePoint{})
			wantKind(t, err, fault.Invalid)
		}
		p, err := relpath.Parse(name)
		noError(t, err)
		kept := Kept{Root: root, Name: p}
		wantKind(t, kept.Publish(t.Context(), Replace, Whole{Size: 10, BlockSize: 4096}), fault.Invalid)
		wantKind(t, kept.Discard(), fault.Invalid)
	}
	for _, name := range []string{"pannier-notes", "a.pannier-r", ".pannier", "..pannier", ".x.pannie-r", "d.pannier-x"} {
		if IsOwn(name) {
			t.Errorf("%q is anybody's", name)
		}
	}
}

// TestKeyedPartials: two runs to one name with keys of their own write at the same
// time, go on with their own bytes only, and the last to end has the name.
func TestKeyedPartials(t *testing.T) {
	root, dir := newRoot(t)
	contents := [][]byte{content(20 * testBlock), content(30 * testBlock)}
	var ds, es []*Descriptor
	for i, b := range contents {
		name := string('1' + rune(i))
		write(t, dir, name, b)
		e := descriptor(File(root, "dst"))
		e.Resume, e.ResumeKey, e.Params.SyncEvery = true, name, testBlock
		ds, es = append(ds, descriptor(File(root, name))), append(es, e)
		r := transfer(t, ds[i], e, func(l *link) { l.breakAt = 7 * testBlock })
		wantKind(t, r.storeErr, fault.Lost)
	}
	for i, e := range es {
		if p := pointOf(t, e); p.Offset != 7*testBlock {
			t.Errorf("%d: offered from %d", i, p.Offset)
		}
		other := *e
		other.ResumeKey = "of nobody"
		if p := pointOf(t, &other); p.Offset != 0 {
			t.Errorf("%d: %d bytes are offered to another key", i, p.Offset)
		}
	}
	first, err := es[0].OpenSink(-1, pointOf(t, es[0]))
	noError(t, err)
	r := transfer(t, ds[1], es[1], nil)
	noError(t, r.storeErr)
	if r.stored.ResumedFrom != 7*testBlock {
		t.Errorf("resumed from %d", r.stored.ResumedFrom)
	}
	noError(t, Kept{Root: root, Name: mustParse(t, "dst"), Key: "2"}.Discard())
	wantKind(t, Kept{Root: root, Name: mustParse(t, "dst"), Key: "1"}.Discard(), fault.Overloaded)
	noError(t, first.Abort(true))
	noError(t, first.Close())
	r = transfer(t, ds[0], es[0], nil)
	noError(t, r.storeErr)
	wantFiles(t, dir, "1", contents[0], "2", contents[1], "dst", contents[0])
}

func mustParse(t *testing.T, s string) relpath.Path {
	t.Helper()
	p, err := relpath.Parse(s)
	noError(t, err)
	return p
}
