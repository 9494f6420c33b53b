package config

import (
	"maps"
	"slices"
	"time"

	"github.com/pannier/pannier/engine/schedule"
)

// What the sections about expected files mean.

func (m *meaning) expects(list *value) map[string]schedule.Expected {
	all, taken := map[string]schedule.Expected{}, map[string]*schedule.Expected{}
	for i := range m.file.Expect {
		t, v := &m.file.Expect[i], list.item(i)
		e := &schedule.Expected{Name: t.Name, Rule: t.Rule, Partner: t.Partner, File: t.File, Expire: time.Duration(t.Expire), Early: time.Duration(t.Early)}
		register(m, taken, e, t.Name, "preregistered file", v)
		before := len(m.problems.list)
		e.Times = m.times(t.Cron, t.Zone, nil, v)
		m.expect(e, t, v)
		if err := e.Check(); err != nil && len(m.problems.list) == before {
			m.add(v.key, "", "%s", words(err))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(taken)) {
		all[name] = *taken[name]
	}
	return all
}

func (m *meaning) expect(e *schedule.Expected, t *expectTable, v *value) {
	switch {
	case v.has("at") == v.has("cron"):
		m.add(v.key, "", "write cron, when a file is due each time, as \"0 18 * * Mon-Fri\", or at, when the one is, as \"2026-12-01 18:00\"")
	case v.isText("at") && e.Times.Zone != nil:
		at, err := schedule.ParseAt(t.At, e.Times.Zone)
		if err != nil {
			m.add(v.field("at").place, "", "%s", words(err))
		}
		e.At, e.Times = at, schedule.Times{}
	}
	if m.text(v, "rule", "the one that the file comes by") {
		switch r := m.anyRule(t.Rule, v.field("rule")); {
		case r == nil:
		case r.Bridge != "":
			m.add(v.field("rule").place, "", "the root of rule %q is at a bridge: no file comes to this node by it", t.Rule)
		case m.text(v, "partner", "who sends the file, or has it, as \"hostb\"") && m.knownPartner(t.Partner, v.field("partner")) && !r.Allows(t.Partner):
			m.add(v.field("partner").place, "partners of the rule: "+listed(r.Partners), "rule %q is not for partner %q", t.Rule, t.Partner)
		}
	}
	if m.text(v, "file", "which one, as \"statement-*.csv\"") {
		if err := e.CheckFile(); err != nil {
			m.add(v.field("file").place, "", "%s", words(err))
		}
	}
	atLeast(m, v, "expire", int64(t.Expire), int64(schedule.MinExpire), "1m")
	atLeast(m, v, "early", int64(t.Early), int64(schedule.MinExpire), "1m")
}
