package sftp

import (
	"os"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/pannier/pannier/flow/flowtest"
	"github.com/pannier/pannier/flow/flowtest/ftpserver"
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

// TestRealQuota: of a user who may have no more, a server with quotas of its own says so; it is no space, which is tried
// again, and the advice says what to change. Nothing gets the name or is left, an older file of the name stays as it is, and once
// the user may have more, what is kept is gone on with, by the same session.
func TestRealQuota(t *testing.T) {
	f := ftpserver.Start(t, "proftpd", ftpserver.SFTP, ftpserver.Quota(1<<20))
	text, err := os.ReadFile(f.HostKey())
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.ParsePrivateKey(text)
	if err != nil {
		t.Fatal(err)
	}
	e := plugins.Endpoint{URL: "sftp://" + f.Address, User: f.User, Password: f.Password, Options: map[string]string{"hostkey": ssh.FingerprintSHA256(key.PublicKey())}}
	d, older, b := opens(t, e), randomBytes(100<<10), randomBytes(4<<20)
	if _, err := write(t.Context(), d, "/f", older); err != nil {
		t.Fatal(err)
	}
	_, err = write(t.Context(), d, "/f", b)
	isKind(t, err, fault.NoSpace, f.Address, "uota", "raise the user's quota there")
	holds(t, f.Data, "f", string(older))
	if all, err := os.ReadDir(f.Data); err != nil || len(all) != 1 {
		t.Errorf("there is %v, %v", all, err)
	}
	st, err := d.Write(t.Context(), "/f", plugins.WriteRequest{Size: int64(len(b))})
	if err == nil {
		_, err = st.Write(b)
	}
	if err == nil {
		_, err = st.Commit(t.Context())
	}
	isKind(t, err, fault.NoSpace, "uota")
	kept, err := st.Abort(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	f.Allow(64 << 20)
	if st, err = d.Write(t.Context(), "/f", plugins.WriteRequest{Size: int64(len(b)), Resume: kept}); err != nil {
		t.Fatal(err)
	}
	if _, err = st.Write(b[st.Offset():]); err == nil {
		_, err = st.Commit(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	holds(t, f.Data, "f", string(b))
}
