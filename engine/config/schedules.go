package config

import (
	"maps"
	"slices"
	"time"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/schedule"
	"github.com/pannier/pannier/spec/quantity"
)

// What the sections about schedules mean.

// schedules are those of a list, by name.
func (m *meaning) schedules(list *value) map[string]schedule.Schedule {
	all, taken := map[string]schedule.Schedule{}, map[string]*schedule.Schedule{}
	for i := range m.file.Schedule {
		t, v := &m.file.Schedule[i], list.item(i)
		s := &schedule.Schedule{Name: t.Name, Missed: schedule.Missed(t.Missed), Most: t.Most, Grace: time.Duration(t.Grace), Overlap: schedule.Overlap(t.Overlap),
			Rule: t.Rule, Partners: t.Partner, Source: t.Source, Target: t.Target, Priority: t.Priority, Info: t.Info}
		register(m, taken, s, t.Name, "schedule", v)
		before := len(m.problems.list)
		s.Times = m.times(t.Cron, t.Zone, t.Windows, v)
		m.schedule(s, t, v)
		if err := s.Check(); err != nil && len(m.problems.list) == before {
			m.add(v.key, "", "%s", words(err))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(taken)) {
		all[name] = *taken[name]
	}
	return all
}

// times reads when something is due.
func (m *meaning) times(cron, zone string, windows quantity.Windows, v *value) (t schedule.Times) {
	const hint = `minute, hour, day of the month, month, day of the week, as "30 6 * * Mon-Fri"`
	t.Zone, t.Windows = time.Local, windows
	var err error
	if v.isText("zone") {
		if t.Zone, err = schedule.ParseZone(zone); err != nil {
			m.add(v.field("zone").place, "", "%s", words(err))
		}
	}
	if !v.isText("cron") {
		return t
	}
	if t.Cron, err = schedule.ParseCron(cron); err != nil {
		m.add(v.field("cron").place, hint, "%s", words(err))
	} else if t.Zone != nil && v.has("windows") && t.Next(time.Unix(0, 0)).IsZero() && !m.noted(v.field("windows")) {
		m.add(v.field("windows").place, "", "no time of %q is in a window: nothing would ever be due", cron)
	}
	return t
}

func (m *meaning) schedule(s *schedule.Schedule, t *scheduleTable, v *value) {
	m.text(v, "cron", "when it runs, as \"30 6 * * Mon-Fri\"")
	if m.text(v, "rule", "the one that its requests go by") {
		if r := m.anyRule(t.Rule, v.field("rule")); r != nil {
			s.Root, s.Send = r.Root, r.Direction == engine.Send
			m.rulePartners(r, t.Partner, v)
			if m.text(v, "source", "the file, as \"report-{date}.csv\", or a pattern of files, as \"out/*.xml\"") {
				if err := s.CheckSource(); err != nil {
					m.add(v.field("source").place, "", "%s", words(err))
				} else if err := s.CheckTarget(); err != nil && v.isText("target") {
					m.add(v.field("target").place, "", "%s", words(err))
				}
			}
		}
	}
	if !v.has("partner") {
		m.add(v.key, "", "partner is missing: with whom, as \"hostb\" or [\"hostb\", \"hostc\"]")
	}
	atLeast(m, v, "most", t.Most, 1, "1")
	if v.has("most") && t.Most > schedule.MaxMost {
		m.add(v.field("most").place, "", "most is at most %d", schedule.MaxMost)
	}
	atLeast(m, v, "grace", int64(t.Grace), int64(schedule.MinGrace), "1m: a node that was killed is back by then")
}

// anyRule is the rule of that name; nil, and noted, without one.
func (m *meaning) anyRule(name string, at *value) *engine.Rule {
	if r := m.rules[name]; r != nil {
		return r
	}
	names := sorted(m.rules)
	m.add(at.place, "rules: "+listed(names), "no rule is called %q%s", name, meant(name, names))
	return nil
}
