package sftp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/pannier/pannier/flow/flowtest/sshserver"
	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// TestReal calls each method, at the system's sshd.
func TestReal(t *testing.T) {
	s, dir := sshserver.Start(t), t.TempDir()
	d, ctx := opens(t, endpoint(t, s, dir)), t.Context()
	if c := d.Capabilities(); !c.Atomic || len(c.Checksums) > 0 || len(c.Notes) != 1 || d.all[0].read != mostData || d.all[0].write != mostData {
		t.Errorf("%+v, %d, %d", c, d.all[0].read, d.all[0].write)
	}
	if err := d.Mkdir(ctx, "/d ir"); err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, 1, mostData - 1, mostData, mostData + 1, 5_000_000} {
		b := randomBytes(n)
		a, err := write(ctx, d, "/d ir/f é.bin", b)
		if err != nil || a.Size != int64(n) || a.Name != "/d ir/f é.bin" || a.Modified.IsZero() {
			t.Fatalf("%+v, %v", a, err)
		}
		for _, offset := range []int{0, n / 2, n} {
			if got, err := reads(ctx, d, "/d ir/f é.bin", int64(offset)); err != nil || !bytes.Equal(got, b[offset:]) {
				t.Errorf("from %d of %d: %d bytes, %v", offset, n, len(got), err)
			}
		}
		holds(t, dir+"/d ir", "f é.bin", string(b))
	}
	if err := os.Symlink("f é.bin", dir+"/d ir/link"); err != nil {
		t.Fatal(err)
	}
	var got []string
	for a, err := range d.List(ctx, "/d ir") {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprint(a.Name, " ", a.Size, a.Dir))
	}
	if slices.Sort(got); !slices.Equal(got, []string{"f é.bin 5000000 false", "link -1 false"}) {
		t.Errorf("%q", got)
	}
	isKind(t, d.Remove(ctx, "/d ir"), fault.Invalid, "RMDIR", "what is in it")
	_, err := write(ctx, d, "/"+strings.Repeat("x", 300), nil)
	isKind(t, err, fault.Invalid, "SSH_FX_BAD_MESSAGE")
	_, err = d.Write(ctx, "/d ir", plugins.WriteRequest{Size: 1 << 40}) // is said before anything is sent
	isKind(t, err, fault.Exists, "directory")
	_, err = lists(ctx, d, "/d ir/f é.bin")
	isKind(t, err, fault.NotFound, "OPENDIR")
	home, err := os.UserHomeDir()
	if e := endpoint(t, s, dir); err == nil {
		e.URL = "sftp://" + s.Address() + "/below"
		if d := opens(t, e); d.base != filepath.Join(home, "below") {
			t.Errorf("names begin at %s", d.base)
		}
	}
}

