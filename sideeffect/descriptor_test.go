package sideeffect

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pannier/pannier/spec/fault"
)

func TestValidate(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Descriptor){
		"Direction": func(d *Descriptor) { d.Direction = 0 }, "Local": func(d *Descriptor) { d.Local = nil },
		"Offset": func(d *Descriptor) { d.Offset = -1 }, "Quota": func(d *Descriptor) { d.Quota = -2 },
		"OverQuota": func(d *Descriptor) { d.OverQuota = 2 }, "Mode": func(d *Descriptor) { d.Mode = 5 },
		"name of at most": func(d *Descriptor) { d.Kind = strings.Repeat("x", 33) }, "Hash": func(d *Descriptor) { d.Hash = 4 },
		"Compress": func(d *Descriptor) { d.Compress = 4 }, "Road": func(d *Descriptor) { d.Road = 4 },
		"Resume":             func(d *Descriptor) { d.Resume, d.Mode = true, Append },
		"Params.Window":      func(d *Descriptor) { d.Params.Window = -1 },
		"Params.BlockSize":   func(d *Descriptor) { d.Params.BlockSize = 1 },
		"Params.SendAhead":   func(d *Descriptor) { d.Params.SendAhead = -1 },
		"Params.AckPoint":    func(d *Descriptor) { d.Params.AckPoint = 3 },
		"Params.SyncEvery":   func(d *Descriptor) { d.Params.SyncEvery = -1 },
		"Params.ResumeCheck": func(d *Descriptor) { d.Params.ResumeCheck = 2 },
	} {
		d := descriptor(Memory(nil))
		noError(t, d.Validate())
		change(d)
		err := d.Validate()
		wantKind(t, err, fault.Invalid)
		if !strings.Contains(err.Error(), name) {
			t.Errorf("%s: the error does not say what to change: %v", name, err)
		}
	}
}

func TestWrongWayRound(t *testing.T) {
	t.Parallel()
	root, _ := newRoot(t)
	f, _ := root.Create("f")
	defer f.Close()
	sources := []Identity{Writer(io.Discard), Writer(nil), Duplex(f, f), FD(nil), Reader(nil, 0), Reader(strings.NewReader(""), -2), Inode(nil, 1, 1)}
	for _, id := range sources {
		_, err := id.OpenSource(SourceSpec{})
		wantKind(t, err, fault.Invalid)
	}
	for _, tc := range []struct {
		id   Identity
		spec SinkSpec
	}{
		{Reader(strings.NewReader(""), 0), SinkSpec{}}, {Duplex(f, f), SinkSpec{}}, {Shared(Memory(nil), 0), SinkSpec{}}, {Writer(nil), SinkSpec{}},
		{FD(f), SinkSpec{}}, {FD(f), SinkSpec{Mode: CreateNew}}, {FD(nil), SinkSpec{Mode: Append}},
		{Memory(nil), SinkSpec{Keep: true}}, {Writer(io.Discard), SinkSpec{Keep: true}}, {Memory(nil), SinkSpec{Mode: AtOffset, Offset: 1}},
		{File(root, "x"), SinkSpec{Offset: 1}}, {File(root, "x"), SinkSpec{Mode: Append, Keep: true}}, {File(root, "x"), SinkSpec{Mode: 9}},
		{Writer(io.Discard), SinkSpec{Mode: AtOffset, Offset: 1}}, {Buffer(new(bytes.Buffer)), SinkSpec{Mode: AtOffset, Offset: 1}},
	} {
		_, err := tc.id.OpenSink(tc.spec)
		wantKind(t, err, fault.Invalid)
	}
	_, err := Memory(make([]byte, 5)).OpenSource(SourceSpec{Offset: 6})
	wantKind(t, err, fault.Invalid)
	_, err = FD(f).OpenSource(SourceSpec{Offset: 1})
	wantKind(t, err, fault.Invalid)
}

func TestKinds(t *testing.T) {
	t.Parallel()
	kinds := StandardKinds()
	for name, isBytes := range map[string]bool{"": false, KindFile: false, KindPipe: true} {
		d := descriptor(Memory(nil))
		d.Kind = name
		k, err := kinds.Of(d)
		if err != nil || k.Bytes() != isBytes {
			t.Errorf("%q: %v, %v", name, k, err)
		}
	}
	d := descriptor(Memory(nil))
	d.Kind = "telepathy"
	_, err := kinds.Of(d)
	wantKind(t, err, fault.Unsupported)
	d.Kind, d.Hash = KindPipe, SHA256
	_, err = kinds.Of(d)
	wantKind(t, err, fault.Invalid)
	_, err = NewKinds(fileKind{}, fileKind{})
	wantKind(t, err, fault.Invalid)
	if _, err := NewKinds(fileKind{}, pipeKind{}); err != nil {
		t.Error(err)
	}
}

