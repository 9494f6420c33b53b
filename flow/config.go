package flow

import (
	"log/slog"
	"time"

	"github.com/pannier/pannier/spec/fault"
)

// Sizes used for limits and defaults, in bytes.
const (
	KiB = 1 << 10
	MiB = 1 << 20
)

// Config is how a node takes part in sessions. The zero value of every field
// is the documented default; a Config is checked once and not changed after.
type Config struct {
	// Name is what this node calls itself towards peers. At most 256 bytes.
	Name string
	// Features are announced to the peer in the handshake, at most 32.
	Features []string

	// BlockSize is the largest payload of one block. Default 1 MiB, 4 KiB to 1 MiB; a
	// session has smaller ones where a large one would take long (spec/flow.md, "Windows").
	BlockSize int
	// Window is the credit a new stream starts with. Default 256 KiB.
	Window int
	// MaxWindow bounds the growth of one stream's window. Default 16 MiB.
	MaxWindow int
	// SessionBudget bounds what all streams of a session may have granted and
	// not consumed. Default 64 MiB.
	SessionBudget int
	// Pool bounds the same over all sessions that share it. Default: one of
	// 1 GiB for the sessions made with this Config.
	Pool *Pool
	// PipeWindow is what a lane starts with: bytes written and not yet taken
	// off the wire. It grows as long as growing makes the lane faster, and on
	// long links follows what the lane moves in a round trip. Default
	// 256 KiB; more makes loopback slower (spec/design.md, "Decisions").
	PipeWindow int
	// MaxPipeWindow bounds that growth. Default 64 MiB.
	MaxPipeWindow int
	// Lanes is how many bulk lanes a session opens at least when the first bulk
	// stream needs one. Default 1, at most 8. Single-pipe carriers have one.
	Lanes int
	// MaxLanes is how many bulk lanes a session may open on long links, at first
	// and by trial. Default 8; set it to Lanes to have exactly those.
	MaxLanes int
	// MaxStreams is how many streams the peer may have open. Default 1024.
	MaxStreams int

	// HandshakeTimeout bounds the handshake of one connection. Default 10 s.
	HandshakeTimeout time.Duration
	// KeepaliveIdle is how long a connection may be silent before a PING.
	// Default 8 s.
	KeepaliveIdle time.Duration
	// KeepaliveTimeout is how long the PING may stay unanswered. Default 6 s; a
	// dead peer is found within the sum of both and two seconds.
	KeepaliveTimeout time.Duration
	// ResumeTimeout is how long a session whose connections are lost waits for
	// new ones. Default 30 s; negative: a lost connection ends the session.
	ResumeTimeout time.Duration

	// Authorize is asked once per session, after the handshake and before
	// anything else. A returned error refuses the peer. Default: everyone the
	// carrier let in.
	Authorize func(Peer) error
	// Logger receives one record for each session made, lost, resumed and
	// ended. Default: none.
	Logger *slog.Logger

	node [16]byte // random per process part that made it; set by withDefaults
}

// Peer is what a session knows about its other end.
type Peer struct {
	Name     string   // as it calls itself; not proven
	Key      string   // "sha256:<hex>" of its public key if the carrier proved it, else ""
	Address  string   // as the carrier reports it
	Features []string // as announced
	Local    bool     // same host (unix socket, pipe)
	UID      int      // of the peer process where the carrier knows it, else -1
}

// Has reports whether the peer announced a feature.
func (p Peer) Has(feature string) bool {
	for _, f := range p.Features {
		if f == feature {
			return true
		}
	}
	return false
}

// is reports whether two connections lead to the same peer, as far as the
// carrier knows: every connection of a session has to.
func (p Peer) is(q Peer) bool { return p.Key == q.Key && p.UID == q.UID }

// Identified is implemented by connections whose carrier knows who the peer is.
type Identified interface {
	PeerKey() string // as Peer.Key
	PeerUID() int    // as Peer.UID
}

type limit struct {
	name          string
	field         *int
	def, min, max int
}

// Check says what is wrong with a configuration, as Connect and NewAcceptor do:
// fault.Invalid.
func (c Config) Check() error {
	_, err := c.withDefaults()
	return err
}

// withDefaults returns the checked Config with every default filled in.
func (c Config) withDefaults() (Config, error) {
	for _, l := range []limit{
		{"BlockSize", &c.BlockSize, MiB, 4 * KiB, MiB},
		{"Window", &c.Window, 256 * KiB, 16 * KiB, 1 << 30},
		{"MaxWindow", &c.MaxWindow, 16 * MiB, 16 * KiB, 1 << 30},
		{"SessionBudget", &c.SessionBudget, 64 * MiB, 64 * KiB, 1 << 40},
		{"PipeWindow", &c.PipeWindow, 256 * KiB, 16 * KiB, 1 << 30},
		{"MaxPipeWindow", &c.MaxPipeWindow, 64 * MiB, 16 * KiB, 1 << 30},
		{"Lanes", &c.Lanes, 1, 1, 8},
		{"MaxLanes", &c.MaxLanes, 8, 1, 8},
		{"MaxStreams", &c.MaxStreams, 1024, 1, 1 << 20},
	} {
		if *l.field == 0 {
			*l.field = l.def
		}
		if *l.field < l.min || *l.field > l.max {
			return c, fault.New("flow config", fault.Invalid, "%s is %d; it must be from %d to %d", l.name, *l.field, l.min, l.max)
		}
	}
	c.MaxWindow = max(c.MaxWindow, c.Window)
	c.MaxPipeWindow = max(c.MaxPipeWindow, c.PipeWindow)
	c.MaxLanes = max(c.MaxLanes, c.Lanes)
	for _, d := range []struct {
		field *time.Duration
		def   time.Duration
	}{
		{&c.HandshakeTimeout, 10 * time.Second},
		{&c.KeepaliveIdle, 8 * time.Second},
		{&c.KeepaliveTimeout, 6 * time.Second},
		{&c.ResumeTimeout, 30 * time.Second},
	} {
		if *d.field == 0 {
			*d.field = d.def
		}
	}
	if len(c.Name) > 256 || len(c.Features) > 32 {
		return c, fault.New("flow config", fault.Invalid, "Name has at most 256 bytes, Features at most 32 entries")
	}
	c.node = random16()
	if c.Pool == nil {
		c.Pool = NewPool(1 << 30)
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, nil
}
