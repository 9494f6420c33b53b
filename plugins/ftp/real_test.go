package ftp

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pannier/pannier/flow/flowtest/ftpserver"
	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// opens logs in at a real server; options are name, value, name, value.
func opens(t testing.TB, f *ftpserver.Server, options ...string) *session {
	t.Helper()
	s, err := Driver{}.Open(t.Context(), endpoint(f, options...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s.(*session)
}

func endpoint(f *ftpserver.Server, options ...string) plugins.Endpoint {
	e := plugins.Endpoint{URL: "ftp://" + f.Address, User: f.User, Password: f.Password, Options: map[string]string{}}
	for i := 0; i < len(options); i += 2 {
		e.Options[options[i]] = options[i+1]
	}
	return e
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(b)
	return b
}

// puts makes a file at a real server, past FTP.
func puts(t testing.TB, f *ftpserver.Server, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(f.Data, name), b, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(f.Data, name), 0o666); err != nil {
		t.Fatal(err)
	}
}

func holds(t testing.TB, f *ftpserver.Server, name string, want []byte) {
	t.Helper()
	got, err := os.ReadFile(filepath.Join(f.Data, name))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s has %d bytes at %s, %v; want %d", name, len(got), f.Kind, err, len(want))
	}
}

// onlyFiles fails when something else than those is in the directory.
func onlyFiles(t testing.TB, f *ftpserver.Server, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(f.Data)
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	slices.Sort(want)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("at %s there is %q, %v; want %q", f.Kind, got, err, want)
	}
}

func write(ctx context.Context, s plugins.Session, name string, b []byte) (plugins.Attr, error) {
	st, err := s.(plugins.Writer).Write(ctx, name, plugins.WriteRequest{Size: int64(len(b))})
	if err != nil {
		return plugins.Attr{}, err
	}
	if _, err := io.Copy(st, bytes.NewReader(b)); err != nil {
		_, _ = st.Abort(ctx, false)
		return plugins.Attr{}, err
	}
	a, err := st.Commit(ctx)
	if err != nil {
		_, _ = st.Abort(ctx, false)
	}
	return a, err
}

func reads(ctx context.Context, s plugins.Session, name string, offset int64) ([]byte, error) {
	r, err := s.Read(ctx, name, offset)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(r)
	return b, errors.Join(err, r.Close())
}

func isKind(t testing.TB, err error, kind fault.Kind, has ...string) {
	t.Helper()
	if fault.KindOf(err) != kind || err == nil {
		t.Errorf("%v is %v; want %v", err, fault.KindOf(err), kind)
		return
	}
	for _, h := range has {
		if !strings.Contains(err.Error(), h) {
			t.Errorf("%v does not name %q", err, h)
		}
	}
}

func TestRealMethods(t *testing.T) {
	for _, kind := range ftpserver.Kinds {
		for _, way := range []string{"plain", "tls", "reuse"} {
			t.Run(kind+"/"+way, func(t *testing.T) {
				var o []ftpserver.Option
				switch way {
				case "tls":
					o = append(o, ftpserver.TLS)
				case "reuse":
					o = append(o, ftpserver.TLSReuse)
				}
				f := ftpserver.Start(t, kind, o...)
				var options []string
				if way != "plain" {
					options = []string{"tls", "require", "ca", f.CA}
				}
				methods(t, f, opens(t, f, options...))
			})
		}
	}
}

