package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pannier/pannier/flow/flowtest"
	"github.com/pannier/pannier/flow/flowtest/freeport"
	"github.com/pannier/pannier/flow/flowtest/s3server"
	"github.com/pannier/pannier/flow/flowtest/sshserver"
	"github.com/pannier/pannier/spec/fault"
)

// small makes a directory a file system that is full after so many bytes, until the end of the test.
func small(t *testing.T, dir string, bytes int64) {
	t.Helper()
	if err := flowtest.SmallMount(dir, bytes); err != nil {
		t.Skip("a small file system: ", err)
	}
	t.Cleanup(func() {
		if err := flowtest.Unmount(dir); err != nil {
			t.Error(err)
		}
	})
}

// files are the names of all that is below a directory and is no directory.
func files(t *testing.T, dir string) (names []string) {
	t.Helper()
	if err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			names = append(names, strings.TrimPrefix(path, dir+"/"))
		}
		return err
	}); err != nil {
		t.Error(err)
	}
	return names
}

// TestServersFull: a server of SFTP or S3 whose disk is full interrupts a request, which says so, and what to do about it;
// it is done when there is room, and nothing unfinished is left.
func TestServersFull(t *testing.T) {
	const size = 12 << 20
	for _, protocol := range []string{"sftp", "s3"} {
		t.Run(protocol, func(t *testing.T) {
			var address, dir, section string
			var credentials map[string]any
			var grow func()
			if protocol == "sftp" {
				s := sshserver.Start(t)
				key, err := os.ReadFile(s.Key)
				if err != nil {
					t.Fatal(err)
				}
				address, dir = s.Address(), t.TempDir()
				small(t, dir, size/2)
				grow = func() {
					if err := flowtest.ResizeSmall(dir, 4*size); err != nil {
						t.Fatal(err)
					}
				}
				section = fmt.Sprintf("endpoint = \"sftp://%s/%s\"\noptions = [\"hostkey=%s\"]\n", address, dir, s.HostKey)
				credentials = map[string]any{"user": s.User, "secrets": map[string]string{"key": string(key)}}
			} else {
				s := s3server.Start(t, false, s3server.Small(size/2))
				address, dir, grow = s.Address, s.Data, func() { s.Grow(4 * size) }
				section = fmt.Sprintf("endpoint = %q\n", s.URL)
				credentials = map[string]any{"user": s3server.AccessKey, "password": s3server.SecretKey}
			}
			text, err := json.Marshal(credentials)
			file := filepath.Join(t.TempDir(), "credentials")
			if err = errors.Join(err, os.WriteFile(file, text, 0o600)); err != nil {
				t.Fatal(err)
			}
			c := newConduit(t)
			c.write(bridgeRules+fmt.Sprintf("[[bridge]]\nname = \"box\"\nplugin = %q\ncredentials = \"file:%s\"\n%s", protocol, file, section), bridgeRules)
			c.start(c.a)
			b := noise(size)
			c.wrote(filepath.Join(c.a.Root, "big"), b)
			id := strings.TrimSpace(c.does("send", filepath.Join(c.a.Root, "big"), "box:/big"))
			c.interrupted(id, address, fault.NoSpace)
			why := c.does("explain", id)
			for _, want := range []string{"no space", address, "make room at the server"} {
				if !strings.Contains(why, want) {
					t.Errorf("explain does not say %q:\n%s", want, why)
				}
			}
			if _, err := os.Stat(filepath.Join(dir, "big")); err == nil {
				t.Error("something has the name")
			}
			grow()
			c.does("wait", id)
			c.has(filepath.Join(dir, "big"), b)
			if all := files(t, dir); len(all) != 1 {
				t.Errorf("left behind: %q", all)
			}
		})
	}
}

