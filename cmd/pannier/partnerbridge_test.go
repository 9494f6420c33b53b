package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/pannier/pannier/flow/flowtest/ftpserver"
	"github.com/pannier/pannier/spec/adminpb"
)

// pannier runs a command at hosta and returns what it prints.
func (c *conduit) pannier(args ...string) (stdout, stderr string, err error) {
	c.t.Helper()
	cmd := exec.CommandContext(c.t.Context(), "pannier", append(args, "--admin", c.a.Admin())...)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	err = cmd.Run()
	return out.String(), said.String(), err
}

// does is pannier for what has to succeed.
func (c *conduit) does(args ...string) string {
	c.t.Helper()
	out, said, err := c.pannier(args...)
	if err != nil {
		c.t.Fatalf("pannier %s: %v\n%s%s", strings.Join(args, " "), err, out, said)
	}
	return out
}

// shown is what show says of the request whose id is the first line of out.
func (c *conduit) shown(out string) string {
	c.t.Helper()
	return c.does("show", strings.TrimSpace(strings.SplitN(out, "\n", 2)[0]))
}

const bridgeRules = `
[[rule]]
name = "out"
direction = "send"
partners = ["*"]
root = "%ROOT%"
digest = "sha256"
retry = { delay = "1s" }
[[rule]]
name = "in"
direction = "receive"
partners = ["*"]
root = "%ROOT%"
digest = "sha256"
retry = { delay = "1s" }
`

func dirBridge(name, dir string) string {
	return fmt.Sprintf("[[bridge]]\nname = %q\nplugin = \"dir\"\nendpoint = \"dir://%s\"\n", name, dir)
}

// ftpBridge is a bridge to a server, which may exchange files with that of another one.
func ftpBridge(t *testing.T, name, other string, f *ftpserver.Server) string {
	t.Helper()
	credentials := filepath.Join(t.TempDir(), "credentials")
	if err := os.WriteFile(credentials, fmt.Appendf(nil, `{"user": %q, "password": %q}`, f.User, f.Password), 0o600); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("[[bridge]]\nname = %q\nplugin = \"ftp\"\nendpoint = \"ftp://%s\"\ncredentials = \"file:%s\"\nfxp = [%q]\n", name, f.Address, credentials, other)
}

func noise(size int) []byte {
	b := make([]byte, size)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(b)
	return b
}

func (c *conduit) wrote(path string, b []byte) {
	c.t.Helper()
	if err := os.WriteFile(path, b, 0o644); err != nil {
		c.t.Fatal(err)
	}
}

func (c *conduit) has(path string, want []byte) {
	c.t.Helper()
	got, err := os.ReadFile(path)
	if err != nil || sha256.Sum256(got) != sha256.Sum256(want) {
		c.t.Errorf("%s has %d bytes that are not the %d: %v", path, len(got), len(want), err)
	}
}

// TestBridgePartner: what a user does with a bridge, by the commands.
func TestBridgePartner(t *testing.T) {
	c := newConduit(t)
	box, other := t.TempDir(), t.TempDir()
	c.write(bridgeRules+dirBridge("box", box)+dirBridge("other", other), bridgeRules)
	c.start(c.a)
	b := noise(3 << 20)
	c.wrote(filepath.Join(c.a.Root, "x"), b)

	if shown := c.shown(c.does("send", filepath.Join(c.a.Root, "x"), "box:/in/", "--wait")); !strings.Contains(shown, "compared") || !strings.Contains(shown, "sha256:") {
		t.Errorf("show says\n%s", shown)
	}
	c.has(filepath.Join(box, "in/x"), b)
	if out := c.does("ls", "box:/in"); out != "NAME\tSIZE\tCHANGED\n" && !strings.Contains(out, "x\t3145728\t") {
		t.Errorf("ls says %q", out)
	}
	if out := c.does("ls", "box:/"); !strings.Contains(out, "in/\t\t") {
		t.Errorf("ls says %q", out)
	}
	if shown := c.shown(c.does("get", "box:/in/x", "back", "--wait")); !strings.Contains(shown, "size+sha256") {
		t.Errorf("show says\n%s", shown)
	}
	c.has(filepath.Join(c.a.Root, "back"), b)
	if _, said, err := c.pannier("copy", "box:/in/x", "other:/deep/y", "--wait"); err != nil || !strings.Contains(said, ", through this node\n") {
		t.Errorf("copy says %v\n%s", err, said)
	}
	c.has(filepath.Join(other, "deep/y"), b)
	c.does("copy", "box:/in/x", "other:/deep/", "--wait")
	c.has(filepath.Join(other, "deep/x"), b)

	_, said, err := c.pannier("partner", "test", "box", "--write")
	for _, want := range []string{"plugin dir 1", "logged in", "it can: read", "clock differs"} {
		if err != nil || !strings.Contains(said, want) {
			t.Errorf("partner test says %v\n%s", err, said)
			break
		}
	}
	if left, _ := os.ReadDir(box); len(left) != 1 {
		t.Errorf("left at the server: %v", left)
	}
	for _, bad := range []struct {
		args []string
		say  string
	}{
		{[]string{"get", "box:/none", "none", "--wait"}, "not found"},
		{[]string{"copy", "box:x", "other:/"}, "PARTNER:/NAME"},
		{[]string{"copy", "box:/in/x", "box:/in/y", "nobody:/z"}, "folder"},
		{[]string{"copy", "nobody:/in/x", "box:/in/y"}, "no partner is called"},
		{[]string{"copy", "hostb:/y", "box:/in/y"}, `"box" is a bridge, and the other is a node`},
		{[]string{"copy", "box:/in/x", "hostb:/y"}, `"hostb" is no bridge`},
		{[]string{"ls", "nobody:/"}, "nobody"},
		{[]string{"ls", "box:"}, `write "box" alone`},
	} {
		if out, said, err := c.pannier(bad.args...); err == nil || !strings.Contains(out+said, bad.say) {
			t.Errorf("%q: %v, %s%s", bad.args, err, out, said)
		}
	}
}

