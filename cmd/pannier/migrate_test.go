package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/engine/boltstore"
	"github.com/pannier/pannier/spec/fault"
)

// TestMigrateSaysWhatIsThere: a store that a daemon has open is not one that is missing, and
// neither is one that is damaged.
func TestMigrateSaysWhatIsThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	says := func() (string, error) {
		var out strings.Builder
		err := migrate(path, true, &out)
		return out.String(), err
	}
	if out, err := says(); err != nil || !strings.Contains(out, "there is no store") {
		t.Errorf("nothing is there: %q, %v", out, err)
	}
	s, err := boltstore.Open(boltstore.Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	if out, err := says(); !errors.Is(err, fault.Exists) || !strings.Contains(command.Suggestions(err), "stop") || out != "" {
		t.Errorf("another has it: %q, %v", out, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if out, err := says(); err != nil || !strings.Contains(out, "nothing is to do") {
		t.Errorf("it is present: %q, %v", out, err)
	}
	if err := os.WriteFile(path, []byte("no store"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := says(); !errors.Is(err, fault.Corrupt) {
		t.Errorf("it is damaged: %q, %v", out, err)
	}
}
