package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pannier/pannier/flow/flowtest/freeport"
)

// TestOwnEnds: a bridge to a listener, both of ours. The file goes through the listener's node
// to its partner, under its name and no other, and the sender hears the partner's verdict; it
// comes back, alone and with its directory; and a wrong password ends a request at once.
func TestOwnEnds(t *testing.T) {
	for _, plugin := range []string{"ftp"} {
		t.Run(plugin, func(t *testing.T) {
			c := newConduit(t)
			address := freeport.For(t, "127.0.0.1")
			bridge := func(name, password string) string {
				credentials := filepath.Join(t.TempDir(), name)
				if err := os.WriteFile(credentials, fmt.Appendf(nil, `{"user": "acme", "password": %q}`, password), 0o600); err != nil {
					t.Fatal(err)
				}
				return fmt.Sprintf("[[bridge]]\nname = %q\nplugin = %q\nendpoint = \"%s://%s\"\ncredentials = \"file:%s\"\n", name, plugin, plugin, address, credentials)
			}
			box := t.TempDir()
			c.write(bridgeRules+bridge("gate", "secret")+bridge("stranger", "wrong")+dirBridge("box", box)+c.listens(plugin, address, `"tls=off"`, `partner = "hostb", rule = "out", get = "in"`), bridgeRules)
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
			for _, want := range []string{address, "530", "PASS", "correct user and password"} {
				if err == nil || !strings.Contains(said, want) {
					t.Errorf("%q is not said: %v\n%s", want, err, said)
				}
			}
		})
	}
}
