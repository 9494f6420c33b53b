package ftp

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/pannier/pannier/flow/flowtest/ftpserver"
	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// TestRealNoSpace: a server whose disk is full says that it cannot write, each in its own words and mostly
// not why; that is tried again, and the advice has both. Nothing gets the name,
// and what is kept is gone on with when there is room.
func TestRealNoSpace(t *testing.T) {
	for _, kind := range ftpserver.Kinds {
		t.Run(kind, func(t *testing.T) {
			f := ftpserver.Start(t, kind, ftpserver.Small(1<<20))
			s := opens(t, f)
			b := randomBytes(4 << 20)
			_, err := write(t.Context(), s, "/f", b)
			full(t, err, f)
			onlyFiles(t, f)

			st, err := s.Write(t.Context(), "/f", plugins.WriteRequest{Size: int64(len(b))})
			if err == nil {
				_, err = st.Write(b)
			}
			if err == nil {
				_, err = st.Commit(t.Context())
			}
			full(t, err, f)
			kept, err := st.Abort(t.Context(), true)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(filepath.Join(f.Data, "f")); err == nil {
				t.Error("something has the name")
			}
			f.Grow(16 << 20)
			if st, err = s.Write(t.Context(), "/f", plugins.WriteRequest{Size: int64(len(b)), Resume: kept}); err != nil || st.Offset() > 1<<20 {
				t.Fatal(st, err)
			}
			if _, err = st.Write(b[st.Offset():]); err == nil {
				_, err = st.Commit(t.Context())
			}
			if err != nil {
				t.Fatal(err)
			}
			holds(t, f, "f", b)
			onlyFiles(t, f, "f")
		})
	}
}

// full says whether an error is of a full disk, as far as the server knows: proftpd says 452 if it is so at
// once, and 451 if that is seen later.
func full(t *testing.T, err error, f *ftpserver.Server) {
	t.Helper()
	kind := fault.IO
	if fault.KindOf(err) == fault.NoSpace {
		kind = fault.NoSpace
	}
	isKind(t, err, kind, f.Address, "STOR", "45", "make room at the server")
}

// TestRealQuota: of a user who may have no more, servers with quotas of their own say so, and how to change that;
// it is tried again. Nothing unfinished is left, an older file of the name stays as it is; and once the user may
// have more, the same session writes the file.
func TestRealQuota(t *testing.T) {
	for _, kind := range ftpserver.Quotas {
		t.Run(kind, func(t *testing.T) {
			f := ftpserver.Start(t, kind, ftpserver.Quota(1<<20))
			s := opens(t, f)
			older, b := randomBytes(100<<10), randomBytes(4<<20)
			if _, err := write(t.Context(), s, "/f", older); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				_, err := write(t.Context(), s, "/f", b)
				isKind(t, err, fault.NoSpace, f.Address, "STOR", "552", "uota", "raise the user's quota there")
				_ = os.Remove(filepath.Join(f.Data, ".ftpquota")) // which is pure-ftpd's note, and made anew
				holds(t, f, "f", older)
				onlyFiles(t, f, "f")
			}
			st, err := s.Write(t.Context(), "/f", plugins.WriteRequest{Size: int64(len(b))})
			if err == nil {
				_, err = st.Write(b)
			}
			if err == nil {
				_, err = st.Commit(t.Context())
			}
			isKind(t, err, fault.NoSpace, "552")
			kept, err := st.Abort(t.Context(), true)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Stat(t.Context(), "/f"); err != nil { // by a login from before
				t.Error(err)
			}
			f.Allow(64 << 20)
			st, err = s.Write(t.Context(), "/f", plugins.WriteRequest{Size: int64(len(b)), Resume: kept})
			if err != nil {
				t.Fatal(err)
			}
			if _, err = st.Write(b[st.Offset():]); err == nil {
				_, err = st.Commit(t.Context())
			}
			if err != nil {
				t.Error(err)
			}
			holds(t, f, "f", b)
			if s.full.Load() {
				t.Error("it logs in for each file from now on")
			}
		})
	}
}

// TestFXPQuota: the same of what another server sends there.
func TestFXPQuota(t *testing.T) {
	for _, kind := range ftpserver.Quotas {
		t.Run(kind, func(t *testing.T) {
			a, f := ftpserver.Start(t, "vsftpd", ftpserver.FXP), ftpserver.Start(t, kind, ftpserver.FXP, ftpserver.Quota(1<<20))
			b := randomBytes(4 << 20)
			puts(t, a, "f", b)
			s, d := opens(t, a, "fxp", "any"), opens(t, f, "fxp", "any")
			for range 2 {
				_, err := s.Copy(t.Context(), "/f", d, "/f", plugins.CopyRequest{})
				isKind(t, err, fault.NoSpace, f.Address, "STOR", "552", "uota", "raise the user's quota there")
				if _, err := os.Stat(filepath.Join(f.Data, "f")); err == nil {
					t.Error("something has the name")
				}
			}
			if _, err := d.Stat(t.Context(), "/f"); fault.KindOf(err) != fault.NotFound { // by a login from before
				t.Error(err)
			}
			f.Allow(64 << 20)
			if _, err := s.Copy(t.Context(), "/f", d, "/f", plugins.CopyRequest{}); err != nil {
				t.Error(err)
			}
			holds(t, f, "f", b)
			if d.full.Load() {
				t.Error("it logs in for each file from now on")
			}
		})
	}
}
