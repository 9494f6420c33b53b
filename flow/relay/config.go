package relay

import (
	"context"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/flow/loopback"
	"github.com/pannier/pannier/spec/fault"
)

// Place is which end of the session listens.
type Place uint8

const (
	Here  Place = iota // this node listens, the partner connects
	There              // the partner listens, if it allows that; this node connects
)

func (p Place) String() string { return [...]string{"here", "there"}[min(p, There)] }

// Relay is what a node wants to be relayed. It is checked once, by Hub.Add, and
// not changed after.
type Relay struct {
	Name    string // 1..64 bytes; unique among the node's relays
	Partner string // over whose session
	Accept  []Endpoint
	At      Place
	To      Endpoint            // unless clients say it (socks5, http) or Ports has the port
	Ports   map[uint16]Endpoint // other destinations, by the port accepted at
	From    []netip.Prefix      // clients let in at an entry here; none: all
	Mode    fs.FileMode         // of unix sockets accepted at here; 0: as Network.Listen makes them
	// Resume: connections outlive those of the session, and end with the session
	// itself: what has not arrived is sent again. Not of datagrams.
	Resume bool
	// ProxyProtocol: There: connections to tcp and unix destinations begin with a PROXY
	// header, version 2, that says the client's address as the partner sees it. Of relays that
	// accept here the partner's policy decides.
	ProxyProtocol bool
	Limits        Limits
}

// Limits of a relay, or of what a partner is allowed. The zero value of every
// field is the documented default; negative: no limit.
type Limits struct {
	Conns int // open at a time; default 4096
	Opens int // begun per second, with as many at once; default 2000
	// Of one connection, or one source of datagrams, which is forgotten then, so that what it sends next is of a new one.
	Bytes int64         // each direction; default none
	Rate  int64         // bytes per second, each direction; default none; datagrams beyond it are dropped
	Life  time.Duration // default none
	Idle  time.Duration // without a byte in either direction; default none; of udp always, default 2 min
	Half  time.Duration // the same once one direction is closed; default 5 min

	// Weight of what this end sends, all connections together, where the session is the
	// bottleneck: beside other relays and entries of the policy, and, over a carrier of one pipe,
	// transfers, which have 1 each. 1 to flow.MaxWeight; default 1. Datagrams go first, whatever it is.
	Weight int

	Datagram int // udp: largest taken from the other end of the session; default 65507
	Sources  int // udp: sources of one accepting socket at a time; default 1024
	// Amplify: udp: until a source has answered, it is sent at most that many
	// times the bytes that came from it, because its address may be somebody
	// else's. Once it has, 1000 times, or Amplify times if that is more. What counts is what came
	// and was sent within the last Idle to twice that. Default 3, and no limit for sources on the
	// loopback device, whose addresses the kernel vouches for.
	Amplify int
}

// MaxDatagram is the most bytes of one datagram.
const MaxDatagram = 65507

const defaultUDPIdle = 2 * time.Minute

func (l Limits) withDefaults() Limits {
	def(&l.Conns, 4096)
	def(&l.Opens, 2000)
	def(&l.Bytes, -1)
	def(&l.Rate, -1)
	def(&l.Life, -1)
	def(&l.Half, 5*time.Minute)
	def(&l.Datagram, MaxDatagram)
	def(&l.Sources, 1024)
	def(&l.Idle, -1)
	def(&l.Weight, 1)
	if l.Datagram < 0 || l.Datagram > MaxDatagram {
		l.Datagram = MaxDatagram
	}
	return l
}

// udpIdle is Idle for sources of datagrams, which nothing else ends.
func (l Limits) udpIdle() time.Duration {
	if l.Idle <= 0 {
		return defaultUDPIdle
	}
	return l.Idle
}

func def[T int | int64 | time.Duration](field *T, value T) {
	if *field == 0 {
		*field = value
	}
}

// Allow lets a partner ask something of this node.
type Allow struct {
	Partner string   // its name, or "*" for every partner
	Relay   string   // the name of the relay it asks with, or "*"
	Dial    []string // patterns of destinations that are connected to for it
	Listen  []string // patterns of what is listened at for it
	// ProxyProtocol: connections of Dial to tcp and unix destinations begin with a
	// PROXY header, version 2, that says the client's address. It is the partner's word.
	ProxyProtocol bool
	Limits        Limits
}

