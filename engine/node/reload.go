package node

import (
	"errors"
	"maps"
	"os/user"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/access"
	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/engine/config"
	"github.com/pannier/pannier/engine/objects"
	"github.com/pannier/pannier/engine/schedule"
	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/spec/fault"
)

// Reload replaces partners and rules for what begins from now on, and what of
// [node] may change. What the configuration asks of this host is tried before: with an error
// nothing is different, either because the file asks for what a node that runs cannot become,
// or because something of it does not work, which is Invalid and has all of that.
func (n *Node) Reload(cfg *config.Config) (admin.Reloaded, error) {
	n.reload.Lock()
	defer n.reload.Unlock()
	return n.change(cfg)
}

// change is Reload; n.reload is held.
func (n *Node) change(cfg *config.Config) (is admin.Reloaded, err error) {
	const op = "reload configuration"
	old := n.present.Load()
	if keys := n.unlike(old.cfg, cfg); len(keys) > 0 {
		return is, fault.New(op, fault.Invalid, "nothing was taken over: %s can only change when the node starts: restart it, or put the old value back and reload", strings.Join(keys, ", "))
	}
	p, err := n.prepare(cfg)
	if err != nil {
		return is, fault.Wrap(op, "", err)
	}
	ready, upgraded, problems := n.upgrade(cfg)
	defer func() { ready.unused(n.bridges.running(), n.listeners.running()) }()
	t, err := n.try(cfg, ready)
	if err != nil {
		return is, fault.Wrap(op, "", err)
	}
	if n.draining.Load() {
		t.drop()
		return is, fault.New(op, fault.Draining, "the node is going down")
	}
	n.bridges.become(t.bridges)
	n.present.Store(p) // first: who is forgotten is dialled as the new book says
	if err := n.takeOver(p, old); err != nil {
		n.present.Store(old)
		_ = n.bridges.change(old.cfg, nil) // which ends the new plugins
		t.bridges = nil
		t.drop()
		return is, fault.Wrap(op, "", err)
	}
	n.level.Set(cfg.Node.Log)
	n.tokens.Set(cfg.Tokens)
	if set, err := objects.Read(n.fixed.State); err == nil { // which the configuration was read with
		n.applied.Store(&set)
	}
	n.listeners.become(t.doors)
	is.Problems = slices.Concat(problems, t.problems, n.relays.change(cfg), n.folders.change(cfg), n.listeners.troubles())
	is.Notes = append(differences(old, p), upgraded...)
	n.log.Info("configuration is loaded", "changes", is.Notes)
	for _, problem := range is.Problems {
		n.log.Error("the configuration is loaded, and this of it does not work", "problem", problem)
	}
	return is, nil
}

// takeOver gives a book, schedules and what is expected to those who work with them; after an
// error they have those of before.
func (n *Node) takeOver(p, old *present) error {
	err := n.setBook(p.book)
	if err != nil {
		_ = n.setBook(old.book) // it was good before
		return err
	}
	if err = n.schedules.Change(p.cfg.Schedules); err == nil {
		if err = n.expecting.Change(p.cfg.Expects); err == nil {
			return nil
		}
		err = errors.Join(fault.Wrap("change what is expected", "", err), fault.Wrap("put schedules back", "", n.schedules.Undo()))
	} else {
		err = fault.Wrap("change schedules", "", err)
	}
	return errors.Join(err, n.setBook(old.book))
}

// differences are between what the node was and what it is.
func differences(old, now *present) (notes []string) {
	notes = append(changes("partner", old.book.Partners, now.book.Partners), changes("rule", old.book.Rules, now.book.Rules)...)
	say := func(same bool, note string) {
		if !same {
			notes = append(notes, note)
		}
	}
	a, b := old.cfg, now.cfg
	say(a.Node.Log == b.Node.Log, "node.log has changed")
	say(a.Node.Drain == b.Node.Drain, "node.drain has changed")
	var moved []*engine.Rule
	for _, name := range slices.Sorted(maps.Keys(now.book.Rules)) {
		r, was := now.book.Rules[name], old.book.Rules[name]
		if was == nil || was.Root != r.Root {
			moved = append(moved, r)
		}
	}
	notes = append(notes, engine.UnwritableRoots(moved...)...)
	notes = append(notes, changes("pool", old.book.Pools, now.book.Pools)...)
	notes = append(notes, changes("bridge", pointers(a.Bridges), pointers(b.Bridges))...)
	notes = append(notes, changes("relay", pointers(a.Relays), pointers(b.Relays))...)
	say(reflect.DeepEqual(a.Policy, b.Policy), "relay_policy has changed")
	say(reflect.DeepEqual(a.Listeners, b.Listeners), "listeners have changed")
	notes = append(notes, changes("folder", pointers(a.Folders), pointers(b.Folders))...)
	notes = append(notes, changesBy("schedule", pointers(a.Schedules), pointers(b.Schedules), (*schedule.Schedule).Same)...)
	notes = append(notes, changesBy("expect", pointers(a.Expects), pointers(b.Expects), (*schedule.Expected).Same)...)
	return append(notes, changesByName(access.Kind, a.Tokens, b.Tokens)...)
}

