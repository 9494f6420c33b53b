package s3

import (
	"bytes"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
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

// TestQuota: of a bucket that may have no more, servers say so in codes of their own, or with a code of another kind and words;
// it is no space, which is tried again, whichever request they refuse. It is not asked for twice, nothing gets the name or
// is left, and what is kept is gone on with once the bucket may have more.
func TestQuota(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct {
		status        int
		code, message string
	}{
		{403, "QuotaExceeded", "Your request was denied due to quota exceeded."}, // versitygw, Ceph
		{400, "XMinioAdminBucketQuotaExceeded", "Bucket quota exceeded"},
		{403, "AccessDenied", "Forbidden: Bucket size quota is reached, maximum total size of objects for this bucket: 1048576"}, // Garage
		{403, "AccessDenied", "Storage cap exceeded."},
		{500, "InternalError", "QUOTA_EXCEEDED The disk space quota is exceeded"}, // Ozone
	} {
		for _, op := range []string{"PutObject", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"} {
			t.Run(c.code+" "+op, func(t *testing.T) {
				f, full := newFake(t), atomic.Bool{}
				s := opens(t, f.endpoint("part-size", "5", "parallel", "1"))
				size := 11 * mib
				if op == "PutObject" {
					size = mib
				}
				older, b := randomBytes(1000), randomBytes(size)
				if _, err := write(t.Context(), s, "/f", int64(len(older)), older); err != nil {
					t.Fatal(err)
				}
				full.Store(true)
				var asked sync.Map
				f.mu.Lock()
				f.hook = func(is string, w http.ResponseWriter, r *http.Request) bool {
					if is != op || !full.Load() {
						return false
					}
					if _, again := asked.LoadOrStore(r.URL.String(), true); again {
						t.Errorf("%s is asked for again", r.URL)
					}
					_, _ = io.Copy(io.Discard, r.Body)
					refuse(w, c.status, c.code, c.message)
					return true
				}
				f.mu.Unlock()
				_, err := write(t.Context(), s, "/f", int64(size), b)
				isKind(t, err, fault.NoSpace, "s3 "+op, c.code, c.message, "raise the quota there")
				asked.Clear()
				if len(f.uploads) > 0 || len(f.objects) != 1 || !bytes.Equal(f.has("f"), older) {
					t.Errorf("there are %d uploads and %d objects, and f has %d bytes", len(f.uploads), len(f.objects), len(f.has("f")))
				}

				st, err := s.Write(t.Context(), "/f", plugins.WriteRequest{Size: int64(size)})
				var kept []byte
				if err == nil {
					if _, err = st.Write(b); err == nil {
						_, err = st.Commit(t.Context())
					}
					var bad error
					if kept, bad = st.Abort(t.Context(), true); bad != nil {
						t.Fatal(bad)
					}
				}
				isKind(t, err, fault.NoSpace, c.code)
				full.Store(false)
				if st, err = s.Write(t.Context(), "/f", plugins.WriteRequest{Size: int64(size), Resume: kept}); err != nil {
					t.Fatal(err)
				}
				if _, err = st.Write(b[st.Offset():]); err == nil {
					_, err = st.Commit(t.Context())
				}
				if err != nil || !bytes.Equal(f.has("f"), b) || len(f.uploads) > 0 {
					t.Errorf("%v, %d bytes, and %d uploads", err, len(f.has("f")), len(f.uploads))
				}
			})
		}
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
