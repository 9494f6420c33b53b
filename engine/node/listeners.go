package node

import (
	"context"
	"maps"
	"net"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/engine/bridge"
	"github.com/pannier/pannier/engine/config"
	"github.com/pannier/pannier/engine/guest"
	"github.com/pannier/pannier/engine/peer"
	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/plugins/host"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/relpath"
)

// listeners are where foreign clients connect.
type listeners struct {
	node     *Node
	patience context.Context // ends when clients have no time any more
	hurry    context.CancelFunc
	remains  *guest.Remains
	namings  *guest.Namings

	mu  sync.Mutex
	all map[string]*door // by address
	wg  sync.WaitGroup
}

// door is one of them. Its plugin is its own: what a foreign client does to it hurts no
// bridge.
type door struct {
	is     config.Listener // without users
	plugin *host.Plugin
	guests *guest.Node
	stop   context.CancelFunc

	mu     sync.Mutex
	socket *net.TCPListener // nil: not yet, or another door has it
	open   bool             // clients are served
	failed error            // why they were not, last
	told   chan struct{}    // closed when it is known whether they are
}

// became says that clients are served, or why they are not. nil: neither, or not any more.
func (d *door) became(open bool, failed error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open, d.failed = open, failed
	select {
	case <-d.told:
	default:
		close(d.told)
	}
}

// list is what operators see.
func (l *listeners) list() (all []admin.Door) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, address := range slices.Sorted(maps.Keys(l.all)) {
		d := l.all[address]
		d.mu.Lock()
		all = append(all, admin.Door{Address: address, Plugin: d.is.Plugin, PID: d.plugin.Running(), Serving: d.open, Problem: d.failed, Users: d.guests.Users()})
		d.mu.Unlock()
	}
	return all
}

// program is what the plugin is run by.
func (d *door) program() config.Bridge { return Program(d.is) }

// Program is the plugin of a listener, as PluginConfig takes it.
func Program(is config.Listener) config.Bridge {
	return config.Bridge{Name: is.Address, Plugin: is.Plugin, Args: is.Args, SHA256: is.SHA256, Memory: is.Memory, Files: is.Files, Options: is.Options}
}

// give is the socket, for the door that takes this one's place: who connects while clients of
// the old one end is served by the new one.
func (d *door) give() *net.TCPListener {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.socket
	d.socket = nil
	return s
}

// How long a listener waits before it tries again.
const (
	serveAgain = time.Second
	serveMost  = 30 * time.Second
)

func (n *Node) beginListeners(cfg *config.Config) error {
	n.listeners = &listeners{node: n}
	n.listeners.patience, n.listeners.hurry = context.WithCancel(context.Background())
	n.undone(func() error {
		n.listeners.hurry()
		n.listeners.close()
		return nil
	})
	var err error
	if n.listeners.remains, err = guest.OpenRemains(filepath.Join(n.fixed.State, uploadsFile), n.o.Layer, n.log); err != nil {
		return err
	}
	if n.listeners.namings, err = guest.OpenNamings(filepath.Join(n.fixed.State, namingsFile), n.log); err != nil {
		return err
	}
	n.listeners.leftover(cfg)
	return n.listeners.change(cfg, nil)
}

// leftover removes what an earlier life of the node has left of downloads, and what uploads have
// left that nobody goes on with.
func (l *listeners) leftover(cfg *config.Config) {
	ctx, cancel := context.WithCancel(context.Background())
	var sweeping sync.WaitGroup
	l.node.undone(func() error { cancel(); sweeping.Wait(); return nil })
	sweeping.Go(func() {
		for first := true; ctx.Err() == nil; first = false {
			if !first {
				l.namings.Settle(ctx, l.node.engine, l.node.fixed.Name) // what could not be at the start, or since
			}
			l.remains.Sweep(time.Now())
			l.namings.Tidy()
			sleep(ctx, sweepEvery)
		}
	})
	l.namings.Settle(ctx, l.node.engine, l.node.fixed.Name)
	seen := map[string]bool{}
	for _, is := range cfg.Listeners {
		g := l.guests(is.Address)
		for _, u := range is.Users {
			if u.Get == "" || seen[u.Get] {
				continue
			}
			seen[u.Get] = true
			remove, err := g.Leftover(ctx, l.node.fixed.Name, u.Get)
			if err != nil {
				l.node.log.Warn("what was fetched for foreign clients before may stay", "rule", u.Get, "error", err)
				continue
			}
			l.wg.Go(remove)
		}
	}
}

func (l *listeners) guests(address string) *guest.Node {
	return &guest.Node{Listener: address, Engine: l.node.engine, Far: far{l.node}, Layer: l.node.o.Layer, Remains: l.remains, Namings: l.namings, Log: l.node.log, Refused: l.node.refused}
}

// doorPlan is what a configuration makes of the listeners, before it is so.
type doorPlan struct {
	next  map[string]*door
	users map[string][]guest.User
	fresh map[*host.Plugin]config.Bridge // as of bridgePlan
	tried []*door                        // that have their sockets already
}

// change makes the listeners those of a configuration. One that stays as it is but for its
// users, and its program, keeps its clients; ready are as of bridges.
func (l *listeners) change(cfg *config.Config, ready upgrades) error {
	p, err := l.plan(cfg, ready)
	if err == nil {
		l.become(p)
	}
	return err
}

