package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pannier/pannier/engine/guest"
	"github.com/pannier/pannier/flow/flowtest/freeport"
	"github.com/pannier/pannier/flow/flowtest/sshserver"
)

// listens is a listener's section with one user, "acme" with the password "secret" and, of
// sftp, a key.
func (c *conduit) listens(plugin, address, options, user string) string {
	c.t.Helper()
	hash, err := guest.Hash("secret")
	if err != nil {
		c.t.Fatal(err)
	}
	password := filepath.Join(c.t.TempDir(), "password")
	if err := os.WriteFile(password, []byte(hash), 0o600); err != nil {
		c.t.Fatal(err)
	}
	return fmt.Sprintf("[[listener]]\nplugin = %q\nlisten = %q\noptions = [%s]\nusers = [ { name = \"acme\", password = \"file:%s\", %s } ]\n", plugin, address, options, password, user)
}

// client runs a foreign client.
func (c *conduit) foreign(name string, args ...string) (string, error) {
	c.t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		c.t.Skipf("there is no %s: listeners are not tested with it; .ci/test installs it as root on Debian", name)
	}
	out, err := exec.CommandContext(c.t.Context(), path, args...).CombinedOutput()
	return string(out), err
}

func (c *conduit) reachable(address string) {
	c.t.Helper()
	c.until("somebody listens at "+address, func() bool {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil && strings.Contains(c.logA.String(), "foreign clients are served")
	})
}