// methods calls each method of a session.
func methods(t *testing.T, f *ftpserver.Server, s *session) {
	ctx := t.Context()
	caps := s.Capabilities()
	if !caps.Write || !caps.List || (f.Kind == "proftpd") != slices.Contains(caps.Checksums, "sha256") {
		t.Errorf("%+v", caps)
	}
	if err := s.Mkdir(ctx, "/d ir"); err != nil {
		t.Fatal(err)
	}
	if err := s.Mkdir(ctx, "/d ir"); err != nil {
		t.Errorf("again: %v", err)
	}
	for _, n := range []int{0, 1, 300_000} {
		b := randomBytes(n)
		a, err := write(ctx, s, "/d ir/f é.bin", b)
		if err != nil || a.Size != int64(n) || a.Name != "/d ir/f é.bin" {
			t.Fatalf("%+v, %v", a, err)
		}
		holds(t, f, "d ir/f é.bin", b)
		for _, offset := range []int{0, n / 2, n} {
			if got, err := reads(ctx, s, "/d ir/f é.bin", int64(offset)); err != nil || !bytes.Equal(got, b[offset:]) {
				t.Errorf("from %d: %d bytes, %v", offset, len(got), err)
			}
		}
		_, err = reads(ctx, s, "/d ir/f é.bin", int64(n+1))
		isKind(t, err, fault.Invalid)
		if a, err := s.Stat(ctx, "/d ir/f é.bin"); err != nil || a.Size != int64(n) || a.Dir || time.Since(a.Modified).Abs() > time.Hour {
			t.Errorf("%+v, %v", a, err)
		}
		for _, alg := range caps.Checksums {
			h, _ := common([]string{alg})
			for _, k := range []int{-1, 0, n / 3, n} {
				sum := h.make()
				if k < 0 {
					_, _ = sum.Write(b)
				} else {
					_, _ = sum.Write(b[:k])
				}
				if got, err := s.Checksum(ctx, "/d ir/f é.bin", alg, int64(k)); err != nil || !bytes.Equal(got, sum.Sum(nil)) {
					t.Errorf("%s of %d of %d: %x, %v", alg, k, n, got, err)
				}
			}
		}
	}
	if a, err := s.Stat(ctx, "/d ir"); err != nil || !a.Dir {
		t.Errorf("%+v, %v", a, err)
	}
	if _, err := write(ctx, s, "/d ir/second", []byte("12")); err != nil {
		t.Fatal(err)
	}
	if err := s.Mkdir(ctx, "/d ir/sub"); err != nil {
		t.Fatal(err)
	}
	var got []string
	for a, err := range s.List(ctx, "/d ir") {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, a.Name)
		if a.Dir != (a.Name == "sub") || (a.Name == "second" && (a.Size != 2 || time.Since(a.Modified).Abs() > 25*time.Hour)) {
			t.Errorf("%+v", a)
		}
	}
	if slices.Sort(got); !slices.Equal(got, []string{"f é.bin", "second", "sub"}) {
		t.Errorf("%q", got)
	}
	if err := s.Rename(ctx, "/d ir/second", "/third"); err != nil {
		t.Error(err)
	}
	holds(t, f, "third", []byte("12"))
	isKind(t, s.Remove(ctx, "/nothing"), fault.NotFound, f.Address, "DELE", "550")
	for _, n := range []string{"/third", "/d ir/f é.bin", "/d ir/sub", "/d ir"} {
		if err := s.Remove(ctx, n); err != nil {
			t.Errorf("%s: %v", n, err)
		}
	}
	onlyFiles(t, f)
	_, err := s.Stat(ctx, "/nothing")
	isKind(t, err, fault.NotFound, f.Address, "550")
	_, err = reads(ctx, s, "/nothing", 0)
	isKind(t, err, fault.NotFound, f.Address, "550")
	_, err = s.Stat(ctx, "/a\r\nDELE /third")
	isKind(t, err, fault.Invalid)
}

func TestRealResume(t *testing.T) {
	for _, kind := range ftpserver.Kinds {
		t.Run(kind, func(t *testing.T) {
			f := ftpserver.Start(t, kind)
			b := randomBytes(700_000)
			st, err := opens(t, f).Write(t.Context(), "/f", plugins.WriteRequest{Size: int64(len(b))})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := st.Write(b[:400_000]); err != nil {
				t.Fatal(err)
			}
			resume, err := st.Abort(t.Context(), true)
			if err != nil || resume == nil || len(resume) > 4096 {
				t.Fatalf("%q, %v", resume, err)
			}
			if _, err := os.Stat(filepath.Join(f.Data, "f")); err == nil {
				t.Error("it has its name already")
			}
			st, err = opens(t, f).Write(t.Context(), "/f", plugins.WriteRequest{Size: int64(len(b)), Resume: resume})
			if err != nil || st.Offset() != 400_000 {
				t.Fatal(st, err)
			}
			if (st.(*staged).sum != nil) != (kind == "proftpd") {
				t.Error("the checksum goes on where the server has one, and nowhere else")
			}
			if _, err := st.Write(b[400_000:]); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if a, err := st.Commit(t.Context()); err != nil || a.Size != int64(len(b)) {
					t.Fatal(a, err)
				}
			}
			holds(t, f, "f", b)
			onlyFiles(t, f, "f")

			st, err = opens(t, f).Write(t.Context(), "/g", plugins.WriteRequest{Size: -1})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := st.Write(b[:1000]); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if _, err := st.Abort(t.Context(), false); err != nil {
					t.Fatal(err)
				}
			}
			onlyFiles(t, f, "f")
		})
	}
}

