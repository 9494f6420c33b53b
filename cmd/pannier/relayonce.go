package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/config"
	"github.com/pannier/pannier/engine/node"
	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/flow/relay"
	"github.com/pannier/pannier/spec/fault"
)

// onceFlags are a relay that is a command.
type onceFlags struct {
	from           []string
	to, at, over   string
	name, identity string
	keys           []string
	resume         bool
	limits         relay.Limits
	own            string // key of this end, once it is known
}

func (f *onceFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringArrayVar(&f.from, "from", nil, "where connections come in, as tcp://127.0.0.1:2200; may be given again")
	flags.StringVar(&f.to, "to", "", "where they lead, as tcp://127.0.0.1:22")
	flags.StringVar(&f.over, "over", "", "`ADDRESS` of the node at the other end, or the name of a partner in the configuration")
	flags.StringVar(&f.at, "at", "here", "which end has --from: here, or there, the node")
	flags.StringArrayVar(&f.keys, "key", nil, "key that the node must have, as pannier id prints it there (default: as the configuration says)")
	flags.StringVar(&f.identity, "identity", "", "directory of the key that this end has (default: that of the node of the configuration)")
	flags.StringVar(&f.name, "name", "command", "what the relay is called in the policy and the records of the node")
	resumeFlag(cmd, &f.resume)
	limitFlags(cmd, &f.limits)
	choices(cmd, "at", "here", "there")
	_ = cmd.MarkFlagDirname("identity") // fails only for unknown flags
}

// drainOnce is how long connections may go on when the command is told to end.
const drainOnce = 2 * time.Second

// run is the relay until ctx ends.
func (f *onceFlags) run(ctx context.Context, path string, out, messages io.Writer) error {
	f.over, f.to = commandWords(f.over), commandWords(f.to)
	r, err := f.relay()
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(messages, nil))
	d, err := f.dialer(path, log)
	if err != nil {
		return err
	}
	o := &once{dialer: d, cfg: flow.Config{Name: "pannier relay", MaxStreams: 1 << 16, Logger: log}, partner: r.Partner}
	o.life, o.end = context.WithCancel(context.Background())
	defer o.end()
	if o.hub, err = relay.New(relay.Config{Reach: o.reach, Logger: log, Network: relay.Network{Listen: node.Listen}}); err != nil {
		return err
	}
	defer o.close()
	if err := o.reach(ctx, r.Partner); err != nil { // who cannot be reached now is told at once
		return explainOver(err, f)
	}
	if err := o.hub.Add(r); err != nil {
		return err
	}
	if err := o.announce(ctx, out); err != nil {
		return err
	}
	<-ctx.Done()
	leave, cancel := context.WithTimeout(context.Background(), drainOnce)
	defer cancel()
	_ = o.hub.Drain(leave) // what it cuts is in the records
	return nil
}

// relay is what the flags say.
func (f *onceFlags) relay() (r relay.Relay, err error) {
	for _, flag := range []struct{ name, value string }{{"--from", strings.Join(f.from, "")}, {"--over", f.over}} {
		if flag.value == "" {
			return r, command.Suggest(fault.New("read flags", fault.Invalid, "%s is missing", flag.name),
				"Write: pannier relay --from tcp://127.0.0.1:2200 --to tcp://127.0.0.1:22 --over tls://HOST:%s", carrier.DefaultPort)
		}
	}
	r = relay.Relay{Name: f.name, Partner: "the node at " + f.over, Resume: f.resume, Limits: f.limits}
	switch f.at {
	case relay.Here.String():
	case relay.There.String():
		r.At = relay.There
	default:
		return r, fault.New("read flags", fault.Invalid, "--at is %q; it is here or there", f.at)
	}
	for _, text := range f.from {
		e, err := relay.ParseAccept(text)
		if err != nil {
			return r, err
		}
		r.Accept = append(r.Accept, e)
	}
	if f.to == "" && slices.ContainsFunc(r.Accept, func(e relay.Endpoint) bool { return e.Scheme != relay.SOCKS5 && e.Scheme != relay.HTTP }) {
		return r, command.Suggest(fault.New("read flags", fault.Invalid, "--to is missing: nothing says where connections lead"),
			"Write: --to tcp://127.0.0.1:22, or accept with --from socks5://127.0.0.1:1080, whose clients say it.")
	}
	if f.to != "" {
		if r.To, err = relay.ParseTo(f.to); err != nil {
			return r, err
		}
	}
	return r, r.Check()
}