// TestListenerFTP: an ordinary FTP client uploads, and the file is at the partner when it is
// told so; it downloads what the partner has; and what fails at the partner fails for it.
func TestListenerFTP(t *testing.T) {
	c := newConduit(t)
	address := freeport.For(t, "127.0.0.1")
	full := strings.Replace(bridgeRules, "name = \"out\"", "name = \"small\"\nquota = \"1MiB\"", 1)
	full = strings.Replace(full, "name = \"in\"", "name = \"in2\"", 1)
	c.write(bridgeRules+full+c.listens("ftp", address, `"tls=off"`, `partner = "hostb", rule = "out", get = "in"`), bridgeRules+full)
	c.start(c.b, c.a)
	c.reachable(address)
	b := noise(5 << 20)
	local := filepath.Join(t.TempDir(), "x")
	c.wrote(local, b)
	url := "ftp://acme:secret@" + address

	if out, err := c.foreign("curl", "-sS", "--ftp-create-dirs", "-T", local, url+"/sub/x"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	c.has(filepath.Join(c.b.Root, "sub/x"), b)
	back := filepath.Join(t.TempDir(), "back")
	if out, err := c.foreign("curl", "-sS", "-o", back, url+"/sub/x"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	c.has(back, b)
	if out, err := c.foreign("curl", "-sS", url+"/sub/"); err != nil || !strings.Contains(out, " x") {
		t.Errorf("%v: %s", err, out)
	}
	left, _ := filepath.Glob(filepath.Join(c.a.Root, "guest-*"))
	if len(left) > 0 {
		t.Errorf("downloads that are left: %v", left)
	}
	if out, err := c.foreign("curl", "-sS", "-T", local, "ftp://acme:wrong@"+address+"/y"); err == nil || !strings.Contains(out, "530") && !strings.Contains(out, "denied") {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := c.foreign("curl", "-sS", url+"/none"); err == nil {
		t.Errorf("%v: %s", err, out)
	}
	if _, err := os.Stat(filepath.Join(c.b.Root, "y")); err == nil {
		t.Error("who is not let in has sent something")
	}
}

// TestListenerVerdict: the final reply is the partner's verdict.
func TestListenerVerdict(t *testing.T) {
	c := newConduit(t)
	address := freeport.For(t, "127.0.0.1")
	rule := "[[rule]]\nname = \"out\"\ndirection = \"send\"\npartners = [\"*\"]\nroot = \"%ROOT%\"\nretry = { attempts = 1 }\n"
	c.write(rule+c.listens("ftp", address, `"tls=off"`, `partner = "hostb", rule = "out"`), rule+"post = [ { task = \"check\", max_size = 10 } ]\n")
	c.start(c.b, c.a)
	c.reachable(address)
	for size, good := range map[int]bool{5: true, 50: false} {
		local := filepath.Join(t.TempDir(), "x")
		c.wrote(local, noise(size))
		out, err := c.foreign("curl", "-sSv", "-T", local, "ftp://acme:secret@"+address+"/x")
		if good != (err == nil) || good != strings.Contains(out, "226") {
			t.Errorf("%d bytes: %v\n%s", size, err, out)
		}
	}
}

// TestFTPtoSFTP: an FTP client of one node sends to an SFTP server behind another one: through
// a listener, two daemons and a bridge, and its reply says that the server has the file.
func TestFTPtoSFTP(t *testing.T) {
	c := newConduit(t)
	address := freeport.For(t, "127.0.0.1")
	ssh, bank := sshserver.Start(t), t.TempDir()
	out := "[[rule]]\nname = \"out\"\ndirection = \"send\"\npartners = [\"*\"]\nroot = \"%ROOT%\"\n"
	c.write(out+c.listens("ftp", address, `"tls=off"`, `partner = "hostb", rule = "out"`),
		out+"post = [ { task = \"bridge\", to = \"bank:/{name}\" }, { task = \"delete\" } ]\n"+sftpAt(t, ssh, "bank", bank, ssh.HostKey))
	c.start(c.b, c.a)
	c.reachable(address)
	b := noise(3 << 20)
	local := filepath.Join(t.TempDir(), "x")
	c.wrote(local, b)
	if said, err := c.foreign("curl", "-sS", "-T", local, "ftp://acme:secret@"+address+"/payments.csv"); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	c.has(filepath.Join(bank, "payments.csv"), b)
	if _, err := os.Stat(filepath.Join(c.b.Root, "payments.csv")); err == nil {
		t.Error("the file lies at hostb, too")
	}
}

// TestListenerSFTP: the same with OpenSSH's client, which a partner's files at a bridge are
// served to as well: by a rule there whose root is the bridge.
func TestListenerSFTP(t *testing.T) {
	c := newConduit(t)
	address := freeport.For(t, "127.0.0.1")
	box := t.TempDir()
	dir := t.TempDir()
	if out, err := c.foreign("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, "id")); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	user := fmt.Sprintf(`keys = "file:%s", partner = "hostb", rule = "out", get = "exports"`, filepath.Join(dir, "id.pub"))
	exports := "[[rule]]\nname = \"exports\"\ndirection = \"receive\"\npartners = [\"*\"]\n"
	c.write(bridgeRules+exports+"root = \"%ROOT%\"\n"+c.listens("sftp", address, fmt.Sprintf("%q", "hostkey="+filepath.Join(dir, "host")), user),
		bridgeRules+exports+"root = \"box:/\"\n"+dirBridge("box", box))
	c.start(c.b, c.a)
	c.reachable(address)
	up, down := noise(3<<20), noise(2<<20)
	c.wrote(filepath.Join(dir, "up"), up)
	c.wrote(filepath.Join(box, "down"), down)
	c.wrote(filepath.Join(dir, "batch"), []byte("put "+filepath.Join(dir, "up")+" /in/up\nget /down "+filepath.Join(dir, "down")+"\n"))
	host, port, _ := net.SplitHostPort(address)
	out, err := c.foreign("sftp", "-q", "-b", filepath.Join(dir, "batch"), "-i", filepath.Join(dir, "id"), "-P", port,
		"-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "IdentitiesOnly=yes", "acme@"+host)
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	c.has(filepath.Join(c.b.Root, "in/up"), up)
	c.has(filepath.Join(dir, "down"), down)
}

// TestListenerDrained: a node that is told to end lets a client finish: what was sent is a request,
// and done, and the client is told so.
func TestListenerDrained(t *testing.T) {
	c := newConduit(t)
	address := freeport.For(t, "127.0.0.1")
	rule := "[[rule]]\nname = \"out\"\ndirection = \"send\"\npartners = [\"*\"]\nroot = \"%ROOT%\"\n"
	c.write(rule+c.listens("ftp", address, `"tls=off"`, `partner = "hostb", rule = "out"`), rule)
	c.start(c.b, c.a)
	c.reachable(address)
	b := noise(4 << 20)
	local := filepath.Join(t.TempDir(), "x")
	c.wrote(local, b)
	done := make(chan error, 1)
	go func() {
		out, err := c.foreign("curl", "-sSv", "--limit-rate", "2M", "-T", local, "ftp://acme:secret@"+address+"/x")
		if err == nil && !strings.Contains(out, "226") {
			err = fmt.Errorf("%s", out)
		}
		done <- err
	}()
	c.until("bytes come", func() bool {
		all, _ := filepath.Glob(filepath.Join(c.a.Root, ".*"))
		for _, path := range all {
			if fi, err := os.Stat(path); err == nil && fi.Size() > 1<<20 {
				return true
			}
		}
		return false
	})
	if err := c.a.Stop(); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	c.has(filepath.Join(c.b.Root, "x"), b)
}

// TestListenerReloaded: a listener that changes keeps its socket, and is served anew.
func TestListenerReloaded(t *testing.T) {
	c := newConduit(t)
	address := freeport.For(t, "127.0.0.1")
	rule := "[[rule]]\nname = \"out\"\ndirection = \"send\"\npartners = [\"*\"]\nroot = \"%ROOT%\"\n"
	user := `partner = "hostb", rule = "out"`
	c.write(rule+c.listens("ftp", address, `"tls=off"`, user), rule)
	c.start(c.b, c.a)
	c.reachable(address)
	local := filepath.Join(t.TempDir(), "x")
	c.wrote(local, []byte("x"))
	for i := range 3 {
		c.write(rule+c.listens("ftp", address, fmt.Sprintf(`"tls=off", "idle=%dm"`, i+1), user), rule)
		if out := c.does("reload"); !strings.Contains(out, "listeners have changed") {
			t.Errorf("reload says %q", out)
		}
		if out, err := c.foreign("curl", "-sS", "-T", local, fmt.Sprintf("ftp://acme:secret@%s/x%d", address, i)); err != nil {
			t.Errorf("%v: %s", err, out)
		}
		c.has(filepath.Join(c.b.Root, fmt.Sprintf("x%d", i)), []byte("x"))
	}
	if strings.Contains(c.logA.String(), "cannot listen") {
		t.Error("it listened anew")
	}
}
