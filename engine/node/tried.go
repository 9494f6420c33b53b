package node

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"sync"

	"github.com/pannier/pannier/engine/config"
	"github.com/pannier/pannier/flow/relay"
	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/plugins/host"
	"github.com/pannier/pannier/spec/fault"
)

// A reload tries what a configuration asks of this host before it takes anything over: new
// plugins are started, new addresses of listeners are taken, directories of folders are looked for.

// trial is what a configuration would make of the node. Nothing of it is in use yet.
type trial struct {
	bridges  *bridgePlan
	doors    *doorPlan
	problems []string // of what stays as it was: no reason to keep the old configuration
}

// try makes a trial. What does not work is Invalid, all of it, with places; then nothing is left.
func (n *Node) try(cfg *config.Config, ready upgrades) (_ *trial, err error) {
	t, wrong := &trial{}, cfg.Wrong()
	defer func() {
		if err != nil {
			t.drop()
		}
	}()
	t.problems = n.tryFolders(cfg, wrong)
	n.known(cfg, wrong)
	if err := wrong.Err(); err != nil {
		return nil, err
	}
	if t.bridges, err = n.bridges.plan(cfg, ready); err != nil {
		return nil, err
	}
	if t.doors, err = n.listeners.plan(cfg, ready); err != nil {
		return nil, err
	}
	n.trySockets(t.doors, cfg, wrong)
	t.tryPlugins(wrong)
	return t, wrong.Err()
}

// drop gives up what a trial has begun.
func (t *trial) drop() {
	var fresh []*host.Plugin
	if t.bridges != nil {
		fresh = slices.AppendSeq(fresh, maps.Keys(t.bridges.fresh))
	}
	if t.doors != nil {
		fresh = slices.AppendSeq(fresh, maps.Keys(t.doors.fresh))
		for _, d := range t.doors.tried {
			_ = d.give().Close()
		}
	}
	for _, p := range fresh {
		_ = p.Close(context.Background())
	}
}

// known notes plugins that are no part of this program, and options with which those that are would
// not work.
func (n *Node) known(cfg *config.Config, wrong *config.Wrong) {
	look := func(kind, key, value string, is config.Bridge) {
		if _, err := n.pluginConfig(is); err != nil {
			wrong.Add(kind, key, value, "plugin", "", "%s", fault.Plain(err))
		} else if err := n.check(is); err != nil {
			wrong.Add(kind, key, value, "options", "", "%s", err)
		}
	}
	for name, is := range cfg.Bridges {
		look("bridge", "name", name, is)
	}
	for _, is := range cfg.Listeners {
		look("listener", "listen", is.Address, Program(is))
	}
}

// check asks Options.Check about a bridge, or a listener's Program.
func (n *Node) check(is config.Bridge) error {
	if n.o.Check == nil || filepath.IsAbs(is.Plugin) {
		return nil
	}
	return n.o.Check(is.Plugin, is.Endpoint, is.Options)
}

// tryPlugins starts those that are new. They are in use when somebody needs them.
func (t *trial) tryPlugins(wrong *config.Wrong) {
	ctx, cancel := context.WithTimeout(context.Background(), upgradeTime)
	defer cancel()
	var mu sync.Mutex
	var all sync.WaitGroup
	start := func(p *host.Plugin, kind, key, value string, judge func(host.Status)) {
		all.Go(func() {
			is, err := p.Describe(ctx)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				wrong.Add(kind, key, value, "plugin", "", "the plugin does not start: %s", fault.Plain(err))
			} else {
				judge(is)
			}
		})
	}
	for p, is := range t.bridges.fresh {
		start(p, "bridge", "name", is.Name, func(host.Status) {})
	}
	for address, d := range t.doors.next {
		if _, fresh := t.doors.fresh[d.plugin]; fresh {
			start(d.plugin, "listener", "listen", address, func(is host.Status) { d.suits(is, wrong) })
		}
	}
	all.Wait()
}

