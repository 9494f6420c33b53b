package sftpd

import (
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// TestReordered: bytes may come in any order within the window.
func TestReordered(t *testing.T) {
	n := newNode(t)
	r := newRaw(t, n)
	want := content(3<<20 + 11)
	h := r.open("/f", anew)
	const piece = 32 << 10
	order := rand.New(rand.NewPCG(1, 2)).Perm((len(want) + piece - 1) / piece)
	for _, i := range order {
		if code, text := r.write(h, i*piece, want[i*piece:min((i+1)*piece, len(want))]); code != statusOK {
			t.Fatalf("piece %d: %d %s", i, code, text)
		}
	}
	r.want(statusOK, fxClose, h)
	n.has(t, "f", want)
	if r.g.early.left != maxEarly {
		t.Errorf("%d bytes are held for ever", maxEarly-r.g.early.left)
	}
}

// TestWrongBytes: what is no whole file is not published, whatever the client makes of
// the answers.
func TestWrongBytes(t *testing.T) {
	type step struct {
		at, n int
		code  int
	}
	for name, c := range map[string]struct {
		steps []step
		text  string // of CLOSE
	}{
		"a hole":         {[]step{{0, 10, statusOK}, {20, 10, statusOK}}, "from 10 to 20"},
		"no beginning":   {[]step{{5, 5, statusOK}}, "from 0 to 5"},
		"too far":        {[]step{{0, 10, statusOK}, {early + 11, 1, statusUnsupported}}, "early"},
		"again":          {[]step{{0, 10, statusOK}, {0, 10, statusUnsupported}}, "in order"},
		"changed":        {[]step{{0, 10, statusOK}, {5, 10, statusUnsupported}}, "in order"},
		"early twice":    {[]step{{5, 10, statusOK}, {5, 10, statusUnsupported}}, "twice"},
		"early overlaps": {[]step{{5, 10, statusOK}, {0, 10, statusUnsupported}}, "twice"},
		"far away":       {[]step{{0, 1, statusOK}, {1<<63 - 1, 1, statusUnsupported}}, "early"},
		"and then well":  {[]step{{0, 10, statusOK}, {5, 1, statusUnsupported}, {10, 10, statusUnsupported}, {40, 10, statusUnsupported}}, "in order"},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			r := newRaw(t, n)
			h := r.open("/f", anew)
			for _, s := range c.steps {
				if code, text := r.write(h, s.at, content(s.n)); code != s.code {
					t.Fatalf("%+v gets %d %s", s, code, text)
				}
			}
			code, text := r.status(fxClose, h)
			if code == statusOK || !strings.Contains(text, c.text) {
				t.Errorf("CLOSE gets %d %q", code, text)
			}
			if got := n.files(t); len(got) > 0 || n.commits.Load() > 0 || n.aborts.Load() != 1 {
				t.Errorf("there is %q after %d commits, %d aborts", got, n.commits.Load(), n.aborts.Load())
			}
			if r.g.early.left != maxEarly {
				t.Errorf("%d bytes are held for ever", maxEarly-r.g.early.left)
			}
		})
	}
}

// TestEarlyBounded: what waits for a gap has a limit, also of many small pieces.
func TestEarlyBounded(t *testing.T) {
	n := newNode(t)
	r := newRaw(t, n)
	h := r.open("/f", anew)
	for i := range maxEarly/pieceCosts + 1 {
		if code, text := r.write(h, 1+2*i, []byte{1}); code != statusOK {
			if want := maxEarly / (pieceCosts + 1); i < want/2 || i > want || !strings.Contains(text, "too many") {
				t.Errorf("piece %d: %d %s", i, code, text)
			}
			return
		}
	}
	t.Error("there is no limit")
}

func TestEarlySharedByHandles(t *testing.T) {
	n := newNode(t)
	r := newRaw(t, n)
	var bad int
	for i := range 10 {
		h := r.open("/f"+string(rune('0'+i)), anew)
		for k := range 8 {
			if code, _ := r.write(h, 1+k*maxData, content(maxData)); code != statusOK {
				bad++
			}
		}
	}
	if bad == 0 {
		t.Error("20 MiB are held")
	}
}

