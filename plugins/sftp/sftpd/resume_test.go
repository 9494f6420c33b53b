package sftpd

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pannier/pannier/plugins"
)

// newKeeper is a node that remembers what has broken off.
func newKeeper(t testing.TB) *node {
	n := newNode(t)
	n.change = func(c *plugins.Capabilities) { c.Kept = true }
	return n
}

// brokenOff leaves the first bytes of a file.
func brokenOff(t *testing.T, n *node, b []byte) {
	t.Helper()
	r := newRaw(t, n)
	h := r.open("/f", anew)
	if code, text := r.write(h, 0, b); code != statusOK {
		t.Fatalf("%d %s", code, text)
	}
	_ = r.gone()
	if got := n.files(t); len(got) != 1 || !strings.HasPrefix(got[0], ".") {
		t.Fatalf("there is %q", got)
	}
}

// size is what STAT says, -1 of nothing.
func (r *raw) size(name string) int64 {
	typ, f := r.do(fxStat, name)
	if typ != fxAttrs {
		return -1
	}
	return f.size()
}

// TestGoesOn: a client asks how much there is, and sends the rest. Until then the name is nobody's.
func TestGoesOn(t *testing.T) {
	want := content(1000)
	for name, flags := range map[string]int{"append": forWriting | create | appending, "write": forWriting | create, "write, not create": forWriting} {
		t.Run(name, func(t *testing.T) {
			n := newKeeper(t)
			brokenOff(t, n, want[:600])
			r := newRaw(t, n)
			for range 2 {
				if got := r.size("/f"); got != 600 {
					t.Fatalf("STAT says %d", got)
				}
			}
			r.want(statusNotFound, fxOpen, "/f", forReading, 0)
			dir := r.handle(fxOpendir, "/")
			if typ, _ := r.do(fxReaddir, dir); typ == fxName {
				t.Error("it is listed")
			}
			h := r.open("/f", flags)
			if _, f := r.do(fxFstat, h); f.size() != 600 {
				t.Error("FSTAT says something else")
			}
			r.write(h, 600, want[600:])
			r.want(statusOK, fxClose, h)
			n.has(t, "f", want)
			if got := n.files(t); len(got) != 1 {
				t.Errorf("there is %q", got)
			}
		})
	}
}

// TestBeginsAnew: a client that does not go on does not have to.
func TestBeginsAnew(t *testing.T) {
	want := content(1000)
	for name, flags := range map[string]int{"truncating": anew, "from the beginning": forWriting | create, "appending from the beginning": forWriting | create | appending, "a new file": anew | exclusive} {
		t.Run(name, func(t *testing.T) {
			n := newKeeper(t)
			brokenOff(t, n, []byte(strings.Repeat("x", 600)))
			r := newRaw(t, n)
			h := r.open("/f", flags)
			r.write(h, 0, want[:100])
			r.write(h, 100, want[100:])
			r.want(statusOK, fxClose, h)
			n.has(t, "f", want)
		})
	}
	n := newKeeper(t)
	brokenOff(t, n, []byte(strings.Repeat("x", 600)))
	r := newRaw(t, n)
	h := r.open("/f", forWriting|create)
	r.write(h, 0, want[:600]) // as long as what there was
	r.want(statusOK, fxClose, h)
	n.has(t, "f", want[:600])

	n = newKeeper(t)
	brokenOff(t, n, want[:600])
	r = newRaw(t, n)
	h = r.open("/f", forWriting|create)
	if code, _ := r.write(h, 300, want[300:]); code != statusUnsupported {
		t.Errorf("in the middle: %d", code)
	}
	r.want(statusUnsupported, fxClose, h)
	if got := r.size("/f"); got != -1 {
		t.Errorf("then there are %d bytes of it", got)
	}
	r.want(statusNotFound, fxOpen, "/f", forWriting, 0)
}

// TestNothingMore: who opens what has broken off, writes nothing and closes it has not said that it
// is whole. The beginning stays, and is gone on with.
func TestNothingMore(t *testing.T) {
	want := content(1000)
	n := newKeeper(t)
	brokenOff(t, n, want[:600])
	r := newRaw(t, n)
	for _, flags := range []int{forWriting | create, forWriting | create | appending, forWriting} {
		if text := r.want(statusFailure, fxClose, r.open("/f", flags)); !strings.Contains(text, "600 bytes") {
			t.Error(text)
		}
		if got := r.size("/f"); got != 600 || n.commits.Load() != 0 {
			t.Fatalf("then there are %d bytes of it, after %d commits", got, n.commits.Load())
		}
	}
	h := r.open("/f", forWriting)
	r.write(h, 600, want[600:])
	r.want(statusOK, fxClose, h)
	n.has(t, "f", want)

	h = r.handle(fxExtended, extWhole, "/g", "mark")
	r.write(h, 0, want)
	r.want(statusOK, fxExtended, extGiveUp, h, 1)
	r.want(statusFailure, fxClose, h)
	r.want(statusOK, fxClose, r.handle(fxExtended, extWhole, "/g", "mark")) // who has a mark knows what has come
	n.has(t, "g", want)
}

