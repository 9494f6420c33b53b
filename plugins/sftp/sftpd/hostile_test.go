package sftpd

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/pannier/pannier/flow/flowtest"
	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

type ctx = context.Context

// TestBadMessages: what is no message ends the connection, without memory for it.
func TestBadMessages(t *testing.T) {
	hello := []byte{0, 0, 0, 5, fxInit, 0, 0, 0, 3}
	for name, b := range map[string][]byte{
		"huge":          append(hello, 0xff, 0xff, 0xff, 0xff, fxWrite),
		"too long":      append(hello, 0, 4, 0, 1, fxWrite),
		"no length":     append(hello, 0, 0, 0, 0, fxStat),
		"no number":     append(hello, 0, 0, 0, 4, fxStat),
		"hello again":   append(hello, hello...),
		"no hello":      {0, 0, 0, 9, fxStat, 0, 0, 0, 1, 0, 0, 0, 0},
		"version 2":     {0, 0, 0, 5, fxInit, 0, 0, 0, 2},
		"a web browser": []byte("GET / HTTP/1.1\r\n"),
	} {
		r := connected(t, newNode(t))
		go func() { _, _ = r.conn.Write(b) }()
		select {
		case err := <-r.done:
			if fault.KindOf(err) != fault.Protocol {
				t.Errorf("%s: %v", name, err)
			}
			r.done <- nil
		case <-time.After(20 * time.Second):
			t.Errorf("%s: the connection goes on", name)
		}
	}
}

// TestBadRequests: a request that is cut off, of another handle, or not known is answered,
// and the connection goes on.
func TestBadRequests(t *testing.T) {
	n := newNode(t)
	r := newRaw(t, n)
	for typ := range 256 {
		switch typ {
		case fxInit, fxRealpath, fxStat, fxLstat:
			continue
		}
		if code, text := r.status(byte(typ)); code <= statusEOF || text == "" {
			t.Errorf("type %d, empty: %d %q", typ, code, text)
		}
	}
	for _, typ := range []byte{fxClose, fxRead, fxWrite, fxFstat, fxFsetstat, fxReaddir} {
		for _, h := range []string{"", "0", "99", strings.Repeat("x", 100_000)} {
			r.want(statusFailure, typ, h, uint64(0), []byte("x"))
		}
	}
	h := r.open("/f", anew)
	r.want(statusUnsupported, fxRead, h, uint64(0), 1)
	r.want(statusUnsupported, fxReaddir, h)
	d := r.handle(fxOpendir, "/")
	r.want(statusUnsupported, fxWrite, d, uint64(0), []byte("x"))
	r.want(statusBadMessage, fxWrite, h, 1) // and the file with it
	r.want(statusBadMessage, fxClose, h)
	r.want(statusFailure, fxClose, h)
	r.want(statusUnsupported, fxExtended, "statvfs@openssh.com", "/")
	r.want(statusUnsupported, fxExtended, strings.Repeat("x", 200_000))
	typ, f := r.do(fxExtended, extLimits)
	if f.long() != maxMessage || f.long() != maxData || f.long() != maxData || f.long() != maxHandles || typ != fxExtReply {
		t.Error("limits")
	}
	for given, want := range map[string]string{"": "/", ".": "/", "/a/../..//b/": "/b", "a/./b": "/a/b", "../../etc": "/etc"} {
		_, f := r.do(fxRealpath, given)
		if n := f.number(); n != 1 || f.text() != want {
			t.Errorf("REALPATH of %q", given)
		}
	}
	for _, name := range []string{"/\x00", "/a\nb", "/\xff"} {
		r.want(statusFailure, fxRealpath, name)
		r.want(statusFailure, fxStat, name)
		r.want(statusFailure, fxRename, "/f", name)
	}
	if got := n.files(t); len(got) > 0 {
		t.Errorf("there is %q", got)
	}
}

// TestHandles: there is a limit, and closing makes room.
func TestHandles(t *testing.T) {
	n := newNode(t)
	r := newRaw(t, n)
	var all []string
	for range maxHandles {
		all = append(all, r.handle(fxOpendir, "/"))
	}
	if text := r.want(statusFailure, fxOpen, "/f", anew, 0); !strings.Contains(text, "64 files") {
		t.Error(text)
	}
	r.want(statusFailure, fxOpendir, "/")
	r.want(statusOK, fxClose, all[7])
	r.open("/f", anew)
	r.want(statusFailure, fxOpendir, "/")
}

// endless is a session whose directories have no end.
type endless struct {
	*session
	ended chan struct{}
}

func (e endless) List(ctx ctx, _ string) iter.Seq2[plugins.Attr, error] {
	return func(yield func(plugins.Attr, error) bool) {
		defer close(e.ended)
		for i := 0; yield(plugins.Attr{Name: fmt.Sprintf("%0200d", i)}, nil); i++ {
			if i%5 == 0 && !yield(plugins.Attr{Name: "a/b"}, nil) {
				return
			}
		}
	}
}

