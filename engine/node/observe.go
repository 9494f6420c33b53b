package node

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"time"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/config"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/metrics"
	"github.com/pannier/pannier/engine/push"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/engine/trace"
	"github.com/pannier/pannier/spec/fault"
)

// observed is the store, told of to who counts.
func (n *Node) observed(s store.Store) store.Store {
	return &store.Seen{Store: s, Told: func(r *lifecycle.Record, events []lifecycle.Event, made bool, took time.Duration) {
		if made {
			n.room.found()
		}
		n.metrics.Committed(r, events, made, took)
		if n.traces != nil {
			n.traces.Committed(r, events, made, took)
		}
		if n.push != nil {
			n.push.Committed(r)
		}
		n.hasCome(r)
	}, Failed: func(err error) {
		n.room.failing(err)
		n.metrics.Uncommitted(err)
	}}
}

// newMetrics makes the counters; what is asked for when somebody reads them comes with
// sources.
func (n *Node) newMetrics() {
	n.room = &room{log: n.log, now: time.Now}
	n.metrics = metrics.New(n.o.Version, func() engine.Book { return n.present.Load().book })
}

// observer is told what runs do.
func (n *Node) observer() engine.Observer {
	if n.traces == nil {
		return n.metrics
	}
	return engine.Observers{n.metrics, n.traces}
}

// openTraces opens the traces, if the environment asks for them.
func (n *Node) openTraces() (err error) {
	n.traces, err = trace.Open(n.fixed.Name, n.o.Version, n.log)
	if n.traces != nil {
		n.undone(n.traces.Close)
	}
	return err
}

// pushFile is how far pushing has come, in the state directory.
const pushFile = "push.json"

// openPush begins to push finished records, if there is where.
func (n *Node) openPush(cfg config.Push, s store.Store) (err error) {
	if cfg.URL == "" {
		return nil
	}
	n.push, err = push.Open(push.Config{
		Node: n.fixed.Name, URL: cfg.URL, Secret: cfg.Secret, Batch: cfg.Batch, Every: cfg.Every, Cursor: filepath.Join(n.fixed.State, pushFile),
		Find: s.Find, Log: n.log, Pushed: n.metrics.Pushed,
	})
	if err == nil {
		n.undone(n.push.Close)
	}
	return err
}

// backlog is how many finished records wait to be pushed.
func (n *Node) backlog() int {
	if n.push == nil {
		return 0
	}
	return n.push.Backlog()
}

// sources are what is counted when somebody asks.
func (n *Node) sources() metrics.Sources {
	return metrics.Sources{
		Load: n.engine.Load,
		Keys: func() map[string]int {
			all := map[string]int{}
			for name, p := range n.present.Load().book.Partners {
				if len(p.Keys) > 0 {
					all[name] = len(p.Keys)
				}
			}
			return all
		},
		Sessions: n.sessions,
		Relays:   n.relays.measured,
		Folders:  n.folders.measured,
		Backlog:  n.backlog,
	}
}

func (n *Node) sessions() (dialled, accepted int) {
	if n.line != nil {
		dialled = n.line.Sessions()
	}
	for _, door := range n.doors {
		accepted += door.Sessions()
	}
	return dialled, accepted
}

// measured is what goes over the relays, by partner.
func (r *relays) measured() []metrics.Relay {
	all := map[string]*metrics.Relay{}
	relays, policy := r.List()
	of := func(partner string) *metrics.Relay {
		if all[partner] == nil {
			all[partner] = &metrics.Relay{Partner: partner}
		}
		return all[partner]
	}
	for i := range relays {
		of(relays[i].Is.Partner).Add(&relays[i].Stats)
	}
	for i := range policy {
		of(policy[i].Partner).Add(&policy[i].Stats)
	}
	var list []metrics.Relay
	for _, name := range slices.Sorted(maps.Keys(all)) {
		list = append(list, *all[name])
	}
	return list
}

// HealthRoute is a path that tells how the node is.
type HealthRoute struct {
	Pattern string // as of http.ServeMux
	Handler http.Handler
	Public  bool // it names nothing of the node: whoever asks may know
}

// Health is what is to be mounted where the node speaks HTTP: the one place of /metrics,
// /livez and /readyz. /metrics names partners and rules, so it is for who may read.
func (n *Node) Health() []HealthRoute {
	return []HealthRoute{
		{"GET /metrics", n.metrics.Handler(), false},
		{"GET /livez", metrics.Live(), true},
		{"GET /readyz", metrics.Ready(n.conditions()...), true},
	}
}

// conditions are those for being ready. What a condition says names nothing of the
// configuration: who asks is not known.
func (n *Node) conditions() []metrics.Condition {
	return []metrics.Condition{
		{Name: "store", Met: func() error {
			if n.engine.Cause() != nil {
				return errors.New("it has failed, and the process ends: see the log")
			}
			if n.engine.Gone() {
				return errors.New("its files were removed, and the process ends with the next change: see the log")
			}
			return n.room.met()
		}},
		{Name: "listeners", Met: func() error {
			if !n.serving.Load() {
				return errors.New("partners and operators are not answered")
			}
			return nil
		}},
		{Name: "draining", Met: func() error {
			if n.draining.Load() {
				return errors.New("the node goes down and takes nothing new")
			}
			return nil
		}},
	}
}

// Pulse goes once through what all requests go through: the engine's lock and its store. An error is
// that of a store that has failed, or ctx's.
func (n *Node) Pulse(ctx context.Context) error {
	over := make(chan error, 1)
	go func() {
		n.engine.Load()
		_, err := n.engine.Get(ctx, store.Ref{})
		if fault.KindOf(err) == fault.NotFound { // there is no such request
			err = n.engine.Cause()
		}
		over <- err
	}()
	select {
	case err := <-over:
		return err
	case <-ctx.Done():
		return fault.Wrap("feel the pulse", n.fixed.Name, context.Cause(ctx))
	}
}
