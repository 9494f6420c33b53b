package node

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/pannier/pannier/engine/config"
	"github.com/pannier/pannier/plugins/host"
	"github.com/pannier/pannier/spec/fault"
)

// A reload looks at the programs of plugins again: one that was replaced on disk gets a
// process for what begins from now on, and the old one ends what it does.

// upgrades are processes of new programs, by the plugin whose place they take.
type upgrades map[*host.Plugin]*host.Plugin

// upgradeTime bounds a start.
const upgradeTime = 15 * time.Second

// upgrade starts what was replaced. A program that does not start changes nothing: the
// old process goes on, which is a problem.
func (n *Node) upgrade(cfg *config.Config) (ready upgrades, notes, problems []string) {
	ready = upgrades{}
	running := n.bridges.running()
	maps.Copy(running, n.listeners.running())
	wanted := map[program]bool{}
	for _, is := range cfg.Bridges {
		wanted[programOf(is)] = true
	}
	for _, is := range cfg.Listeners {
		wanted[programOf((&door{is: is}).program())] = true
	}
	paths := map[string]*host.Plugin{} // in an order
	for plugin, is := range running {
		if !wanted[programOf(is)] {
			continue // the configuration has another in its place already
		}
		paths[is.Name+"\x00"+is.Plugin] = plugin
	}
	for _, key := range slices.Sorted(maps.Keys(paths)) {
		old := paths[key]
		is := running[old]
		fresh, err := successor(old)
		switch {
		case err != nil:
			problems = append(problems, "plugin "+is.Plugin+" was replaced, but the process of before goes on: "+fault.Plain(err))
		case fresh != nil:
			ready[old] = fresh
			notes = append(notes, "plugin "+is.Plugin+" was replaced: what begins from now on has the new one")
			n.log.Info("plugin was replaced", "plugin", is.Plugin, "pid", old.Running(), "by", fresh.Running())
		}
	}
	return ready, notes, problems
}

// successor is a process of the program that lies where the old one's did; nil where that is
// the same program, or none runs.
func successor(old *host.Plugin) (*host.Plugin, error) {
	other, err := old.Replaced()
	if err != nil || !other {
		return nil, err
	}
	fresh := old.Again()
	ctx, cancel := context.WithTimeout(context.Background(), upgradeTime)
	defer cancel()
	if _, err := fresh.Describe(ctx); err != nil {
		return nil, errors.Join(err, fresh.Close(ctx))
	}
	return fresh, nil
}

// unused ends those whose bridge or listener the configuration has no more.
func (u upgrades) unused(used ...map[*host.Plugin]config.Bridge) {
	for _, fresh := range u {
		if !slices.ContainsFunc(used, func(m map[*host.Plugin]config.Bridge) bool { _, has := m[fresh]; return has }) {
			_ = fresh.Close(context.Background())
		}
	}
}

// running are the plugins of bridges, with a section that has each.
func (b *bridges) running() map[*host.Plugin]config.Bridge {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := map[*host.Plugin]config.Bridge{}
	for _, s := range b.all {
		all[s.plugin] = s.Bridge
	}
	return all
}

// running are the plugins of listeners, as those of bridges.
func (l *listeners) running() map[*host.Plugin]config.Bridge {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := map[*host.Plugin]config.Bridge{}
	for _, d := range l.all {
		all[d.plugin] = d.program()
	}
	return all
}