// suits notes what a plugin cannot do for a listener.
func (d *door) suits(is host.Status, wrong *config.Wrong) {
	if !is.Server || !is.Channels {
		wrong.Add("listener", "listen", d.is.Address, "plugin", "", "the plugin %s serves no foreign clients", d.is.Plugin)
		return
	}
	for name := range d.is.Options {
		if !slices.ContainsFunc(is.Listen, func(o plugins.Option) bool { return o.Name == name }) {
			wrong.Add("listener", "listen", d.is.Address, "options", "pannier plugin describe "+d.is.Plugin+" prints which there are", "there is no option %q", name)
		}
	}
}

// trySockets listens where listeners are new, and keeps the sockets for them. A port that this
// node itself is to give up can only be had afterwards.
func (n *Node) trySockets(p *doorPlan, cfg *config.Config, wrong *config.Wrong) {
	had := n.listeners.addresses()
	for address, d := range p.next {
		if had[address] {
			continue
		}
		if _, err := d.listen(); err == nil {
			p.tried = append(p.tried, d)
		} else if !n.givesUp(address, p, had, cfg) {
			wrong.Add("listener", "listen", address, "listen", "another program has the port, or this user may not have it: choose another, or end that program", "cannot listen: %s", fault.Plain(err))
		}
	}
}

// addresses are those of all listeners.
func (l *listeners) addresses() map[string]bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := map[string]bool{}
	for address := range l.all {
		all[address] = true
	}
	return all
}

// givesUp reports whether a listener or relay has the port of an address that the configuration
// has no more.
func (n *Node) givesUp(address string, p *doorPlan, had map[string]bool, cfg *config.Config) bool {
	port := portOf(address)
	for old := range had {
		if p.next[old] == nil && portOf(old) == port {
			return true
		}
	}
	n.relays.mu.Lock()
	defer n.relays.mu.Unlock()
	for name, w := range n.relays.all {
		now, stays := cfg.Relays[name]
		if stays && reflect.DeepEqual(now, w.Relay) || !stays && w.added {
			continue
		}
		for _, e := range w.Accept {
			if slices.ContainsFunc(e.Ports, func(r relay.PortRange) bool { return int(r.First) <= port && port <= int(r.Last) }) {
				return true
			}
		}
	}
	return false
}

// portOf is the port of an address, -1 if that is no number.
func portOf(address string) int {
	_, text, err := net.SplitHostPort(address)
	if err != nil {
		return -1
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		return -1
	}
	return port
}

// tryFolders looks for the directories of folders. One that is missing is wrong where the folder
// is new or another now, else a problem, as one whose file system does not answer.
func (n *Node) tryFolders(cfg *config.Config, wrong *config.Wrong) (problems []string) {
	before := n.present.Load().cfg.Folders
	dirs := map[string]string{} // by the names of folders
	for name, f := range cfg.Folders {
		dirs[name] = filepath.Join(f.Root, f.Dir.String())
	}
	said := n.missing.Within(stopLimit, slices.Collect(maps.Values(dirs))...)
	for _, name := range slices.Sorted(maps.Keys(dirs)) {
		text, answered := said[dirs[name]]
		switch old, had := before[name]; {
		case !answered:
			problems = append(problems, "folder "+name+" finds nothing: the file system of "+dirs[name]+" does not answer")
		case text == "":
		case had && reflect.DeepEqual(old, cfg.Folders[name]):
			problems = append(problems, "folder "+name+" finds nothing: "+text)
		default:
			wrong.Add("folder", "name", name, "dir", "make it, and let the node's user in", "%s", text)
		}
	}
	return problems
}

// missing is what is wrong with a directory of a folder; "": nothing.
func missing(dir string) string {
	switch fi, err := os.Stat(dir); {
	case errors.Is(err, fs.ErrNotExist), err == nil && !fi.IsDir():
		return "there is no directory " + dir + " on this host"
	case err != nil:
		return fault.Plain(fault.Wrap("look for directory", "", err))
	}
	return ""
}
