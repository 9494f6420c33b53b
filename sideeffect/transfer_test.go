package sideeffect

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"pgregory.net/rapid"

	"github.com/pannier/pannier/spec/fault"
)

const testBlock = 4096

// transfer runs both descriptors against each other over a fresh link, as rpc
// does: source, announcement, sink, pumps.
func transfer(t testing.TB, from, to *Descriptor, change func(*link)) ran {
	t.Helper()
	return transferCtx(context.Background(), t, from, to, change)
}

func transferCtx(ctx context.Context, t testing.TB, from, to *Descriptor, change func(*link)) ran {
	t.Helper()
	src, err := from.OpenSource(ctx)
	noError(t, err)
	point, err := to.ResumePoint(ctx)
	noError(t, err)
	prefix, same, err := VerifyPrefix(ctx, src, point, from.Hash)
	noError(t, err)
	if !same {
		point = ResumePoint{}
	}
	l := newLink(point.Offset, point.Root, testBlock)
	if change != nil {
		change(l)
	}
	sink, err := to.OpenSink(src.Size(), point)
	if err != nil {
		src.Close()
		over := Outcome{QuotaExceeded: errors.Is(err, fault.QuotaExceeded)} // as rpc fills it in
		return ran{storeErr: err, sendErr: err, sent: over, stored: over}
	}
	sp := from.SendPlan(to.Quota, to.OverQuota)
	sp.Start, sp.Prefix = point.Offset, prefix
	r := run(ctx, l, src, sp, sink, to.ReceivePlan(src.Size(), src.Version(), testBlock))
	if l.open != 0 {
		t.Fatalf("%d received blocks were not released", l.open)
	}
	return r
}

func descriptor(id Identity) *Descriptor {
	return &Descriptor{Direction: ClientToServer, Local: id, Quota: NoQuota}
}

// Any identity at one end goes with any at the other.
func TestIdentitiesAcross(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, testBlock - 1, testBlock, testBlock + 1, 5*testBlock + 77} {
		b := content(n)
		for from := range 6 {
			for to := range 6 {
				for _, a := range []Algorithm{None, SHA256, BLAKE3} {
					moveAcross(t, b, from, to, a)
				}
			}
		}
	}
}

func moveAcross(t *testing.T, b []byte, from, to int, a Algorithm) {
	root, dir := newRoot(t)
	write(t, dir, "src", b)
	f, _ := root.Open("src")
	defer f.Close()
	source := []Identity{File(root, "src"), FD(f), Memory(b), Buffer(bytes.NewBuffer(b)),
		Reader(strings.NewReader(string(b)), int64(len(b))), Reader(strings.NewReader(string(b)), -1)}[from]
	fixed, grown, written := make([]byte, len(b)), new(bytes.Buffer), new(bytes.Buffer)
	out, _ := root.Create("out")
	defer out.Close()
	sink := []Identity{File(root, "new"), FD(out), Memory(fixed), Buffer(grown), Writer(written), File(root, "inplace")}[to]
	d, e := descriptor(source), descriptor(sink)
	d.Hash, e.Hash = a, a
	if to == 1 || to == 5 {
		e.Mode = Truncate
	}
	r := transfer(t, d, e, nil)
	name := fmt.Sprintf("%d bytes, %v to %v", len(b), source, sink)
	if r.sendErr != nil || r.storeErr != nil {
		t.Fatalf("%s: %v, %v", name, r.sendErr, r.storeErr)
	}
	read := func(name string) []byte { c, _ := root.ReadFile(name); return c }
	got := [][]byte{read("new"), read("out"), fixed, grown.Bytes(), written.Bytes(), read("inplace")}[to]
	if !bytes.Equal(got, b) {
		t.Fatalf("%s: got %s", name, short(got))
	}
	if r.sent.Bytes != int64(len(b)) || r.stored.Bytes != int64(len(b)) || r.sent.Durable != int64(len(b)) {
		t.Fatalf("%s: %+v, %+v", name, r.sent, r.stored)
	}
	verified := "blocks+root"
	if a != None {
		verified += "+" + a.String()
		if !bytes.Equal(r.sent.Digest.Bytes, want(a, b)) || !r.stored.Digest.Equal(r.sent.Digest) {
			t.Fatalf("%s: digests %v, %v", name, r.sent.Digest, r.stored.Digest)
		}
	}
	if r.sent.Verified != verified || r.stored.Verified != verified {
		t.Fatalf("%s: verified %q, %q", name, r.sent.Verified, r.stored.Verified)
	}
}