// TestPadded: github.com/pkg/sftp sends WRITE with more bytes than it says.
func TestPadded(t *testing.T) {
	n := newNode(t)
	r := newRaw(t, n)
	h := r.open("/f", anew)
	r.want(statusOK, fxWrite, h, uint64(4), []byte("efgh"), message(content(30_000)))
	r.want(statusOK, fxWrite, h, uint64(0), []byte("abcd"), message(content(30_000)))
	r.want(statusOK, fxClose, h)
	n.has(t, "f", []byte("abcdefgh"))
}

// TestOpenFlags: whatever would not be the whole file anew is refused with words.
func TestOpenFlags(t *testing.T) {
	const handle = -1
	for _, c := range []struct {
		name  string
		flags int
		code  int
	}{
		{"/old", anew, handle}, {"/new", anew, handle}, {"/old", anew | forReading, handle}, {"/new", forWriting | create, handle}, {"/empty", forWriting, handle},
		{"/old", forWriting | truncate, handle}, {"/new", forWriting | create | appending, handle}, {"/empty", forWriting | create | appending, handle},
		{"/new", anew | exclusive, handle}, {"/old", forReading, handle},
		{"/old", anew | exclusive, statusFailure}, {"/new", forWriting | truncate, statusNotFound}, {"/new", forWriting, statusNotFound},
		{"/old", forWriting, statusUnsupported}, {"/old", forWriting | create, statusUnsupported}, {"/old", forWriting | create | appending, statusUnsupported},
		{"/old", forReading | forWriting, statusUnsupported}, {"/new", forReading, statusNotFound}, {"/dir", forReading, statusFailure},
		{"/dir", forWriting | create, statusFailure}, {"/old", 0, statusFailure}, {"/old", create, statusFailure}, {"/old", forReading | truncate, statusFailure},
		{"/no\nname", anew, statusFailure}, {"/" + strings.Repeat("x", 5000), anew, statusFailure}, {"/\xff", forReading, statusFailure},
	} {
		n := newNode(t)
		n.put(t, "old", []byte("content"))
		n.put(t, "empty", nil)
		r := newRaw(t, n)
		r.want(statusOK, fxMkdir, "/dir", 0)
		if code, text := r.status(fxOpen, c.name, c.flags, 0); code != c.code {
			t.Errorf("OPEN of %.10q for %#x gets %d %q, and should get %d", c.name, c.flags, code, text, c.code)
		}
		if err := r.gone(); err != nil {
			t.Error(err)
		}
		if got := n.files(t); len(got) != 2 {
			t.Errorf("OPEN of %.10q for %#x leaves %q", c.name, c.flags, got)
		}
		n.has(t, "old", []byte("content"))
	}
}

// TestGone: a file is published if CLOSE has come, and otherwise not a byte of it stays.
func TestGone(t *testing.T) {
	for name, c := range map[string]struct {
		do      func(r *raw, h string)
		commits int64
	}{
		"opened":      {func(*raw, string) {}, 0},
		"written":     {func(r *raw, h string) { r.write(h, 0, content(1000)) }, 0},
		"with a hole": {func(r *raw, h string) { r.write(h, 10, content(1000)) }, 0},
		"unanswered":  {func(r *raw, h string) { r.ask(fxWrite, h, uint64(0), content(1000)) }, 0},
		"half a message": {func(r *raw, h string) {
			r.write(h, 0, content(1000))
			_, _ = r.conn.Write([]byte{0, 0, 1, 0, fxClose})
		}, 0},
		"closed": {func(r *raw, h string) {
			r.ask(fxWrite, h, uint64(0), content(1000))
			r.ask(fxClose, h)
			_, _ = r.conn.Write([]byte{0}) // CLOSE was read
		}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			r := newRaw(t, n)
			c.do(r, r.open("/f", anew))
			_ = r.gone()
			if n.commits.Load() != c.commits || n.aborts.Load() != 1-c.commits || n.sessions.Load() != 0 {
				t.Errorf("%d commits, %d aborts, %d sessions", n.commits.Load(), n.aborts.Load(), n.sessions.Load())
			}
			if got := n.files(t); len(got) != int(c.commits) {
				t.Errorf("there is %q", got)
			}
		})
	}
}

