package config

import (
	"reflect"
	"testing"

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
			Options: map[string]string{"tls": "require", "ca": "/etc/ca=1.pem"}},
		"box": {Name: "box", Plugin: "/usr/lib/pannier-plugin-box", Args: []string{"-v", "/usr/lib/box.py"}, SHA256: "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", Endpoint: "box://host"},
	}
	if !reflect.DeepEqual(cfg.Bridges, want) {
		t.Errorf("%+v, want %+v", cfg.Bridges, want)
	}
	if post := cfg.Book.Rules["in"].Lists(lifecycle.Receiver).Post; len(post) != 1 || post[0].Name != "bridge" {
		t.Errorf("%+v", post)
	}
}
