package doctor

import (
	"strings"
	"testing"
	"time"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/answers"
	"github.com/pannier/pannier/engine/config"
	"github.com/pannier/pannier/engine/folder"
)

// TestRoom: bytes and inodes are judged apart; a file system without a number of inodes has
// enough of them.
func TestRoom(t *testing.T) {
	const much = 100 << 30
	for _, tc := range []struct {
		v    volume
		want Outcome
	}{
		{volume{free: much, files: 1e6, freeFiles: 1e6}, OK},
		{volume{free: much}, OK},
		{volume{free: littleRoom - 1}, Warn},
		{volume{free: noRoom - 1}, Fail},
		{volume{free: much, files: 1e6, freeFiles: littleFiles - 1}, Warn},
		{volume{free: much, files: 1e6, freeFiles: noFiles - 1}, Fail},
		{volume{free: littleRoom - 1, files: 1e6}, Fail},
	} {
		if got, text := tc.v.room(); got != tc.want {
			t.Errorf("%+v: %s, %q, want %s", tc.v, got, text, tc.want)
		}
	}
}

// TestSynced: only a sync beyond a second is a warning.
func TestSynced(t *testing.T) {
	for _, tc := range []struct {
		slowest time.Duration
		want    Outcome
	}{{999 * time.Millisecond, OK}, {1001 * time.Millisecond, Warn}} {
		var got []Finding
		e := &exam{check: "disk", tell: func(f Finding) { got = append(got, f) }}
		e.synced("/x", []time.Duration{tc.slowest, 1, 2})
		if len(got) != 1 || got[0].Outcome != tc.want {
			t.Errorf("%v: %+v, want %s", tc.slowest, got, tc.want)
		}
	}
}

// TestHung: directories whose file systems do not answer are told of, and the others are looked at.
func TestHung(t *testing.T) {
	well := t.TempDir()
	goOn := make(chan struct{})
	defer func(was *answers.Answers[error]) { close(goOn); there = was }(there)
	there = answers.To(func(dir string) error {
		if strings.HasPrefix(dir, "/hung") {
			<-goOn
		}
		return nil
	})
	cfg := &config.Config{
		Book:    engine.Book{Rules: map[string]*engine.Rule{"a": {Root: "/hung"}, "b": {Root: well}, "c": {Root: "/hung2"}, "d": {}}},
		Folders: map[string]folder.Folder{"f": {Root: "/hung"}, "g": {Root: well, After: folder.Keep, Failed: folder.Keep}},
	}
	cfg.Node.State = well
	for check, want := range map[string]map[string]Outcome{
		"disk":   {"/hung": Skipped, "/hung2": Skipped, well: OK},
		"root":   {"rule a": Fail, "rule b": OK, "rule c": Fail},
		"folder": {"f": Fail, "g": OK},
	} {
		for _, c := range checks {
			if c.name != check {
				continue
			}
			got := map[string]Outcome{}
			c.look(&exam{Host: Host{Config: cfg}, ctx: t.Context(), check: check, tell: func(f Finding) {
				if got[f.Subject] = f.Outcome; f.Outcome != Warn && (f.Outcome == OK) == strings.Contains(f.Text, "does not answer") {
					t.Errorf("%+v", f)
				}
			}})
			for subject, is := range want {
				if o := got[subject]; o != is && (is != OK || o != Warn) { // of the disk of this host
					t.Errorf("%s of %s: %q, want %s", check, subject, o, is)
				}
			}
			if len(got) != len(want) {
				t.Errorf("%s: %v, want %v", check, got, want)
			}
		}
	}
}
