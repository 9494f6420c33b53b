package main

import (
	"crypto/ed25519"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/pannier/pannier/flow/flowtest/freeport"
	"github.com/pannier/pannier/spec/adminpb"
)

// TestOwnEnds: a bridge to a listener, both of ours. The file goes through the listener's node
// to its partner, under its name and no other, and the sender hears the partner's verdict; it
// comes back, alone and with its directory; and a wrong password ends a request at once.
func TestOwnEnds(t *testing.T) {
	for plugin, wrong := range map[string][]string{"ftp": {"530", "PASS", "correct user and password"}, "sftp": {"attempted methods", "correct user, password or key"}} {
		t.Run(plugin, func(t *testing.T) {
			c := newConduit(t)
			address := freeport.For(t, "127.0.0.1")
			listens, options := `"tls=off"`, ""
			if plugin == "sftp" {
				key, pin := c.hostKey()
				listens, options = fmt.Sprintf("%q", "hostkey="+key), fmt.Sprintf("options = [%q]\n", "hostkey="+pin)
			}
			bridge := func(name, password string) string {
				credentials := filepath.Join(t.TempDir(), name)
				if err := os.WriteFile(credentials, fmt.Appendf(nil, `{"user": "acme", "password": %q}`, password), 0o600); err != nil {
					t.Fatal(err)
				}
				return fmt.Sprintf("[[bridge]]\nname = %q\nplugin = %q\nendpoint = \"%s://%s\"\ncredentials = \"file:%s\"\n%s", name, plugin, plugin, address, credentials, options)
			}
			box := t.TempDir()
			c.write(bridgeRules+bridge("gate", "secret")+bridge("stranger", "wrong")+dirBridge("box", box)+c.listens(plugin, address, listens, `partner = "hostb", rule = "out", get = "in"`), bridgeRules)
			c.start(c.b, c.a)
			c.reachable(address)
			b := noise(3 << 20)
			c.wrote(filepath.Join(c.a.Root, "x"), b)

			if shown := c.shown(c.does("send", filepath.Join(c.a.Root, "x"), "gate:/sub/y", "--wait")); !strings.Contains(shown, "size") {
				t.Errorf("show says\n%s", shown)
			}
			c.has(filepath.Join(c.b.Root, "sub/y"), b)
			if all, err := os.ReadDir(filepath.Join(c.b.Root, "sub")); err != nil || len(all) != 1 {
				t.Errorf("the partner has %v, %v", all, err)
			}
			if out := c.does("ls", "gate:/sub"); !strings.Contains(out, "y\t3145728\t") {
				t.Errorf("ls says %q", out)
			}
			c.does("get", "gate:/sub/y", "back", "--wait")
			c.has(filepath.Join(c.a.Root, "back"), b)
			c.wrote(filepath.Join(c.b.Root, "sub/z"), b[:100])
			c.does("copy", "gate:/sub/", "box:/all/", "--wait")
			c.has(filepath.Join(box, "all/y"), b)
			c.has(filepath.Join(box, "all/z"), b[:100])

			_, said, err := c.pannier("send", filepath.Join(c.a.Root, "x"), "stranger:/sub/w", "--wait")
			for _, want := range append(wrong, address) {
				if err == nil || !strings.Contains(said, want) {
					t.Errorf("%q is not said: %v\n%s", want, err, said)
				}
			}
		})
	}
}

