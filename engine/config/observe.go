package config

import (
	"net/netip"
	"net/url"
	"time"

	"github.com/pannier/pannier/engine/task"
	"github.com/pannier/pannier/sideeffect"
)

// What the sections about the audit log and the push of finished records say. Both hold for
// the life of a process.

// Audit is how the audit log is kept.
type Audit struct {
	Enabled    bool
	Each       bool   // whoever orders something waits until that is durable
	Rotate     int64  // bytes of a file; sideeffect.NoQuota: one file
	Checkpoint int    // records between two
	Copy       string // absolute path of a second checkpoint file; "": none
}

// Push is where finished records are sent.
type Push struct {
	URL    string // "": nowhere
	Secret string // absolute path of the file with the bearer token; "": none
	Batch  int    // records of one request
	Every  time.Duration
}

type auditTable struct {
	Enabled    bool   `toml:"enabled"`
	Sync       when   `toml:"sync" default:"second"`
	Rotate     size   `toml:"rotate" default:"64MiB"`
	Checkpoint int    `toml:"checkpoint" default:"1000"`
	Copy       string `toml:"copy"`
}

type pushTable struct {
	URL    string        `toml:"url"`
	Secret string        `toml:"secret"`
	Batch  int           `toml:"batch" default:"100"`
	Every  task.Duration `toml:"every" default:"5s"`
}

// when is how long something may not be on disk: "each" or "second".
type when string

func (w *when) UnmarshalText(b []byte) error {
	return choose((*string)(w), b, []string{"second", "each"}, "second", "each")
}

func (m *meaning) audit(v *value) Audit {
	t := &m.file.Audit
	if v.has("rotate") && int64(t.Rotate) != sideeffect.NoQuota && t.Rotate < 1<<20 && !m.noted(v.field("rotate")) {
		m.add(v.field("rotate").place, "", "rotate is %d bytes: write at least \"1MiB\"", t.Rotate)
	}
	atLeast(m, v, "checkpoint", t.Checkpoint, 1, "1")
	if v.isText("copy") {
		m.absolute(t.Copy, v, "copy")
	}
	return Audit{Enabled: t.Enabled, Each: t.Sync == "each", Rotate: int64(t.Rotate), Checkpoint: t.Checkpoint, Copy: t.Copy}
}

func (m *meaning) push(v *value) Push {
	t := &m.file.Push
	if v.isText("url") {
		u, err := url.Parse(t.URL)
		switch {
		case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
			m.add(v.field("url").place, "as \"https://hub.example/pannier\"", "url is no address of an HTTP service")
		case u.User != nil:
			m.add(v.field("url").place, "secret = \"file:/etc/pannier/push.token\"", "there are no secrets in this file: the token comes from a file")
		}
	}
	secret := ""
	if v.isText("secret") {
		secret = m.secret(t.Secret, v, "secret")
	}
	if u, err := url.Parse(t.URL); err == nil && secret != "" && u.Scheme == "http" && !loopback(u.Hostname()) {
		m.add(v.field("url").place, "", "over http anybody on the way reads the secret: write https, or a host of this machine")
	}
	if !v.has("url") && v.has("secret") {
		m.add(v.field("secret").place, "", "secret is for a url, and there is none")
	}
	atLeast(m, v, "batch", t.Batch, 1, "1")
	if v.has("batch") && t.Batch > MaxBatch {
		m.add(v.field("batch").place, "", "batch is %d: write at most %d", t.Batch, MaxBatch)
	}
	atLeast(m, v, "every", int64(t.Every), int64(100*time.Millisecond), "100ms")
	return Push{URL: t.URL, Secret: secret, Batch: t.Batch, Every: time.Duration(t.Every)}
}

func loopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.IsLoopback()
}

// MaxBatch is the most records of one request to the push endpoint.
const MaxBatch = 1000
