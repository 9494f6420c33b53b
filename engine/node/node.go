package node

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/access"
	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/engine/answers"
	"github.com/pannier/pannier/engine/audit"
	"github.com/pannier/pannier/engine/backup"
	"github.com/pannier/pannier/engine/bridge"
	"github.com/pannier/pannier/engine/config"
	"github.com/pannier/pannier/engine/httpd"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/logs"
	"github.com/pannier/pannier/engine/metrics"
	"github.com/pannier/pannier/engine/objects"
	"github.com/pannier/pannier/engine/peer"
	"github.com/pannier/pannier/engine/push"
	"github.com/pannier/pannier/engine/schedule"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/engine/trace"
	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/flow/relay"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

// Options are what a configuration file does not have. The zero values are the
// defaults.
type Options struct {
	Version string // of the program; at most 64 bytes
	// Read gets the configuration again when an operator asks for it. Default:
	// operators are told that there is none.
	Read func() (*config.Config, error)
	// Output is where the log goes, as the configuration says. Default: standard error.
	Output io.Writer

	Store store.Store      // default: the file store.db in the state directory. One that is given stays the caller's
	Line  engine.Line      // default: that of package peer. One that is given stays the caller's
	Layer sideeffect.Layer // default: the operating system's
	Log   *slog.Logger     // default: see Output
	Clock func() time.Time // the date; default: time.Now. How long anything waits does not depend on it
	Flow  flow.Config      // tunes sessions
	// Network is where relays listen and connect. Default: the operating system's, and Listen.
	Network relay.Network
	// SyncEvery is how many bytes a receiver writes between durable offsets.
	// Default: sideeffect.DefaultSyncEvery.
	SyncEvery int64
	// Bundled are the plugins that this program is itself when its first argument is
	// host.EntryArgument.
	Bundled []string
	// Check says what is wrong with options of those plugins: of a listener, or of a bridge with that
	// endpoint. nil: that shows when they are used.
	Check func(plugin, endpoint string, options map[string]string) error
	// Pipe is where the address "pipe:" listens, and PipePartner who calls there.
	// Default: the node itself, so that it is its own partner without a network.
	Pipe        *carrier.Pipe
	PipePartner string
	// Dial is where the address "pipe:" of a partner leads. Default: to the node
	// itself, for the partner of its name.
	Dial func(partner string) *carrier.Pipe
}

// Node is one node. All methods may be called at the same time.
type Node struct {
	o         Options
	fixed     config.Node // as it was when the node began
	key       string
	level     slog.LevelVar
	log       *slog.Logger
	logs      *logs.Logs // lines of it
	engine    *engine.Engine
	doors     []*peer.Server // where partners call
	line      *peer.Line     // nil: Options.Line
	relays    *relays
	bridges   *bridges
	away      *bridge.Line
	listeners *listeners
	folders   *folders
	schedules *schedule.Runner
	expecting *schedule.Awaiter
	admin     *admin.Server
	socket    *admin.Listener // nil: no operators
	tokens    *access.Tokens
	http      *httpd.Server // nil: nowhere
	bound     []string      // addresses

	present   atomic.Pointer[present]
	came      atomic.Pointer[schedule.Awaiter] // nil: nobody waits yet
	applied   atomic.Pointer[objects.Set]      // that hold
	draining  atomic.Bool
	serving   atomic.Bool // Run answers partners and operators
	metrics   *metrics.Metrics
	room      *room
	audit     *audit.Log    // nil: none
	traces    *trace.Tracer // nil: none
	push      *push.Pusher  // nil: none
	strangers *access.Refusals
	missing   *answers.Answers[string] // what is wrong with a directory; "": nothing

	reload sync.Mutex // held by Reload
	once   sync.Once
	undo   []func() error // what Close does, last first
	notes  []part         // of the backup: what is remembered beside the store
	closed error
}

// present is what Reload replaces, as a whole.
type present struct {
	cfg   *config.Config
	book  engine.Book
	users map[int]string // uid: partner
}

// leave is how long calls of partners may take to end once the engine has.
const leave = 2 * time.Second

// Open makes a node, ready to be called by Run. What a process before has left
// running goes on at once. Exists: another process has the state directory.
func Open(ctx context.Context, cfg *config.Config, o Options) (*Node, error) {
	n := &Node{o: o, fixed: cfg.Node, logs: logs.New(), strangers: access.NewRefusals(mostStrangers), missing: answers.To(missing)}
	n.level.Set(cfg.Node.Log)
	if n.log = o.Log; n.log == nil {
		n.log = newLog(o.Output, cfg.Node, &n.level)
	}
	n.log = slog.New(n.logs.Handler(n.log.Handler()))
	if err := n.begin(ctx, cfg); err != nil {
		return nil, errors.Join(fault.Wrap("open node", cfg.Node.Name, err), n.Close())
	}
	n.log.Info("node is open", "key", n.key, "listen", n.bound, "partners", len(cfg.Book.Partners), "rules", len(cfg.Book.Rules))
	return n, nil
}

