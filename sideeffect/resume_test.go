package sideeffect

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pannier/pannier/spec/fault"
)

// broken runs a transfer of b into dst that is cut after at bytes, and
// returns the descriptors to try again with.
func broken(t testing.TB, root *os.Root, dir string, b []byte, at int64, a Algorithm) (d, e *Descriptor) {
	t.Helper()
	write(t, dir, "src", b)
	d, e = descriptor(File(root, "src")), descriptor(File(root, "dst"))
	d.Hash, e.Hash, e.Resume, e.Params.SyncEvery = a, a, true, 3*testBlock
	r := transfer(t, d, e, func(l *link) { l.breakAt = at })
	wantKind(t, r.storeErr, fault.Lost)
	return d, e
}

// pointOf is what a sink offers.
func pointOf(t testing.TB, d *Descriptor) ResumePoint {
	t.Helper()
	p, err := d.ResumePoint(context.Background())
	if err != nil {
		t.Errorf("resume point: %v", err)
	}
	return p
}

func TestResume(t *testing.T) {
	t.Parallel()
	b := content(20*testBlock + 99)
	for _, a := range []Algorithm{None, SHA256, SHA512, BLAKE3} {
		for _, at := range []int64{0, 1, testBlock, 7 * testBlock, 20 * testBlock, 20*testBlock + 98} {
			root, dir := newRoot(t)
			d, e := broken(t, root, dir, b, at, a)
			// What arrived whole is what the next run starts from.
			point := pointOf(t, e)
			if point.Offset != at/testBlock*testBlock {
				t.Fatalf("cut at %d: resume point %d", at, point.Offset)
			}
			r := transfer(t, d, e, nil)
			noError(t, r.storeErr)
			noError(t, r.sendErr)
			wantFiles(t, dir, "dst", b, "src", b)
			if r.stored.ResumedFrom != point.Offset || r.sent.ResumedFrom != point.Offset || r.stored.Bytes != int64(len(b)) {
				t.Fatalf("%+v, %+v, point %d", r.sent, r.stored, point.Offset)
			}
			if a != None && !bytes.Equal(r.stored.Digest.Bytes, want(a, b)) {
				t.Fatalf("%v: digest %v", a, r.stored.Digest)
			}
		}
	}
}

// A failing disk leaves a partial file that a later run continues.
func TestResumeAfterFullDisk(t *testing.T) {
	t.Parallel()
	b := content(20 * testBlock)
	for nth := 1; nth <= 20; nth++ {
		root, dir := newRoot(t)
		write(t, dir, "src", b)
		// State files are written too: both kinds of write fail from here on.
		l := &faulty{op: "write", nth: nth, from: true, err: unix.ENOSPC, short: 1000}
		d, e := descriptor(File(root, "src")), descriptor(FileOn(l, root, "dst"))
		d.Hash, e.Hash, e.Resume, e.Params.SyncEvery = BLAKE3, BLAKE3, true, 2*testBlock
		r := transfer(t, d, e, nil)
		wantKind(t, r.storeErr, fault.NoSpace)
		e.Local = File(root, "dst")
		point := pointOf(t, e)
		if r.stored.Durable != point.Offset || r.sent.Durable > point.Offset {
			t.Fatalf("write %d: durable %d, told %d, can resume at %d", nth, r.stored.Durable, r.sent.Durable, point.Offset)
		}
		r = transfer(t, d, e, nil)
		noError(t, r.storeErr)
		wantFiles(t, dir, "dst", b, "src", b)
	}
}