// Config is how a node takes part in relays.
type Config struct {
	Policy []Allow // none: partners may ask nothing

	// Patience is how long an accepted connection waits for a session and for the
	// partner's answer together. Default 10 s.
	Patience time.Duration
	// DialTimeout bounds connecting to a destination, the name's resolution included. Default 8 s.
	DialTimeout time.Duration
	// Grace is how long a command has to end after its connection has, before it
	// is sent SIGTERM, and once more before SIGKILL. Default 2 s.
	Grace time.Duration

	// Reach makes sure that there is a session with a partner, which has been given
	// to Attach when it returns. It is called while somebody waits for one, one call
	// at a time for each partner, with pauses that grow to 30 s after failures. It ends
	// when ctx does. Default: nobody is called.
	Reach func(ctx context.Context, partner string) error

	// Network is the system's by default.
	Network Network
	// Logger receives one record for each connection and refusal, and for each
	// listener. Default: none.
	Logger *slog.Logger
}

// Network is how a Hub reaches the world. Every nil function is the system's (TCP on the loopback device by package loopback).
// Addresses have the form of package net, and never a name.
type Network struct {
	Listen       func(ctx context.Context, network, address string) (net.Listener, error)
	ListenPacket func(ctx context.Context, network, address string) (net.PacketConn, error)
	Dial         func(ctx context.Context, network, address string) (net.Conn, error)
	// DialFrom is Dial with an address of this node that the peer is to see. Without
	// one, and with a Dial, it is that.
	DialFrom func(ctx context.Context, network string, from netip.Addr, address string) (net.Conn, error)
	Lookup   func(ctx context.Context, host string) ([]netip.Addr, error)
}

func (c Config) withDefaults() Config {
	def(&c.Patience, 10*time.Second)
	def(&c.DialTimeout, 8*time.Second)
	def(&c.Grace, 2*time.Second)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	n := &c.Network
	var lc net.ListenConfig
	if n.Listen == nil {
		n.Listen = func(ctx context.Context, network, address string) (net.Listener, error) {
			return loopback.Listen(ctx, lc, network, address)
		}
	}
	if n.ListenPacket == nil {
		n.ListenPacket = lc.ListenPacket
	}
	if dial := n.Dial; n.DialFrom == nil && dial != nil {
		n.DialFrom = func(ctx context.Context, network string, _ netip.Addr, address string) (net.Conn, error) {
			return dial(ctx, network, address)
		}
	}
	if n.DialFrom == nil {
		n.DialFrom = func(ctx context.Context, network string, from netip.Addr, address string) (net.Conn, error) {
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: from.AsSlice(), Zone: from.Zone()}, Control: loopback.Control}
			return d.DialContext(ctx, network, address)
		}
	}
	if n.Dial == nil {
		n.Dial = (&net.Dialer{Control: loopback.Control}).DialContext
	}
	if n.Lookup == nil {
		n.Lookup = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
	return c
}

// ParseFrom reads which clients are let in: a prefix, or an address, which is one of
// its own.
func ParseFrom(text string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(text); err == nil {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return p, fault.New("read clients", fault.Invalid, "%q is neither an address nor a prefix", fault.Shown(text))
	}
	if all := p.Masked(); all != p {
		return p, fault.New("read clients", fault.Invalid, "%q has bits behind its prefix: write %s for all of it", fault.Shown(text), fault.Shown(all.String()))
	}
	return p, nil
}

// Check says what is wrong with a relay; Invalid.
func (r Relay) Check() error {
	_, err := r.checked()
	return err
}

