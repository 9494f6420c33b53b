package node

import (
	"context"
	"log/slog"
	"maps"
	"net"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/engine/config"
	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/flow/loopback"
	"github.com/pannier/pannier/flow/relay"
	"github.com/pannier/pannier/spec/fault"
)

// listenAgain is how long a relay waits that could not listen, as somebody else has
// its port, until it tries again.
const listenAgain = 2 * time.Second

// relays are those that the node is to have: of its file, and added by operators. The
// hub has those of them that could listen.
type relays struct {
	hub  *relay.Hub
	book func() engine.Book
	log  *slog.Logger

	mu  sync.Mutex
	all map[string]*wanted
}

// wanted is one of them.
type wanted struct {
	relay.Relay
	added bool  // by an operator: until the node ends
	err   error // why the hub does not have it
}

var _ admin.Relays = (*relays)(nil)

// newRelays makes the node's share in relays, without any of its own yet.
func (n *Node) newRelays(policy []relay.Allow) error {
	cfg := relay.Config{Policy: policy, Logger: n.log, Network: n.o.Network}
	if cfg.Network.Listen == nil {
		cfg.Network.Listen = Listen
	}
	if n.o.Line == nil {
		cfg.Reach = func(ctx context.Context, partner string) error {
			_, err := n.line.Reach(ctx, partner)
			return err
		}
	}
	hub, err := relay.New(cfg)
	if err != nil {
		return err
	}
	n.undone(hub.Close)
	n.relays = &relays{hub: hub, book: func() engine.Book { return n.present.Load().book }, log: n.log, all: map[string]*wanted{}}
	return nil
}

// Listen is how relays listen. A unix socket is open to the node's own user, and one that
// a dead process has left is replaced.
func Listen(ctx context.Context, network, address string) (net.Listener, error) {
	if network == "unix" {
		return carrier.ListenUnix(address, 0o600)
	}
	return loopback.Listen(ctx, net.ListenConfig{}, network, address)
}

// beginRelays starts those of the file. From here on what undoes it comes first: relays
// end before the sessions that they run over.
func (n *Node) beginRelays(cfg *config.Config) {
	ctx, stop := context.WithCancel(context.Background())
	again := make(chan struct{})
	n.relays.change(cfg)
	go func() {
		defer close(again)
		n.relays.keepTrying(ctx)
	}()
	n.undone(func() error {
		stop()
		<-again
		return n.relays.hub.Close()
	})
}

// change makes the relays those of a file and those that operators have added, and the
// policy that of the file. Those that stay as they are go on untouched. problems are of those
// that do not work.
func (r *relays) change(cfg *config.Config) (problems []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.hub.SetPolicy(cfg.Policy); err != nil { // the file was read with the same eyes
		problems = append(problems, "the relay policy stays as it was: "+fault.Plain(err))
	}
	for _, name := range slices.Sorted(maps.Keys(r.all)) {
		w := r.all[name]
		if now, ok := cfg.Relays[name]; !w.added && !ok || ok && !reflect.DeepEqual(w.Relay, now) {
			r.drop(w)
			delete(r.all, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(cfg.Relays)) {
		w := r.all[name]
		if w == nil {
			w = &wanted{Relay: cfg.Relays[name]}
			r.all[name] = w
			r.begin(w)
		}
		w.added = false
		if w.err != nil {
			problems = append(problems, "relay "+name+" does not listen, and is tried again: "+w.err.Error())
		}
	}
	r.hub.Anew() // a partner's address may be another one
	return problems
}

// begin gives a relay to the hub. r.mu is held.
func (r *relays) begin(w *wanted) {
	before := w.err
	if w.err = r.hub.Add(w.Relay); w.err != nil && before == nil {
		r.log.Error("relay does not listen; it is tried again", "relay", w.Name, "cause", w.err)
	}
}

// drop takes a relay from the hub; its connections go on. r.mu is held.
func (r *relays) drop(w *wanted) {
	if w.err == nil {
		_ = r.hub.Remove(w.Name) // it is there
	}
}

// keepTrying gives the hub what could not listen.
func (r *relays) keepTrying(ctx context.Context) {
	tick := time.NewTicker(listenAgain)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		r.mu.Lock()
		for _, w := range r.all {
			if w.err != nil {
				r.begin(w)
			}
		}
		r.mu.Unlock()
	}
}

// drain ends the listeners, and the connections when they end or ctx does.
func (r *relays) drain(ctx context.Context) {
	if err := r.hub.Drain(ctx); err != nil {
		r.log.Warn("relayed connections were cut", "cause", err)
	}
}

// List implements admin.Relays.
func (r *relays) List() (all []admin.Relay, policy []admin.Policy) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(r.all)) {
		w := r.all[name]
		s := admin.Relay{Is: w.Relay, Added: w.added}
		if w.err != nil {
			s.Stats = relay.Stats{Name: name, Trouble: w.err}
		}
		all = append(all, s)
	}
	for _, s := range r.hub.Stats() {
		i := slices.IndexFunc(all, func(a admin.Relay) bool { return a.Is.Name == s.Name })
		switch {
		case s.Allow != nil:
			policy = append(policy, admin.Policy{Allow: *s.Allow, Stats: s})
		case i >= 0:
			all[i].Stats = s
		}
	}
	return all, policy
}

// Conns implements admin.Relays.
func (r *relays) Conns() []relay.ConnStats { return r.hub.Conns() }

// Try implements admin.Relays.
func (r *relays) Try(ctx context.Context, name string, to relay.Endpoint) ([]relay.Step, error) {
	r.mu.Lock()
	w := r.all[name]
	var err error
	if w != nil {
		err = w.err
	}
	r.mu.Unlock()
	if err != nil {
		return []relay.Step{{Name: "listener", Err: err}}, nil
	}
	return r.hub.Try(ctx, name, to)
}

// Add implements admin.Relays.
func (r *relays) Add(w relay.Relay) error {
	book := r.book()
	if _, err := book.Partner(w.Partner); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if old := r.all[w.Name]; old != nil {
		return fault.New("add relay", fault.Exists, "there is a relay %q already", w.Name)
	}
	if err := r.hub.Add(w); err != nil {
		return err
	}
	r.all[w.Name] = &wanted{Relay: w, added: true}
	return nil
}

// Remove implements admin.Relays.
func (r *relays) Remove(name string) (added bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	w := r.all[name]
	if w == nil {
		return false, fault.New("remove relay", fault.NotFound, "there is no relay %q", name)
	}
	r.drop(w)
	delete(r.all, name)
	return w.added, nil
}
