package s3

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pannier/pannier/flow/flowtest/s3server"
	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// endpoint is a real server; options are name, value, name, value.
func endpoint(f *s3server.Server, options ...string) plugins.Endpoint {
	e := plugins.Endpoint{URL: f.URL, User: s3server.AccessKey, Password: s3server.SecretKey, Options: map[string]string{}}
	if f.CA != "" {
		e.Options["ca"] = f.CA
	}
	for i := 0; i < len(options); i += 2 {
		e.Options[options[i]] = options[i+1]
	}
	return e
}

// opens logs in.
func opens(t testing.TB, e plugins.Endpoint) *session {
	t.Helper()
	s, err := Driver{}.Open(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s.(*session)
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(b)
	return b
}

// holds fails if the file of a real server is not that.
func holds(t testing.TB, f *s3server.Server, name string, want []byte) {
	t.Helper()
	got, err := os.ReadFile(filepath.Join(f.Data, name))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s has %d bytes, %v; want %d", name, len(got), err, len(want))
	}
}

// begins writes that much of a file.
func begins(t testing.TB, s *session, name string, size int64, resume, b []byte) *staged {
	t.Helper()
	st, err := s.Write(t.Context(), name, plugins.WriteRequest{Size: size, Resume: resume})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := st.Write(b); err != nil {
		t.Fatal(err)
	}
	return st.(*staged)
}

func write(ctx context.Context, s plugins.Session, name string, size int64, b []byte) (plugins.Attr, error) {
	st, err := s.(plugins.Writer).Write(ctx, name, plugins.WriteRequest{Size: size})
	if err != nil {
		return plugins.Attr{}, err
	}
	_, err = io.Copy(st, bytes.NewReader(b))
	var a plugins.Attr
	if err == nil {
		a, err = st.Commit(ctx)
	}
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
