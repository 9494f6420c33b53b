package node

import (
	"maps"
	"os/user"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/config"
	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/spec/fault"
)

// Reload replaces partners and rules for what begins from now on, and what of
// [node] may change; notes say what is different. With an error, which is Invalid,
// nothing is: the file asks for what a node that runs cannot become.
func (n *Node) Reload(cfg *config.Config) (notes []string, err error) {
	n.reload.Lock()
	defer n.reload.Unlock()
	return n.change(cfg)
}

// change is Reload; n.reload is held.
func (n *Node) change(cfg *config.Config) (notes []string, err error) {
	const op = "reload configuration"
	keys := unlike(&n.fixed, &cfg.Node)
	old := n.present.Load()
	for _, section := range []struct {
		name string
		same bool
	}{
		{"audit", old.cfg.Audit == cfg.Audit}, {"http", reflect.DeepEqual(old.cfg.HTTP, cfg.HTTP)}, {"push", old.cfg.Push == cfg.Push},
	} {
		if !section.same {
			keys = append(keys, section.name)
		}
	}
	if len(keys) > 0 {
		return nil, fault.New(op, fault.Invalid, "nothing was taken over: %s can only change when the node starts: restart it, or put the old value back and reload", strings.Join(keys, ", "))
	}
	p, err := n.prepare(cfg)
	if err != nil {
		return nil, fault.Wrap(op, "", err)
	}
	ready, upgraded := n.upgrade(cfg)
	defer func() { ready.unused(n.bridges.running(), n.listeners.running()) }()
	if err := n.bridges.change(cfg, ready); err != nil {
		return nil, fault.Wrap(op, "", err)
	}
	n.present.Store(p) // first: who is forgotten is dialled as the new book says
	if err := n.setBook(p.book); err != nil {
		n.present.Store(old)
		_ = n.bridges.change(old.cfg, nil)
		_ = n.setBook(old.book) // it was good before
		return nil, fault.Wrap(op, "", err)
	}
	n.level.Set(cfg.Node.Log)
	notes = append(changes("partner", old.book.Partners, p.book.Partners), changes("rule", old.book.Rules, p.book.Rules)...)
	if old.cfg.Node.Log != cfg.Node.Log {
		notes = append(notes, "node.log has changed")
	}
	if old.cfg.Node.Drain != cfg.Node.Drain {
		notes = append(notes, "node.drain has changed")
	}
	for _, name := range slices.Sorted(maps.Keys(p.book.Rules)) {
		r, was := p.book.Rules[name], old.book.Rules[name]
		if was != nil && was.Root == r.Root {
			continue
		}
		if problem := engine.UnwritableRoot(r); problem != "" {
			notes = append(notes, problem)
		}
	}
	notes = append(notes, changes("pool", old.book.Pools, p.book.Pools)...)
	notes = append(notes, changes("bridge", pointers(old.cfg.Bridges), pointers(cfg.Bridges))...)
	notes = append(notes, changes("relay", pointers(old.cfg.Relays), pointers(cfg.Relays))...)
	if !reflect.DeepEqual(old.cfg.Policy, cfg.Policy) {
		notes = append(notes, "relay_policy has changed")
	}
	if err := n.listeners.change(cfg, ready); err != nil { // a plugin that there is not, which prepare has refused
		notes = append(notes, "the listeners stay as they are: "+fault.Plain(err))
	} else if !reflect.DeepEqual(old.cfg.Listeners, cfg.Listeners) {
		notes = append(notes, "listeners have changed")
	}
	notes = append(notes, upgraded...)
	notes = append(notes, n.relays.change(cfg)...)
	notes = append(notes, changes("folder", pointers(old.cfg.Folders), pointers(cfg.Folders))...)
	n.folders.change(cfg)
	notes = append(notes, n.changeSchedules(old.cfg, cfg)...)
	notes = append(notes, n.changeExpected(old.cfg, cfg)...)
	n.log.Info("configuration is loaded", "changes", notes)
	return notes, nil
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
func (n *Node) ReadAgain() (notes []string, err error) {
	n.reload.Lock() // also while it is read: what is applied meanwhile would be lost
	defer n.reload.Unlock()
	cfg, err := n.o.Read()
	if err == nil {
		notes, err = n.change(cfg)
	}
	n.reloaded(notes, err)
	if err != nil {
		for _, line := range config.Lines(err) {
			n.log.Error("the configuration stays as it was", "problem", line)
		}
	}
	return notes, err
}

// unlike are the keys whose values differ and cannot change.
func unlike(a, b *config.Node) (keys []string) {
	for _, k := range []struct {
		name string
		same bool
	}{
		{"name", a.Name == b.Name}, {"state", a.State == b.State}, {"listen", slices.Equal(a.Listen, b.Listen)}, {"admin", a.Admin == b.Admin},
		{"concurrent", a.Concurrent == b.Concurrent}, {"serving", a.Serving == b.Serving}, {"bandwidth", slices.Equal(a.Bandwidth, b.Bandwidth)},
		{"patience", a.Patience == b.Patience}, {"retention", a.Retention == b.Retention}, {"failed_retention", a.Failed == b.Failed}, {"hops", a.Hops == b.Hops},
		{"log_format", a.LogFormat == b.LogFormat},
	} {
		if !k.same {
			keys = append(keys, "node."+k.name)
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
	for _, is := range cfg.Listeners {
		if _, err := n.pluginConfig((&door{is: is}).program()); err != nil {
			return nil, err
		}
	}
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
