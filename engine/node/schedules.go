package node

import (
	"path/filepath"

	"github.com/pannier/pannier/engine/config"
	"github.com/pannier/pannier/engine/schedule"
	"github.com/pannier/pannier/spec/fault"
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
	return nil
}

// changeSchedules makes the schedules those of a file, and says what is different.
func (n *Node) changeSchedules(old, now *config.Config) []string {
	if err := n.schedules.Change(now.Schedules); err != nil {
		n.log.Error("the schedules stay as they are", "error", err)
		return []string{"the schedules stay as they are: " + fault.Plain(err)}
	}
	return changesBy("schedule", pointers(old.Schedules), pointers(now.Schedules), (*schedule.Schedule).Same)
}