func TestMemoryIsFixed(t *testing.T) {
	t.Parallel()
	buf := make([]byte, 100)
	r := transfer(t, descriptor(Memory(content(101))), descriptor(Memory(buf)), nil)
	wantKind(t, r.storeErr, fault.NoSpace)
	wantKind(t, r.sendErr, fault.NoSpace)
}

func TestBufferModes(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		mode   Mode
		offset int64
		want   string
	}{{Replace, 0, "new"}, {Truncate, 0, "new"}, {Append, 0, "oldernew"}, {AtOffset, 0, "newer"}, {AtOffset, 4, "oldenew"}} {
		b := bytes.NewBufferString("older")
		s, err := Buffer(b).OpenSink(SinkSpec{Mode: tc.mode, Offset: tc.offset})
		noError(t, err)
		noError(t, s.WriteBlock([]byte("ne"), 0))
		noError(t, s.WriteBlock([]byte("w"), 2))
		if b.String() != "older" {
			t.Errorf("%v: changed before the commit: %q", tc.mode, b)
		}
		noError(t, s.Commit())
		if b.String() != tc.want {
			t.Errorf("%v: %q, want %q", tc.mode, b, tc.want)
		}
	}
	_, err := Buffer(bytes.NewBufferString("x")).OpenSink(SinkSpec{Mode: CreateNew})
	wantKind(t, err, fault.Exists)
}

// A missing or other digest, or another length, is no success and leaves nothing.
func TestDigestMismatch(t *testing.T) {
	t.Parallel()
	for _, damage := range []func(*End){
		func(e *End) { e.Hash = Sum{} }, func(e *End) { e.Hash.Bytes[0] ^= 1 }, func(e *End) { e.Hash.Algorithm = BLAKE3 },
		func(e *End) { e.Total++ }, func(e *End) { e.Total-- },
	} {
		root, dir := newRoot(t)
		sink, err := File(root, "dst").OpenSink(SinkSpec{Keep: true})
		noError(t, err)
		b := content(testBlock)
		l := newLink(0, [16]byte{}, testBlock)
		e := End{Total: testBlock, Hash: Sum{SHA256, want(SHA256, b)}}
		damage(&e)
		noError(t, l.Send(context.Background(), Block{Data: b}, testBlock))
		noError(t, l.End(context.Background(), e))
		_, err = ReceiveAll(context.Background(), inEnd{l}, sink, ReceivePlan{Quota: NoQuota, Hash: SHA256, BlockSize: testBlock, SyncEvery: 1})
		wantKind(t, err, fault.Corrupt)
		noError(t, sink.Close())
		wantFiles(t, dir)
	}
}

// A verdict that does not fit what was sent is not taken for success.
func TestVerdictIsChecked(t *testing.T) {
	t.Parallel()
	b := content(1000)
	sum := Sum{SHA256, want(SHA256, b)}
	for name, tc := range map[string]struct {
		v    Verdict
		kind fault.Kind
	}{
		"right":        {Verdict{Bytes: 1000, Hash: sum}, 0},
		"short":        {Verdict{Bytes: 999, Hash: sum}, fault.Corrupt},
		"long":         {Verdict{Bytes: 1001, Hash: sum}, fault.Corrupt},
		"no digest":    {Verdict{Bytes: 1000}, fault.Corrupt},
		"other digest": {Verdict{Bytes: 1000, Hash: Sum{SHA256, make([]byte, 32)}}, fault.Corrupt},
		"error":        {Verdict{Bytes: 1000, Hash: sum, Err: fault.FromPeer("store", fault.NoSpace, "full")}, fault.NoSpace},
	} {
		src, _ := Memory(b).OpenSource(SourceSpec{})
		l := newLink(0, [16]byte{}, testBlock)
		l.verdict <- tc.v
		o, err := SendAll(context.Background(), l, src, SendPlan{Quota: NoQuota, Limit: NoQuota, Hash: SHA256})
		if tc.kind == 0 {
			noError(t, err)
			if o.Verified != "blocks+root+sha256" {
				t.Errorf("verified %q", o.Verified)
			}
			continue
		}
		if !errors.Is(err, tc.kind) || o.Verified != "" {
			t.Errorf("%s: %v, verified %q", name, err, o.Verified)
		}
	}
}

// A canceled transfer ends with the cause, leaves no temporary, and does not wait for a blocked reader.
func TestCanceled(t *testing.T) {
	t.Parallel()
	root, dir := newRoot(t)
	local, peer := net.Pipe()
	defer local.Close()
	defer peer.Close()
	ctx, cancel := context.WithCancelCause(context.Background())
	done := make(chan ran, 1)
	go func() {
		done <- transferCtx(ctx, t, descriptor(Reader(local, -1)), descriptor(File(root, "dst")), nil)
	}()
	peer.Write(content(3*testBlock + 1))
	cancel(fault.New("call", fault.Refused, "the handler returned"))
	r := <-done
	wantKind(t, r.sendErr, fault.Refused)
	if r.storeErr == nil {
		t.Error("the sink succeeded")
	}
	wantFiles(t, dir)
}

