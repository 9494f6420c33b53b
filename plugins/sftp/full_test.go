package sftp

import (
	"os"
	"sync/atomic"
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

// TestRealReadOnly: OpenSSH says SSH_FX_FAILURE of a file system that is read-only, and no more, whatever is to be changed in it;
// the error says that it is, and what to do. A directory that is not empty is one all the same.
func TestRealReadOnly(t *testing.T) {
	s, dir := sshserver.Start(t), t.TempDir()
	if err := flowtest.SmallMount(dir, 1<<20); err != nil {
		t.Skip("a small file system: ", err)
	}
	t.Cleanup(func() {
		if err := flowtest.Unmount(dir); err != nil {
			t.Error(err)
		}
	})
	d := opens(t, endpoint(t, s, dir))
	if err := d.Mkdir(t.Context(), "/d"); err != nil {
		t.Fatal(err)
	}
	if _, err := write(t.Context(), d, "/d/f", []byte("older")); err != nil {
		t.Fatal(err)
	}
	isKind(t, d.Remove(t.Context(), "/d"), fault.Invalid, "SSH_FX_FAILURE", "remove what is in it before")
	if err := flowtest.ReadOnlySmall(dir, 1<<20); err != nil {
		t.Fatal(err)
	}
	_, err := write(t.Context(), d, "/f", []byte("12345"))
	for op, err := range map[string]error{
		"WRITE": err, "MKDIR": d.Mkdir(t.Context(), "/new"), "RENAME": d.Rename(t.Context(), "/d/f", "/d/g"),
		"REMOVE": d.Remove(t.Context(), "/d/f"), "RMDIR": d.Remove(t.Context(), "/d"),
	} {
		isKind(t, err, fault.Permission, s.Address(), op, "file system is read-only", "SSH_FX_FAILURE", "have it mounted there")
	}
	if err := d.Mkdir(t.Context(), "/d"); err != nil { // it is there
		t.Error(err)
	}
	holds(t, dir+"/d", "f", "older")
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

// TestQuotaKeeps: of a file for which there is no more room, what the server has confirmed is kept, though its connection is
// ended for that; and a later Write goes on there, by another login.
func TestQuotaKeeps(t *testing.T) {
	const piece = plainData
	var full atomic.Bool
	full.Store(true)
	f := fakes(t, func(f *fake) {
		f.reply = func(l *link, typ byte, m []byte) bool { // its own server has no fsync
			if typ == fxInit {
				l.says(fxVersion, append(m[1:], message(nil).text(extSync).text("1")...))
			}
			return typ != fxInit
		}
		f.request = func(l *link, typ byte, body []byte) bool {
			switch h := (fields{b: body[4:]}); {
			case typ == fxWrite && full.Load() && offsetOf(body) >= 3*piece:
				l.status(body, codeFailure, "Disk quota exceeded")
			case typ == fxExtended && h.text() == extSync:
				l.status(body, 0, "")
			default:
				return true
			}
			return false
		}
	})
	s, content := f.opens("keepalive", "0s"), randomBytes(8*piece)
	for _, commits := range []bool{false, true} {
		st, err := s.Write(t.Context(), "/file", plugins.WriteRequest{Size: int64(len(content))})
		if err != nil {
			t.Fatal(err)
		}
		if _, err = st.Write(content); err == nil || commits {
			_, err = st.Commit(t.Context())
		}
		isKind(t, err, fault.NoSpace, "Disk quota exceeded")
		kept, err := st.Abort(t.Context(), true)
		if err != nil {
			t.Fatal(err)
		}
		full.Store(false)
		again, err := s.Write(t.Context(), "/file", plugins.WriteRequest{Size: int64(len(content)), Resume: kept})
		if err != nil || again.Offset() != 3*piece {
			t.Fatalf("%v, it goes on at %d of %d", err, again.Offset(), 3*piece)
		}
		if again.(*staged).c == st.(*staged).c {
			t.Error("by the same login")
		}
		if _, err = again.Write(content[3*piece:]); err == nil {
			_, err = again.Commit(t.Context())
		}
		if err != nil {
			t.Error(err)
		}
		holds(t, f.dir, "file", string(content))
		full.Store(true)
	}
}