// TestGoneWhileCommitting: what the client has closed is decided without it, and the
// session stays until then.
func TestGoneWhileCommitting(t *testing.T) {
	n := newNode(t)
	free := make(chan struct{})
	n.commit = func(ctx context.Context, s plugins.Staged) (plugins.Attr, error) {
		<-free
		select {
		case <-ctx.Done():
			return plugins.Attr{}, errors.New("it was cut off")
		case <-time.After(200 * time.Millisecond): // in which the server sees that the client is gone
		}
		if n.sessions.Load() != 1 {
			return plugins.Attr{}, errors.New("the session has ended")
		}
		return s.Commit(ctx)
	}
	r := newRaw(t, n)
	h := r.open("/f", anew)
	r.write(h, 0, []byte("content"))
	r.ask(fxClose, h)
	until(t, "a commit", func() bool { return n.committing.Load() == 1 })
	_ = r.conn.Close()
	close(free)
	_ = r.gone()
	n.has(t, "f", []byte("content"))
}

// TestMeanwhile: while a commit takes its time, the connection does everything else; what
// names the same file comes after it.
func TestMeanwhile(t *testing.T) {
	n := newNode(t)
	n.put(t, "other", []byte("of another"))
	free := make(chan struct{})
	n.commit = func(ctx context.Context, s plugins.Staged) (plugins.Attr, error) { <-free; return s.Commit(ctx) }
	r := newRaw(t, n)
	h := r.open("/f", anew)
	r.write(h, 0, []byte("content"))
	closing := r.ask(fxClose, h)
	until(t, "a commit", func() bool { return n.committing.Load() == 1 })
	renaming := r.ask(fxExtended, extRename, "/f", "/g")
	r.want(-1, fxStat, "/other")
	r.want(statusNotFound, fxStat, "/nothing")
	other := r.open("/other", forReading)
	r.want(-1, fxRead, other, uint64(0), 100)
	r.want(statusOK, fxClose, other)
	up := r.open("/up", anew)
	if code, _ := r.write(up, 0, []byte("x")); code != statusOK {
		t.Error("no writing meanwhile")
	}
	dir := r.handle(fxOpendir, "/")
	r.want(-1, fxReaddir, dir)
	close(free)
	for _, id := range []uint32{closing, renaming} {
		if b := r.next(); binary.BigEndian.Uint32(b[1:]) != id || b[0] != fxStatus || binary.BigEndian.Uint32(b[5:]) != statusOK {
			t.Fatalf("%d: %x", id, b)
		}
	}
	n.has(t, "g", []byte("content"))
}

// TestVerdict: CLOSE says what the node has said.
func TestVerdict(t *testing.T) {
	for _, c := range []struct {
		kind fault.Kind
		code int
		text string
	}{
		{fault.NotFound, statusNotFound, "not found"}, {fault.Permission, statusPermission, "permission denied"}, {fault.Unauthenticated, statusPermission, "not authenticated"},
		{fault.Unsupported, statusUnsupported, "not supported"}, {fault.Refused, statusFailure, "refused"}, {fault.NoSpace, statusFailure, "no space"},
		{fault.QuotaExceeded, statusFailure, "quota exceeded"}, {fault.Corrupt, statusFailure, "corrupt data"}, {fault.Exists, statusFailure, "already exists"},
		{fault.Overloaded, statusFailure, "try again later"}, {fault.Draining, statusFailure, "try again later"}, {fault.Lost, statusFailure, "try again later"},
		{fault.DeadPeer, statusFailure, "try again later"}, {fault.IO, statusFailure, "try again later"}, {fault.Internal, statusFailure, "internal"},
	} {
		n := newNode(t)
		n.commit = func(context.Context, plugins.Staged) (plugins.Attr, error) {
			return plugins.Attr{}, &fault.Error{Op: "task check", Kind: c.kind, Subject: "/secret/path", Err: fault.New("look", c.kind, "invoice %d has no %s", 17, fault.Shown("sum"))}
		}
		r := newRaw(t, n)
		h := r.open("/f", anew)
		r.write(h, 0, []byte("content"))
		code, text := r.status(fxClose, h)
		if code != c.code || !strings.Contains(text, c.text) || !strings.Contains(text, "invoice 17 has no sum") || strings.Contains(text, "secret") {
			t.Errorf("%v: %d %q", c.kind, code, text)
		}
		if n.aborts.Load() != 1 || len(n.files(t)) != 0 {
			t.Errorf("%v: %d aborts leave %q", c.kind, n.aborts.Load(), n.files(t))
		}
	}
	n := newNode(t)
	n.commit = func(context.Context, plugins.Staged) (plugins.Attr, error) {
		return plugins.Attr{}, plugins.Failure("ftp STOR", fault.NoSpace, "ftp://inner/", "452", "the disk\r\nis full")
	}
	r := newRaw(t, n)
	text := r.want(statusFailure, fxClose, r.open("/f", anew))
	if !strings.Contains(text, "452 the disk") || strings.ContainsAny(text, "\r\n") || strings.Contains(text, "inner") {
		t.Errorf("a server behind the node: %q", text)
	}
}