// TestEndlessListing: a directory takes no memory, and its listing ends with the handle,
// and with the client.
func TestEndlessListing(t *testing.T) {
	for _, closed := range []bool{true, false} {
		n := newNode(t)
		ended := make(chan struct{})
		n.wrap = func(s plugins.Session) plugins.Session { return endless{s.(*session), ended} }
		r := newRaw(t, n)
		d := r.handle(fxOpendir, "/")
		entries := 0
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		for range 1000 {
			typ, f := r.do(fxReaddir, d)
			if typ != fxName || len(f.b) > maxMessage {
				t.Fatalf("type %d, %d bytes", typ, len(f.b))
			}
			for k := f.number(); k > 0; k-- {
				if name := f.text(); strings.Contains(name, "/") {
					t.Fatal(name)
				}
				f.text()
				f.size()
				entries++
			}
			if f.bad || len(f.b) > 0 {
				t.Fatal("a reply that is none")
			}
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		if entries < 50_000 || after.HeapAlloc > before.HeapAlloc+8<<20 {
			t.Errorf("%d entries, %d bytes held before and %d after", entries, before.HeapAlloc, after.HeapAlloc)
		}
		if closed {
			r.want(statusOK, fxClose, d)
		} else {
			_ = r.gone()
		}
		select {
		case <-ended:
		case <-time.After(20 * time.Second):
			t.Error("it is listed for ever")
		}
	}
}

// failing lists one entry, and then no more.
type failing struct{ *session }

func (failing) List(ctx, string) iter.Seq2[plugins.Attr, error] {
	return func(yield func(plugins.Attr, error) bool) {
		_ = yield(plugins.Attr{Name: "one", Size: -1}, nil) && yield(plugins.Attr{Name: "a/b"}, nil) && yield(plugins.Attr{Name: ".."}, nil) && yield(plugins.Attr{}, fault.New("list", fault.Permission, "no more for you"))
	}
}

func TestListing(t *testing.T) {
	n := newNode(t)
	r := newRaw(t, n)
	r.want(statusNotFound, fxOpendir, "/nothing")
	n.put(t, "f", nil)
	r.want(statusFailure, fxOpendir, "/f")
	d := r.handle(fxOpendir, "/")
	r.want(-1, fxReaddir, d)
	r.want(statusEOF, fxReaddir, d)
	r.want(statusEOF, fxReaddir, d)
	n.wrap = func(s plugins.Session) plugins.Session { return failing{s.(*session)} }
	r = newRaw(t, n)
	d = r.handle(fxOpendir, "/")
	r.want(-1, fxReaddir, d)
	r.want(statusPermission, fxReaddir, d)
	log := &flowtest.Log{}
	old := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(log, nil)))
	defer slog.SetDefault(old)
	r.want(statusOK, fxClose, d)
	if said := log.String(); strings.Count(said, "left out") != 1 || !strings.Contains(said, "entries=2") {
		t.Errorf("the log says %s", said)
	}
}

// TestUnread: of a client that takes no replies no more is taken than the limits say, of
// requests and of bytes.
func TestUnread(t *testing.T) {
	stat := func(id uint32) message { return newMessage(fxStat, id, 64).text("/f").seal() }
	for name, c := range map[string]struct {
		request func(id uint32) message
		most    int
	}{
		"replies": {stat, maxRequests},
		"bytes":   {func(id uint32) message { return newMessage(fxRead, id, 64).text("1").long(0).number(maxData).seal() }, maxUnderWay/maxData + 1},
	} {
		n := newNode(t)
		n.put(t, "f", content(1<<20))
		ours, theirs := net.Pipe()
		g := guestOf(t, n, theirs)
		done := make(chan error, 1)
		go func() { done <- g.speak(theirs) }()
		b := make([]byte, 1000)
		_, _ = ours.Write([]byte{0, 0, 0, 5, fxInit, 0, 0, 0, 3})
		_, _ = ours.Read(b)
		_, _ = ours.Write(newMessage(fxOpen, 1, 64).text("/f").number(forReading).number(0).seal())
		_, _ = io.ReadFull(ours, b[:14])
		written := make(chan error, 1)
		go func() {
			for id := uint32(0); id < 10_000; id++ {
				if _, err := ours.Write(c.request(id)); err != nil {
					written <- err
					return
				}
			}
			written <- nil
		}()
		left := func() int { // without the handle
			g.mu.Lock()
			defer g.mu.Unlock()
			return g.left - 1
		}
		for late := time.Now().Add(20 * time.Second); left() < c.most/2 && time.Now().Before(late); time.Sleep(2 * time.Millisecond) {
		}
		time.Sleep(100 * time.Millisecond) // in which more would be taken
		if left := left(); left < c.most/2 || left > c.most {
			t.Errorf("%s: %d requests are under way, and %d may be", name, left, c.most)
		}
		_ = ours.Close()
		if <-written == nil {
			t.Errorf("%s: all requests are taken", name)
		}
		select {
		case <-done:
		case <-time.After(20 * time.Second):
			t.Fatalf("%s: the server goes on without a client", name)
		}
		_ = g.session.Close()
	}
}