// dialer reaches the node at the other end.
func (f *onceFlags) dialer(path string, log *slog.Logger) (*carrier.Dialer, error) {
	cfg, err := config.Load(path)
	if err != nil && (f.identity == "" || !errors.Is(err, fault.NotFound)) {
		return nil, command.Suggest(err, "Without a configuration, say which key this end has and which the other: --identity DIR --key sha256:...")
	}
	var known engine.Partner
	if cfg != nil {
		known = partnerAt(cfg, f.over)
	}
	address := f.over
	if known.Name == f.over {
		if address = known.Address; address == "" {
			return nil, fault.New("reach node", fault.Invalid, "partner %q has no address: it only calls", known.Name)
		}
	}
	o := carrier.Options{Logger: log}
	if f.identity != "" {
		o.Identity, err = carrier.LoadOrCreateIdentity(f.identity)
	} else {
		o.Identity, err = node.Identity(cfg)
	}
	if err != nil {
		return nil, err
	}
	f.own = o.Identity.Key()
	keys := f.keys
	if len(keys) == 0 {
		keys = known.Keys
	}
	if o.Pins, err = carrier.ParsePins(keys...); err != nil {
		return nil, err
	}
	a, err := carrier.ParseAddress(address)
	switch {
	case err != nil:
		return nil, err
	case a.Scheme == carrier.TCP || a.Plain:
		return nil, fault.New("reach node", fault.Invalid, "%s proves nobody's key, so no node answers there as one's partner: write tls://, or leave out plain+", address)
	case a.Proves() && len(keys) == 0:
		return nil, command.Suggest(fault.New("reach node", fault.Invalid, "nothing says which key the node at %s has", address),
			"At the node, pannier id prints it. Give it as --key sha256:..., or make the node a [[partner]] with this address in %s.", path)
	}
	return carrier.NewDialer(address, o)
}

// commandWords is an address or a destination whose command is written as words, as
// exec:ssh hostb pannier stdio, in the form that is read; any other text as it is. What a shell would make something
// else of is left, so that nobody takes this for one.
func commandWords(text string) string {
	words, ok := strings.CutPrefix(text, carrier.Exec+":")
	if !ok || words == "" || strings.ContainsAny(strings.ReplaceAll(words, "{port}", ""), "[]{}()<>'\"\\`$&|;*?~#\n") {
		return text
	}
	argv, err := json.Marshal(strings.Fields(words))
	if err != nil {
		return text
	}
	return carrier.Exec + ":" + string(argv)
}

// partnerAt is the partner of that name or address; the zero value without one.
func partnerAt(cfg *config.Config, over string) engine.Partner {
	if p := cfg.Book.Partners[over]; p != nil {
		return *p
	}
	at, err := carrier.ParseAddress(over)
	for _, p := range cfg.Book.Partners {
		if a, bad := carrier.ParseAddress(p.Address); err == nil && bad == nil && a == at {
			return *p
		}
	}
	return engine.Partner{}
}

// once is a relay's hub with sessions of its own.
type once struct {
	dialer  *carrier.Dialer
	cfg     flow.Config
	partner string
	hub     *relay.Hub
	serving sync.WaitGroup
	life    context.Context // ends with close
	end     context.CancelFunc

	mu      sync.Mutex
	session *flow.Session
}

// retireTime is how long a session that the node is draining may go on with the connections it has.
const retireTime = 10 * time.Minute

// reach makes a session; the one before is over, or the node drains it: then its connections go on.
func (o *once) reach(ctx context.Context, _ string) error {
	s, err := flow.Connect(ctx, o.dialer, o.cfg)
	if err != nil {
		return err
	}
	o.mu.Lock()
	old := o.session
	o.session = s
	o.mu.Unlock()
	if old != nil {
		o.serving.Go(func() {
			ctx, cancel := context.WithTimeout(o.life, retireTime)
			defer cancel()
			_ = old.Drain(ctx)
		})
	}
	o.hub.Attach(o.partner, s)
	o.serving.Go(func() { _ = o.hub.Accept(o.partner, s) })
	return nil
}

func (o *once) close() {
	_ = o.hub.Close()
	o.end()
	o.mu.Lock()
	s := o.session
	o.mu.Unlock()
	if s != nil {
		_ = s.Close()
	}
	o.serving.Wait()
}

// announce prints where the relay listens, as soon as it does.
func (o *once) announce(ctx context.Context, out io.Writer) error {
	for {
		s := o.hub.Stats()[0]
		if len(s.Bound) > 0 {
			_, err := fmt.Fprintln(out, strings.Join(s.Bound, "\n"))
			return fault.Wrap("write result", "", err)
		}
		if s.Trouble != nil {
			return s.Trouble
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return nil
		}
	}
}

// explainOver says what to do about a node that was not reached.
func explainOver(err error, f *onceFlags) error {
	const op = "reach node"
	var e *fault.Error
	if !errors.As(err, &e) {
		return err
	}
	switch {
	case e.Side == fault.Peer && (e.Kind == fault.Refused || e.Kind == fault.Unauthenticated || e.Kind == fault.Permission):
		return command.Suggest(fault.New(op, fault.Unauthenticated, "the node at %s does not let this end in: %s", f.over, fault.Brief(err)),
			"It has to know this end's key as that of a [[partner]]: %s", f.own)
	case e.Kind == fault.Unauthenticated:
		return command.Suggest(err, "At the node, pannier id prints the key that it has. Another one here means that somebody else answers, or that the one here is old.")
	}
	return err
}