// TestOwnEndsRefused: what the partner behind a listener refuses has failed at the bridge that sent it too, however often that is
// tried again: that the file has its name at the listener, which hands it on, says nothing.
func TestOwnEndsRefused(t *testing.T) {
	c := newConduit(t)
	address := freeport.For(t, "127.0.0.1")
	credentials := filepath.Join(t.TempDir(), "gate")
	if err := os.WriteFile(credentials, []byte(`{"user": "acme", "password": "secret"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	key, pin := c.hostKey()
	bridge := fmt.Sprintf("[[bridge]]\nname = \"gate\"\nplugin = \"sftp\"\nendpoint = \"sftp://%s\"\ncredentials = \"file:%s\"\noptions = [%q]\n", address, credentials, "hostkey="+pin)
	twice := strings.ReplaceAll(bridgeRules, `delay = "1s"`, `delay = "1s", attempts = 2`)
	c.write(twice+bridge+c.listens("sftp", address, fmt.Sprintf("%q", "hostkey="+key), `partner = "hostb", rule = "out"`),
		strings.Replace(bridgeRules, `name = "out"`, "name = \"out\"\nquota = \"1MiB\"", 1))
	c.start(c.b, c.a)
	c.reachable(address)
	c.wrote(filepath.Join(c.a.Root, "x"), noise(3<<20))
	if _, said, err := c.pannier("send", filepath.Join(c.a.Root, "x"), "gate:/y", "--wait"); err == nil || !strings.Contains(said, "quota") {
		t.Errorf("%v\n%s", err, said)
	}
	if _, err := os.Stat(filepath.Join(c.b.Root, "y")); err == nil {
		t.Error("the partner has the file")
	}
}

// TestOwnEndsGoOn: an upload by SFTP to a listener of ours whose processes are killed goes on with
// what the listener has kept, and until it is whole nothing has its name.
func TestOwnEndsGoOn(t *testing.T) {
	c := newConduit(t)
	address := freeport.For(t, "127.0.0.1")
	credentials := filepath.Join(t.TempDir(), "gate")
	c.wrote(credentials, []byte(`{"user": "acme", "password": "secret"}`))
	if err := os.Chmod(credentials, 0o600); err != nil {
		t.Fatal(err)
	}
	key, pin := c.hostKey()
	bridge := fmt.Sprintf("[[bridge]]\nname = \"gate\"\nplugin = \"sftp\"\nendpoint = \"sftp://%s\"\ncredentials = \"file:%s\"\noptions = [%q]\nbandwidth = \"2MB/s\"\n", address, credentials, "hostkey="+pin)
	c.write(bridgeRules+bridge+c.listens("sftp", address, fmt.Sprintf("%q", "hostkey="+key), `partner = "hostb", rule = "out"`), bridgeRules)
	c.start(c.b, c.a)
	c.reachable(address)
	b := noise(8 << 20)
	c.wrote(filepath.Join(c.a.Root, "x"), b)
	client := c.client(c.a)
	r, err := client.Submit(t.Context(), &adminpb.SubmitRequest{Partner: "gate", Rule: "out", Source: "x", Target: "sub/y"})
	if err != nil {
		t.Fatal(err)
	}
	ref := &adminpb.Ref{Id: r.GetRequest().GetId()}
	c.until("bytes move", func() bool {
		r, err := client.Get(t.Context(), ref)
		return err == nil && r.GetLive().GetReceived() > 2<<20
	})
	for _, pid := range c.pids() {
		n, err := strconv.Atoi(pid)
		if err == nil {
			err = syscall.Kill(n, syscall.SIGKILL)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(filepath.Join(c.a.Root, "sub/y")); err == nil {
		t.Error("it has its name")
	}
	end, err := client.Wait(t.Context(), &adminpb.WaitRequest{Ref: ref})
	if err != nil || end.GetState() != adminpb.Request_DONE {
		t.Fatalf("%v, %v", end, err)
	}
	c.has(filepath.Join(c.b.Root, "sub/y"), b)
	var from int
	for _, m := range regexp.MustCompile(`bytes have moved.* partner=gate .* from=(\d+) to=8388608 `).FindAllStringSubmatch(c.logA.String(), -1) {
		from, _ = strconv.Atoi(m[1])
	}
	if from < 1<<20 {
		t.Errorf("it goes on at %d", from)
	}
	if all, err := os.ReadDir(filepath.Join(c.a.Root, "sub")); err != nil || len(all) != 1 {
		t.Errorf("the listener's root has %v, %v", all, err)
	}
}

// hostKey is a server's key for SSH, and what it is pinned by.
func (c *conduit) hostKey() (path, pin string) {
	c.t.Helper()
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		c.t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		c.t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		c.t.Fatal(err)
	}
	path = filepath.Join(c.t.TempDir(), "host")
	if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
		c.t.Fatal(err)
	}
	return path, ssh.FingerprintSHA256(signer.PublicKey())
}