// TestStuck: what the node does for ever ends with the client.
func TestStuck(t *testing.T) {
	n := newNode(t)
	n.put(t, "f", content(1000))
	n.set(func(h *hooks) { h.stuck = true })
	r := newRaw(t, n)
	reading, writing := r.open("/f", forReading), r.open("/g", anew)
	listing := r.handle(fxOpendir, "/")
	r.ask(fxRead, reading, uint64(0), 10)
	r.ask(fxWrite, writing, uint64(0), []byte("x"))
	r.ask(fxReaddir, listing)
	time.Sleep(50 * time.Millisecond)
	_ = r.gone()
	if got := n.files(t); len(got) != 1 || n.sessions.Load() != 0 {
		t.Errorf("there is %q, %d sessions", got, n.sessions.Load())
	}
}

// TestNames: what a node has as one request, and SFTP as two, keeps its meaning.
func TestNames(t *testing.T) {
	n := newNode(t)
	n.put(t, "f", []byte("f"))
	n.put(t, "g", []byte("g"))
	r := newRaw(t, n)
	r.want(statusOK, fxMkdir, "/d", 0)
	r.want(statusFailure, fxRemove, "/d")
	r.want(statusFailure, fxRmdir, "/f")
	r.want(statusNotFound, fxRemove, "/nothing")
	if text := r.want(statusFailure, fxRename, "/f", "/g"); !strings.Contains(text, "taken") {
		t.Error(text)
	}
	n.has(t, "g", []byte("g"))
	r.want(statusOK, fxExtended, extRename, "/f", "/g")
	n.has(t, "g", []byte("f"))
	r.want(statusOK, fxRename, "/g", "/h")
	r.want(statusOK, fxRmdir, "/d")
	r.want(statusOK, fxRemove, "/h")
	r.want(statusNotFound, fxRename, "/h", "/i")
	if got := n.files(t); len(got) != 0 {
		t.Errorf("there is %q", got)
	}
}

// TestManyAtOnce: more requests than may be under way are all answered, once.
func TestManyAtOnce(t *testing.T) {
	n := newNode(t)
	r := newRaw(t, n)
	go func() {
		for range 2000 {
			r.last++
			m := newMessage(fxStat, r.last, 64).text(fmt.Sprintf("/%d", r.last%300)).seal()
			if _, err := r.conn.Write(m); err != nil {
				return
			}
		}
	}()
	seen := map[uint32]bool{}
	for range 2000 {
		b := r.next()
		id := binary.BigEndian.Uint32(b[1:])
		if seen[id] {
			t.Fatalf("%d is answered twice", id)
		}
		seen[id] = true
	}
}

// FuzzRequests: whatever comes, nothing panics, hangs, or is published that was not
// closed well.
func FuzzRequests(f *testing.F) {
	hello := []byte{0, 0, 0, 5, fxInit, 0, 0, 0, 3}
	f.Add(hello)
	open := newMessage(fxOpen, 1, 64).text("/f").number(anew).number(0).seal()
	write := newMessage(fxWrite, 2, 64).text("1").long(0).text("content").seal()
	f.Add(append(append(append([]byte{}, hello...), open...), write...))
	f.Add(append(append(append([]byte{}, hello...), open...), newMessage(fxClose, 3, 8).text("1").seal()...))
	f.Add(append(append([]byte{}, hello...), newMessage(fxOpendir, 3, 8).text("/").seal()...))
	f.Add(append(append([]byte{}, hello...), newMessage(fxExtended, 3, 8).text(extRename).text("/a").text("/b").seal()...))
	f.Add(append(append([]byte{}, hello...), newMessage(fxSetstat, 3, 8).text("/a").number(0x8000000f).long(1).number(1).number(1).number(1).number(1).number(1).number(0xffffffff).seal()...))
	f.Fuzz(func(t *testing.T, b []byte) {
		n := newNode(t)
		ours, theirs := net.Pipe()
		g := guestOf(t, n, theirs)
		done := make(chan error, 1)
		go func() { done <- g.speak(theirs); _ = theirs.Close() }()
		go func() { _, _ = io.Copy(io.Discard, ours) }()
		_, _ = ours.Write(b)
		_ = ours.Close()
		select {
		case <-done:
		case <-time.After(20 * time.Second):
			t.Fatal("it hangs")
		}
		_ = g.session.Close()
		if g.left != 0 || g.working.Load() != 0 || g.early.left != maxEarly {
			t.Fatalf("left %d, working %d, early %d", g.left, g.working.Load(), g.early.left)
		}
		if n.commits.Load()+n.aborts.Load() < n.writings.Load() {
			t.Fatal("a file was neither committed nor aborted")
		}
	})
}
