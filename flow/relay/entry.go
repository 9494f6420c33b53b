package relay

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/flow/wire"
	"github.com/pannier/pannier/spec/fault"
)

// entrance is a set of listeners with one purpose: of a relay of this node, or of
// one that a partner has asked for.
type entrance struct {
	hub     *Hub
	relay   string
	partner string
	use     *usage
	from    []netip.Prefix
	mode    fs.FileMode // of unix sockets; 0: as Network.Listen makes them
	resume  bool        // streams outlive the session's connections
	// to is the destination that is asked of the partner; zero: the partner knows.
	to func(port uint16) (Endpoint, error)
	// open opens a stream to the partner.
	open func(context.Context, flow.Open) (*flow.ByteStream, error)

	ctx    context.Context // ends when listening does
	cancel context.CancelFunc
	mu     sync.Mutex
	closes []func() error
}

// listen opens every listener of accept, or none, and returns what was bound.
func (e *entrance) listen(accept []Endpoint) (bound []string, err error) {
	defer func() {
		if err != nil {
			e.stop()
		}
	}()
	for _, a := range accept {
		open := func(port uint16) error {
			b, err := e.listenAt(a, port)
			bound = append(bound, b)
			return err
		}
		if a.Scheme == Unix {
			err = open(0)
		} else {
			err = a.each(open)
		}
		if err != nil {
			return nil, err
		}
	}
	e.hub.cfg.Logger.LogAttrs(e.ctx, slog.LevelInfo, "relay listens", slog.String("relay", e.relay), slog.String("partner", e.partner), slog.Any("at", bound))
	return bound, nil
}

// listenAt opens one listener.
func (e *entrance) listenAt(a Endpoint, port uint16) (string, error) {
	address := net.JoinHostPort(a.Host, PortRange{port, port}.String())
	network := "tcp"
	switch a.Scheme {
	case Unix:
		network, address = "unix", a.Path
	case UDP:
		return e.listenUDP(a, address)
	}
	l, err := e.hub.cfg.Network.Listen(e.ctx, network, address)
	if err != nil {
		return "", listenFailed(a, port, err)
	}
	if !e.holds(l.Close) {
		return "", errStopping
	}
	if a.Scheme == Unix && e.mode != 0 {
		if err := os.Chmod(a.Path, e.mode); err != nil {
			return "", listenFailed(a, port, err)
		}
	}
	if port == 0 {
		port = portOf(l.Addr())
	}
	if !e.hub.spawn(func() { e.accept(l, a, port) }) {
		return "", errStopping
	}
	return boundAt(a, port), nil
}

func listenFailed(a Endpoint, port uint16, err error) error {
	return &fault.Error{Op: "listen", Kind: listenKind(err), Subject: boundAt(a, port), Err: err}
}

func boundAt(a Endpoint, port uint16) string {
	if a.Scheme != Unix {
		a.Ports = []PortRange{{port, port}}
	}
	return a.String()
}

func portOf(a net.Addr) uint16 {
	if ap, err := netip.ParseAddrPort(a.String()); err == nil {
		return ap.Port()
	}
	return 0
}

// holds keeps the close of a listener until stop; false: that was before.
func (e *entrance) holds(close func() error) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ctx.Err() != nil {
		_ = close()
		return false
	}
	e.closes = append(e.closes, close)
	return true
}

// stop closes the listeners; connections go on.
func (e *entrance) stop() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.cancel()
	for _, c := range e.closes {
		_ = c()
	}
	e.closes = nil
}

// Pauses after a failed accept, as when descriptors have run out.
const (
	leastPause = 5 * time.Millisecond
	mostPause  = time.Second
)

func (e *entrance) accept(l net.Listener, a Endpoint, port uint16) {
	for pause := leastPause; ; {
		c, err := l.Accept()
		switch {
		case err == nil:
			pause = leastPause
			if !e.hub.begin(KindConn, func() { e.serve(c, a, port) }) {
				abort(c)
			}
			continue
		case e.ctx.Err() != nil || errors.Is(err, net.ErrClosed):
			return
		}
		e.hub.cfg.Logger.LogAttrs(e.ctx, slog.LevelWarn, "relay accepts nothing", slog.String("relay", e.relay), slog.Any("cause", err))
		select {
		case <-time.After(pause):
			pause = min(2*pause, mostPause)
		case <-e.ctx.Done():
			return
		}
	}
}

