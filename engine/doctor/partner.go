package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/node"
	"github.com/pannier/pannier/engine/peer"
	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/plugins/host"
	"github.com/pannier/pannier/spec/fault"
)

// Who the node works with: each is called, whether a daemon runs or not, with the node's key.

// defaultPatience is Host.Patience, atATime how many are waited for together, and knocking how long
// a connection may take to somebody who has not answered.
const (
	defaultPatience = 10 * time.Second
	atATime         = 16
	knocking        = 2 * time.Second
)

func (e *exam) patience() time.Duration { return cmp.Or(e.Patience, defaultPatience) }

// each calls look for all names at a time, and tells what it finds in their order.
func (e *exam) each(names []string, look func(e *exam, name string)) {
	found := make([][]Finding, len(names))
	room := make(chan struct{}, atATime)
	var all sync.WaitGroup
	for i, name := range names {
		room <- struct{}{}
		all.Go(func() {
			ctx, cancel := context.WithTimeout(e.ctx, e.patience())
			defer cancel()
			look(&exam{Host: e.Host, ctx: ctx, check: e.check, tell: func(f Finding) { found[i] = append(found[i], f) }}, name)
			<-room
		})
	}
	all.Wait()
	for _, f := range slices.Concat(found...) {
		e.tell(f)
	}
}

// partners are called, and say who they are and what time it is. What a node behind a bridge
// is, its plugin says.
func (e *exam) partners() {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(e.Config.Book.Partners)) {
		p := e.Config.Book.Partners[name]
		if p.Bridge || name == e.Config.Node.Name {
			continue
		}
		if p.Address == "" {
			e.skip(name, "it has no address: it only calls")
			continue
		}
		names = append(names, name)
	}
	if len(names) == 0 {
		return
	}
	id, err := carrier.LoadIdentity(e.Config.Node.State)
	if err != nil {
		for _, name := range names {
			e.skip(name, "without the node's key it cannot be called")
		}
		return
	}
	line, err := peer.NewLine(peer.LineOptions{Node: e.Config.Node.Name, Identity: id, Flow: flow.Config{Logger: slog.New(slog.DiscardHandler)},
		Book: func(name string) (engine.Partner, error) {
			p, err := e.Config.Book.Partner(name)
			if err != nil {
				return engine.Partner{}, err
			}
			return *p, nil
		}})
	if err != nil {
		e.fail("", "pannier config check", "%s", fault.Plain(err))
		return
	}
	defer line.Close()
	e.each(names, func(e *exam, name string) { e.partner(line, name) })
}

func (e *exam) partner(line *peer.Line, name string) {
	rtt, err := line.Reach(e.ctx, name)
	var is peer.NodeInfo
	before := e.Now()
	if err == nil {
		is, err = line.Node(e.ctx, name)
	}
	after := e.Now()
	if err != nil && errors.Is(e.ctx.Err(), context.DeadlineExceeded) {
		e.silent(name)
		return
	}
	if err != nil {
		e.fail(name, helpOr(err, ""), "%s", fault.Brief(err))
		return
	}
	e.ok(name, "version %s, keys are proved both ways, round trip %v", is.Version, rtt.Round(time.Microsecond))
	if by := skew(is.Time, before, after); by.Abs() > farClock {
		e.warn(name, "synchronise both clocks", "its clock differs from this one's by %v", by.Round(time.Millisecond))
	}
}

// silent says what is known of a partner that has not answered in time: whether anything takes
// connections where it should be.
func (e *exam) silent(name string) {
	address := e.Config.Book.Partners[name].Address
	tried := fmt.Sprintf("%s was called for %v", address, e.patience())
	a, err := carrier.ParseAddress(address)
	if err != nil || a.Scheme != carrier.TCP && a.Scheme != carrier.TLS {
		e.fail(name, "look whether it runs, and whether what the address names leads to it", "%s, and does not answer", tried)
		return
	}
	conn, err := net.DialTimeout("tcp", net.JoinHostPort(a.Host, a.Port), knocking)
	if err != nil {
		e.fail(name, "look whether that host is up, and which firewall on the way lets nothing through to the port", "%s, and not even a connection was made: %s", tried, fault.Plain(err))
		return
	}
	_ = conn.Close()
	e.fail(name, "look there with ss -ltnp what listens on the port; if it is a node, its log says what keeps it; else the address is another's, or a proxy or firewall on the way takes connections and lets nothing through",
		"%s: something takes connections there, and then says nothing", tried)
}

// helpOr is what an error advises, or that. Some have their advice in their text.
func helpOr(err error, or string) string {
	if help, ok := strings.CutPrefix(fault.Help(err), fault.Brief(err)+"; "); ok {
		return help
	}
	return or
}

// plugins are started here as the node starts them, and bridges logged in at.
func (e *exam) plugins() {
	e.each(slices.Sorted(maps.Keys(e.Config.Bridges)), func(e *exam, name string) {
		b := e.Config.Bridges[name]
		e.plugin("bridge "+name, b.Plugin, func() (host.Config, error) { return e.Plugin(b) }, func(p *host.Plugin, is host.Status) error {
			to := plugins.Endpoint{URL: b.Endpoint, Options: b.Options}
			if err := to.ReadCredentials(b.Credentials); err != nil {
				return err
			}
			s, err := p.Open(e.ctx, to)
			if err != nil {
				return err
			}
			return s.Close()
		})
	})
	listeners := map[string]int{}
	for i, l := range e.Config.Listeners {
		listeners[l.Address] = i
	}
	e.each(slices.Sorted(maps.Keys(listeners)), func(e *exam, address string) {
		l := e.Config.Listeners[listeners[address]]
		e.plugin("listener "+address, l.Plugin, func() (host.Config, error) { return e.Plugin(node.Program(l)) }, func(_ *host.Plugin, is host.Status) error {
			if !is.Server {
				return errors.New("it serves no foreign clients")
			}
			if e.Daemon != nil && e.Daemon.Down[address] != "" {
				return fault.New("serve clients", fault.Invalid, "the daemon serves none: %s", e.Daemon.Down[address]).Advise("mend that and say pannier reload; the node's log has each try")
			}
			return nil
		})
	})
}

// plugin starts one, and has it used.
func (e *exam) plugin(subject, name string, config func() (host.Config, error), use func(*host.Plugin, host.Status) error) {
	cfg, err := config()
	if err != nil {
		e.fail(subject, helpOr(err, "pannier plugin list"), "%s", fault.Brief(err))
		return
	}
	cfg.Log = slog.New(slog.DiscardHandler)
	p := host.New(cfg)
	defer func() { _ = p.Close(context.WithoutCancel(e.ctx)) }()
	is, err := p.Describe(e.ctx)
	if err != nil {
		e.fail(subject, helpOr(err, fmt.Sprintf("pannier plugin describe %s", name)), "plugin %s does not start: %s", name, fault.Brief(err))
		return
	}
	err = use(p, is)
	if err != nil && errors.Is(e.ctx.Err(), context.DeadlineExceeded) {
		e.fail(subject, "look whether the server that it works with is up and can be reached from here; pannier plugin verify shows more", "plugin %s starts, but after %v there was no answer to what it was asked", name, e.patience())
		return
	}
	if err != nil {
		e.fail(subject, helpOr(err, "pannier plugin verify shows more"), "plugin %s starts, but: %s", name, fault.Brief(err))
		return
	}
	e.ok(subject, "plugin %s %s starts and does its work", is.Name, is.Version)
}
