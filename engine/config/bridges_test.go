package config

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/pannier/pannier/engine/lifecycle"
)

// TestBridges: what the sections about bridges mean, and a task that names one.
func TestBridges(t *testing.T) {
	cfg, err := Parse("x.toml", []byte(`
[node]
name = "hosta"
[[bridge]]
name = "warehouse"
plugin = "ftp"
endpoint = "ftp://warehouse.example:21/base"
credentials = "file:/etc/pannier/warehouse"
options = ["tls=require", "ca=/etc/ca=1.pem"]
[[bridge]]
name = "box"
plugin = "/usr/lib/pannier-plugin-box"
args = ["-v", "/usr/lib/box.py"]
sha256 = "0123456789ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef"
endpoint = "box://host"
memory = "256MiB"
files = 100
[[rule]]
name = "in"
direction = "send"
partners = ["*"]
root = "/srv/in"
post = [ { task = "bridge", to = "warehouse:/in/{name}" } ]
`))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]Bridge{
		"warehouse": {Name: "warehouse", Plugin: "ftp", Endpoint: "ftp://warehouse.example:21/base", Credentials: "/etc/pannier/warehouse",
			Options: map[string]string{"tls": "require", "ca": "/etc/ca=1.pem"}, Memory: 1 << 30, Files: 16384, Concurrent: 4},
		"box": {Name: "box", Plugin: "/usr/lib/pannier-plugin-box", Args: []string{"-v", "/usr/lib/box.py"}, SHA256: "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", Endpoint: "box://host", Memory: 256 << 20, Files: 100, Concurrent: 4},
	}
	if !reflect.DeepEqual(cfg.Bridges, want) {
		t.Errorf("%+v, want %+v", cfg.Bridges, want)
	}
	if post := cfg.Book.Rules["in"].Lists(lifecycle.Receiver).Post; len(post) != 1 || post[0].Name != "bridge" {
		t.Errorf("%+v", post)
	}
}

// TestBridgePartners: a bridge is a partner, its directory may be a rule's root, and two name
// each other or exchange nothing.
func TestBridgePartners(t *testing.T) {
	const head = `
[node]
name = "hosta"
[[bridge]]
name = "a"
plugin = "ftp"
endpoint = "ftp://a"
fxp = ["b"]
concurrent = 7
bandwidth = "5MB/s"
`
	cfg, err := Parse("x.toml", []byte(head+`
[[bridge]]
name = "b"
plugin = "ftp"
endpoint = "ftp://b"
fxp = ["a"]
[[rule]]
name = "out"
direction = "send"
partners = ["a"]
root = "/srv/out"
[[rule]]
name = "exports"
direction = "receive"
partners = ["*"]
root = "b:/out"
`))
	if err != nil {
		t.Fatal(err)
	}
	if p := cfg.Book.Partners["a"]; p == nil || !p.Bridge || p.Concurrent != 7 || p.Bandwidth.At(time.Now()) != 5e6 || p.Address != "ftp://a" {
		t.Errorf("%+v", p)
	}
	if r := cfg.Book.Rules["exports"]; r.Bridge != "b:/out" || r.Root != "" {
		t.Errorf("%+v", r)
	}
	if r := cfg.Book.Rules["@a"]; r == nil || r.Bridge != "a:/" || r.Root != "" || !r.Allows("b") || r.Check() != nil {
		t.Errorf("%+v", r)
	}
	for _, bad := range []struct{ name, text, want string }{
		{"one-sided", "[[bridge]]\nname = \"b\"\nplugin = \"ftp\"\nendpoint = \"ftp://b\"\n", "does not name a"},
		{"other protocol", "[[bridge]]\nname = \"b\"\nplugin = \"dir\"\nendpoint = \"dir:///b\"\nfxp = [\"a\"]\n", "another protocol"},
		{"none", "", "no bridge is called"},
		{"tasks", "[[bridge]]\nname = \"b\"\nplugin = \"ftp\"\nendpoint = \"ftp://b\"\nfxp = [\"a\"]\n[[rule]]\nname = \"x\"\ndirection = \"send\"\npartners = [\"a\"]\nroot = \"b:/x\"\npost = [ { task = \"delete\" } ]\n", "tasks have no file"},
		{"no such root", "[[bridge]]\nname = \"b\"\nplugin = \"ftp\"\nendpoint = \"ftp://b\"\nfxp = [\"a\"]\n[[rule]]\nname = \"x\"\ndirection = \"send\"\npartners = [\"a\"]\nroot = \"c:/x\"\n", "no bridge is called"},
	} {
		if _, err := Parse("x.toml", []byte(head+bad.text)); err == nil || !strings.Contains(err.Error(), bad.want) {
			t.Errorf("%s: %v", bad.name, err)
		}
	}
}