// serve relays one accepted connection.
func (e *entrance) serve(c net.Conn, a Endpoint, port uint16) {
	from := origin(c.RemoteAddr())
	refuse := func(to Endpoint, err error) {
		abort(c)
		e.hub.refused(e.use, Entry, e.relay, e.partner, from, to.String(), err)
	}
	local, ok := c.(halfCloser)
	if !ok {
		refuse(Endpoint{}, fault.New("relay", fault.Internal, "a listener made a connection without half-close"))
		return
	}
	if err := e.lets(from); err != nil {
		refuse(Endpoint{}, err)
		return
	}
	if err := e.use.enter(); err != nil {
		refuse(Endpoint{}, err)
		return
	}
	ctx, cancel := context.WithTimeout(e.hub.ctx, e.hub.cfg.Patience) // not e's: what was accepted goes on
	defer cancel()
	to, greet, err := e.destination(ctx, local, a, port)
	if err != nil {
		e.use.leave()
		refuse(to, err)
		return
	}
	st, answer, err := e.ask(ctx, KindConn, connAsk{To: to.String(), Port: port, From: from, At: acceptedAt(c)})
	if greet != nil {
		err = greet.reply(ctx, local, st, err)
	}
	if err != nil {
		e.use.leave()
		if st != nil {
			st.Reset(err)
		}
		refuse(to, err)
		return
	}
	cancel()
	r := &conn{hub: e.hub, role: Entry, relay: e.relay, partner: e.partner, from: from, to: answer.Address, use: e.use, local: local, st: st}
	if err := r.isFTP(to, answer); err != nil {
		e.use.leave()
		st.Reset(err)
		refuse(to, err)
		return
	}
	r.run()
}

// destination is where an accepted connection is to be led: the relay's, or the
// client's wish.
func (e *entrance) destination(ctx context.Context, c net.Conn, a Endpoint, port uint16) (Endpoint, greeter, error) {
	switch a.Scheme {
	case SOCKS5:
		return greetSOCKS(ctx, c)
	case HTTP:
		return greetHTTP(ctx, c)
	}
	to, err := e.to(port)
	return to, nil, err
}

// ask opens a stream to the partner and waits for its answer.
func (e *entrance) ask(ctx context.Context, kind string, o connAsk) (*flow.ByteStream, connAnswer, error) {
	o.Relay = e.relay
	o.From = o.From[:min(len(o.From), maxOrigin)]
	meta, err := wire.AppendMeta(nil, &o)
	if err != nil {
		return nil, connAnswer{}, err
	}
	class := wire.ClassRelay
	if kind == KindUDP || strings.HasPrefix(o.To, string(FTP)+":") {
		class = wire.ClassInteractive
	}
	st, err := e.open(ctx, flow.Open{Kind: kind, Meta: meta, Class: class, Resume: e.resume && kind == KindConn})
	if err != nil {
		return nil, connAnswer{}, err
	}
	var answer connAnswer
	if err := decodeMeta(st.Meta(), &answer); err != nil {
		st.Reset(err)
		return nil, connAnswer{}, err
	}
	return st, answer, nil
}

// lets reports whether a client may use the relay.
func (e *entrance) lets(from string) error {
	if len(e.from) == 0 {
		return nil
	}
	if ap, err := netip.ParseAddrPort(from); err == nil {
		a := ap.Addr().Unmap().WithZone("")
		if slices.ContainsFunc(e.from, func(p netip.Prefix) bool { return p.Contains(a) }) {
			return nil
		}
	}
	return fault.New("relay", fault.Permission, "clients at %s are not let in", fault.Shown(from)).Advise("add the address to from of the relay")
}

// acceptedAt is the address of this end of a connection; "": it has none.
func acceptedAt(c net.Conn) string {
	if a := c.LocalAddr(); a != nil {
		if at, err := netip.ParseAddrPort(a.String()); err == nil {
			return netip.AddrPortFrom(at.Addr().Unmap().WithZone(""), at.Port()).String()
		}
	}
	return ""
}

// origin is a client's address; of unix sockets, which have none, "unix".
func origin(a net.Addr) string {
	if a == nil || a.String() == "" || a.String() == "@" {
		return "unix"
	}
	return a.String()
}
