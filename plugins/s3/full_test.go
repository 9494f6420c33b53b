package s3

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pannier/pannier/flow/flowtest/s3server"
	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// TestNoSpace: a server whose disk is full says so, of a file in one part and of one in many; the advice says what to do.
// Nothing gets the name or is left, an older file of the name stays as it is, and what is kept is gone on with when
// there is room.
func TestNoSpace(t *testing.T) {
	const mib = 1 << 20
	for name, size := range map[string]int{"one part": 4 * mib, "many": 22 * mib} {
		t.Run(name, func(t *testing.T) {
			f := s3server.Start(t, false, s3server.Small(int64(size-mib)))
			s := opens(t, endpoint(f, "part-size", "5", "parallel", "1"))
			older, b := randomBytes(100<<10), randomBytes(size)
			if _, err := write(t.Context(), s, "/f", int64(len(older)), older); err != nil {
				t.Fatal(err)
			}
			_, err := write(t.Context(), s, "/f", int64(size), b)
			isKind(t, err, fault.NoSpace, f.Address, "InsufficientStorage", "make room at the server")
			holds(t, f, "f", older)
			left(t, f)

			st, err := s.Write(t.Context(), "/f", plugins.WriteRequest{Size: int64(size)})
			if err == nil {
				_, err = st.Write(b)
			}
			if err == nil {
				_, err = st.Commit(t.Context())
			}
			isKind(t, err, fault.NoSpace, f.Address)
			kept, err := st.Abort(t.Context(), true)
			if err != nil {
				t.Fatal(err)
			}
			f.Grow(int64(4 * size))
			if st, err = s.Write(t.Context(), "/f", plugins.WriteRequest{Size: int64(size), Resume: kept}); err != nil {
				t.Fatal(err)
			}
			if many := size > 5*mib; many != (st.Offset() > 0) {
				t.Errorf("it goes on at %d", st.Offset())
			}
			if _, err = st.Write(b[st.Offset():]); err == nil {
				_, err = st.Commit(t.Context())
			}
			if err != nil {
				t.Fatal(err)
			}
			holds(t, f, "f", b)
			left(t, f)
		})
	}
}

// left fails if the server has more files than f, or parts of some.
func left(t *testing.T, f *s3server.Server) {
	t.Helper()
	err := filepath.WalkDir(f.Data, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && path != filepath.Join(f.Data, "f") {
			t.Errorf("%s is left", strings.TrimPrefix(path, f.Data))
		}
		return err
	})
	if err != nil && !os.IsNotExist(err) {
		t.Error(err)
	}
}