func TestOffsetsOfBothEnds(t *testing.T) {
	t.Parallel()
	root, dir := newRoot(t)
	write(t, dir, "src", []byte("0123456789"))
	for _, tc := range []struct {
		mode         Mode
		from, to     int64
		before, want string
	}{
		{AtOffset, 0, 0, "abcdefghijklm", "0123456789klm"}, // offset 0 does not truncate
		{AtOffset, 4, 2, "abcdefghijklm", "ab456789ijklm"},
		{AtOffset, 10, 2, "abc", "abc"},
		{AtOffset, 8, 5, "abc", "abc\x00\x0089"},
		{Append, 7, 0, "abc", "abc789"},
		{Truncate, 7, 0, "abcdef", "789"},
		{Replace, 7, 0, "abcdef", "789"},
	} {
		write(t, dir, "dst", []byte(tc.before))
		d, e := descriptor(File(root, "src")), descriptor(File(root, "dst"))
		d.Offset, e.Offset, e.Mode = tc.from, tc.to, tc.mode
		r := transfer(t, d, e, nil)
		if r.sendErr != nil || r.storeErr != nil {
			t.Fatalf("%v: %v, %v", tc, r.sendErr, r.storeErr)
		}
		if got, _ := root.ReadFile("dst"); string(got) != tc.want {
			t.Errorf("%v %d to %d: %q, want %q", tc.mode, tc.from, tc.to, got, tc.want)
		}
	}
}

// Quotas: q bytes pass, more fails with nothing under the name, or is cut to
// exactly q; whichever end has the quota, known size or not.
func TestQuotas(t *testing.T) {
	t.Parallel()
	for _, q := range []int64{0, 1, testBlock - 1, testBlock, testBlock + 1, 3 * testBlock} {
		for _, extra := range []int64{0, 1, testBlock, 1 << 20} {
			for _, known := range []bool{true, false} {
				for _, policy := range []OverQuota{Fail, Cut} {
					for _, atSource := range []bool{true, false} {
						moveUnderQuota(t, q, extra, known, policy, atSource)
					}
				}
			}
		}
	}
}

func moveUnderQuota(t *testing.T, q, extra int64, known bool, policy OverQuota, atSource bool) {
	root, dir := newRoot(t)
	b := content(int(q + extra))
	src := Memory(b)
	if !known {
		src = Reader(bytes.NewReader(b), -1)
	}
	d, e := descriptor(src), descriptor(File(root, "dst"))
	d.Hash, e.Hash = SHA256, SHA256
	limited := e
	if atSource {
		limited = d
	}
	limited.Quota, limited.OverQuota = q, policy
	r := transfer(t, d, e, nil)
	name := fmt.Sprintf("quota %d, %d more, known %v, %v, at source %v", q, extra, known, policy, atSource)
	if extra > 0 && policy == Fail {
		if !errors.Is(r.sendErr, fault.QuotaExceeded) || !r.sent.QuotaExceeded || !r.stored.QuotaExceeded || r.stored.Bytes > q {
			t.Fatalf("%s: %v, %+v, %+v", name, r.sendErr, r.sent, r.stored)
		}
		if q == 0 && !strings.Contains(r.sendErr.Error(), "NoQuota") {
			t.Fatalf("%s: the error does not explain the zero value: %v", name, r.sendErr)
		}
		wantFiles(t, dir)
		return
	}
	if r.sendErr != nil || r.storeErr != nil {
		t.Fatalf("%s: %v, %v", name, r.sendErr, r.storeErr)
	}
	wantFiles(t, dir, "dst", b[:q])
	cut := extra > 0
	if r.sent.QuotaExceeded != cut || r.stored.QuotaExceeded != cut || r.sent.Bytes != q || r.stored.Bytes != q ||
		!bytes.Equal(r.sent.Digest.Bytes, want(SHA256, b[:q])) || !r.stored.Digest.Equal(r.sent.Digest) {
		t.Fatalf("%s: %+v, %+v", name, r.sent, r.stored)
	}
}

// A source that announces more than the sink's quota and comes all the same:
// the target is not touched.
func TestAnnouncedOverQuota(t *testing.T) {
	t.Parallel()
	for _, mode := range []Mode{Replace, Truncate, Append, AtOffset} {
		root, dir := newRoot(t)
		write(t, dir, "old", []byte("old"))
		for _, name := range []string{"old", "new"} {
			d := descriptor(File(root, name))
			d.Quota, d.Mode = 10, mode
			_, err := d.OpenSink(11, ResumePoint{})
			wantKind(t, err, fault.QuotaExceeded)
			wantFiles(t, dir, "old", []byte("old"))
		}
		d := descriptor(File(root, "old"))
		d.Quota, d.Mode, d.OverQuota = 10, mode, Cut
		sink, err := d.OpenSink(11, ResumePoint{})
		noError(t, err)
		sink.Close()
	}
}

