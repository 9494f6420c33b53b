package sideeffect

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pannier/pannier/spec/fault"
)

// putAll writes b to a sink in blocks of 1000 bytes and commits.
func putAll(s Sink, b []byte) error {
	for off := 0; off < len(b); off += 1000 {
		if err := s.WriteBlock(b[off:min(off+1000, len(b))], int64(off)); err != nil {
			return err
		}
	}
	return s.Commit()
}

// The order that makes an atomic name survive a power cut, for each mode.
func TestOrderOfOperations(t *testing.T) {
	t.Parallel()
	const taken, created = "open dst", "open dst, create dst"
	for _, tc := range []struct {
		mode   Mode
		exists bool
		noSync bool
		want   string
	}{
		{Replace, false, false, "create temp, write temp, sync temp, rename temp to dst, syncdir"},
		{Replace, true, false, "create temp, write temp, sync temp, rename temp to dst, syncdir"},
		{Replace, true, true, "create temp, write temp, rename temp to dst"},
		{CreateNew, false, false, "create temp, write temp, sync temp, link temp to dst, remove temp, syncdir"},
		{Truncate, false, false, created + ", write dst, sync dst, syncdir"},
		{Truncate, true, false, taken + ", write dst, sync dst, syncdir"},
		{Append, true, false, taken + ", write dst, sync dst, syncdir"},
		{AtOffset, false, false, created + ", write dst, sync dst, syncdir"},
	} {
		root, dir := newRoot(t)
		if tc.exists {
			write(t, dir, "dst", nil)
		}
		l := &faulty{}
		s, err := FileOn(l, root, "dst").OpenSink(SinkSpec{Mode: tc.mode, NoSync: tc.noSync, Size: -1})
		noError(t, err)
		noError(t, putAll(s, content(5000)))
		noError(t, s.Close())
		if l.String() != tc.want {
			t.Errorf("%v, exists %v:\n got %s\nwant %s", tc.mode, tc.exists, l, tc.want)
		}
		wantFiles(t, dir, "dst", content(5000))
	}
}

func TestOrderOfCheckpoints(t *testing.T) {
	t.Parallel()
	root, _ := newRoot(t)
	l := &faulty{}
	d, e := descriptor(Memory(content(8*testBlock))), descriptor(FileOn(l, root, "dst"))
	e.Resume, e.Params.SyncEvery = true, testBlock
	r := transfer(t, d, e, nil)
	noError(t, r.storeErr)
	// Blocks are written while a sync runs, so that only the order of what
	// depends on each other is sure.
	const record = "create state.new, write state.new, sync state.new, rename state.new to state, syncdir"
	got := l.String()
	parts := strings.Split(got, record)
	if len(parts) < 3 {
		t.Fatalf("%d offsets recorded, at least 2 are due:\n%s", len(parts)-1, got)
	}
	for _, before := range parts[:len(parts)-1] {
		if !strings.Contains(before, "syncdata partial") {
			t.Errorf("an offset was recorded without a sync before it:\n%s", got)
		}
	}
	const end = "rename partial to dst, remove state, remove state.new, syncdir"
	if strings.Contains(strings.Join(parts, ""), "state.new to") || !strings.HasSuffix(got, end) || strings.Count(got, "rename partial") != 1 {
		t.Errorf("the order is\n%s\nwant records as\n%s\nand in the end\n%s", got, record, end)
	}
}

// Whatever fails, wherever: a typed error, the old content or nothing under
// the name, and no temporary.
func TestFaultsLeaveNothing(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		op   string
		err  error
		kind fault.Kind
	}{
		{"create", unix.ENOSPC, fault.NoSpace}, {"allocate", unix.ENOSPC, fault.NoSpace}, {"write", unix.ENOSPC, fault.NoSpace},
		{"write", unix.EDQUOT, fault.NoSpace}, {"write", unix.EFBIG, fault.NoSpace}, {"write", unix.EIO, fault.IO},
		{"sync", unix.EIO, fault.IO}, {"rename", unix.EIO, fault.IO}, {"rename", unix.EROFS, fault.IO},
		{"shortwrite", nil, fault.IO}, {"link", unix.EIO, fault.IO},
	} {
		for nth := 1; nth <= 3; nth++ {
			for _, mode := range []Mode{Replace, CreateNew} {
				failOnce(t, &faulty{op: tc.op, nth: nth, err: tc.err, short: 100}, mode, tc.kind)
			}
		}
	}
}