// TestBridgePartnerKilled: the daemon is killed while a file goes to a bridge, comes from
// one, and is copied between two: all goes on, and nothing unfinished is left.
func TestBridgePartnerKilled(t *testing.T) {
	const size = 64 << 20
	c := newConduit(t)
	box, other := t.TempDir(), t.TempDir()
	slow := "bandwidth = \"60MB/s\"\n"
	c.write(bridgeRules+dirBridge("box", box)+slow+dirBridge("other", other)+slow, bridgeRules)
	c.start(c.a)
	b := noise(size)
	c.wrote(filepath.Join(c.a.Root, "x"), b)
	c.wrote(filepath.Join(box, "y"), b)
	var ids []string
	for _, args := range [][]string{{"send", filepath.Join(c.a.Root, "x"), "box:/x"}, {"get", "box:/y", "y"}, {"copy", "box:/y", "other:/z"}} {
		id := strings.TrimSpace(c.does(args...))
		ids = append(ids, id)
		client := c.client(c.a)
		c.until("bytes move", func() bool {
			r, err := client.Get(t.Context(), &adminpb.Ref{Id: id})
			return err == nil && r.GetLive().GetReceived() > 8<<20
		})
		c.a.Kill()
		c.start(c.a)
	}
	for _, id := range ids {
		c.does("wait", id)
	}
	c.has(filepath.Join(box, "x"), b)
	c.has(filepath.Join(c.a.Root, "y"), b)
	c.has(filepath.Join(other, "z"), b)
	c.until("nothing unfinished is left", func() bool {
		n := 0
		for _, dir := range []string{box, other, c.a.Root} {
			left, _ := filepath.Glob(filepath.Join(dir, ".*pannier-*"))
			n += len(left)
		}
		return n == 0
	})
}

// TestFXPKilled: two FTP servers send each other a file, and the daemon that told them to is
// killed: the next one has them go on where they were.
func TestFXPKilled(t *testing.T) {
	const size = 256 << 20
	from, to := ftpserver.Start(t, "proftpd", ftpserver.FXP, ftpserver.Slow), ftpserver.Start(t, "vsftpd", ftpserver.FXP)
	c := newConduit(t)
	c.write(bridgeRules+ftpBridge(t, "one", "two", from)+ftpBridge(t, "two", "one", to), bridgeRules)
	c.start(c.a)
	b := noise(size)
	c.wrote(filepath.Join(from.Data, "big"), b)
	id := strings.TrimSpace(c.does("copy", "one:/big", "two:/big"))
	c.moves(id)
	c.a.Kill()
	c.start(c.a)
	c.does("wait", id)
	c.has(filepath.Join(to.Data, "big"), b)
	if shown := c.does("show", id); !strings.Contains(shown, "direct") {
		t.Errorf("show says\n%s", shown)
	}
	if !regexp.MustCompile(`bytes have moved.* from=[1-9]`).MatchString(c.logA.String()) {
		t.Error("it began anew")
	}
}

// TestProbeFXP: partner test tries direct copies with each server that it may have them with, says of
// which they work, and in the servers' words why others do not and which setting forbids it, and leaves nothing.
func TestProbeFXP(t *testing.T) {
	one, two, strict := ftpserver.Start(t, "proftpd", ftpserver.FXP), ftpserver.Start(t, "vsftpd", ftpserver.FXP), ftpserver.Start(t, "pure-ftpd", ftpserver.Apart)
	c := newConduit(t)
	c.write(bridgeRules+strings.Replace(ftpBridge(t, "one", "two", one), `fxp = ["two"]`, `fxp = ["two", "strict"]`, 1)+
		ftpBridge(t, "two", "one", two)+ftpBridge(t, "strict", "one", strict), bridgeRules)
	c.start(c.a)
	_, said, err := c.pannier("partner", "test", "one", "--write")
	for _, want := range []string{`(?m)it can: .*copy to another server`, `(?m)direct copy to two works$`, `(?m)direct copy to strict failed: .*` + regexp.QuoteMeta(strict.Address) + `.*AllowUserFXP yes`} {
		if err != nil || !regexp.MustCompile(want).MatchString(said) {
			t.Errorf("partner test says not %s: %v\n%s", want, err, said)
		}
	}
	for _, f := range []*ftpserver.Server{one, two, strict} {
		if left, _ := os.ReadDir(f.Data); len(left) > 0 {
			t.Errorf("left at %s: %v", f.Kind, left)
		}
	}
}

// TestBridgeAdvice: what a plugin advises reaches who tests its bridge.
func TestBridgeAdvice(t *testing.T) {
	c := newConduit(t)
	c.write(bridgeRules+"[[bridge]]\nname = \"bank\"\nplugin = \"sftp\"\nendpoint = \"sftp://127.0.0.1:1\"\n", bridgeRules)
	c.start(c.a)
	if out, said, err := c.pannier("partner", "test", "bank"); err == nil || !strings.Contains(said, "there is no user; write credentials") {
		t.Errorf("%v: %s%s", err, out, said)
	}
}