// TestAttributes: what ordinary clients set after an upload is taken, and what would
// change bytes is not.
func TestAttributes(t *testing.T) {
	n := newNode(t)
	r := newRaw(t, n)
	times, sized := message{0, 0, 0, hasMode | hasTimes, 0, 0, 1, 0o244, 0, 0, 0, 1, 0, 0, 0, 1}, func(n byte) message {
		return message{0, 0, 0, hasSize, 0, 0, 0, 0, 0, 0, 0, n}
	}
	h := r.open("/f", anew)
	r.write(h, 0, []byte("content"))
	r.want(statusOK, fxFsetstat, h, times)
	r.want(statusOK, fxFsetstat, h, sized(7))
	r.want(statusOK, fxExtended, extSync, h)
	typ, f := r.do(fxFstat, h)
	if size := f.size(); typ != fxAttrs || size != 7 {
		t.Errorf("FSTAT says %d: %d bytes", typ, size)
	}
	r.want(statusOK, fxClose, h)
	r.want(statusOK, fxSetstat, "/f", times)
	r.want(statusOK, fxSetstat, "/f", sized(7))
	r.want(statusUnsupported, fxSetstat, "/f", sized(3))
	r.want(statusBadMessage, fxSetstat)
	n.has(t, "f", []byte("content"))

	h = r.open("/cut", anew)
	r.write(h, 0, []byte("content"))
	r.want(statusUnsupported, fxFsetstat, h, sized(3))
	r.want(statusUnsupported, fxClose, h)
	h = r.open("/long", anew)
	r.want(statusOK, fxFsetstat, h, sized(9))
	r.write(h, 0, []byte("content"))
	if text := r.want(statusFailure, fxClose, h); !strings.Contains(text, "7 bytes have come of 9") {
		t.Error(text)
	}
	if got := n.files(t); len(got) != 1 {
		t.Errorf("there is %q", got)
	}
}

// TestOnlyWhatTheSessionHas: what capabilities do not list fails with words.
func TestOnlyWhatTheSessionHas(t *testing.T) {
	n := newNode(t)
	n.put(t, "f.part", []byte("content"))
	n.change = func(c *plugins.Capabilities) { *c = plugins.Capabilities{} }
	r := newRaw(t, n)
	r.want(statusUnsupported, fxOpen, "/f", anew, 0)
	r.want(statusUnsupported, fxOpendir, "/")
	r.want(statusUnsupported, fxMkdir, "/d", 0)
	r.want(statusUnsupported, fxRemove, "/f.part")
	for _, text := range []string{r.want(statusUnsupported, fxRename, "/f.part", "/f"), r.want(statusUnsupported, fxExtended, extRename, "/f.part", "/f")} {
		if !strings.Contains(text, "upload to the final name") {
			t.Error(text)
		}
	}
	n.has(t, "f.part", []byte("content"))
}
