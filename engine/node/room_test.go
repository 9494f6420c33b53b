package node

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/pannier/pannier/spec/fault"
)

// TestRoom: that there is no room is logged once a minute, makes the node not ready, and is over when
// something was written down, or nothing has been tried for a while.
func TestRoom(t *testing.T) {
	var log strings.Builder
	now := time.Unix(1000, 0)
	r := &room{log: slog.New(slog.NewTextHandler(&log, nil)), now: func() time.Time { return now }}
	full := fault.New("commit", fault.NoSpace, "full")
	for _, err := range []error{fault.New("commit", fault.Stale, "another was faster"), fault.New("find", fault.NotFound, "none")} {
		if r.failing(err); r.met() != nil || log.Len() > 0 {
			t.Errorf("%v: %v %s", err, r.met(), log.String())
		}
	}
	errors := func() int { return strings.Count(log.String(), "level=ERROR") }
	for range 300 {
		r.failing(full)
	}
	if err := r.met(); err == nil || !strings.Contains(err.Error(), "make room") || errors() != 1 {
		t.Errorf("%v\n%s", err, log.String())
	}
	now = now.Add(fullTell)
	if r.failing(full); errors() != 2 || !strings.Contains(log.String(), "unlogged=299") {
		t.Error(log.String())
	}
	r.found()
	if r.found(); r.met() != nil || strings.Count(log.String(), "room again") != 1 {
		t.Errorf("%v\n%s", r.met(), log.String())
	}
	log.Reset()
	for range 300 { // on a full disk some are written down still
		r.failing(full)
		r.found()
	}
	if n := strings.Count(log.String(), "\n"); n > 2 {
		t.Errorf("%d lines:\n%s", n, log.String())
	}
	r.failing(full)
	now = now.Add(fullFor)
	if r.met() != nil {
		t.Error("nobody tries, and so it is never ready")
	}
}