func TestProgressIsThrottled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := content(100 * testBlock)
		src, _ := Memory(b).OpenSource(SourceSpec{})
		slow := &meddler{Source: src, at: -1}
		paced := pacedSource{slow}
		var got bytes.Buffer
		sink, _ := Buffer(&got).OpenSink(SinkSpec{})
		var calls []Progress
		r := run(context.Background(), newLink(0, [16]byte{}, testBlock), paced,
			SendPlan{Quota: NoQuota, Limit: NoQuota, Progress: func(p Progress) { calls = append(calls, p) }}, sink, ReceivePlan{Quota: NoQuota})
		noError(t, r.sendErr)
		// 100 blocks at 10 ms each take a second: one call for each 100 ms, and the last.
		if len(calls) < 8 || len(calls) > 13 {
			t.Errorf("%d calls", len(calls))
		}
		for _, p := range calls {
			if p.Durable > p.Acknowledged || p.Acknowledged > p.Moved || p.Moved > p.Total {
				t.Errorf("%+v", p)
			}
		}
		if last := calls[len(calls)-1]; last.Moved != int64(len(b)) || last.Acknowledged != int64(len(b)) {
			t.Errorf("last %+v", last)
		}
	})
}

// pacedSource takes 10 ms for a block.
type pacedSource struct{ Source }

func (s pacedSource) ReadBlock(p []byte, off int64) (int, error) {
	<-time.After(10 * time.Millisecond)
	return s.Source.ReadBlock(p, off)
}

func TestHandles(t *testing.T) {
	t.Parallel()
	root, dir := newRoot(t)
	b := content(9000)
	write(t, dir, "f", b)
	path := filepath.Join(dir, "f")
	h, err := HandleOf(path)
	if errors.Is(err, fault.Unsupported) {
		t.Skip(err)
	}
	noError(t, err)
	mount, err := root.Open(".")
	noError(t, err)
	defer mount.Close()
	noError(t, root.Rename("f", "renamed"))
	src, err := Handle(mount, h).OpenSource(SourceSpec{Offset: 1})
	if errors.Is(err, fault.Permission) {
		t.Skip(err)
	}
	noError(t, err)
	if got, err := readAll(src, 1000); err != nil || !bytes.Equal(got, b[1:]) {
		t.Fatalf("%s, %v", short(got), err)
	}
	noError(t, src.Close())
	s, err := Handle(mount, h).OpenSink(SinkSpec{Mode: AtOffset, Offset: 9000})
	noError(t, err)
	noError(t, putAll(s, []byte("more")))
	noError(t, s.Close())
	wantFiles(t, dir, "renamed", append(b, "more"...))
	_, err = Handle(mount, h).OpenSink(SinkSpec{})
	wantKind(t, err, fault.Invalid)
	wrong := h
	wrong.Ino++
	_, err = Handle(mount, wrong).OpenSource(SourceSpec{})
	wantKind(t, err, fault.Stale)
	noError(t, os.Remove(filepath.Join(dir, "renamed")))
	_, err = Handle(mount, h).OpenSource(SourceSpec{})
	wantKind(t, err, fault.Stale)
}

func TestInode(t *testing.T) {
	t.Parallel()
	root, dir := newRoot(t)
	b := content(3000)
	write(t, dir, "f", b)
	var st unix.Stat_t
	noError(t, unix.Stat(filepath.Join(dir, "f"), &st))
	mount, _ := root.Open(".")
	defer mount.Close()
	src, err := Inode(mount, uint64(st.Dev), st.Ino).OpenSource(SourceSpec{})
	if errors.Is(err, fault.Permission) || errors.Is(err, fault.Unsupported) {
		t.Skip(err)
	}
	noError(t, err)
	defer src.Close()
	if got, err := readAll(src, 512); err != nil || !bytes.Equal(got, b) {
		t.Errorf("%s, %v", short(got), err)
	}
	_, err = Inode(mount, uint64(st.Dev)+1, st.Ino).OpenSource(SourceSpec{})
	wantKind(t, err, fault.Stale)
	_, err = Inode(mount, 1, 1<<40).OpenSource(SourceSpec{})
	wantKind(t, err, fault.Unsupported)
}

// The chain is part of the protocol: these values never change.
func TestFoldRootVectors(t *testing.T) {
	t.Parallel()
	root := FoldRoot([16]byte{}, 0, nil)
	if got := hex.EncodeToString(root[:]); got != vectorEmpty {
		t.Errorf("empty block: %s", got)
	}
	root = FoldRoot(root, 4096, []byte("pannier"))
	if got := hex.EncodeToString(root[:]); got != vectorPannier {
		t.Errorf("second block: %s", got)
	}
}

const (
	vectorEmpty   = "480d797682f7dcf97aaaf6ed56bc9ce1"
	vectorPannier = "2a7d5410225272834c0f5e10a1dbd394"
)