// setBook gives everybody another book.
func (n *Node) setBook(b engine.Book) error {
	for _, door := range n.doors {
		if err := door.SetBook(b); err != nil {
			return err
		}
	}
	return n.engine.SetBook(b)
}

// ReadAgain is Reload with what Options.Read gives. The log has its error, too.
func (n *Node) ReadAgain() (is admin.Reloaded, err error) {
	n.reload.Lock() // also while it is read: what is applied meanwhile would be lost
	defer n.reload.Unlock()
	cfg, err := n.o.Read()
	if err == nil {
		is, err = n.change(cfg)
	}
	n.reloaded(is, err)
	if err != nil {
		for _, line := range config.Lines(err) {
			n.log.Error("the configuration stays as it was", "problem", line)
		}
	}
	return is, err
}

// unlike are the keys and sections whose values differ and cannot change.
func (n *Node) unlike(old, cfg *config.Config) (keys []string) {
	a, b := &n.fixed, &cfg.Node
	for _, k := range []struct {
		name string
		same bool
	}{
		{"node.name", a.Name == b.Name}, {"node.state", a.State == b.State}, {"node.listen", slices.Equal(a.Listen, b.Listen)}, {"node.admin", a.Admin == b.Admin},
		{"node.concurrent", a.Concurrent == b.Concurrent}, {"node.serving", a.Serving == b.Serving}, {"node.bandwidth", slices.Equal(a.Bandwidth, b.Bandwidth)},
		{"node.patience", a.Patience == b.Patience}, {"node.retention", a.Retention == b.Retention}, {"node.failed_retention", a.Failed == b.Failed}, {"node.hops", a.Hops == b.Hops},
		{"node.log_format", a.LogFormat == b.LogFormat},
		{"audit", old.Audit == cfg.Audit}, {"http", reflect.DeepEqual(old.HTTP, cfg.HTTP)}, {"push", old.Push == cfg.Push},
	} {
		if !k.same {
			keys = append(keys, k.name)
		}
	}
	return keys
}

func pointers[T any](m map[string]T) map[string]*T {
	all := map[string]*T{}
	for name, v := range m {
		all[name] = &v
	}
	return all
}

// changes says which names are new, gone or mean something else.
func changes[T any](what string, old, now map[string]*T) (notes []string) {
	return changesBy(what, old, now, func(a, b *T) bool { return reflect.DeepEqual(a, b) })
}

// changesByName is changes of tokens.
func changesByName(what string, old, now []access.Token) []string {
	byName := func(all []access.Token) map[string]*access.Token {
		named := map[string]*access.Token{}
		for i := range all {
			named[all[i].Name] = &all[i]
		}
		return named
	}
	return changes(what, byName(old), byName(now))
}

func changesBy[T any](what string, old, now map[string]*T, same func(a, b *T) bool) (notes []string) {
	for _, name := range slices.Sorted(maps.Keys(now)) {
		if before := old[name]; before == nil {
			notes = append(notes, what+" "+name+" is new")
		} else if !same(before, now[name]) {
			notes = append(notes, what+" "+name+" has changed")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(old)) {
		if now[name] == nil {
			notes = append(notes, what+" "+name+" is gone")
		}
	}
	return notes
}

// prepare makes of a configuration what the node works with.
func (n *Node) prepare(cfg *config.Config) (*present, error) {
	p := &present{cfg: cfg, users: map[int]string{}}
	for name, partner := range cfg.Users {
		uid, err := userID(name)
		if err != nil {
			return nil, err
		}
		if other, taken := p.users[uid]; taken && other != partner {
			return nil, fault.New("find user", fault.Invalid, "user %q of partner %q is number %d, as the user of partner %q", name, partner, uid, other)
		}
		p.users[uid] = partner
	}
	p.book = engine.Book{Partners: maps.Clone(cfg.Book.Partners), Rules: cfg.Book.Rules, Pools: cfg.Book.Pools}
	n.addSelf(&p.book)
	return p, nil
}

// addSelf makes the node its own partner: through memory, unless the file says
// how else.
func (n *Node) addSelf(b *engine.Book) {
	self := engine.Partner{Name: n.fixed.Name}
	if own := b.Partners[self.Name]; own != nil {
		self = *own
	}
	if self.Address == "" && n.o.PipePartner == self.Name {
		self.Address = carrier.InMemory + ":"
	}
	if len(self.Keys) == 0 && self.Address != "" {
		self.Keys = []string{n.key}
	}
	if self.Address == "" && b.Partners[self.Name] == nil {
		return
	}
	if b.Partners == nil {
		b.Partners = map[string]*engine.Partner{}
	}
	b.Partners[self.Name] = &self
}

// userID is the number of a user of this host.
func userID(name string) (int, error) {
	const op = "find user"
	if uid, err := strconv.Atoi(name); err == nil && uid >= 0 {
		return uid, nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return 0, fault.New(op, fault.Invalid, "this host has no user %q: %v", name, err)
	}
	return strconv.Atoi(u.Uid)
}

// unixPartner is who calls over a unix socket.
func (n *Node) unixPartner(uid int) (string, error) {
	if name, ok := n.present.Load().users[uid]; ok {
		return name, nil
	}
	return "", fault.New("find partner", fault.NotFound, "no partner has user %d", uid)
}