// Everything that does not fit means from zero, and the target is right.
func TestNeverSpliced(t *testing.T) {
	t.Parallel()
	b := content(20 * testBlock)
	changed := bytes.Clone(b)
	changed[5] ^= 1
	flip := func(off int64) func(dir string) {
		return func(dir string) {
			p := filepath.Join(dir, partialName("dst", ""))
			c, _ := os.ReadFile(p)
			c[off] ^= 0x10
			os.WriteFile(p, c, 0o600)
		}
	}
	state := func(change func([]byte) []byte) func(dir string) {
		return func(dir string) {
			p := filepath.Join(dir, stateName(partialName("dst", "")))
			c, _ := os.ReadFile(p)
			os.WriteFile(p, change(c), 0o600)
		}
	}
	for name, tc := range map[string]struct {
		damage func(dir string)
		then   []byte
	}{
		"source replaced":         {func(dir string) { replaceFile(filepath.Join(dir, "src"), changed) }, changed},
		"source overwritten":      {func(dir string) { overwrite(filepath.Join(dir, "src"), 0, changed) }, changed},
		"source shorter":          {func(dir string) { os.Truncate(filepath.Join(dir, "src"), testBlock) }, b[:testBlock]},
		"last block damaged":      {flip(9*testBlock - 3), b},
		"first block damaged":     {flip(3), b},
		"block before damaged":    {flip(8*testBlock - 1), b},
		"partial shortened":       {func(dir string) { os.Truncate(filepath.Join(dir, partialName("dst", "")), 3*testBlock) }, b},
		"partial gone":            {func(dir string) { os.Remove(filepath.Join(dir, partialName("dst", ""))) }, b},
		"state gone":              {func(dir string) { os.Remove(filepath.Join(dir, stateName(partialName("dst", "")))) }, b},
		"state empty":             {state(func([]byte) []byte { return nil }), b},
		"state cut":               {state(func(c []byte) []byte { return c[:len(c)-1] }), b},
		"state flipped":           {state(func(c []byte) []byte { c[30] ^= 1; return c }), b},
		"state of another format": {state(func(c []byte) []byte { c[4] = 2; return c }), b},
	} {
		root, dir := newRoot(t)
		d, e := broken(t, root, dir, b, 9*testBlock, SHA256)
		tc.damage(dir)
		r := transfer(t, d, e, nil)
		if r.sendErr != nil || r.storeErr != nil {
			t.Fatalf("%s: %v, %v", name, r.sendErr, r.storeErr)
		}
		if r.stored.ResumedFrom != 0 {
			t.Errorf("%s: resumed from %d", name, r.stored.ResumedFrom)
		}
		wantFiles(t, dir, "dst", tc.then, "src", tc.then)
	}
}

// The same size and times, another content: the root of the prefix tells.
func TestPrefixDecidesBesideVersion(t *testing.T) {
	t.Parallel()
	b := content(20 * testBlock)
	root, dir := newRoot(t)
	_, e := broken(t, root, dir, b, 9*testBlock, None)
	src, err := File(root, "src").OpenSource(SourceSpec{})
	noError(t, err)
	defer src.Close()
	p := pointOf(t, e)
	if _, same, err := VerifyPrefix(context.Background(), src, p, None); !same || err != nil {
		t.Fatalf("the same source: %v, %v", same, err)
	}
	other := bytes.Clone(b)
	other[4*testBlock] ^= 1
	forged := forgedSource{bytesSource{other}, src.Version()}
	if _, same, _ := VerifyPrefix(context.Background(), forged, p, None); same {
		t.Error("another prefix was taken for the same")
	}
	forged = forgedSource{bytesSource{b}, Version{dev: 1}}
	if _, same, _ := VerifyPrefix(context.Background(), forged, p, None); same {
		t.Error("another version was taken for the same")
	}
}

type forgedSource struct {
	bytesSource
	v Version
}

func (f forgedSource) Version() Version { return f.v }

func TestPartialIsLocked(t *testing.T) {
	t.Parallel()
	root, dir := newRoot(t)
	spec := SinkSpec{Keep: true}
	first, err := File(root, "dst").OpenSink(spec)
	noError(t, err)
	noError(t, first.WriteBlock([]byte("first"), 0))
	_, err = File(root, "dst").OpenSink(spec)
	wantKind(t, err, fault.Overloaded)
	noError(t, first.Commit())
	noError(t, first.Close())
	second, err := File(root, "dst").OpenSink(spec)
	noError(t, err)
	noError(t, putAll(second, []byte("second")))
	noError(t, second.Close())
	wantFiles(t, dir, "dst", []byte("second"))
}

func TestStaleResumePoint(t *testing.T) {
	t.Parallel()
	root, dir := newRoot(t)
	_, e := broken(t, root, dir, content(20*testBlock), 9*testBlock, SHA256)
	p := pointOf(t, e)
	p.Root[0] ^= 1
	_, err := e.OpenSink(-1, p)
	wantKind(t, err, fault.Stale)
	wantFiles(t, dir, "src", nil, partialName("dst", ""), nil, stateName(partialName("dst", "")), nil)
	noError(t, errors.Join(root.Remove(partialName("dst", "")), root.Remove(stateName(partialName("dst", "")))))
	_, err = e.OpenSink(-1, p)
	wantKind(t, err, fault.Stale)
	wantFiles(t, dir, "src", nil) // what was opened for it is gone, too
}

