package sftp

import (
	"testing"

	"github.com/pannier/pannier/flow/flowtest"
	"github.com/pannier/pannier/flow/flowtest/sshserver"
	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// TestRealNoSpace: OpenSSH says SSH_FX_FAILURE of a disk that is full, and no more; it is no space all the same, and the advice
// says what to do. Nothing gets the name or is left, an older file of the name stays as it is, and what is
// kept is gone on with when there is room.
func TestRealNoSpace(t *testing.T) {
	s, dir := sshserver.Start(t), t.TempDir()
	if err := flowtest.SmallMount(dir, 1<<20); err != nil {
		t.Skip("a small file system: ", err)
	}
	t.Cleanup(func() {
		if err := flowtest.Unmount(dir); err != nil {
			t.Error(err)
		}
	})
	d, older, b := opens(t, endpoint(t, s, dir)), randomBytes(100<<10), randomBytes(4<<20)
	if _, err := write(t.Context(), d, "/f", older); err != nil {
		t.Fatal(err)
	}
	says := []string{s.Address(), "SSH_FX_FAILURE", "no space for it", "make room at the server"}
	_, err := write(t.Context(), d, "/f", b)
	isKind(t, err, fault.NoSpace, says...)
	holds(t, dir, "f", string(older))

	st, err := d.Write(t.Context(), "/f", plugins.WriteRequest{Size: int64(len(b))})
	if err == nil {
		_, err = st.Write(b)
	}
	if err == nil {
		_, err = st.Commit(t.Context())
	}
	isKind(t, err, fault.NoSpace, says...)
	kept, err := st.Abort(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	if err := flowtest.ResizeSmall(dir, 16<<20); err != nil {
		t.Fatal(err)
	}
	if st, err = d.Write(t.Context(), "/f", plugins.WriteRequest{Size: int64(len(b)), Resume: kept}); err != nil || st.Offset() == 0 || st.Offset() > 1<<20 {
		t.Fatal(st, err)
	}
	if _, err = st.Write(b[st.Offset():]); err == nil {
		_, err = st.Commit(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	holds(t, dir, "f", string(b))
}
