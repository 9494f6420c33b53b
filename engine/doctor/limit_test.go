package doctor

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/pannier/pannier/engine/config"
	"github.com/pannier/pannier/engine/folder"
	"github.com/pannier/pannier/flow/relay"
)

// TestEnough: as many as there may be are enough.
func TestEnough(t *testing.T) {
	for _, tc := range []struct {
		need uint64
		want Outcome
	}{{7, OK}, {8, OK}, {9, Warn}} {
		var got []Finding
		e := &exam{check: "limit", tell: func(f Finding) { got = append(got, f) }}
		e.enough("watches", 8, tc.need, "there are %d", "key")
		if len(got) != 1 || got[0].Outcome != tc.want {
			t.Errorf("%d: %+v", tc.need, got)
		}
	}
}

// TestNeeds counts directories that are watched and descriptors that are taken.
func TestNeeds(t *testing.T) {
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "a", "b"), 0o755); err != nil {
		t.Fatal(err)
	}
	cfg := &config.Config{Folders: map[string]folder.Folder{"flat": {Root: root}, "other": {Root: root}, "deep": {Root: root, Recursive: true}}}
	e := &exam{Host: Host{Config: cfg}, ctx: t.Context()}
	if got := e.watched(); got != 1+1+3 {
		t.Errorf("%d directories, want 5", got)
	}
	cfg.Node.Concurrent, cfg.Node.Serving = 2, 3
	cfg.Relays = map[string]relay.Relay{"in": {Limits: relay.Limits{Conns: 10}}, "out": {At: relay.There, Limits: relay.Limits{Conns: 1000}}}
	cfg.Policy = []relay.Allow{{Limits: relay.Limits{Conns: 5}}}
	if got, want := e.filesNeeded(), uint64(filesOfNode+5*filesOfRequest+15*filesOfConn); got != want {
		t.Errorf("%d descriptors, want %d", got, want)
	}
}
