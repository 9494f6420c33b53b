package carrier

import (
	"crypto/tls"
	"crypto/x509"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/pannier/pannier/spec/fault"
)

// The protocols one port speaks, as named in ALPN.
const (
	ProtocolLane  = "pannier/1" // a lane of a session
	ProtocolHTTP2 = "h2"        // an ordinary gRPC client
)

// Limits on connections that have not yet shown what and who they are.
const (
	DefaultHandshakeTimeout = 10 * time.Second
	DefaultMaxPending       = 256
	DefaultMaxPerSource     = 16
)

// Options are how a node dials and listens. The zero value of every field is
// the documented default. They are checked once and not changed after.
type Options struct {
	// Identity is this node's certificate. Needed by every tls listener, and
	// by tls dialers of lanes.
	Identity *Identity
	// Pins are the keys the peer may have. A dialer requires the server's key
	// to be among them; a listener allows lanes of these keys.
	Pins Pins
	// Protocols are offered (dialing) or spoken (listening) over tls, best
	// first. Default: only ProtocolLane when dialing, both when listening.
	Protocols []string
	// HandshakeTimeout bounds connecting and the tls handshake of a dialer, and
	// at a listener the time from accept to a known protocol. On Linux a tcp
	// connection is not accepted before it says something, or about this time is
	// over (in whole seconds; below one, at once). Default 10 s.
	HandshakeTimeout time.Duration
	// Pipe is where the address "pipe:" leads.
	Pipe *Pipe
	// Stdio is what "stdio:" reads and writes; the connection takes both files over.
	// Default: descriptors 0 and 1, which are then empty and the same as 2.
	Stdio [2]*os.File

	// RootCAs, when set, must verify the server's chain for ServerName. Given
	// together with Pins, both must hold. Dialer only.
	RootCAs *x509.CertPool
	// ServerName is the name in the server's certificate and in SNI. Default:
	// the host of the address. Dialer only.
	ServerName string

	// AuthorizeKey is asked for lanes whose key is not among Pins; nil allows
	// the key. It may be called concurrently. Listener only.
	AuthorizeKey func(key string) error
	// ClientCAs verify certificates of ordinary gRPC clients. Listener only.
	ClientCAs *x509.CertPool
	// GRPCClientAuth says what ordinary gRPC clients have to present. Default:
	// nothing, but what they present is verified if ClientCAs is set. Listener only.
	GRPCClientAuth tls.ClientAuthType
	// GRPCCertificates are shown to ordinary gRPC clients instead of Identity,
	// for clients that verify by name. Listener only.
	GRPCCertificates []tls.Certificate
	// ExposePlaintext lets a tcp address be listened on beyond the loopback
	// device, where everyone on the way can read and change what passes and everyone
	// who reaches the port can call. Default: such addresses are refused. A dialer
	// needs no leave: who writes tcp:// into an address to dial has said it. The same
	// goes for "plain+" in front of an address of one pipe. Listener only.
	ExposePlaintext bool
	// Mode is the mode of a unix socket. Default 0600. Listener only.
	Mode fs.FileMode
	// MaxPending bounds connections whose protocol and peer are not known
	// yet; above half of it new ones are dropped at random, ever more often,
	// unless one whose handshake takes over 250 ms can give way. A quarter more
	// are for sources that have proved an allowed key before. Default 256.
	// Listener only.
	MaxPending int
	// MaxPerSource bounds the same for one source: an IPv4 address, or an IPv6
	// network of 64 bits. A newcomer of a source that has them all takes the place
	// of one of that source that has taken over a second, or is dropped. Default
	// 16. Listener only.
	MaxPerSource int
	// Logger receives refused and failed connections at level Debug; what commands of
	// exec addresses say at Info; failures to accept, and keys that are not allowed, once a
	// minute for each source, at Warn. Default: none.
	Logger *slog.Logger
}

// withDefaults is the checked Options with the defaults both ends share.
func (o Options) withDefaults() (Options, error) {
	pins, err := ParsePins(o.Pins...)
	if err != nil {
		return o, err
	}
	o.Pins = pins
	for _, p := range o.Protocols {
		if p != ProtocolLane && p != ProtocolHTTP2 {
			return o, fault.New("carrier options", fault.Invalid, "Protocols has %q; accepted are %q and %q", p, ProtocolLane, ProtocolHTTP2)
		}
	}
	if o.HandshakeTimeout < 0 || o.MaxPending < 0 || o.MaxPerSource < 0 {
		return o, fault.New("carrier options", fault.Invalid, "HandshakeTimeout, MaxPending and MaxPerSource must not be negative")
	}
	if o.HandshakeTimeout == 0 {
		o.HandshakeTimeout = DefaultHandshakeTimeout
	}
	if o.MaxPending == 0 {
		o.MaxPending = DefaultMaxPending
	}
	if o.MaxPerSource == 0 {
		o.MaxPerSource = DefaultMaxPerSource
	}
	if o.Mode == 0 {
		o.Mode = 0o600
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o, nil
}

// checkFor refuses demands on the peer that a plaintext address cannot meet:
// dropping them silently would be a downgrade.
func (o Options) checkFor(a Address) error {
	if (a.Scheme == TCP || a.Plain) && (len(o.Pins) > 0 || o.RootCAs != nil || o.AuthorizeKey != nil) {
		return fault.New("carrier options", fault.Invalid, "%s proves nothing about the peer, so Pins, RootCAs and AuthorizeKey cannot hold; use tls:// or leave out plain+", a.String())
	}
	return nil
}

func (o Options) speaks(protocol string) bool { return slices.Contains(o.Protocols, protocol) }
