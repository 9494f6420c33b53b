package rpc

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"io/fs"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/experimental"
	"google.golang.org/grpc/keepalive"

	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

// Limits that NewServer sets, because gRPC's own defaults are open. Options
// given to NewServer override them.
const (
	maxCalls      = 1024             // calls at a time on one connection
	maxHeaderList = 64 << 10         // bytes of metadata of one call
	connectTime   = 10 * time.Second // from accept to the first HTTP/2 settings
	pingPatience  = 6 * time.Second  // a connection is dead when a PING stays unanswered that long
	leastPing     = 10 * time.Second // clients may ask for a sign of life this often
	lingerTime    = 5 * time.Minute  // for the peer's verdict after the handler has returned
	queuedConns   = 64               // accepted connections on their way to gRPC
	rememberTime  = 2 * time.Minute  // for which a call that is over is refused when it comes again
	rememberCalls = 64 << 10         // calls of one session that are over and still remembered
)

// Windows of gRPC's flow control. gRPC would rather measure what
// they should be, and sends a PING whenever content comes in, which made two in
// every call, answered by the other end; contents that need large
// windows mostly travel on streams of flow. A call's window at the client is the largest message that gRPC takes, which it
// grants a call that reads one anyway. At the server it is less: a quarter of it may count as
// unread when it is read (pending), in each of many calls behind one proxy. A connection's is what gRPC
// measures at most, and bounds what is under way, not what is kept.
const (
	callWindow    = 1 << 20
	messageWindow = 4 << 20
	connWindow    = 16 << 20
)

// maxPending is the default of ServerConfig.MaxPending.
const maxPending = 256 << 20

// writeBuffer is how much gRPC gathers before it writes to a connection: frames of the
// stream road fill it, so its default of 32 KiB is a write, and often a change of
// threads, for each two of them. gRPC shares the memory among connections while they write.
const writeBuffer = 128 << 10

// ServerConfig is who may reach a server and how. The zero value of every
// field is the documented default; it is checked once and not changed after.
type ServerConfig struct {
	// Identity is this node's certificate; tls addresses need one.
	Identity *carrier.Identity
	// Pins are the keys of clients that may connect over tls.
	Pins carrier.Pins
	// AuthorizeKey is asked about keys that are not among Pins; nil allows. A
	// tls address needs Pins or AuthorizeKey.
	AuthorizeKey func(key string) error

	// ClientCAs verify the certificates of ordinary gRPC clients over tls.
	// Default: their keys have to be among Pins or pleasing to AuthorizeKey, too.
	ClientCAs *x509.CertPool
	// AnonymousHTTP2 lets ordinary gRPC clients call over tls without any
	// certificate: per-RPC credentials, or nothing, protect the methods then.
	AnonymousHTTP2 bool
	// HTTP2Certificates are shown to ordinary gRPC clients instead of Identity.
	HTTP2Certificates []tls.Certificate

	// ExposePlaintext lets Listen open tcp addresses beyond the loopback device:
	// everyone on the way can read and change what passes, and everyone who
	// reaches the port can call. Default: they are refused.
	ExposePlaintext bool
	// UnixMode is the mode of unix sockets. Default 0600.
	UnixMode fs.FileMode
	// Pipe is where the address "pipe:" leads.
	Pipe *carrier.Pipe
	// MaxPending is how many bytes of memory the messages of all calls may hold at a
	// time while they are not whole, or no handler has read them. A peer, which is a key or the user of a
	// local process, or else a connection, may hold half: beyond it the call that holds
	// the most ends with RESOURCE_EXHAUSTED. Beyond the whole the worst connection of the worst peer is closed. Default 256 MiB.
	// What handlers have read is theirs: at most MaxRecvMsgSize a call.
	MaxPending int64
	// Flow tunes sessions; Features is completed.
	Flow flow.Config
	// Streams takes what clients open on their sessions. Default: it is refused.
	// Who the client is, the session's Peer says.
	Streams Streams
}

// Server is a grpc.Server whose handlers may run side effects. Services
// registered on it see SideEffect in their contexts; register them on the
// Server itself, not on the embedded one. Ordinary gRPC clients are served on
// the same addresses.
type Server struct {
	*grpc.Server
	cfg      ServerConfig
	acceptor *flow.Acceptor
	kinds    sideeffect.Kinds
	memory   *carryPool // of inline contents
	conns    *handover
	recent   *recent

	begun sync.Once
	ended chan struct{} // closed when stopping begins
	over  sync.Once
	wg    crew // accept loops and effects that outlive their handler

	mu        sync.Mutex
	listeners []*carrier.Listener
	serving   bool
	failed    error // of a listener
	stopping  bool
	asking    int           // calls with side effects that run
	idle      chan struct{} // closed when stopping and asking is 0
}

// NewServer makes a server; options are gRPC's. Transport credentials are
// replaced; interceptors, stats handlers and per-RPC credentials see ordinary
// calls. Errors are *fault.Error of kind Invalid and say what to change.
func NewServer(cfg ServerConfig, options ...grpc.ServerOption) (*Server, error) {
	cfg.Flow = withFeature(cfg.Flow)
	if cfg.MaxPending < 0 {
		return nil, fault.New("new server", fault.Invalid, "MaxPending is %d", cfg.MaxPending).Advise("set bytes, or 0 for %d", maxPending)
	}
	cfg.MaxPending = cmp.Or(cfg.MaxPending, maxPending)
	acceptor, err := flow.NewAcceptor(cfg.Flow)
	if err != nil {
		return nil, fault.Wrap("new server", "", err)
	}
	limits := []grpc.ServerOption{
		grpc.MaxConcurrentStreams(maxCalls), grpc.MaxHeaderListSize(maxHeaderList), grpc.ConnectionTimeout(connectTime),
		grpc.StaticStreamWindowSize(callWindow), grpc.StaticConnWindowSize(connWindow),
		grpc.WriteBufferSize(writeBuffer), experimental.BufferPool(serverBuffers),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: leastPing, Timeout: pingPatience}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: leastPing, PermitWithoutStream: true}),
	}
	options = slices.Concat(limits, options, []grpc.ServerOption{grpc.Creds(passThrough{guard: newGuard(cfg.MaxPending)})})
	s := &Server{
		Server: grpc.NewServer(options...), cfg: cfg, acceptor: acceptor, kinds: sideeffect.StandardKinds(), memory: newCarryPool(),
		conns: newHandover(), recent: newRecent(rememberTime, rememberCalls), ended: make(chan struct{}), idle: make(chan struct{}),
	}
	carry := carryDesc
	carry.Handler = func(_ any, stream grpc.ServerStream) error { return serveCarry(stream, s.acceptor.Handle) }
	s.Server.RegisterService(&grpc.ServiceDesc{ServiceName: carryService, Streams: []grpc.StreamDesc{carry}}, nil)
	return s, nil
}
