package admin_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"testing"

	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

func TestNodeInfo(t *testing.T) {
	n := newNode(t, func(c *admin.Config) {
		c.Addresses = func() []string { return []string{"tls://here:6610"} }
		c.Draining = func() bool { return true }
	})
	i, err := n.NodeInfo(t.Context(), &adminpb.NodeInfoRequest{})
	if err != nil || i.Name != "here" || i.Key != "sha256:00" || i.Version != "v1" || len(i.Addresses) != 1 || !i.Draining || i.Started == nil {
		t.Error(i, err)
	}
}

// TestUnsupported: what the daemon has not been given says so.
func TestUnsupported(t *testing.T) {
	n := newNode(t)
	_, err := n.Reload(t.Context(), &adminpb.ReloadRequest{})
	wantKind(t, err, fault.Unsupported)
	backup, err := n.Backup(t.Context(), &adminpb.BackupRequest{})
	if err == nil {
		_, err = backup.Recv()
	}
	wantKind(t, err, fault.Unsupported)
	browse, err := n.Browse(t.Context(), &adminpb.BrowseRequest{})
	if err == nil {
		_, err = browse.Recv()
	}
	wantKind(t, err, fault.Unsupported)
}

// TestBackup: all bytes arrive, in chunks; a backup that fails is no backup.
func TestBackup(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789abcde"), 20000)
	var failure error
	n := newNode(t, func(c *admin.Config) {
		c.Backup = func(w io.Writer, _ bool) error {
			if _, err := w.Write(content); err != nil {
				return err
			}
			return failure
		}
	})
	s, err := n.Client.Backup(t.Context(), &adminpb.BackupRequest{})
	var got []byte
	for _, c := range all(t, s, err) {
		if len(c.Data) > 64<<10 {
			t.Errorf("a chunk of %d bytes", len(c.Data))
		}
		got = append(got, c.Data...)
	}
	if !bytes.Equal(got, content) {
		t.Errorf("%d bytes of %d", len(got), len(content))
	}
	failure = fault.New("backup", fault.IO, "disk")
	s, err = n.Client.Backup(t.Context(), &adminpb.BackupRequest{})
	for err == nil {
		_, err = s.Recv()
	}
	wantKind(t, err, fault.IO)
}

func TestReload(t *testing.T) {
	n := newNode(t, func(c *admin.Config) {
		c.Reload = func(context.Context) (admin.Reloaded, error) {
			return admin.Reloaded{Notes: []string{"rule out: root"}, Problems: []string{"relay r does not listen"}}, nil
		}
	})
	if r, err := n.Reload(t.Context(), &adminpb.ReloadRequest{}); err != nil || len(r.Notes) != 1 || r.Notes[0] != "rule out: root" || len(r.Problems) != 1 || r.Problems[0] != "relay r does not listen" {
		t.Error(r, err)
	}
}

func TestBrowse(t *testing.T) {
	n := newNode(t, func(c *admin.Config) {
		c.Browse = func(_ context.Context, partner, rule, dir string) iter.Seq2[admin.Entry, error] {
			return func(yield func(admin.Entry, error) bool) {
				_ = yield(admin.Entry{Name: partner + rule + dir + "\xff", Size: 5, Directory: true}, nil) && yield(admin.Entry{}, fault.New("x", fault.Lost, "y"))
			}
		}
	})
	s, err := n.Browse(t.Context(), &adminpb.BrowseRequest{Partner: "p", Rule: "r", Path: "d"})
	if err != nil {
		t.Fatal(err)
	}
	if e, err := s.Recv(); err != nil || e.Name != "prd?" || e.Size != 5 || !e.Directory {
		t.Error(e, err)
	}
	_, err = s.Recv()
	wantKind(t, err, fault.Lost)
	var u *admin.Unreachable
	if errors.As(err, &u) {
		t.Error("the partner is lost, not the daemon")
	}
	s, err = n.Browse(t.Context(), &adminpb.BrowseRequest{Path: "../x"})
	if err == nil {
		_, err = s.Recv()
	}
	wantKind(t, err, fault.Invalid)
}

func TestNewRefuses(t *testing.T) {
	_, err := admin.New(admin.Config{Node: "x"})
	wantKind(t, err, fault.Invalid)
}