// plan is what change does. It starts no plugin, and listens nowhere.
func (l *listeners) plan(cfg *config.Config, ready upgrades) (*doorPlan, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := &doorPlan{next: map[string]*door{}, users: map[string][]guest.User{}, fresh: map[*host.Plugin]config.Bridge{}}
	for _, is := range cfg.Listeners {
		p.users[is.Address], is.Users = is.Users, nil
		d := l.all[is.Address]
		switch {
		case d == nil || !reflect.DeepEqual(d.is, is):
			d = l.door(is)
			c, err := l.node.pluginConfig(d.program())
			if err != nil {
				return nil, err
			}
			c.Drain = l.node.drainTime(cfg)
			d.plugin = host.New(c)
			p.fresh[d.plugin] = d.program()
		case ready[d.plugin] != nil:
			plugin := ready[d.plugin]
			d = l.door(is)
			d.plugin = plugin
		}
		p.next[is.Address] = d
	}
	return p, nil
}

// become makes the listeners those of a plan.
func (l *listeners) become(p *doorPlan) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for address, d := range p.next {
		d.guests.SetUsers(p.users[address])
	}
	l.replace(p.next)
}

// door is one that serves nobody yet.
func (l *listeners) door(is config.Listener) *door {
	return &door{is: is, guests: l.guests(is.Address), told: make(chan struct{})}
}

// troubles are of listeners that serve nobody. Those that are to begin have stopLimit for it.
func (l *listeners) troubles() (all []string) {
	l.mu.Lock()
	doors := maps.Clone(l.all)
	l.mu.Unlock()
	limit := time.After(stopLimit)
	for _, address := range slices.Sorted(maps.Keys(doors)) {
		d := doors[address]
		select {
		case <-d.told:
		case <-limit:
			limit = time.After(0)
		}
		d.mu.Lock()
		switch {
		case d.failed != nil:
			all = append(all, "listener "+address+" serves nobody, and is tried again: "+fault.Plain(d.failed))
		case !d.open:
			all = append(all, "listener "+address+" serves nobody yet")
		}
		d.mu.Unlock()
	}
	return all
}

// drainTime is how long clients have to end when a listener does.
func (n *Node) drainTime(cfg *config.Config) time.Duration { return max(cfg.Node.Drain, time.Second) }

// replace has others from now on. l.mu is held.
func (l *listeners) replace(next map[string]*door) {
	for address, old := range l.all {
		if d := next[address]; d != old {
			if d != nil {
				d.socket = old.give()
			}
			old.stop()
		}
	}
	for address, d := range next {
		if l.all[address] != d {
			var ctx context.Context
			ctx, d.stop = context.WithCancel(context.Background())
			l.wg.Go(func() { l.serve(ctx, d) })
		}
	}
	l.all = next
}

// close ends all of them, with the time that the configuration gives to what runs.
func (l *listeners) close() {
	l.mu.Lock()
	l.replace(nil)
	l.mu.Unlock()
	l.wg.Wait()
}

// end is close with patience until ctx ends.
func (l *listeners) end(ctx context.Context) {
	defer context.AfterFunc(ctx, l.hurry)()
	l.close()
}

// shut has nobody wait in the socket: who connects is refused until there is a new one.
func (d *door) shut() {
	if socket := d.give(); socket != nil {
		_ = socket.Close()
	}
}

// serve listens until ctx ends. The socket stays while a plugin that has served is started again:
// who connects meanwhile waits. One that does not serve then has none.
func (l *listeners) serve(ctx context.Context, d *door) {
	log := l.node.log.With("listener", d.is.Address)
	served := make(chan struct{})
	defer close(served)
	go func() {
		<-ctx.Done()
		_ = d.plugin.Close(l.patience) // lets clients end, for a while
		<-served
	}()
	defer d.shut()
	for wait := serveAgain; ctx.Err() == nil; wait = min(2*wait, serveMost) {
		socket, err := d.listen()
		if err != nil {
			d.became(false, err)
			log.Error("cannot listen, tried again", "after", wait, "error", err)
			sleep(ctx, wait)
			continue
		}
		began, served := time.Now(), false
		err = d.plugin.Listen(context.WithoutCancel(ctx), socket, d.is.Options, d.guests, func() {
			served = true
			d.became(true, nil)
			log.Info("foreign clients are served", "plugin", d.is.Plugin, "at", socket.Addr().String())
		})
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > serveMost {
			wait = serveAgain
		}
		if !served { // and the next try may come to nothing, too
			d.shut()
		}
		d.became(false, err)
		log.Error("foreign clients are not served, tried again", "after", wait, "error", err)
		sleep(ctx, wait)
	}
}

// listen is the socket that there is, or a new one.
func (d *door) listen() (*net.TCPListener, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.socket == nil {
		s, err := net.Listen("tcp", d.is.Address)
		if err != nil {
			return nil, err
		}
		d.socket = s.(*net.TCPListener)
	}
	return d.socket, nil
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// far is what partners have, for guests: guest.Far.
type far struct{ node *Node }

// Stat implements guest.Far.
func (f far) Stat(ctx context.Context, partner, rule string, name relpath.Path) (plugins.Attr, error) {
	if f.node.bridges.Has(partner) {
		return f.node.bridges.stat(ctx, partner, "/"+name.String())
	}
	if f.node.line == nil {
		return plugins.Attr{}, fault.New("stat", fault.Unsupported, "this node cannot look at a partner's files")
	}
	e, err := f.node.line.Stat(ctx, partner, rule, name)
	return plugins.Attr{Size: e.Size, Modified: e.Modified, Dir: e.Kind == peer.DirectoryEntry}, err
}

// List implements guest.Far.
func (f far) List(ctx context.Context, partner, rule string, dir relpath.Path, yield func(plugins.Attr) bool) error {
	for e, err := range f.node.browse(ctx, partner, rule, dir.String()) {
		if err != nil {
			if f.node.bridges.Has(partner) {
				err = bridge.AsEnd(partner, err)
			}
			return err
		}
		if !yield(plugins.Attr{Name: e.Name, Size: e.Size, Modified: e.Modified, Dir: e.Directory}) {
			return nil
		}
	}
	return nil
}
