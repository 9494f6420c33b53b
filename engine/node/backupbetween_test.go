package node_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/engine/backup"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/node"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/spec/adminpb"
)

// TestBackupBetween: a file that a folder sends, and a run of a schedule, while a backup is between its copies
// are not lost in the node that is restored from it: each is with its partner, once, and called no failure.
func TestBackupBetween(t *testing.T) {
	a, b := newHost(t, "a"), newHost(t, "b")
	b.start(b.config(a.partner()))
	var ahead atomic.Int64 // of the host's clock
	day := time.Now().UTC().Truncate(24 * time.Hour)
	ahead.Store(int64(time.Until(day.Add(time.Hour))))
	a.o.Clock = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	a.write("nightly", "of the schedule")
	if err := os.Mkdir(filepath.Join(a.dir, "files", "box"), 0o755); err != nil {
		t.Fatal(err)
	}
	cfg := a.config(b.partner() + `
[[folder]]
name = "box"
rule = "push"
partner = "b"
dir = "box"
stable = "20ms"
[[schedule]]
name = "nightly"
cron = "0 3 * * *"
zone = "UTC"
rule = "push"
partner = "b"
source = "nightly"
`)
	until := func(what string, is func() bool) {
		t.Helper()
		for begun := time.Now(); !is(); time.Sleep(10 * time.Millisecond) {
			if time.Since(begun) > 2*time.Minute {
				t.Fatalf("never: %s: %+v\n%s", what, node.FoldersOf(a.node), a.log)
			}
		}
	}
	requests := func() map[string]int { // that are DONE
		t.Helper()
		got := map[string]int{}
		for r, err := range a.node.Engine().Find(context.Background(), store.Query{}) {
			if err != nil {
				t.Fatal(err)
			}
			if r.State == lifecycle.Done {
				got[r.Spec.Source.String()]++
			} else {
				got["not DONE"]++
			}
		}
		return got
	}
	settled := func() { // the file is sent, and the run over
		t.Helper()
		client, err := admin.Dial(cfg.Node.Admin)
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		until("the file is sent", func() bool {
			all := node.FoldersOf(a.node)
			return len(all) == 1 && all[0].Kept+all[0].Failed == 1 && all[0].Open == 0
		})
		until("the run is over", func() bool { // who asks has the schedules look at the clock
			r, err := client.ListSchedules(context.Background(), &adminpb.ListSchedulesRequest{})
			if err != nil {
				t.Fatal(err)
			}
			s := r.GetSchedules()
			return len(s) == 1 && s[0].GetLast() != nil && len(s[0].GetPending()) == 0
		})
	}
	a.start(cfg)
	var file bytes.Buffer
	happened := false
	err := node.BackupBetween(a.node, &file, func() {
		happened = true
		a.write("box/dropped", "of the folder")
		ahead.Add(int64(2 * time.Hour))
		settled()
		until("both are DONE", func() bool { got := requests(); return got["nightly"] == 1 && got["box/dropped"] == 1 })
	})
	if err != nil || !happened {
		t.Fatal(err, happened)
	}
	if err := a.end(); err != nil {
		t.Fatal(err)
	}
	state := cfg.Node.State
	if err := os.Rename(state, state+".lost"); err != nil {
		t.Fatal(err)
	}
	archive, err := backup.Open(bytes.NewReader(file.Bytes()), int64(file.Len()))
	if err != nil {
		t.Fatal(err)
	}
	if err := archive.Restore(state); err != nil {
		t.Fatal(err)
	}
	a.start(cfg)
	settled()
	if s := node.FoldersOf(a.node)[0]; s.Kept != 1 || s.Failed != 0 {
		t.Errorf("the folder: %+v", s)
	}
	if got := requests(); len(got) != 2 || got["nightly"] != 1 || got["box/dropped"] != 1 {
		t.Errorf("the restored node knows of %v", got)
	}
}