func failOnce(t *testing.T, l *faulty, mode Mode, kind fault.Kind) {
	root, dir := newRoot(t)
	old := []byte("old content")
	if mode == Replace {
		write(t, dir, "dst", old)
	}
	d, e := descriptor(Memory(content(allocateFrom+300))), descriptor(FileOn(l, root, "dst"))
	e.Mode = mode
	r := transfer(t, d, e, nil)
	if l.op != "shortwrite" && l.count[l.op] < l.nth {
		noError(t, r.storeErr) // the fault was not reached
		return
	}
	wantKind(t, r.storeErr, kind)
	if r.sendErr == nil {
		t.Fatalf("%s %d: the source heard of success", l.op, l.nth)
	}
	if mode == Replace {
		wantFiles(t, dir, "dst", old)
	} else {
		wantFiles(t, dir)
	}
}

// A sync that failed once is never tried again (F5).
func TestSyncFailurePoisons(t *testing.T) {
	t.Parallel()
	root, dir := newRoot(t)
	for _, op := range []string{"syncdata", "sync"} {
		l := &faulty{op: op, nth: 1, err: unix.EIO}
		s, err := FileOn(l, root, "dst").OpenSink(SinkSpec{Size: -1})
		noError(t, err)
		noError(t, s.WriteBlock([]byte("x"), 0))
		if op == "syncdata" {
			_, err = s.Sync()
			wantKind(t, err, fault.IO)
		}
		wantKind(t, s.Commit(), fault.IO)
		wantKind(t, s.Commit(), fault.IO)
		_, err = s.Sync()
		wantKind(t, err, fault.IO)
		wantKind(t, s.WriteBlock([]byte("y"), 1), fault.IO)
		if n := l.count["sync"] + l.count["syncdata"]; n != 1 {
			t.Errorf("%s: synced %d times", op, n)
		}
		noError(t, s.Close())
		wantFiles(t, dir)
	}
}

func TestDirectorySyncFailureIsNoSuccess(t *testing.T) {
	t.Parallel()
	root, _ := newRoot(t)
	s, _ := FileOn(&faulty{op: "syncdir", nth: 1, err: unix.EIO}, root, "dst").OpenSink(SinkSpec{})
	wantKind(t, putAll(s, []byte("x")), fault.IO)
	noError(t, s.Close())
}

func TestAbortUndoes(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		mode   Mode
		exists bool
		want   []any
	}{
		{Replace, false, nil}, {Replace, true, []any{"dst", []byte("old")}}, {CreateNew, false, nil},
		{Truncate, false, nil}, {Append, false, nil}, {AtOffset, false, nil},
		{Append, true, []any{"dst", []byte("old")}},
	} {
		for _, abort := range []func(Sink) error{func(s Sink) error { return s.Abort(true) }, Sink.Close} {
			root, dir := newRoot(t)
			if tc.exists {
				write(t, dir, "dst", []byte("old"))
			}
			s, err := File(root, "dst").OpenSink(SinkSpec{Mode: tc.mode})
			noError(t, err)
			noError(t, s.WriteBlock([]byte("new bytes"), 0))
			noError(t, abort(s))
			noError(t, s.Close())
			wantFiles(t, dir, tc.want...)
		}
	}
}

func TestCreateNewNeverReplaces(t *testing.T) {
	t.Parallel()
	root, dir := newRoot(t)
	s, err := File(root, "dst").OpenSink(SinkSpec{Mode: CreateNew})
	noError(t, err)
	write(t, dir, "dst", []byte("came meanwhile"))
	wantKind(t, putAll(s, []byte("new")), fault.Exists)
	noError(t, s.Close())
	wantFiles(t, dir, "dst", []byte("came meanwhile"))
	_, err = File(root, "dst").OpenSink(SinkSpec{Mode: CreateNew})
	wantKind(t, err, fault.Exists)
}

func TestReplaceKeepsPermissions(t *testing.T) {
	t.Parallel()
	root, dir := newRoot(t)
	noError(t, os.WriteFile(filepath.Join(dir, "dst"), nil, 0o640))
	for _, perm := range []os.FileMode{0o604, 0} {
		noError(t, os.Chmod(filepath.Join(dir, "dst"), perm))
		s, _ := File(root, "dst").OpenSink(SinkSpec{})
		noError(t, putAll(s, []byte("x")))
		noError(t, s.Close())
		if fi, _ := root.Stat("dst"); fi.Mode().Perm() != perm {
			t.Errorf("mode %v, want %v", fi.Mode(), perm)
		}
	}
}