func newLog(w io.Writer, cfg config.Node, level slog.Leveler) *slog.Logger {
	if w == nil {
		w = os.Stderr
	}
	o := &slog.HandlerOptions{Level: level}
	var h slog.Handler = slog.NewTextHandler(w, o)
	if cfg.LogFormat == "json" {
		h = slog.NewJSONHandler(w, o)
	}
	return slog.New(h).With("node", cfg.Name)
}

// begin begins the parts from the bottom up.
func (n *Node) begin(ctx context.Context, cfg *config.Config) error {
	if err := backup.Interrupted(cfg.Node.State); err != nil {
		return err
	}
	id, err := Identity(cfg)
	if err != nil {
		return err
	}
	n.key = id.Key()
	memory, err := n.store()
	if err != nil {
		return err
	}
	if n.o.Pipe == nil {
		n.o.Pipe, n.o.PipePartner = carrier.NewPipe(), cfg.Node.Name
		n.undone(n.o.Pipe.Close)
	}
	p, err := n.prepare(cfg)
	if err != nil {
		return err
	}
	n.present.Store(p)
	n.newMetrics()
	if err := errors.Join(n.openTraces(), n.openPush(cfg.Push, memory)); err != nil {
		return err
	}
	if err := n.openAudit(cfg.Audit); err != nil {
		return err
	}
	n.o.Flow.Logger = n.log
	if err := n.newRelays(cfg.Policy); err != nil {
		return err
	}
	if err := n.newBridges(cfg); err != nil {
		return err
	}
	line, err := n.newLine(id)
	if err != nil {
		return err
	}
	if err := n.openFolders(); err != nil {
		return err
	}
	n.engine, err = engine.Open(ctx, engine.Config{
		Node: cfg.Node.Name, Store: n.observed(memory), Observer: n.observer(), Line: line, Book: p.book, Signer: id, Bridges: n.bridges, Expect: n.folders.notes.Expect,
		Concurrent: cfg.Node.Concurrent, Serving: cfg.Node.Serving, Bandwidth: cfg.Node.Bandwidth,
		Patience: cfg.Node.Patience, Retention: cfg.Node.Retention, Failed: cfg.Node.Failed, Hops: cfg.Node.Hops, Arrivals: filepath.Join(cfg.Node.State, arrivalsFile), Layer: n.o.Layer, SyncEvery: n.o.SyncEvery, Clock: n.o.Clock, Log: n.log,
	})
	if err != nil {
		return err
	}
	n.undone(n.engine.Close)
	n.away.Sweep(n.hasEnded, sweepEvery)
	if err := n.listen(id, p); err != nil {
		return err
	}
	n.beginRelays(cfg)
	if err := n.beginListeners(cfg); err != nil {
		return err
	}
	if err := errors.Join(n.beginFolders(cfg), n.beginSchedules(cfg)); err != nil {
		return err
	}
	n.metrics.Watch(n.sources())
	if err := n.newTokens(); err != nil {
		return err
	}
	if err := n.listenAdmin(); err != nil {
		return err
	}
	return n.listenHTTP(&cfg.HTTP, id)
}

// sweepEvery is how often what requests have left at bridges is looked through.
const sweepEvery = time.Hour

// hasEnded tells whether a request is DONE, or forgotten.
func (n *Node) hasEnded(key lifecycle.Key) bool {
	r, err := n.engine.Get(context.Background(), store.Ref{Key: key, Role: lifecycle.Requester})
	return fault.KindOf(err) == fault.NotFound && err != nil || err == nil && r.State == lifecycle.Done
}

// undone says what Close does about something that was begun.
func (n *Node) undone(f func() error) { n.undo = append(n.undo, f) }

// newLine is how the engine reaches partners.
func (n *Node) newLine(id *carrier.Identity) (engine.Line, error) {
	if n.o.Line != nil {
		return n.withBridges(n.o.Line)
	}
	dial := n.o.Dial
	if dial == nil {
		dial = func(partner string) *carrier.Pipe {
			if partner == n.fixed.Name {
				return n.o.Pipe
			}
			return nil
		}
	}
	var err error
	n.line, err = peer.NewLine(peer.LineOptions{Node: n.fixed.Name, Identity: id, Flow: n.o.Flow, Pipe: dial, Streams: n.relays.hub, Book: func(partner string) (engine.Partner, error) {
		p, err := n.present.Load().book.Partner(partner)
		if err != nil {
			return engine.Partner{}, err
		}
		return *p, nil
	}})
	if err != nil {
		return nil, err
	}
	n.undone(n.line.Close)
	return n.withBridges(n.line)
}