// TestListenerFull: a client whose upload finds no room at the listener is told so in its protocol's words, nothing gets the
// name, and nothing is sent; when there is room it does it again, and succeeds.
func TestListenerFull(t *testing.T) {
	const size = 4 << 20
	for _, protocol := range []string{"ftp", "sftp"} {
		t.Run(protocol, func(t *testing.T) {
			c := newConduit(t)
			address := freeport.For(t, "127.0.0.1")
			dir := t.TempDir()
			options := `"tls=off"`
			up := func() (string, error) {
				return c.foreign("curl", "-sSv", "-T", filepath.Join(dir, "up"), "ftp://acme:secret@"+address+"/x")
			}
			user := `partner = "hostb", rule = "out"`
			if protocol == "sftp" {
				options = fmt.Sprintf("%q", "hostkey="+filepath.Join(dir, "host"))
				if out, err := c.foreign("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, "id")); err != nil {
					t.Fatalf("%v: %s", err, out)
				}
				user += fmt.Sprintf(`, keys = "file:%s"`, filepath.Join(dir, "id.pub"))
				c.wrote(filepath.Join(dir, "batch"), []byte("put "+filepath.Join(dir, "up")+" /x\n"))
				host, port, err := net.SplitHostPort(address)
				if err != nil {
					t.Fatal(err)
				}
				up = func() (string, error) {
					return c.foreign("sftp", "-v", "-b", filepath.Join(dir, "batch"), "-i", filepath.Join(dir, "id"), "-P", port,
						"-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "IdentitiesOnly=yes", "acme@"+host)
				}
			}
			c.write(bridgeRules+c.listens(protocol, address, options, user), bridgeRules)
			if err := os.MkdirAll(c.a.Root, 0o755); err != nil {
				t.Fatal(err)
			}
			small(t, c.a.Root, size/2)
			c.start(c.b, c.a)
			c.reachable(address)
			b := noise(size)
			c.wrote(filepath.Join(dir, "up"), b)
			said, err := up()
			reply := map[string]string{"ftp": "452 ", "sftp": "Failure"}[protocol]
			if err == nil || !strings.Contains(said, reply) {
				t.Errorf("%v; the client is not told %q:\n%s", err, reply, said)
			}
			if all := files(t, c.a.Root); len(all) > 0 {
				t.Errorf("left behind: %q", all)
			}
			if all := c.does("ls"); strings.Contains(all, "hostb") {
				t.Errorf("something is sent:\n%s", all)
			}
			c.until("the log says why", func() bool { return strings.Contains(c.logA.String(), "no space") })
			if err := flowtest.ResizeSmall(c.a.Root, 4*size); err != nil {
				t.Fatal(err)
			}
			if said, err := up(); err != nil {
				t.Fatalf("%v\n%s", err, said)
			}
			c.has(filepath.Join(c.b.Root, "x"), b)
			if all := files(t, c.a.Root); len(all) != 1 {
				t.Errorf("left behind: %q", all)
			}
		})
	}
}

// TestListenerVerdictFull: what the rule does not let a user have, and a partner whose disk is full, have replies of their own.
func TestListenerVerdictFull(t *testing.T) {
	const size = 4 << 20
	for reply, c := range map[string]struct {
		quota string
		full  bool // the partner is
	}{"552 ": {quota: "quota = \"1MiB\"\n"}, "452 ": {full: true}} {
		t.Run(reply, func(t *testing.T) {
			w := newConduit(t)
			address := freeport.For(t, "127.0.0.1")
			rule := "[[rule]]\nname = \"out\"\ndirection = \"send\"\npartners = [\"*\"]\nroot = \"%ROOT%\"\nretry = { attempts = 1 }\n"
			w.write(rule+c.quota+w.listens("ftp", address, `"tls=off"`, `partner = "hostb", rule = "out"`), rule)
			if c.full {
				small(t, w.b.Root, size/2)
			}
			w.start(w.b, w.a)
			w.reachable(address)
			local := filepath.Join(t.TempDir(), "x")
			w.wrote(local, noise(size))
			if said, err := w.foreign("curl", "-sSv", "-T", local, "ftp://acme:secret@"+address+"/x"); err == nil || !strings.Contains(said, "< "+reply) {
				t.Errorf("%v; the client is not told %q:\n%s", err, reply, said)
			}
			if _, err := os.Stat(filepath.Join(w.b.Root, "x")); err == nil {
				t.Error("something has the name at the partner")
			}
		})
	}
}

// TestHungStart: a node starts, serves its listeners, and transfers by other rules, though the roots of some have a file system that does
// not answer.
func TestHungStart(t *testing.T) {
	c := newConduit(t)
	address := freeport.For(t, "127.0.0.1")
	hung := t.TempDir()
	rules := ""
	for _, rule := range []string{"\"hungout\"\ndirection = \"send\"", "\"hungin\"\ndirection = \"receive\""} {
		rules += fmt.Sprintf("[[rule]]\nname = %s\npartners = [\"*\"]\nroot = %q\n", rule, hung)
	}
	schedule := "[[schedule]]\nname = \"s\"\nrule = \"hungout\"\npartner = \"hostb\"\nsource = \"*.txt\"\ncron = \"* * * * *\"\n"
	c.write(bridgeRules+rules+schedule+c.listens("ftp", address, `"tls=off"`, `partner = "hostb", rule = "hungout", get = "hungin"`), bridgeRules)
	end, err := flowtest.HungMount(hung)
	if err != nil {
		t.Skip("a file system that does not answer: ", err)
	}
	t.Cleanup(func() {
		if err := end(); err != nil {
			t.Error(err)
		}
	})
	c.start(c.b, c.a)
	c.reachable(address)
	local := filepath.Join(t.TempDir(), "x")
	c.wrote(local, noise(1000))
	if said, err := c.foreign("curl", "-sSv", "-T", local, "ftp://acme:secret@"+address+"/x"); err == nil || !strings.Contains(said, "< 451 ") {
		t.Errorf("%v; the client is not told to try again:\n%s", err, said)
	}
	c.wrote(filepath.Join(c.a.Root, "y"), noise(1000))
	c.does("send", filepath.Join(c.a.Root, "y"), "hostb", "--rule", "out", "--wait")
	if out, said, err := c.pannier("check"); err == nil || !strings.Contains(out+said, "does not answer") {
		t.Errorf("%v; check says\n%s%s", err, out, said)
	}
	if err := c.a.Stop(); err != nil {
		t.Error(err)
	}
}
