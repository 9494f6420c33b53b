package sideeffect

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/relpath"
)

// diary is a Ledger that remembers what it was told, and may refuse one thing.
type diary struct {
	lines  []string
	whole  Whole
	refuse string
}

func (d *diary) note(format string, args ...any) error {
	line := fmt.Sprintf(format, args...)
	d.lines = append(d.lines, line)
	if d.refuse != "" && strings.HasPrefix(line, d.refuse) {
		return fault.New("write down", fault.IO, "refused")
	}
	return nil
}

func (d *diary) Opening(from, size int64) error  { return d.note("opening %d of %d", from, size) }
func (d *diary) Durable(offset int64) error      { return d.note("durable %d", offset) }
func (d *diary) Named() error                    { return d.note("named") }
func (d *diary) Ended(size int64, sum Sum) error { return d.note("ended %d %v", size, sum.Algorithm) }
func (d *diary) Whole(w Whole) error {
	d.whole = w
	return d.note("whole %d %v", w.Size, w.Digest.Algorithm)
}

func TestLedger(t *testing.T) {
	for _, refuse := range []string{"", "opening", "durable", "whole", "ended"} {
		root, dir := newRoot(t)
		from, to := &diary{}, &diary{}
		if refuse == "ended" {
			from.refuse = refuse
		} else {
			to.refuse = refuse
		}
		b := content(5 * testBlock)
		d, e := descriptor(Memory(b)), descriptor(File(root, "dst"))
		d.Ledger, e.Ledger, d.Hash, e.Hash = from, to, SHA256, SHA256
		e.Resume, e.Params.SyncEvery = true, testBlock
		r := transfer(t, d, e, nil)
		if refuse != "" {
			if r.storeErr == nil || r.sendErr == nil {
				t.Errorf("%s refused, and yet: %v, %v", refuse, r.storeErr, r.sendErr)
			}
			if _, err := os.Stat(filepath.Join(dir, "dst")); err == nil {
				t.Errorf("%s refused, and the file has its name", refuse)
			}
			continue
		}
		noError(t, r.storeErr)
		got := strings.Join(to.lines, ", ")
		if !strings.HasPrefix(got, fmt.Sprintf("opening 0 of %d, durable ", len(b))) || !strings.HasSuffix(got, fmt.Sprintf("whole %d sha256, named", len(b))) {
			t.Errorf("the sink was told %s", got)
		}
		if got := strings.Join(from.lines, ", "); got != fmt.Sprintf("ended %d sha256", len(b)) {
			t.Errorf("the source was told %s", got)
		}
	}
}

func TestWholeAsText(t *testing.T) {
	for _, a := range []Algorithm{None, SHA256, SHA512, BLAKE3} {
		h, err := NewHasher(a)
		noError(t, err)
		h.Write(content(100))
		w := Whole{Size: 100, BlockSize: 4096, Root: FoldRoot([RootSize]byte{}, 0, content(100)), Digest: h.Sum()}
		s := w.String()
		back, err := ParseWhole(100, s)
		if err != nil || back.String() != s || back.Root != w.Root || !back.Digest.Equal(w.Digest) || len(s) > 180 {
			t.Errorf("%s became %+v, %v", s, back, err)
		}
		for i := range s { // nothing that is cut is taken for the same
			if cut, err := ParseWhole(100, s[:i]); err == nil && cut.String() == s {
				t.Errorf("%q is taken for %q", s[:i], s)
			}
		}
	}
	for _, s := range []string{"", ":", "0:", "x:00", "4096:00", "-1:00000000000000000000000000000000", "4096:00000000000000000000000000000000:md5:00", "9999999:00000000000000000000000000000000"} {
		if _, err := ParseWhole(1, s); !errors.Is(err, fault.Corrupt) {
			t.Errorf("%q: %v", s, err)
		}
	}
}