// TestRealLeft: what a Write has left whose process was killed goes with the next one of its ID, also where
// that is given up, or is of another file; what has another ID stays.
func TestRealLeft(t *testing.T) {
	b := randomBytes(300_000)
	for _, kind := range ftpserver.Kinds {
		f := ftpserver.Start(t, kind)
		killed := func(id string) {
			s := opens(t, f)
			st, err := s.Write(t.Context(), "/file", plugins.WriteRequest{Size: int64(len(b)), ID: id})
			if err == nil {
				_, err = st.Write(b[:200_000])
			}
			if err := errors.Join(err, s.Close()); err != nil { // which ends its connections, and nothing else
				t.Fatal(kind, err)
			}
		}
		parts := func(want int) {
			t.Helper()
			if all, _ := filepath.Glob(filepath.Join(f.Data, "*.part")); len(all) != want {
				t.Errorf("%s: there are %q, not %d", kind, all, want)
			}
		}
		killed("other")
		killed("one")
		parts(2)
		again := plugins.WriteRequest{Size: int64(len(b)), ID: "one", Again: true}
		s := opens(t, f)
		st, err := s.Write(t.Context(), "/file", again)
		if err == nil {
			_, err = st.Write(b)
		}
		if err == nil {
			_, err = st.Commit(t.Context())
		}
		if err != nil {
			t.Fatal(kind, err)
		}
		holds(t, f, "file", b)
		parts(1)
		for range 2 { // there need be nothing
			if st, err = s.Write(t.Context(), "/file", plugins.WriteRequest{Size: -1, ID: "other", Again: true}); err != nil {
				t.Fatal(kind, err)
			}
			if _, err := st.Abort(t.Context(), false); err != nil {
				t.Error(kind, err)
			}
			onlyFiles(t, f, "file")
		}
		holds(t, f, "file", b)
	}
}

func TestRealWrongPassword(t *testing.T) {
	for _, kind := range []string{"proftpd", "pure-ftpd"} {
		f := ftpserver.Start(t, kind)
		e := endpoint(f)
		e.Password = "of somebody else"
		_, err := Driver{}.Open(t.Context(), e)
		isKind(t, err, fault.Unauthenticated, f.Address, "PASS", "530", "credentials")
		if strings.Contains(err.Error(), e.Password) {
			t.Error("the error tells the password")
		}
	}
}

// TestRealFull: a server that lets nobody more in is asked again; the password is not wrong.
func TestRealFull(t *testing.T) {
	for _, kind := range ftpserver.Kinds {
		f := ftpserver.Start(t, kind, ftpserver.One)
		open := func() (plugins.Session, error) { return Driver{}.Open(t.Context(), endpoint(f)) }
		var first plugins.Session
		for began := time.Now(); first == nil; { // the server may not have noticed yet that who has waited for it is gone
			var err error
			if first, err = open(); err != nil && time.Since(began) > time.Minute {
				t.Fatal(kind, err)
			}
		}
		_, err := open()
		if k := fault.KindOf(err); k != fault.Overloaded && k != fault.Draining {
			t.Errorf("%s: %v", kind, err)
		}
		if err := first.Close(); err != nil {
			t.Error(kind, err)
		}
	}
}

func TestRealReadOnly(t *testing.T) {
	for _, kind := range ftpserver.Kinds {
		f := ftpserver.Start(t, kind)
		if err := os.Chmod(f.Data, 0o555); err != nil {
			t.Fatal(err)
		}
		s := opens(t, f)
		_, err := write(t.Context(), s, "/f", []byte("1"))
		isKind(t, err, fault.Permission, f.Address, "STOR", "55", "let the user")
		isKind(t, s.Mkdir(t.Context(), "/d"), fault.Permission, f.Address, "MKD", "550")
		_ = os.Chmod(f.Data, 0o755)
	}
}

func TestRealKilled(t *testing.T) {
	for _, kind := range ftpserver.Kinds {
		t.Run(kind, func(t *testing.T) {
			f := ftpserver.Start(t, kind)
			s := opens(t, f, "timeout", "5s")
			b := randomBytes(8 << 20)
			puts(t, f, "big", b)
			r, err := s.Read(t.Context(), "/big", 0)
			if err != nil {
				t.Fatal(err)
			}
			st, err := s.Write(t.Context(), "/w", plugins.WriteRequest{Size: int64(len(b))})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := st.Write(b[:3<<20]); err != nil {
				t.Fatal(err)
			}
			f.Kill()
			_, err = io.Copy(io.Discard, r)
			if err = errors.Join(err, r.Close()); fault.KindOf(err) != fault.Lost {
				t.Errorf("read: %v", err)
			}
			_, err = st.Write(b[3<<20:])
			if err == nil {
				_, err = st.Commit(t.Context())
			}
			isKind(t, err, fault.Lost, f.Address)
			resume, err := st.Abort(t.Context(), true)
			if err != nil {
				t.Fatal(err)
			}
			f.Restart()
			st, err = s.Write(t.Context(), "/w", plugins.WriteRequest{Size: int64(len(b)), Resume: resume})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := st.Write(b[st.Offset():]); err != nil {
				t.Fatal(err)
			}
			if _, err := st.Commit(t.Context()); err != nil {
				t.Fatal(err)
			}
			holds(t, f, "w", b)
		})
	}
}