// Keep takes only what Sync has returned.
func TestKeepNeedsSync(t *testing.T) {
	t.Parallel()
	root, dir := newRoot(t)
	s, err := File(root, "dst").OpenSink(SinkSpec{Keep: true})
	noError(t, err)
	defer s.Close()
	noError(t, s.WriteBlock(content(testBlock), 0))
	p := ResumePoint{BlockSize: testBlock, Offset: testBlock}
	wantKind(t, s.(Keeper).Keep(p), fault.Internal)
	_, err = s.Sync()
	noError(t, err)
	noError(t, s.(Keeper).Keep(p))
	wantFiles(t, dir, partialName("dst", ""), nil, stateName(partialName("dst", "")), nil)
}

func TestUntrustedFailuresKeepNothing(t *testing.T) {
	t.Parallel()
	for _, k := range fault.Kinds() {
		root, dir := newRoot(t)
		d, e := descriptor(Memory(content(9*testBlock))), descriptor(File(root, "dst"))
		e.Resume, e.Params.SyncEvery = true, testBlock
		src, _ := d.OpenSource(t.Context())
		sink, err := e.OpenSink(-1, ResumePoint{})
		noError(t, err)
		l := newLink(0, [16]byte{}, testBlock)
		failing := &meddler{Source: src, at: 5, do: func() { l.kill(fault.FromPeer("send", k, "injected")) }}
		r := run(context.Background(), l, failing, d.SendPlan(NoQuota, Fail), sink, e.ReceivePlan(-1, Version{}, testBlock))
		if r.storeErr == nil {
			t.Fatalf("%v: no error", k)
		}
		kept := pointOf(t, e).Offset > 0
		if kept && !trusted(r.storeErr) {
			t.Errorf("%v: the partial file was kept", k)
		}
		if !trusted(r.storeErr) {
			wantFiles(t, dir)
		}
	}
}

func FuzzParseState(f *testing.F) {
	h, _ := NewHasher(SHA256)
	h.Write(content(testBlock))
	hs, _ := h.MarshalBinary()
	good := state{ResumePoint: ResumePoint{BlockSize: testBlock, Offset: testBlock, Hash: SHA256, HashState: hs, Version: Version{dev: 1, ino: 2, size: 3}}, lastLen: testBlock}
	f.Add(good.encode())
	good.Hash, good.HashState = None, nil
	f.Add(good.encode())
	f.Add([]byte(stateMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := parseState(b)
		if err != nil {
			wantKind(t, err, fault.Corrupt)
			return
		}
		if again := s.encode(); !bytes.Equal(again, b) {
			t.Fatalf("%x is read and written as %x", b, again)
		}
	})
}

// Every byte of a state file is covered by its checksum.
func TestStateFlips(t *testing.T) {
	t.Parallel()
	good := state{ResumePoint: ResumePoint{BlockSize: testBlock, Offset: 3 * testBlock}, lastLen: testBlock}.encode()
	if _, err := parseState(good); err != nil {
		t.Fatal(err)
	}
	for i := range good {
		for bit := range 8 {
			bad := bytes.Clone(good)
			bad[i] ^= 1 << bit
			if _, err := parseState(bad); err == nil {
				t.Fatalf("byte %d bit %d flipped and not noticed", i, bit)
			}
		}
	}
}

func FuzzParseVersion(f *testing.F) {
	f.Add(Version{}.Encode())
	f.Add(Version{dev: 1, ino: 2, size: 3, mtime: 4, ctime: 5}.Encode())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := ParseVersion(b)
		if err == nil && len(b) > 0 && !bytes.Equal(v.Encode(), b) {
			t.Fatalf("%x is read and written as %x", b, v.Encode())
		}
	})
}

// One failed write: everything before it is kept, with the digest of just
// that.
func TestResumeAfterOneFailedWrite(t *testing.T) {
	t.Parallel()
	b := content(20 * testBlock)
	for nth := 1; nth <= 20; nth++ {
		root, dir := newRoot(t)
		write(t, dir, "src", b)
		l := &faulty{op: "write", nth: nth, err: unix.EIO, short: 1000}
		d, e := descriptor(File(root, "src")), descriptor(FileOn(l, root, "dst"))
		d.Hash, e.Hash, e.Resume = SHA512, SHA512, true
		r := transfer(t, d, e, nil)
		wantKind(t, r.storeErr, fault.IO)
		e.Local = File(root, "dst")
		if p := pointOf(t, e); p.Offset != int64(nth-1)*testBlock {
			t.Fatalf("write %d failed, resume point %d", nth, p.Offset)
		}
		r = transfer(t, d, e, nil)
		noError(t, r.storeErr)
		wantFiles(t, dir, "dst", b, "src", b)
	}
}

