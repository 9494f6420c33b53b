package relay

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/spec/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a network in memory: what listens in it and which names it has.
type world struct {
	mu      sync.Mutex
	serve   map[string]*memListener
	packets map[string]*memPackets
	names   map[string][]string
	dialled []string
	lookups int
	nextUDP int
}

func newWorld() *world {
	return &world{serve: map[string]*memListener{}, packets: map[string]*memPackets{}, names: map[string][]string{}}
}

func (w *world) network() Network {
	return Network{Listen: w.listen, ListenPacket: w.listenPacket, Dial: w.dial, Lookup: w.lookup}
}

func (w *world) lookup(_ context.Context, host string) ([]netip.Addr, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lookups++
	var all []netip.Addr
	for _, s := range w.names[host] {
		all = append(all, netip.MustParseAddr(s))
	}
	if len(all) == 0 {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	return all, nil
}

type memAddr string

func (memAddr) Network() string  { return "mem" }
func (a memAddr) String() string { return string(a) }

type memListener struct {
	w       *world
	address string
	conns   chan net.Conn
	closed  chan struct{}
	once    sync.Once
}

func (w *world) listen(_ context.Context, _, address string) (net.Listener, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.serve[address] != nil {
		return nil, syscall.EADDRINUSE
	}
	l := &memListener{w: w, address: address, conns: make(chan net.Conn), closed: make(chan struct{})}
	w.serve[address] = l
	return l, nil
}

func (l *memListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *memListener) Addr() net.Addr { return memAddr(l.address) }

func (l *memListener) Close() error {
	l.once.Do(func() {
		close(l.closed)
		l.w.mu.Lock()
		delete(l.w.serve, l.address)
		l.w.mu.Unlock()
	})
	return nil
}

// memConn has an address to show.
type memConn struct {
	carrier.Conn
	remote string
}

func (c memConn) RemoteAddr() net.Addr { return memAddr(c.remote) }

func (w *world) dial(ctx context.Context, network, address string) (net.Conn, error) {
	w.mu.Lock()
	w.dialled = append(w.dialled, address)
	l, p := w.serve[address], w.packets[address]
	w.mu.Unlock()
	if network == "udp" {
		return w.dialPackets(address, p), nil
	}
	if l == nil {
		return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
	}
	a, b := carrier.NewPair()
	select {
	case l.conns <- memConn{b, "192.0.2.9:999"}:
		return memConn{a, address}, nil
	case <-l.closed:
		return nil, syscall.ECONNREFUSED
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// memPackets is a socket of datagrams.
type memPackets struct {
	w       *world
	address string
	peer    string // connected to
	in      chan memDatagram
	closed  chan struct{}
	once    sync.Once
}

type memDatagram struct {
	from string
	data []byte
}

func (w *world) newPackets(address, peer string) *memPackets {
	p := &memPackets{w: w, address: address, peer: peer, in: make(chan memDatagram, 1000), closed: make(chan struct{})}
	w.packets[address] = p
	return p
}

func (w *world) listenPacket(_ context.Context, _, address string) (net.PacketConn, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.newPackets(address, ""), nil
}

func (w *world) dialPackets(address string, _ *memPackets) net.Conn {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.nextUDP++
	return w.newPackets(netip.AddrPortFrom(netip.MustParseAddr("198.51.100.7"), uint16(w.nextUDP)).String(), address)
}

func (p *memPackets) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case d := <-p.in:
		return copy(b, d.data), memAddr(d.from), nil
	case <-p.closed:
		return 0, nil, net.ErrClosed
	}
}

func (p *memPackets) WriteTo(b []byte, to net.Addr) (int, error) {
	p.w.mu.Lock()
	q := p.w.packets[to.String()]
	p.w.mu.Unlock()
	if q != nil {
		select {
		case q.in <- memDatagram{p.address, bytes.Clone(b)}:
		default:
		}
	}
	return len(b), nil
}

func (p *memPackets) Read(b []byte) (int, error)       { n, _, err := p.ReadFrom(b); return n, err }
func (p *memPackets) Write(b []byte) (int, error)      { return p.WriteTo(b, memAddr(p.peer)) }
func (p *memPackets) LocalAddr() net.Addr              { return memAddr(p.address) }
func (p *memPackets) RemoteAddr() net.Addr             { return memAddr(p.peer) }
func (p *memPackets) SetDeadline(time.Time) error      { return nil }
func (p *memPackets) SetReadDeadline(time.Time) error  { return nil }
func (p *memPackets) SetWriteDeadline(time.Time) error { return nil }
func (p *memPackets) Close() error {
	p.once.Do(func() {
		close(p.closed)
		p.w.mu.Lock()
		delete(p.w.packets, p.address)
		p.w.mu.Unlock()
	})
	return nil
}

// records keeps audit records as text.
type records struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (r *records) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.b.Write(p)
}

func (r *records) lines() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Split(strings.TrimSpace(r.b.String()), "\n")
}

// with returns the records that have every one of the words.
func (r *records) with(words ...string) (found []string) {
next:
	for _, l := range r.lines() {
		for _, w := range words {
			if !strings.Contains(l, w) {
				continue next
			}
		}
		found = append(found, l)
	}
	return found
}