// TestRealLeft: what a Write has left whose process was killed goes with the next one of its ID, also where
// that is given up; what has another ID stays.
func TestRealLeft(t *testing.T) {
	s, dir, b := sshserver.Start(t), t.TempDir(), randomBytes(300_000)
	killed := func(id string) {
		d := opens(t, endpoint(t, s, dir))
		st, err := d.Write(t.Context(), "/file", plugins.WriteRequest{Size: int64(len(b)), ID: id})
		if err == nil {
			_, err = st.Write(b[:200_000])
		}
		if err := errors.Join(err, d.Close()); err != nil { // which ends its connections, and nothing else
			t.Fatal(err)
		}
	}
	parts := func(want int) {
		t.Helper()
		if all, _ := filepath.Glob(dir + "/*.part"); len(all) != want {
			t.Errorf("there are %q, not %d", all, want)
		}
	}
	killed("other")
	killed("one")
	parts(2)
	d := opens(t, endpoint(t, s, dir))
	_, err := d.Write(t.Context(), "/file", plugins.WriteRequest{Size: -1, ID: "one"})
	isKind(t, err, fault.IO, "OPEN") // it is not written to unasked
	st, err := d.Write(t.Context(), "/file", plugins.WriteRequest{Size: int64(len(b)), ID: "one", Again: true})
	if err == nil {
		_, err = st.Write(b)
	}
	if err == nil {
		_, err = st.Commit(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	parts(1)
	for range 2 { // there need be nothing
		if st, err = d.Write(t.Context(), "/file", plugins.WriteRequest{Size: -1, ID: "other", Again: true}); err != nil {
			t.Fatal(err)
		}
		if _, err := st.Abort(t.Context(), false); err != nil {
			t.Error(err)
		}
		holds(t, dir, "file", string(b))
	}
}

// TestRealRefuses: a server that lets nobody write, and one that has no sessions.
func TestRealRefuses(t *testing.T) {
	s := sshserver.Start(t, sshserver.Line("ForceCommand internal-sftp -R"))
	d := opens(t, endpoint(t, s, t.TempDir()))
	_, err := write(t.Context(), d, "/file", []byte("x"))
	isKind(t, err, fault.Permission, s.Address(), "OPEN", "SSH_FX_PERMISSION_DENIED", "let the user")
	isKind(t, d.Mkdir(t.Context(), "/dir"), fault.Permission, "MKDIR")
	for _, c := range []struct {
		line string
		kind fault.Kind
		has  string
	}{
		{"MaxSessions 0", fault.Overloaded, "MaxSessions"},
		{"ForceCommand echo welcome", fault.Protocol, "shell"},
		{"ForceCommand exit 1", fault.Lost, "its log says why"},
		{"DenyUsers *", fault.Unauthenticated, "credentials"},
		{"PubkeyAuthentication no", fault.Unauthenticated, "credentials"},
	} {
		s := sshserver.Start(t, sshserver.Line(c.line))
		_, err := Driver{}.Open(t.Context(), endpoint(t, s, "/"))
		isKind(t, err, c.kind, c.has, s.Address())
	}
}

// TestRealStops: the server's processes stop, and its end of the connection stays open.
func TestRealStops(t *testing.T) {
	s, dir := sshserver.Start(t), t.TempDir()
	if err := os.WriteFile(dir+"/big", make([]byte, 64<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, what := range []string{"read", "write", "stat"} {
		d := opens(t, endpoint(t, s, dir, "timeout", "3s", "connections", "1"))
		r, err := d.Read(t.Context(), "/big", 0)
		if err != nil {
			t.Fatal(err)
		}
		st, err := d.Write(t.Context(), "/new", plugins.WriteRequest{Size: -1})
		if err != nil {
			t.Fatal(err)
		}
		stopped := s.Sessions()
		for _, pid := range stopped {
			_ = syscall.Kill(pid, syscall.SIGSTOP)
		}
		switch what {
		case "read":
			_, err = io.Copy(io.Discard, r)
		case "write":
			_, err = io.CopyN(st, zeros{}, 64<<20)
		case "stat":
			_, err = d.Stat(t.Context(), "/big")
		}
		isKind(t, err, fault.DeadPeer, s.Address())
		for _, pid := range stopped {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		if r.Close() == nil {
			t.Error("the reader's end is well")
		}
		if _, err := st.Abort(t.Context(), false); err != nil { // on another connection
			t.Error(err)
		}
	}
	holds(t, dir, "big", string(make([]byte, 64<<20)))
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestRealKilled: a server is killed in the middle, and the file goes on after its restart: from what
// a checkpoint has had on its disk, since the rest may have been in its host's memory.
func TestRealKilled(t *testing.T) {
	t.Run("with a checkpoint", func(t *testing.T) { realKilled(t, true) })
	t.Run("without", func(t *testing.T) { realKilled(t, false) })
}

func realKilled(t *testing.T, checkpoint bool) {
	s, dir := sshserver.Start(t), t.TempDir()
	d := opens(t, endpoint(t, s, dir))
	b := randomBytes(16 << 20)
	st, err := d.Write(t.Context(), "/w", plugins.WriteRequest{Size: int64(len(b))})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := st.Write(b[:5<<20]); err != nil {
		t.Fatal(err)
	}
	var told token
	if checkpoint {
		kept, err := st.(plugins.Checkpointer).Checkpoint(t.Context())
		if err == nil {
			told, err = parseToken(kept, "")
		}
		if err != nil || told.At == 0 || told.At > 5<<20 {
			t.Fatalf("%+v, %v", told, err)
		}
	}
	if _, err := st.Write(b[5<<20 : 9<<20]); err != nil {
		t.Fatal(err)
	}
	s.Kill()
	_, err = st.Write(b[9<<20:])
	if err == nil {
		_, err = st.Commit(t.Context())
	}
	isKind(t, err, fault.Lost, s.Address())
	_, err = d.Stat(t.Context(), "/w")
	isKind(t, err, fault.Lost, s.Address())
	resume, err := st.Abort(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	s.Restart()
	if st, err = d.Write(t.Context(), "/w", plugins.WriteRequest{Size: int64(len(b)), Resume: resume}); err != nil || st.Offset() != told.At {
		t.Fatal(st.Offset(), told.At, err)
	}
	if _, err := st.Write(b[st.Offset():]); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if a, err := st.Commit(t.Context()); err != nil || a.Size != int64(len(b)) {
			t.Fatal(a, err)
		}
	}
	holds(t, dir, "w", string(b))
}

// TestConnections: several files have several connections, unless the server wants fewer.
func TestConnections(t *testing.T) {
	for _, most := range []int32{1, 3} {
		f := fakes(t, func(f *fake) {
			f.request = func(l *link, _ byte, _ []byte) bool {
				if l.login > most { // its last word, before VERSION
					l.ch.Close()
				}
				return true
			}
		})
		f.has("file", []byte("content"))
		s := f.opens("connections", "3")
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				for range 20 {
					if got, err := reads(ctx, s, "/file", 0); err != nil || string(got) != "content" {
						t.Errorf("%q, %v", got, err)
					}
				}
			})
		}
		all.Wait()
		cancel()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if n := f.logins.Load(); n < 2 || n > 3 {
			t.Errorf("%d logins", n)
		}
	}
}