// Damage in the last block is found without reading the rest.
func TestResumeChecksLast(t *testing.T) {
	t.Parallel()
	b := content(20 * testBlock)
	for _, tc := range []struct {
		damaged int64
		from    int64
	}{{9*testBlock - 1, 0}, {8 * testBlock, 0}, {-1, 9 * testBlock}} {
		root, dir := newRoot(t)
		d, e := broken(t, root, dir, b, 9*testBlock, SHA256)
		e.Params.ResumeCheck = CheckLast
		if tc.damaged >= 0 {
			noError(t, overwrite(filepath.Join(dir, partialName("dst", "")), tc.damaged, []byte{^b[tc.damaged]}))
		}
		r := transfer(t, d, e, nil)
		noError(t, r.storeErr)
		if r.stored.ResumedFrom != tc.from {
			t.Errorf("damaged %d: resumed from %d", tc.damaged, r.stored.ResumedFrom)
		}
		wantFiles(t, dir, "dst", b, "src", b)
	}
}

// A second run that comes while the first is still writing down how far it
// came waits for it, instead of starting from zero.
func TestResumePointWaitsForTheRunBefore(t *testing.T) {
	t.Parallel()
	root, dir := newRoot(t)
	_, e := broken(t, root, dir, content(20*testBlock), 7*testBlock, None)
	f, err := os.OpenFile(filepath.Join(dir, partialName("dst", "")), os.O_RDWR, 0)
	noError(t, err)
	noError(t, unix.Flock(int(f.Fd()), unix.LOCK_EX))
	found := make(chan ResumePoint)
	go func() { found <- pointOf(t, e) }()
	select {
	case p := <-found:
		t.Fatalf("%d bytes were offered while another run had the file", p.Offset)
	case <-time.After(10 * lockPause):
	}
	noError(t, f.Close())
	if p := <-found; p.Offset != 7*testBlock {
		t.Fatalf("resume point %d", p.Offset)
	}
}

// TestResumePointThatNobodyCanTell: who had to give up looking at what is kept is told so, and
// not to begin anew, which would throw it away.
func TestResumePointThatNobodyCanTell(t *testing.T) {
	t.Parallel()
	root, dir := newRoot(t)
	_, e := broken(t, root, dir, content(20*testBlock), 7*testBlock, None)
	gone := fault.New("call", fault.Lost, "the other end has gone")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(gone)
	if p, err := e.ResumePoint(ctx); !errors.Is(err, gone) || p.Offset != 0 {
		t.Errorf("of a call that is over: %d, %v", p.Offset, err)
	}
	f, err := os.OpenFile(filepath.Join(dir, partialName("dst", "")), os.O_RDWR, 0)
	noError(t, err)
	noError(t, unix.Flock(int(f.Fd()), unix.LOCK_EX))
	soon, cancel2 := context.WithTimeout(t.Context(), 10*lockPause)
	defer cancel2()
	if p, err := e.ResumePoint(soon); fault.KindOf(err) != fault.Deadline || p.Offset != 0 {
		t.Errorf("while another run has the file: %d, %v", p.Offset, err)
	}
	noError(t, f.Close())
	full := &faulty{op: "open", nth: 1, err: unix.EMFILE}
	e.Local = FileOn(full, root, "dst")
	p, err := e.ResumePoint(t.Context())
	wantKind(t, err, fault.Overloaded)
	if p.Offset != 0 {
		t.Errorf("without descriptors: %d", p.Offset)
	}
	p = pointOf(t, e)
	if p.Offset != 7*testBlock {
		t.Errorf("afterwards %d are offered", p.Offset)
	}
	e.Local = FileOn(&faulty{op: "open", nth: 2, err: unix.EMFILE}, root, "dst") // the partial file is there, its state cannot be read
	_, err = e.OpenSink(-1, p)
	wantKind(t, err, fault.Overloaded)
}

// TestEndOfSessionKeeps: whatever a session has ended for, as that its peer was restarted and does not
// know it, says nothing of the bytes that came over it; only damage and nonsense do.
func TestEndOfSessionKeeps(t *testing.T) {
	t.Parallel()
	for _, k := range fault.Kinds() {
		root, dir := newRoot(t)
		write(t, dir, "src", content(9*testBlock))
		d, e := descriptor(File(root, "src")), descriptor(File(root, "dst"))
		e.Resume, e.Params.SyncEvery = true, testBlock
		src, err := d.OpenSource(t.Context())
		noError(t, err)
		sink, err := e.OpenSink(-1, ResumePoint{})
		noError(t, err)
		l := newLink(0, [16]byte{}, testBlock)
		over := fault.FromPeer("handshake", k, "injected")
		over.Session = true
		failing := &meddler{Source: src, at: 5, do: func() { l.kill(over) }}
		r := run(context.Background(), l, failing, d.SendPlan(NoQuota, Fail), sink, e.ReceivePlan(-1, src.Version(), testBlock))
		if r.storeErr == nil {
			t.Fatalf("%v: no error", k)
		}
		kept, want := pointOf(t, e).Offset, r.stored.Bytes
		if want < 5*testBlock { // what was sent before is delivered, and perhaps what was being sent
			t.Fatalf("%v: only %d bytes had come", k, want)
		}
		if k == fault.Corrupt || k == fault.Protocol {
			want = 0
		}
		if kept != want {
			t.Errorf("%v: %d of %d bytes are kept", k, kept, want)
		}
	}
}