// TestPublish finishes what a crash has left between WHOLE and the name.
func TestPublish(t *testing.T) {
	ctx := context.Background()
	b := content(3*testBlock + 7)
	name, err := relpath.Parse("sub/dst")
	noError(t, err)
	for _, mode := range []Mode{Replace, CreateNew} {
		root, dir := newRoot(t)
		kept := Kept{Root: root, Name: name, Key: "mine"}
		noError(t, os.Mkdir(filepath.Join(dir, "sub"), 0o755))
		if mode == Replace {
			write(t, dir, "sub/dst", []byte("old"))
		}
		crash := errors.New("the process dies here")
		ledger := &diary{}
		d, e := descriptor(Memory(b)), descriptor(File(root, name.String()))
		e.Mode, e.Resume, e.ResumeKey = mode, true, kept.Key
		e.Ledger = dying{ledger, crash}
		r := transfer(t, d, e, nil)
		if r.storeErr == nil {
			t.Fatal("it did not die")
		}
		partial := filepath.Join(dir, "sub", partialName("dst", kept.Key))
		noError(t, os.WriteFile(partial, b, 0o644)) // as a real death leaves it: the sink has not tidied up
		noError(t, os.WriteFile(stateName(partial), []byte("state"), 0o644))
		w := ledger.whole
		other := w
		other.Root[0]++
		if err := kept.Publish(ctx, mode, other); fault.KindOf(err) != fault.NotFound {
			t.Errorf("%v: another whole: %v", mode, err)
		}
		hasName := func(want bool) {
			t.Helper()
			if has, err := kept.HasName(ctx, w); err != nil || has != want {
				t.Errorf("%v: it has its name: %v, %v; want %v", mode, has, err, want)
			}
		}
		hasName(false)
		noError(t, kept.Publish(ctx, mode, w))
		if _, err := os.Stat(stateName(partial)); err == nil {
			t.Errorf("%v: the state is left", mode)
		}
		got, err := os.ReadFile(filepath.Join(dir, "sub/dst"))
		noError(t, err)
		if !bytes.Equal(got, b) {
			t.Errorf("%v: %d bytes, want %d", mode, len(got), len(b))
		}
		noError(t, kept.Publish(ctx, mode, w)) // a crash right after it
		if mode == CreateNew {                 // and one between its two names
			noError(t, os.Link(filepath.Join(dir, "sub/dst"), partial))
			noError(t, kept.Publish(ctx, mode, w))
			noError(t, os.Link(filepath.Join(dir, "sub/dst"), partial))
			hasName(true)
			noError(t, os.WriteFile(partial, b, 0o644)) // another has made the same file: it was the first
			hasName(false)
			wantKind(t, kept.Publish(ctx, mode, w), fault.Exists)
			noError(t, os.Remove(partial))
		}
		hasName(true)
		if left, _ := filepath.Glob(filepath.Join(dir, "sub", ".*")); len(left) > 0 {
			t.Errorf("%v: left over: %v", mode, left)
		}
		noError(t, os.Remove(filepath.Join(dir, "sub/dst")))
		if err := kept.Publish(ctx, mode, w); fault.KindOf(err) != fault.NotFound {
			t.Errorf("%v: nothing there: %v", mode, err)
		}
		hasName(false)
	}
}

// dying notes, and dies at WHOLE.
type dying struct {
	*diary
	err error
}

func (d dying) Whole(w Whole) error { return errors.Join(d.diary.Whole(w), d.err) }

func TestDiscard(t *testing.T) {
	root, dir := newRoot(t)
	name, err := relpath.Parse("dst")
	noError(t, err)
	write(t, dir, "dst", []byte("old"))
	write(t, dir, partialName("dst", ""), []byte("partial"))
	write(t, dir, stateName(partialName("dst", "")), []byte("state"))
	write(t, dir, stateName(partialName("dst", ""))+newSuffix, []byte("new state"))
	for range 2 {
		noError(t, Kept{Root: root, Name: name}.Discard())
		wantFiles(t, dir, "dst", []byte("old"))
	}
	missing, err := relpath.Parse("no/such/directory")
	noError(t, err)
	noError(t, Kept{Root: root, Name: missing}.Discard())
}

// TestDiscardLeavesOthers: what a transfer is writing to stays its own, and a file
// that has taken its place does not get the name.
func TestDiscardLeavesOthers(t *testing.T) {
	root, dir := newRoot(t)
	name, err := relpath.Parse("dst")
	noError(t, err)
	e := descriptor(File(root, "dst"))
	e.Resume = true
	open := func() Sink {
		s, err := e.OpenSink(100, ResumePoint{})
		noError(t, err)
		return s
	}
	s := open()
	defer s.Close()
	noError(t, s.WriteBlock([]byte("mine"), 0))
	kept := Kept{Root: root, Name: name}
	wantKind(t, kept.Discard(), fault.Overloaded)
	partial := filepath.Join(dir, partialName("dst", ""))
	noError(t, os.Remove(partial)) // by hand
	other := open()
	defer other.Close()
	noError(t, other.WriteBlock([]byte("half of another"), 0))
	wantKind(t, s.Commit(), fault.Stale)
	write(t, dir, stateName(partialName("dst", "")), []byte("of the other"))
	noError(t, s.Abort(false))
	if _, err := os.Stat(partial); err != nil {
		t.Errorf("giving up one transfer has taken what another one is writing: %v", err)
	}
	if _, err := os.Stat(stateName(partial)); err != nil {
		t.Errorf("giving up one transfer has taken the state of another one: %v", err)
	}
	noError(t, os.Remove(stateName(partial)))
	if _, err := os.Stat(filepath.Join(dir, "dst")); err == nil {
		t.Error("one transfer has given the name to what another one is writing")
	}
	noError(t, other.Commit())
	wantFiles(t, dir, "dst", []byte("half of another"))
	noError(t, kept.Discard())
}