// What is not a regular file is refused without waiting; FIFOs would hang.
func TestOnlyRegularFiles(t *testing.T) {
	t.Parallel()
	root, dir := newRoot(t)
	noError(t, syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o600))
	noError(t, os.Mkdir(filepath.Join(dir, "dir"), 0o700))
	noError(t, os.Symlink("fifo", filepath.Join(dir, "tofifo")))
	noError(t, os.Symlink("/etc/passwd", filepath.Join(dir, "outside")))
	noError(t, os.Symlink("../../../../etc/passwd", filepath.Join(dir, "climb")))
	write(t, dir, "file", nil)
	for _, name := range []string{"fifo", "dir", "tofifo", "outside", "climb", "none", "file/x", "../x", "/etc/passwd", "", "a\x00b"} {
		if _, err := File(root, name).OpenSource(SourceSpec{}); err == nil {
			t.Errorf("source %q opened", name)
		}
		for m := Replace; m <= AtOffset; m++ {
			if name == "none" {
				continue
			}
			if s, err := File(root, name).OpenSink(SinkSpec{Mode: m}); err == nil {
				t.Errorf("sink %q opened with mode %v", name, m)
				s.Close()
			}
		}
	}
	_, err := File(root, "fifo").OpenSource(SourceSpec{})
	wantKind(t, err, fault.Invalid)
	_, err = File(root, "fifo").OpenSink(SinkSpec{})
	wantKind(t, err, fault.Invalid)
	_, err = File(nil, "x").OpenSource(SourceSpec{})
	wantKind(t, err, fault.Invalid)
}

// Names swapped between a directory and a link out of the root, while files
// are opened: nothing is ever written or read outside.
func TestSwappedLinks(t *testing.T) {
	t.Parallel()
	root, dir := newRoot(t)
	outside := t.TempDir()
	write(t, outside, "f", []byte("secret"))
	noError(t, os.Mkdir(filepath.Join(dir, "real"), 0o700))
	write(t, filepath.Join(dir, "real"), "f", []byte("public"))
	noError(t, os.Symlink(outside, filepath.Join(dir, "link")))
	noError(t, os.Symlink("real", filepath.Join(dir, "d")))
	ctx, cancel := context.WithCancel(context.Background())
	var swapper sync.WaitGroup
	swapper.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			tmp := filepath.Join(dir, "tmp")
			os.Symlink([]string{"real", outside}[i%2], tmp)
			os.Rename(tmp, filepath.Join(dir, "d"))
		}
	})
	for range 2000 {
		if s, err := File(root, "d/f").OpenSource(SourceSpec{}); err == nil {
			b := make([]byte, 6)
			s.ReadBlock(b, 0)
			s.Close()
			if string(b) != "public" {
				t.Fatalf("read %q", b)
			}
		}
		if s, err := File(root, "d/g").OpenSink(SinkSpec{NoSync: true}); err == nil {
			putAll(s, []byte("x"))
			s.Close()
		}
	}
	cancel()
	swapper.Wait()
	wantFiles(t, outside, "f", []byte("secret"))
}

// Whatever happens to the source while it is read: SourceChanged, or one
// version, never a mixture.
func TestSourceChanges(t *testing.T) {
	t.Parallel()
	b := content(10 * testBlock)
	for name, change := range map[string]func(path string) error{
		"truncate":  func(p string) error { return os.Truncate(p, 3*testBlock) },
		"empty":     func(p string) error { return os.Truncate(p, 0) },
		"append":    func(p string) error { return appendTo(p, []byte("x")) },
		"overwrite": func(p string) error { return overwrite(p, 9*testBlock, []byte("x")) },
		"replace":   func(p string) error { return replaceFile(p, content(len(b))) },
		"delete":    os.Remove,
	} {
		for at := range 10 {
			root, dir := newRoot(t)
			write(t, dir, "src", b)
			old := filepath.Join(dir, "src")
			noError(t, os.Chtimes(old, past(), past()))
			src, err := File(root, "src").OpenSource(SourceSpec{})
			noError(t, err)
			var got bytes.Buffer
			sink, _ := Buffer(&got).OpenSink(SinkSpec{})
			l := newLink(0, [16]byte{}, testBlock)
			meddling := &meddler{Source: src, at: at, do: func() { noError(t, change(old)) }}
			r := run(context.Background(), l, meddling, SendPlan{Quota: NoQuota, Limit: NoQuota}, sink, ReceivePlan{Quota: NoQuota})
			wantKind(t, r.sendErr, fault.SourceChanged)
			if got.Len() != 0 {
				t.Fatalf("%s at %d: stored %s", name, at, short(got.Bytes()))
			}
		}
	}
}

