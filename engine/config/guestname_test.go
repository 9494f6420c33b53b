package config

import "testing"

// TestGuestNames: a user of a listener is called what foreign clients call it, which may be no
// name of an object.
func TestGuestNames(t *testing.T) {
	text := func(user, partner string) []byte {
		return []byte(`
[node]
name = "a"
state = "/var/lib/pannier"

[[partner]]
name = '` + partner + `'
address = "tls://b.example:6610"
key = "sha256:0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0"

[[rule]]
name = "in"
direction = "send"
partners = ["*"]
root = "/srv/in"

[[listener]]
plugin = "sftp"
listen = "127.0.0.1:2222"
users = [ { name = '` + user + `', keys = "file:/etc/pannier/keys", rule = "in", partner = '` + partner + `' } ]
`)
	}
	for _, c := range []struct {
		user, partner string
		good          bool
	}{{"acme", "hostb", true}, {`DOMAIN\acme`, "hostb", true}, {"50%", "hostb", true}, {"a b", "hostb", false}, {"acme", `DOMAIN\hostb`, false}} {
		if _, err := Parse("pannier.toml", text(c.user, c.partner)); (err == nil) != c.good {
			t.Errorf("user %q, partner %q: %v", c.user, c.partner, err)
		}
	}
}
