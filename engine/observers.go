package engine

import (
	"time"

	"github.com/pannier/pannier/engine/lifecycle"
)

// Observers tells several what it is told. The first that traces names the traces.
type Observers []Observer

// Trace implements Observer.
func (all Observers) Trace(parent string) string {
	for _, o := range all {
		if t := o.Trace(parent); t != "" {
			return t
		}
	}
	return ""
}

// Begin implements Observer.
func (all Observers) Begin(r *lifecycle.Record, kind ActKind, name, parent string) Act {
	several := make(severalActs, len(all))
	for i, o := range all {
		several[i] = o.Begin(r, kind, name, parent)
	}
	return several
}

// Wasted implements Observer.
func (all Observers) Wasted(r *lifecycle.Record, bytes int64) {
	for _, o := range all {
		o.Wasted(r, bytes)
	}
}

type severalActs []Act

func (s severalActs) Trace() string {
	for _, a := range s {
		if t := a.Trace(); t != "" {
			return t
		}
	}
	return ""
}

func (s severalActs) Moved(bytes int64) {
	for _, a := range s {
		a.Moved(bytes)
	}
}

func (s severalActs) Held(d time.Duration) {
	for _, a := range s {
		a.Held(d)
	}
}

func (s severalActs) End(err error) {
	for _, a := range s {
		a.End(err)
	}
}