// meddler changes the source before the at-th block is read.
type meddler struct {
	Source
	at, n int
	do    func()
}

func (m *meddler) ReadBlock(p []byte, off int64) (int, error) {
	if m.n == m.at {
		m.do()
	}
	m.n++
	return m.Source.ReadBlock(p, off)
}

func appendTo(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Close())
}

func overwrite(path string, off int64, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, off)
	return errors.Join(err, f.Close())
}

func replaceFile(path string, b []byte) error {
	if err := os.WriteFile(path+".new", b, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func TestTemporaryNamesFit(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, base := range []string{"a", strings.Repeat("a", 255), strings.Repeat("a", 254) + "b", strings.Repeat("é", 127)} {
		for _, n := range []string{tempName(base), partialName(base, ""), stateName(partialName(base, "")), stateName(partialName(base, "")) + newSuffix} {
			if len(n) > 255 || !strings.HasPrefix(n, ".") || strings.ToValidUTF8(n, "?") != n || seen[n] {
				t.Errorf("%d bytes: %q", len(n), n)
			}
			seen[n] = true
		}
	}
}

// TestPartialKeepsPermissions: what is secret in the old file is secret in the
// partial one, also in one that an earlier run has left, and in its state.
func TestPartialKeepsPermissions(t *testing.T) {
	t.Parallel()
	for _, earlier := range []bool{false, true} {
		root, dir := newRoot(t)
		d := descriptor(File(root, "f"))
		d.Resume = true
		perm := func(name string) os.FileMode {
			t.Helper()
			fi, err := os.Stat(filepath.Join(dir, name))
			noError(t, err)
			return fi.Mode().Perm()
		}
		if earlier {
			sink, err := d.OpenSink(-1, ResumePoint{})
			noError(t, err)
			noError(t, sink.WriteBlock(content(testBlock), 0))
			_, err = sink.Sync()
			noError(t, err)
			noError(t, sink.(Keeper).Keep(ResumePoint{BlockSize: testBlock, Offset: testBlock, Version: Version{ino: 1}}))
			noError(t, sink.Abort(true))
			sink.Close()
			if p := perm(partialName("f", "")); p&0o077 == 0 {
				t.Skipf("the umask makes every file secret: %v", p)
			}
		}
		write(t, dir, "f", []byte("old"))
		noError(t, os.Chmod(filepath.Join(dir, "f"), 0o600))
		sink, err := d.OpenSink(-1, ResumePoint{})
		noError(t, err)
		if p := perm(partialName("f", "")); p != 0o600 {
			t.Errorf("after an earlier run %v the partial file has mode %v, the old file %v", earlier, p, perm("f"))
		}
		noError(t, sink.WriteBlock(content(testBlock), 0))
		_, err = sink.Sync()
		noError(t, err)
		noError(t, sink.(Keeper).Keep(ResumePoint{BlockSize: testBlock, Offset: testBlock, Version: Version{ino: 1}}))
		if p := perm(stateName(partialName("f", ""))); p != 0o600 {
			t.Errorf("its state has mode %v", p)
		}
		sink.Close()
	}
}

// TestClosedTooEarly: a root or file that its owner has closed is a mistake of the owner's; nobody has cancelled anything.
func TestClosedTooEarly(t *testing.T) {
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	f, err := root.Create("f")
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	root.Close()
	for _, id := range []Identity{File(root, "f"), FD(f)} {
		_, err := id.OpenSource(SourceSpec{})
		wantKind(t, err, fault.Invalid)
		for _, mode := range []Mode{Replace, Append} {
			_, err = id.OpenSink(SinkSpec{Mode: mode})
			wantKind(t, err, fault.Invalid)
		}
	}
}
