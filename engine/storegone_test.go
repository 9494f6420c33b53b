package engine_test

import (
	"log/slog"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/flow/flowtest"
)

// TestStoreGone: a node that commits nothing says so, too, when the files of its store were removed, and goes
// on: what it has open is the last of it.
func TestStoreGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log flowtest.Log
		p := newPair(t, func(n *node) { n.limits.Log = slog.New(slog.NewTextHandler(&log, nil)) })
		a := p.nodes["a"]
		time.Sleep(time.Hour)
		if a.engine.Gone() {
			t.Error("nothing was removed")
		}
		if err := os.Remove(a.dir + "/store"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if said := log.String(); !a.engine.Gone() || !strings.Contains(said, "store's files were removed") || !strings.Contains(said, a.dir) {
			t.Errorf("gone %v, and the log has\n%s", a.engine.Gone(), said)
		}
		if a.engine.Cause() != nil || p.nodes["b"].engine.Gone() {
			t.Error("the process ends, or the other one's store is gone")
		}
	})
}
