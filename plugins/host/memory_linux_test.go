//go:build !race

// The race detector's own memory has more than any plugin's limit: .ci/test runs this
// file's test once more, without it.

package host_test

import (
	"strings"
	"testing"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// TestConfined: a plugin that wants more memory than it may have dies, and no other sees
// anything of it; it is started again.
func TestConfined(t *testing.T) {
	cfg, log := config(t)
	cfg.Memory = 256 << 20
	p := run(t, cfg)
	other := run(t, cfg)
	at := t.TempDir()
	s := open(t, other, at)
	_, err := p.Open(t.Context(), plugins.Endpoint{URL: "odd:eat"})
	kindOf(t, err, fault.Lost)
	eventually(t, func() bool {
		return strings.Contains(log.String(), "out of memory") || strings.Contains(log.String(), "cannot allocate")
	})
	put(t, s, "/x", []byte("untouched"))
	if got := get(t, open(t, p, at), "/x"); string(got) != "untouched" {
		t.Errorf("%q", got)
	}
}