// A source that does not heed the sink's quota: nothing past it is stored.
func TestQuotaAgainstDeafSource(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		policy OverQuota
		size   int
		kind   fault.Kind
	}{
		{Fail, 5001, fault.QuotaExceeded}, {Fail, 1 << 20, fault.QuotaExceeded},
		{Cut, 1 << 20, fault.Protocol}, {Cut, 9000, 0}, {Cut, 5001, 0}, {Cut, 5000, 0},
	} {
		root, dir := newRoot(t)
		b := content(tc.size)
		src, _ := Memory(b).OpenSource(SourceSpec{})
		d := descriptor(File(root, "dst"))
		d.Quota, d.OverQuota, d.Hash = 5000, tc.policy, BLAKE3
		sink, err := d.OpenSink(-1, ResumePoint{})
		noError(t, err)
		deaf := SendPlan{Quota: NoQuota, Limit: NoQuota, Hash: BLAKE3}
		r := run(context.Background(), newLink(0, [16]byte{}, testBlock), src, deaf, sink, d.ReceivePlan(-1, Version{}, testBlock))
		if tc.kind != 0 {
			wantKind(t, r.storeErr, tc.kind)
			wantFiles(t, dir)
			continue
		}
		noError(t, r.storeErr)
		noError(t, r.sendErr)
		wantFiles(t, dir, "dst", b[:5000])
		if r.stored.QuotaExceeded != (tc.size > 5000) || !bytes.Equal(r.stored.Digest.Bytes, want(BLAKE3, b[:5000])) ||
			!r.sent.Digest.Equal(r.stored.Digest) || r.sent.Bytes != 5000 {
			t.Fatalf("%+v, %+v", r.sent, r.stored)
		}
	}
}

// Lost blocks and lost ENDs are sent again; the digest takes each byte once.
func TestRewound(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(0, 20*testBlock).Draw(rt, "n")
		lose := rapid.SliceOfN(rapid.IntRange(1, 30), 0, 6).Draw(rt, "lose")
		lostEnd := rapid.Bool().Draw(rt, "lostEnd")
		b := content(n)
		var got bytes.Buffer
		d, e := descriptor(Memory(b)), descriptor(Buffer(&got))
		d.Hash, e.Hash = SHA512, SHA512
		r := transfer(t, d, e, func(l *link) {
			l.lostEnd, l.lose = lostEnd, map[int]bool{}
			for _, i := range lose {
				l.lose[i] = true
			}
		})
		if r.sendErr != nil || r.storeErr != nil || !bytes.Equal(got.Bytes(), b) {
			rt.Fatalf("%v, %v, %s", r.sendErr, r.storeErr, short(got.Bytes()))
		}
	})
}

func TestRewoundReaderFails(t *testing.T) {
	t.Parallel()
	var got bytes.Buffer
	d, e := descriptor(Reader(bytes.NewReader(content(3*testBlock)), -1)), descriptor(Buffer(&got))
	r := transfer(t, d, e, func(l *link) { l.lose = map[int]bool{2: true} })
	wantKind(t, r.sendErr, fault.Unsupported)
	if got.Len() != 0 {
		t.Error("the buffer changed")
	}
}

// A source's END and Sent come only after every byte, and Sent once.
func TestSentOnce(t *testing.T) {
	t.Parallel()
	b := content(3 * testBlock)
	src, _ := Memory(b).OpenSource(SourceSpec{})
	var got bytes.Buffer
	sink, _ := Buffer(&got).OpenSink(SinkSpec{})
	calls := 0
	l := newLink(0, [16]byte{}, testBlock)
	l.lostEnd = true
	r := run(context.Background(), l, src, SendPlan{Quota: NoQuota, Limit: NoQuota, Sent: func(Outcome) { calls++ }},
		sink, ReceivePlan{Quota: NoQuota, Total: -1})
	noError(t, r.sendErr)
	if calls != 1 {
		t.Errorf("Sent was called %d times", calls)
	}
}

// A rewind into the middle of what was hashed: each byte counts once.
func TestHashAcrossRewind(t *testing.T) {
	t.Parallel()
	b := content(100)
	h, _ := NewHasher(SHA256)
	s := &sender{hasher: h, plan: SendPlan{Hash: SHA256}}
	for _, r := range [][2]int64{{0, 30}, {10, 20}, {10, 50}, {0, 60}, {60, 100}} {
		s.at = r[0]
		s.hash(b[r[0]:r[1]])
	}
	if got := h.Sum(); !bytes.Equal(got.Bytes, want(SHA256, b)) {
		t.Errorf("digest %v of %d bytes", got, h.Written())
	}
}

// TestWriterOfAPipe: what cannot be synced, as a command's stdout, is no failure;
// what should have been is one.
func TestWriterOfAPipe(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	noError(t, err)
	defer r.Close()
	defer w.Close()
	if res := transfer(t, descriptor(Memory([]byte("abc"))), descriptor(Writer(w)), nil); res.storeErr != nil || res.stored.Bytes != 3 {
		t.Errorf("%v, %+v", res.storeErr, res.stored)
	}
	if res := transfer(t, descriptor(Memory([]byte("abc"))), descriptor(Writer(unsynced{w})), nil); !errors.Is(res.storeErr, fault.IO) {
		t.Error(res.storeErr)
	}
}

// unsynced is a writer whose disk fails.
type unsynced struct{ *os.File }

func (unsynced) Sync() error { return syscall.EIO }
