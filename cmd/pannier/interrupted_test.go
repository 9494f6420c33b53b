package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pannier/pannier/flow/flowtest/ftpserver"
	"github.com/pannier/pannier/flow/flowtest/s3server"
	"github.com/pannier/pannier/flow/flowtest/sshserver"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

// TestFTPInterrupted: what an FTP server cannot do now interrupts a request, with what it has said, and
// the request is done when it can: a full disk, a full quota, and a lost connection. One that lets nobody more in is
// waited for. What a server never will is no such thing.
func TestFTPInterrupted(t *testing.T) {
	const size = 4 << 20
	begin := func(t *testing.T, f *ftpserver.Server) (c *conduit, b []byte, id string) {
		c = newConduit(t)
		c.write(bridgeRules+strings.Replace(ftpBridge(t, "box", "none", f), "fxp = [\"none\"]\n", "", 1), bridgeRules)
		c.start(c.a)
		b = noise(size)
		c.wrote(filepath.Join(c.a.Root, "x"), b)
		return c, b, strings.TrimSpace(c.does("send", filepath.Join(c.a.Root, "x"), "box:/x"))
	}
	for _, kind := range ftpserver.Kinds {
		t.Run("full disk of "+kind, func(t *testing.T) {
			f := ftpserver.Start(t, kind, ftpserver.Small(1<<20))
			c, b, id := begin(t, f)
			c.interrupted(id, "45", fault.IO, fault.NoSpace) // none of them always says why it could not write
			f.Grow(4 * size)
			c.does("wait", id)
			c.has(filepath.Join(f.Data, "x"), b)
		})
	}
	for _, kind := range ftpserver.Quotas {
		t.Run("full quota at "+kind, func(t *testing.T) {
			f := ftpserver.Start(t, kind, ftpserver.Quota(1<<20))
			c, b, id := begin(t, f)
			c.interrupted(id, "552", fault.NoSpace)
			why := c.does("explain", id)
			for _, want := range []string{"STOR", f.Address, "552", "uota", "raise the user's quota there"} {
				if !strings.Contains(why, want) {
					t.Errorf("explain does not say %q:\n%s", want, why)
				}
			}
			if _, err := os.Stat(filepath.Join(f.Data, "x")); err == nil {
				t.Error("something has the name")
			}
			f.Allow(64 << 20)
			c.does("wait", id)
			c.has(filepath.Join(f.Data, "x"), b)
			if left, _ := filepath.Glob(filepath.Join(f.Data, "*.part")); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
	t.Run("nobody more is let in", func(t *testing.T) {
		f := ftpserver.Start(t, "vsftpd", ftpserver.One)
		var first net.Conn
		for began := time.Now(); first == nil; { // the server may not have noticed yet that who has waited for it is gone
			conn, err := net.Dial("tcp", f.Address)
			if err != nil {
				t.Fatal(err)
			}
			hello := make([]byte, 3)
			if _, err := io.ReadFull(conn, hello); err == nil && string(hello) == "220" {
				first = conn
			} else if _ = conn.Close(); time.Since(began) > time.Minute {
				t.Fatalf("%q, %v", hello, err)
			}
		}
		defer first.Close()
		c, b, id := begin(t, f)
		c.until("it waits", func() bool { // and no attempt is used up
			why := c.does("explain", id)
			return strings.Contains(why, "the partner has asked for time") && strings.Contains(why, "421 ") && strings.Contains(why, "none has begun")
		})
		if err := first.Close(); err != nil {
			t.Fatal(err)
		}
		c.does("wait", id)
		c.has(filepath.Join(f.Data, "x"), b)
	})
	t.Run("lost connection", func(t *testing.T) {
		f := ftpserver.Start(t, "vsftpd", ftpserver.Slow)
		c := newConduit(t)
		c.write(bridgeRules+strings.Replace(ftpBridge(t, "box", "none", f), "fxp = [\"none\"]\n", "", 1), bridgeRules)
		c.start(c.a)
		b := noise(256 << 20)
		c.wrote(filepath.Join(c.a.Root, "x"), b)
		id := strings.TrimSpace(c.does("send", filepath.Join(c.a.Root, "x"), "box:/x"))
		c.moves(id)
		f.Kill()
		c.interrupted(id, "ftp", fault.Lost)
		f.Restart()
		c.does("wait", id)
		c.has(filepath.Join(f.Data, "x"), b)
	})
	t.Run("read only", func(t *testing.T) {
		f := ftpserver.Start(t, "proftpd")
		if err := os.Chmod(f.Data, 0o555); err != nil {
			t.Fatal(err)
		}
		c, _, id := begin(t, f)
		if out, said, err := c.pannier("wait", id); err == nil {
			t.Errorf("it is done: %s%s", out, said)
		}
		r, err := c.client(c.a).Get(t.Context(), &adminpb.Ref{Id: id})
		if err != nil || r.GetState() != adminpb.Request_INERROR || r.GetFailure().GetName() != fault.Permission.String() {
			t.Errorf("%v, %v", r, err)
		}
	})
}

// interrupted waits until a request is, by an error of one of the kinds that has that text.
func (c *conduit) interrupted(id, said string, kinds ...fault.Kind) {
	c.t.Helper()
	client := c.client(c.a)
	c.until("it is interrupted", func() bool {
		r, err := client.Get(c.t.Context(), &adminpb.Ref{Id: id})
		if err != nil {
			c.t.Fatal(err)
		}
		if r.GetState() == adminpb.Request_DONE || r.GetState() == adminpb.Request_INERROR {
			c.t.Fatalf("it is %v: %v", r.GetState(), r.GetFailure())
		}
		f := r.GetFailure()
		if r.GetState() == adminpb.Request_INTERRUPTED && (!slices.Contains(kinds, fault.Kind(f.GetKind())) || !strings.Contains(f.GetCause(), said)) {
			c.t.Fatalf("it is interrupted by %v", f)
		}
		return r.GetState() == adminpb.Request_INTERRUPTED
	})
}

// TestServersInterrupted: a server of SFTP or S3 that dies in the middle of a file interrupts its
// request, and the request is done when the server is there again. What it never will take is no such
// thing.
func TestServersInterrupted(t *testing.T) {
	const size = 64 << 20
	type server interface {
		Kill()
		Restart()
	}
	for _, protocol := range []string{"sftp", "s3"} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			var is server
			var address, dir, section, never string
			var credentials map[string]any
			if protocol == "sftp" {
				s := sshserver.Start(t)
				key, err := os.ReadFile(s.Key)
				if err != nil {
					t.Fatal(err)
				}
				is, address, dir = s, s.Address(), t.TempDir()
				section = fmt.Sprintf("endpoint = \"sftp://%s/%s\"\noptions = [\"hostkey=%s\"]\n", address, dir, s.HostKey)
				never = "box:/big/below" // a file that is there
				credentials = map[string]any{"user": s.User, "secrets": map[string]string{"key": string(key)}}
			} else {
				s := s3server.Start(t, false)
				is, address, dir = s, s.Address, s.Data
				section = fmt.Sprintf("endpoint = %q\n", s.URL)
				never = "other:/big" // a bucket that is not
				credentials = map[string]any{"user": s3server.AccessKey, "password": s3server.SecretKey}
			}
			text, err := json.Marshal(credentials)
			file := filepath.Join(t.TempDir(), "credentials")
			if err = errors.Join(err, os.WriteFile(file, text, 0o600)); err != nil {
				t.Fatal(err)
			}
			c := newConduit(t)
			bridge := "[[bridge]]\nname = %q\nplugin = %q\ncredentials = \"file:%s\"\nbandwidth = \"20MB/s\"\n%s"
			c.write(bridgeRules+fmt.Sprintf(bridge, "box", protocol, file, section)+fmt.Sprintf(bridge, "other", protocol, file, strings.Replace(section, "/"+s3server.Bucket, "/none", 1)), bridgeRules)
			c.start(c.a)
			b := noise(size)
			c.wrote(filepath.Join(c.a.Root, "big"), b)
			id := strings.TrimSpace(c.does("send", filepath.Join(c.a.Root, "big"), "box:/big"))
			c.moves(id)
			is.Kill()
			c.interrupted(id, address, fault.Lost)
			is.Restart()
			c.does("wait", id)
			c.has(filepath.Join(dir, "big"), b)
			if left, _ := filepath.Glob(filepath.Join(dir, "*pannier-*")); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
			id = strings.TrimSpace(c.does("send", filepath.Join(c.a.Root, "big"), never))
			if out, said, err := c.pannier("wait", id); err == nil {
				t.Errorf("it is done: %s%s", out, said)
			}
			if r, err := c.client(c.a).Get(t.Context(), &adminpb.Ref{Id: id}); err != nil || r.GetState() != adminpb.Request_INERROR {
				t.Errorf("%v, %v", r, err)
			}
		})
	}
}

// moves waits until a request of the first node has moved some bytes, and not all.
func (c *conduit) moves(id string) {
	c.t.Helper()
	client := c.client(c.a)
	c.until("bytes move", func() bool {
		r, err := client.Get(c.t.Context(), &adminpb.Ref{Id: id})
		if err == nil && r.GetState() == adminpb.Request_DONE {
			c.t.Fatal("too quick for a kill")
		}
		return err == nil && r.GetLive().GetReceived() > 1<<20
	})
}