// bridgeFile is what transfers to bridges remember, in the state directory.
const bridgeFile = "bridges.db"

// withBridges is a line that leads to bridges, too.
func (n *Node) withBridges(next engine.Line) (engine.Line, error) {
	line, err := bridge.NewLine(bridge.Options{Next: next, Servers: n.bridges, Notes: filepath.Join(n.fixed.State, bridgeFile), Log: n.log, Rule: func(name string) (*engine.Rule, error) {
		book := n.present.Load().book
		return book.Rule(name)
	}})
	if err != nil {
		return nil, err
	}
	n.undone(line.Close)
	n.notes = append(n.notes, part{bridgeFile, line.Backup})
	n.away = line
	return line, nil
}

// listen opens where partners call: the addresses, and the pipe, at a door of its
// own, because who is at its other end nothing proves but that it is this pipe.
func (n *Node) listen(id *carrier.Identity, p *present) error {
	network := peer.Options{Identity: id, UnixPartner: n.unixPartner, UnixMode: 0o666} // who calls is the kernel's word, for each connection
	pipe := peer.Options{Pipe: n.o.Pipe, UnixPartner: func(int) (string, error) { return n.o.PipePartner, nil }}
	bound, err := n.open(network, p.book, n.fixed.Listen)
	if err == nil {
		n.bound = bound
		_, err = n.open(pipe, p.book, []string{carrier.InMemory + ":"})
	}
	return err
}

// open makes a door with addresses, if there are any.
func (n *Node) open(o peer.Options, book engine.Book, addresses []string) (bound []string, err error) {
	if len(addresses) == 0 {
		return nil, nil
	}
	o.Name, o.Version, o.Node, o.Book, o.Flow, o.Streams, o.Files, o.Refused = n.fixed.Name, n.o.Version, n.engine, book, n.o.Flow, n.relays.hub, n.newShelf(), n.refused
	s, err := peer.NewServer(o)
	if err != nil {
		return nil, err
	}
	n.doors = append(n.doors, s)
	n.undone(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), leave)
		defer cancel()
		_ = s.Shutdown(ctx) // what it cuts off, the caller asks again
		return nil
	})
	for _, address := range addresses {
		at, err := s.Listen(address)
		if err != nil {
			return nil, err
		}
		bound = append(bound, at)
	}
	return bound, nil
}

// Run serves until ctx ends, then drains within the time the configuration
// gives, and closes the node. It is called once. An error means that the node could
// not go on: a listener or the store has failed.
func (n *Node) Run(ctx context.Context) error {
	var serving sync.WaitGroup
	failed := make(chan error, 4)
	for _, door := range n.doors {
		serving.Go(func() { failed <- fault.Wrap("serve partners", "", door.Serve()) })
	}
	if n.socket != nil {
		serving.Go(func() { failed <- n.admin.Serve(n.socket) })
	}
	n.serving.Store(true)
	if n.http != nil {
		serving.Go(func() { failed <- n.http.Serve() })
	}
	var err error
	select {
	case err = <-failed:
	case <-n.engine.Failed():
		err = fault.Wrap("keep records", "", n.engine.Cause())
	case <-ctx.Done():
		err = n.drain(ctx)
	}
	n.serving.Store(false)
	if err != nil {
		n.log.Error("the node ends", "error", err)
	}
	err = errors.Join(err, n.Close())
	serving.Wait()
	return err
}

func (n *Node) drain(ctx context.Context) error {
	limit := n.present.Load().cfg.Node.Drain
	n.log.Info("draining: nothing new, what runs may finish", "limit", limit)
	n.draining.Store(true)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	var relays sync.WaitGroup
	relays.Go(func() { n.relays.drain(ctx) })
	n.folders.end()
	n.schedules.Stop()   // what comes is waited for until the engine has ended
	n.listeners.end(ctx) // first: what clients have sent becomes requests
	err := n.engine.Drain(ctx)
	relays.Wait()
	return errors.Join(err, n.engine.Cause())
}

// Close ends the node without patience. What runs goes on after the next Open.
func (n *Node) Close() error {
	n.once.Do(func() {
		n.draining.Store(true)
		for _, f := range slices.Backward(n.undo) {
			n.closed = errors.Join(n.closed, f())
		}
	})
	return n.closed
}

// Key is what partners pin.
func (n *Node) Key() string { return n.key }

// Addresses are where partners reach the node, with the ports that were chosen.
func (n *Node) Addresses() []string { return slices.Clone(n.bound) }

// Engine is the node's, for programs that have a node in them.
func (n *Node) Engine() *engine.Engine { return n.engine }