// checked returns the relay with its defaults, or what is wrong with it.
func (r Relay) checked() (Relay, error) {
	bad := func(format string, args ...any) (Relay, error) {
		e := fault.New("add relay", fault.Invalid, format, args...)
		e.Subject = r.Name
		return r, e
	}
	if !validName(r.Name) {
		return bad("a name has 1 to %d bytes, printable and without spaces", MaxName)
	}
	if r.Partner == "" {
		return bad("nothing says over whose session it goes")
	}
	if n := len(r.Accept); n == 0 || n > maxAccepts {
		return bad("it accepts at %d endpoints; a relay has 1 to %d", n, maxAccepts)
	}
	if n := portsOf(r.Accept); n > MaxPorts {
		return bad("%d ports; at most %d", n, MaxPorts)
	}
	if w := r.Limits.Weight; w < 0 || w > flow.MaxWeight {
		return bad("its weight is %d; it is from 1 to %d", w, flow.MaxWeight)
	}
	udp := r.Accept[0].datagrams()
	for _, a := range r.Accept {
		switch {
		case a.datagrams() != udp:
			return bad("datagrams and connections cannot share a relay; make two")
		case a.asks() && r.At == There:
			return bad("socks5 and http can be accepted here only")
		case !a.asks() && r.To.IsZero() && len(r.Ports) == 0:
			return bad("nothing says where connections accepted at %s lead", fault.Shown(a.String()))
		case !a.asks() && r.To.Same && len(a.Ports) == 0:
			return bad("{port} has no meaning for a unix socket")
		case r.At == There && r.To.Same && slices.Contains(a.Ports, PortRange{}):
			return bad("where the partner listens at any free port it would say which port {port} is: name the ports to listen at")
		}
	}
	if free := !slices.ContainsFunc(r.Accept, func(a Endpoint) bool { return !a.asks() }); free && (!r.To.IsZero() || len(r.Ports) > 0) {
		return bad("clients of socks5 and http say where to, so a destination would hold nobody to it; leave it out, or accept at tcp")
	}
	if r.At == There {
		for _, to := range r.destinations() {
			if isLocalhost(to.Host) {
				return bad("%s is an address of this host, which has to be named as one: write 127.0.0.1 or [::1]", fault.Shown(to.String()))
			}
		}
	}
	if r.Resume && udp {
		return bad("datagrams do not outlive a connection of the session; resume is for connections")
	}
	if r.ProxyProtocol && udp {
		return bad("datagrams have no PROXY header")
	}
	if all := r.destinations(); r.ProxyProtocol && len(all) > 0 && !slices.ContainsFunc(all, func(to Endpoint) bool { return to.Scheme != FTP }) {
		return bad("servers of FTP would take a PROXY header for commands; leave it out")
	}
	if r.ProxyProtocol && r.At == Here {
		return bad("the partner connects, and its policy says whether it writes a PROXY header")
	}
	if r.Mode != 0 && (r.Mode != r.Mode.Perm() || r.At == There || !slices.ContainsFunc(r.Accept, func(a Endpoint) bool { return a.Scheme == Unix })) {
		return bad("a mode is of the unix sockets that are accepted at here, and has permissions only")
	}
	for _, to := range r.destinations() {
		if to.datagrams() != udp {
			return bad("%s and what is accepted are not of one sort", fault.Shown(to.String()))
		}
		if to.Scheme == FTP && slices.ContainsFunc(r.Accept, func(a Endpoint) bool { return a.Scheme == Unix }) {
			return bad("clients of FTP need addresses for data connections: accept them at tcp://, not at a unix socket")
		}
	}
	r.Limits = r.Limits.withDefaults()
	return r, nil
}

// destinations are all that the relay itself names.
func (r *Relay) destinations() []Endpoint {
	var all []Endpoint
	if !r.To.IsZero() {
		all = append(all, r.To)
	}
	for _, to := range r.Ports {
		all = append(all, to)
	}
	return all
}

// to is where a connection leads to that was accepted at a port.
func (r *Relay) to(port uint16) (Endpoint, error) {
	if to, ok := r.Ports[port]; ok {
		return to.at(port), nil
	}
	if r.To.IsZero() {
		return Endpoint{}, fault.New("relay", fault.NotFound, "relay %s leads nowhere from port %d", fault.Shown(r.Name), port)
	}
	return r.To.at(port), nil
}

func validName(s string) bool {
	for _, c := range s {
		if c == utf8.RuneError || !unicode.IsPrint(c) || unicode.IsSpace(c) {
			return false
		}
	}
	return s != "" && s != "*" && len(s) <= MaxName
}