// TestResumeFilesAreNoLinks: whoever may make links in the folder cannot make
// a resumable sink write to, empty or create another file below the root.
func TestResumeFilesAreNoLinks(t *testing.T) {
	t.Parallel()
	for _, link := range []string{partialName("f", ""), stateName(partialName("f", "")), stateName(partialName("f", "")) + newSuffix} {
		for _, target := range []string{"victim", "absent"} {
			root, dir := newRoot(t)
			write(t, dir, "victim", []byte("precious"))
			noError(t, os.Symlink(target, filepath.Join(dir, link)))
			d := descriptor(File(root, "f"))
			d.Resume = true
			if sink, err := d.OpenSink(-1, ResumePoint{}); err == nil {
				noError(t, sink.WriteBlock(content(testBlock), 0))
				_, err = sink.Sync()
				noError(t, err)
				_ = os.Remove(filepath.Join(dir, link))
				noError(t, os.Symlink(target, filepath.Join(dir, link)))
				_ = sink.(Keeper).Keep(ResumePoint{BlockSize: testBlock, Offset: testBlock, Version: Version{ino: 1}})
				_ = sink.Commit()
				sink.Close()
			}
			if b, _ := os.ReadFile(filepath.Join(dir, "victim")); string(b) != "precious" {
				t.Errorf("with %s a link to %s: the other file holds %s", link, target, short(b))
			}
			if _, err := os.Lstat(filepath.Join(dir, "absent")); err == nil {
				t.Errorf("with %s a link to %s: the other file was made", link, target)
			}
		}
	}
}

// TestDamagedBlockKeeps: a block that was damaged on its way says nothing of those before.
func TestDamagedBlockKeeps(t *testing.T) {
	t.Parallel()
	for _, one := range []bool{true, false} {
		root, dir := newRoot(t)
		b := content(9 * testBlock)
		write(t, dir, "src", b)
		d, e := descriptor(File(root, "src")), descriptor(File(root, "dst"))
		e.Resume, e.Params.SyncEvery = true, testBlock
		src, err := d.OpenSource(t.Context())
		noError(t, err)
		sink, err := e.OpenSink(-1, ResumePoint{})
		noError(t, err)
		l := newLink(0, [16]byte{}, testBlock)
		var damage error = fault.New("verify block", fault.Corrupt, "injected")
		if one {
			damage = OneBlock(damage)
		}
		failing := &meddler{Source: src, at: 5, do: func() { l.kill(damage) }}
		r := run(context.Background(), l, failing, d.SendPlan(NoQuota, Fail), sink, e.ReceivePlan(-1, src.Version(), testBlock))
		wantKind(t, r.storeErr, fault.Corrupt)
		if kept := pointOf(t, e).Offset; (kept >= 5*testBlock) != one || !one && kept != 0 {
			t.Fatalf("one block is %v: %d bytes are kept", one, kept)
		}
		if one {
			r = transfer(t, d, e, nil)
			noError(t, r.storeErr)
			wantFiles(t, dir, "dst", b, "src", b)
		}
	}
}

func FuzzParseWhole(f *testing.F) {
	f.Add(int64(0), Whole{BlockSize: 1}.String())
	f.Add(int64(9), Whole{BlockSize: MaxBlockSize, Digest: Sum{Algorithm: SHA256, Bytes: make([]byte, 32)}}.String())
	f.Add(int64(9), "4096:00000000000000000000000000000000:sha512:00")
	f.Add(int64(-1), "1")
	f.Fuzz(func(t *testing.T, size int64, s string) {
		w, err := ParseWhole(size, s)
		if err != nil {
			wantKind(t, err, fault.Corrupt)
			return
		}
		if w.String() != s || w.Size != size || size < 0 || w.BlockSize < 1 || w.BlockSize > MaxBlockSize {
			t.Errorf("%q of %d bytes is %q: %+v", s, size, w, w)
		}
	})
}
