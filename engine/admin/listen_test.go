package admin_test

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

func TestListenRefuses(t *testing.T) {
	for address, kind := range map[string]fault.Kind{"tcp://127.0.0.1:0": fault.Invalid, "tls://:1": fault.Invalid, "/a": fault.Invalid, "": fault.Invalid} {
		l, err := admin.Listen(address, admin.Access{})
		wantKind(t, err, kind)
		if err == nil {
			l.Close()
		}
		_, err = admin.Dial(address)
		wantKind(t, err, kind)
	}
}

// TestSocketFile: 0600 unless it is said otherwise; what a dead process has left is
// replaced, what a live one has is not.
func TestSocketFile(t *testing.T) {
	path := filepath.Join(shortDir(t), "s")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close()
	for _, mode := range []os.FileMode{0, 0o660} {
		l, err := admin.Listen("unix://"+path, admin.Access{Mode: mode})
		if err != nil {
			t.Fatal(err)
		}
		want := mode
		if mode == 0 {
			want = 0o600
		}
		if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != want {
			t.Errorf("%v %v, want %v", fi.Mode(), err, want)
		}
		_, err = admin.Listen("unix://"+path, admin.Access{})
		wantKind(t, err, fault.Exists)
		l.Close()
	}
}

// TestNobodyAnswers: the error says that there is no daemon, and why.
func TestNobodyAnswers(t *testing.T) {
	path := filepath.Join(shortDir(t), "s")
	c, err := admin.Dial("unix://" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var u *admin.Unreachable
	_, err = c.NodeInfo(t.Context(), &adminpb.NodeInfoRequest{})
	if !errors.As(err, &u) || fault.KindOf(err) != fault.Lost || !strings.Contains(err.Error(), "no such file") || !strings.Contains(err.Error(), path) {
		t.Errorf("%v", err)
	}
	s, err := c.List(t.Context(), &adminpb.ListRequest{})
	if err == nil {
		_, err = s.Recv()
	}
	if !errors.As(err, &u) {
		t.Errorf("stream: %v", err)
	}
}