// TestNoPartBesideAFile: what has the name is what a client is told of, and is not appended to.
func TestNoPartBesideAFile(t *testing.T) {
	n := newKeeper(t)
	n.put(t, "f", []byte("older"))
	r := newRaw(t, n)
	if got := r.size("/f"); got != 5 {
		t.Errorf("STAT says %d", got)
	}
	r.want(statusUnsupported, fxOpen, "/f", forWriting|create|appending, 0)
	n.has(t, "f", []byte("older"))
}

// TestWithoutClose: whoever gives a file up in a connection that goes on says so without CLOSE,
// which would publish it.
func TestWithoutClose(t *testing.T) {
	n := newKeeper(t)
	r := newRaw(t, n)
	for keep, want := range map[int]int64{0: -1, 1: 7} {
		h := r.open("/f", anew)
		r.write(h, 0, []byte("content"))
		r.want(statusBadMessage, fxExtended, extGiveUp, h)
		h = r.open("/f", anew)
		r.write(h, 0, []byte("content"))
		r.want(statusOK, fxExtended, extGiveUp, h, keep)
		if code, _ := r.status(fxClose, h); code == statusOK {
			t.Error("CLOSE publishes it")
		}
		if got := r.size("/f"); got != want {
			t.Errorf("with %d: %d bytes are there", keep, got)
		}
	}
	r.want(statusUnsupported, fxExtended, extGiveUp, r.handle(fxOpendir, "/"), 1)
	if n.commits.Load() != 0 {
		t.Errorf("%d commits", n.commits.Load())
	}
}

// TestMarked: a program that tells its uploads apart goes on with its own, and begins where there
// is none.
func TestMarked(t *testing.T) {
	n := newKeeper(t)
	brokenOff(t, n, []byte("of somebody without a mark"))
	r := newRaw(t, n)
	for _, mark := range []string{"", strings.Repeat("x", plugins.MaxMark+1)} {
		r.want(statusFailure, fxExtended, extWhole, "/f", mark)
	}
	open := func(mark string, want int64) string {
		t.Helper()
		h := r.handle(fxExtended, extWhole, "/f", mark)
		if _, f := r.do(fxFstat, h); f.size() != want {
			t.Errorf("with %q it begins elsewhere", mark)
		}
		return h
	}
	h := open("one", 0)
	r.write(h, 0, []byte("first "))
	r.want(statusOK, fxExtended, extGiveUp, h, 1)
	r.want(statusFailure, fxClose, h)
	h = open("other", 0)
	r.want(statusOK, fxExtended, extGiveUp, h, 0)
	r.want(statusFailure, fxClose, h)
	h = open("one", 6)
	r.write(h, 6, []byte("second"))
	r.want(statusOK, fxClose, h)
	n.has(t, "f", []byte("first second"))
}

// TestOpenSSHGoesOn: reput and put -a of OpenSSH go on with what a lost connection has left.
func TestOpenSSHGoesOn(t *testing.T) {
	for _, command := range []string{"reput big", "put -a big"} {
		n := newKeeper(t)
		p := started(t, n)
		big := content(5<<20 + 17)
		p.file("big", string(big))
		c := in(t, p.r)
		f, err := files(t, c).Create("/big")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(big[:3<<20]); err != nil {
			t.Fatal(err)
		}
		_ = c.Close() // and no CLOSE
		until(t, "the upload to be kept", func() bool {
			n.mu.Lock()
			defer n.mu.Unlock()
			return len(n.kept) == 1
		})
		if _, err := os.Stat(filepath.Join(n.root, "big")); err == nil {
			t.Error("it has its name")
		}
		before := n.took.Load()
		out := p.must("ls -l\n" + command + "\n")
		n.has(t, "big", big)
		if sent := n.took.Load() - before; sent != 2<<20+17 {
			t.Errorf("%s: %d bytes were sent: %s", command, sent, out)
		}
		if got := n.files(t); len(got) != 1 {
			t.Errorf("there is %q", got)
		}
	}
}
