package node

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/pannier/pannier/engine/audit"
	"github.com/pannier/pannier/engine/config"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/schedule"
)

// scheduleFile is what schedules remember, in the state directory.
const scheduleFile = "schedules.db"

// beginSchedules begins those of a file. They end before the engine.
func (n *Node) beginSchedules(cfg *config.Config) error {
	notes, err := schedule.OpenNotes(filepath.Join(n.fixed.State, scheduleFile))
	if err != nil {
		return err
	}
	n.undone(notes.Close)
	n.notes = append(n.notes, part{scheduleFile, notes.Backup})
	n.schedules, err = schedule.Start(schedule.Config{
		Engine: n.engine, Notes: notes, Clock: n.o.Clock, Log: n.log,
		Told: func(s *schedule.Schedule, what schedule.Outcome) {
			n.metrics.Scheduled(s.Rule, s.Direction().String(), what.String())
		},
	}, cfg.Schedules)
	if err != nil {
		return err
	}
	n.undone(func() error { n.schedules.Stop(); return nil })
	n.expecting, err = schedule.Expect(schedule.AwaiterConfig{Find: n.engine.Find, Notes: notes, Clock: n.o.Clock, Log: n.log, Told: n.expected}, cfg.Expects)
	if err != nil {
		return err
	}
	n.undone(func() error { n.expecting.Stop(); return nil })
	n.came.Store(n.expecting)
	return nil
}

// expected is told of each file that is late, missing or has come.
func (n *Node) expected(e *schedule.Expected, a schedule.Awaits) {
	n.metrics.Expected(e.Partner, e.Rule, string(a.State))
	if n.audit != nil && (a.State == schedule.Late || a.State == schedule.Missing) { // noted: whoever asks the awaiter does not wait for the disk
		n.audit.Note(audit.Entry{Who: itself, Do: "expected file " + string(a.State), On: e.Name, Detail: fmt.Sprintf("%q from %s by rule %s was due at %s", e.File, e.Partner, e.Rule, a.Due.UTC().Format(time.RFC3339))})
	}
}

// hasCome tells the awaiter of a record that was committed. There is none before the node is open.
func (n *Node) hasCome(r *lifecycle.Record) {
	if w := n.came.Load(); w != nil {
		w.Came(r)
	}
}
