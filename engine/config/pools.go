package config

import (
	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/spec/quantity"
)

// What the sections about pools mean, and bandwidths by the time of the week.

// pool reads one; who names it is looked at later.
func (m *meaning) pool(t *poolTable, v *value) {
	p := &engine.Pool{Name: t.Name, Bandwidth: m.timetable(t.Bandwidth, v)}
	register(m, m.pools, p, t.Name, "pool", v)
	if !v.has("bandwidth") {
		m.add(v.key, "", "bandwidth is missing: what its partners and rules share, as \"50MB/s\"")
	}
}

// timetable notes what is never looked at.
func (m *meaning) timetable(t rates, v *value) quantity.Timetable {
	for i := range t {
		if list := v.field("bandwidth"); t[i].Window == nil && i+1 < len(t) && len(list.items) > i && !m.noted(list.item(i)) {
			m.add(list.item(i+1).place, "", "the rate before it has no times and always counts: what comes after it never does")
			break
		}
	}
	if len(t) == 1 && t[0] == (quantity.Slot{}) {
		return nil
	}
	return quantity.Timetable(t)
}

// knownPool notes a pool that is not there.
func (m *meaning) knownPool(name string, v *value) {
	if !v.isText("pool") || m.pools[name] != nil {
		return
	}
	names := sorted(m.pools)
	m.add(v.field("pool").place, "pools: "+listed(names), "no pool is called %q%s", name, meant(name, names))
}