// line is the connection between two nodes; cut breaks it, down keeps it broken.
type line struct {
	a     *flow.Acceptor
	tcp   string // listener of real ones; "": in memory
	mu    sync.Mutex
	conns []net.Conn
	down  bool
	wg    sync.WaitGroup
}

func (l *line) Single() bool { return true }

func (l *line) Dial(ctx context.Context) (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.down {
		return nil, fault.New("dial", fault.Lost, "the line is down")
	}
	if l.tcp != "" {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", l.tcp)
		if err == nil {
			l.conns = append(l.conns, c)
		}
		return c, err
	}
	x, y := carrier.NewPair()
	l.conns = append(l.conns, x, y)
	l.wg.Go(func() { l.a.Handle(y) })
	return x, nil
}

func (l *line) cut(down bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = down
	for _, c := range l.conns {
		c.Close()
	}
	l.conns = nil
}

func (l *line) up() { l.mu.Lock(); l.down = false; l.mu.Unlock() }

// two are two nodes with a session: west dials east.
type two struct {
	t                  testing.TB
	west, east         *Hub
	near, far          *flow.Session // west's end, east's end
	line               *line
	westWorld          *world
	eastWorld          *world
	westAudit, eastLog *records
	another            func() *flow.Session // overLink: makes one more, which west uses from then on; east's end
	stop               func()
}

// join makes them. Their networks are in memory unless real; call stop at the
// end of a bubble, and it is called at the end of the test.
func join(t testing.TB, west, east Config, real bool, cfgs ...flow.Config) *two {
	t.Helper()
	w := &two{t: t, westWorld: newWorld(), eastWorld: newWorld(), westAudit: &records{}, eastLog: &records{}}
	if !real {
		west.Network, east.Network = w.westWorld.network(), w.eastWorld.network()
	}
	west.Logger = slog.New(slog.NewTextHandler(w.westAudit, nil))
	east.Logger = slog.New(slog.NewTextHandler(w.eastLog, nil))
	cfg := flow.Config{}
	if len(cfgs) > 0 {
		cfg = cfgs[0]
	}
	var err error
	if w.west, err = New(west); err != nil {
		t.Fatal(err)
	}
	if w.east, err = New(east); err != nil {
		t.Fatal(err)
	}
	acceptor, err := flow.NewAcceptor(cfg)
	if err != nil {
		t.Fatal(err)
	}
	w.line = &line{a: acceptor}
	var l net.Listener
	var wg sync.WaitGroup
	if real {
		if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		w.line.tcp = l.Addr().String()
		wg.Go(func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				wg.Go(func() { acceptor.Handle(c) })
			}
		})
	}
	ctx := context.Background()
	if w.near, err = flow.Connect(ctx, w.line, cfg); err != nil {
		t.Fatal(err)
	}
	if w.far, err = acceptor.Accept(ctx); err != nil {
		t.Fatal(err)
	}
	wg.Go(func() { w.west.Serve("east", w.near) })
	wg.Go(func() { w.east.Serve("west", w.far) })
	w.stop = sync.OnceFunc(func() {
		w.west.Close()
		w.east.Close()
		w.near.Close()
		acceptor.Close()
		if l != nil {
			l.Close()
		}
		wg.Wait()
		w.line.wg.Wait()
	})
	t.Cleanup(w.stop)
	return w
}

// allowAll lets a partner reach what the tests' worlds have.
func allowAll(dial ...string) Config {
	return Config{Policy: []Allow{{Partner: "west", Relay: "*", Dial: dial}}}
}

func mustAccept(t testing.TB, texts ...string) (all []Endpoint) {
	t.Helper()
	for _, s := range texts {
		e, err := ParseAccept(s)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
	return all
}

func mustTo(t testing.TB, text string) Endpoint {
	t.Helper()
	e, err := ParseTo(text)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// add adds a relay of west's to a destination of east's.
func (w *two) add(accept, to string, change ...func(*Relay)) {
	w.t.Helper()
	r := Relay{Name: "r", Partner: "east", Accept: mustAccept(w.t, accept)}
	if to != "" {
		r.To = mustTo(w.t, to)
	}
	for _, f := range change {
		f(&r)
	}
	if err := w.west.Add(r); err != nil {
		w.t.Fatal(err)
	}
}

// dest listens at a destination of east's world.
func (w *two) dest(address string) net.Listener {
	w.t.Helper()
	l, err := w.eastWorld.listen(context.Background(), "tcp", address)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { l.Close() })
	return l
}

// client connects to an address of west's world.
func (w *two) client(address string) halfCloser {
	w.t.Helper()
	c, err := w.westWorld.dial(context.Background(), "tcp", address)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { c.Close() })
	return c.(halfCloser)
}

// through makes one relayed connection and returns both ends.
func (w *two) through(address string, l net.Listener) (client, server halfCloser) {
	w.t.Helper()
	client = w.client(address)
	s, err := l.Accept()
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { s.Close() })
	return client, s.(halfCloser)
}

// ended reports whether a connection ends without a byte.
func ended(c io.Reader) bool {
	n, err := c.Read(make([]byte, 1))
	return n == 0 && err != nil && !errors.Is(err, context.DeadlineExceeded)
}

func say(t testing.TB, from io.Writer, to io.Reader, text string) {
	t.Helper()
	if _, err := from.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(to, got); err != nil || string(got) != text {
		t.Fatalf("got %q, %v; want %q", got, err, text)
	}
}
