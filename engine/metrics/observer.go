package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/lifecycle"
)

var _ engine.Observer = (*Metrics)(nil)

// Trace implements engine.Observer: metrics name nothing.
func (m *Metrics) Trace(string) string { return "" }

// Wasted implements engine.Observer.
func (m *Metrics) Wasted(r *lifecycle.Record, bytes int64) {
	m.wasted.WithLabelValues(direction(r)).Add(float64(bytes))
}

// Begin implements engine.Observer.
func (m *Metrics) Begin(r *lifecycle.Record, kind engine.ActKind, name, _ string) engine.Act {
	switch kind {
	case engine.ActAttempt:
		g := m.active.WithLabelValues(m.namesOf(r)...)
		g.Inc()
		return act{end: func(error) { g.Dec() }}
	case engine.ActStep:
		return timed(func(d time.Duration, _ error) { m.steps.WithLabelValues(name).Observe(d.Seconds()) })
	case engine.ActTask:
		return timed(func(d time.Duration, err error) { m.tasks.WithLabelValues(status(err)).Observe(d.Seconds()) })
	case engine.ActBytes:
		return act{moved: m.bytes.WithLabelValues(m.namesOf(r)...), held: m.stalled}
	}
	return act{}
}

func (m *Metrics) namesOf(r *lifecycle.Record) []string {
	partner, rule, direction := m.names(r)
	return []string{partner, rule, direction}
}

// act is one of a run's. What is nil is not counted.
type act struct {
	moved, held prometheus.Counter
	end         func(error)
}

// timed is an act whose time is told when it ends.
func timed(told func(time.Duration, error)) act {
	began := time.Now()
	return act{end: func(err error) { told(time.Since(began), err) }}
}

func (act) Trace() string { return "" }

func (a act) Moved(bytes int64) {
	if a.moved != nil {
		a.moved.Add(float64(bytes))
	}
}

func (a act) Held(d time.Duration) {
	if a.held != nil {
		a.held.Add(d.Seconds())
	}
}

func (a act) End(err error) {
	if a.end != nil {
		a.end(err)
	}
}
