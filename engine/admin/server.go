// Package admin is how a node is run: the service of spec/adminpb over an
// engine, on a socket of this host, and the client of it.
//
//	Listen -> New -> Serve          the daemon
//	Dial -> adminpb.AdminClient     the command line, other programs
//
// The service decides nothing that the engine does not: it translates, finds
// requests by part of their id, and looks at the disk for TestRule and Check,
// which only read.
package admin

import (
	"context"
	"io"
	"iter"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/time/rate"
	"google.golang.org/grpc"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/access"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/logs"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

// Engine is what the service needs of an engine; *engine.Engine is one.
type Engine interface {
	Submit(ctx context.Context, o engine.Order) (_ lifecycle.Record, made bool, err error)
	Get(ctx context.Context, ref store.Ref) (engine.Status, error)
	Named(ctx context.Context, n store.Name, most int) ([]store.Ref, error)
	Find(ctx context.Context, q store.Query) iter.Seq2[engine.Status, error]
	Events(ctx context.Context, ref store.Ref) ([]store.Entry, error)
	Explain(ctx context.Context, ref store.Ref) (engine.Explanation, error)
	Timeline(ctx context.Context, ref store.Ref, wait bool) (engine.Timeline, error)
	Watch(ctx context.Context, q store.Query) iter.Seq2[engine.Change, error]
	Wait(ctx context.Context, ref store.Ref) (lifecycle.Record, error)
	Pause(ctx context.Context, ref store.Ref) (lifecycle.Record, error)
	Resume(ctx context.Context, ref store.Ref) (lifecycle.Record, error)
	Cancel(ctx context.Context, ref store.Ref, why string) (lifecycle.Record, error)
	Retry(ctx context.Context, ref store.Ref) (lifecycle.Record, error)
	Partners() []engine.PartnerStatus
	Pools() []engine.PoolStatus
	Reach(ctx context.Context, partner string) (engine.PartnerStatus, error)
	Book() engine.Book
	Purge(ctx context.Context, before time.Time) (int, error)
	PurgeFailed(ctx context.Context, before time.Time) (int, error)
}

var _ Engine = (*engine.Engine)(nil)

// Entry is a file or directory of a partner, as Config.Browse yields it.
type Entry struct {
	Name      string // below the directory that was asked for
	Size      int64
	Directory bool
	Modified  time.Time
}

// Config is what the service is made of. A func or interface that is nil makes its calls
// fault.Unsupported.
type Config struct {
	Engine    Engine // required
	Node      string // name; required
	Key       string // "sha256:..."
	Version   string
	Addresses func() []string // where partners reach the node
	Draining  func() bool

	// Backup writes all that the node remembers, with its keys if asked to: package backup.
	Backup func(w io.Writer, withKey bool) error
	// Verify looks at everything in the store; Corrupt: what is wrong first. looked is told of its progress, as
	// store.Query.Looked is.
	Verify func(looked func(n int) error) error
	// Lines are those of the node's log that are kept of a request with a partner.
	Lines func(id, partner string) []logs.Line
	// Reload reads partners and rules again, and says what changed.
	Reload func(ctx context.Context) (Reloaded, error)
	// Browse yields what is in a directory below the root that the partner's rule
	// has; dir is empty for the root.
	Browse func(ctx context.Context, partner, rule, dir string) iter.Seq2[Entry, error]
	// Probe logs in at a bridge anew and says what it finds, a sentence each. With write it
	// writes and removes a small file there.
	Probe func(ctx context.Context, bridge string, write bool) (found []string, err error)

	// Audit keeps who has ordered what. nil: nobody does.
	Audit Audit
	// Refused is told of callers who may not call. nil: nobody is.
	Refused func(who string, err error)
	// Listeners are where foreign clients connect, by address.
	Listeners func() []Door
	// Kept tells whether a partial file, by a rule's root and its name below, waits for a foreign
	// client to go on with it. nil: none does.
	Kept func(root, name string) bool

	// Relays are the node's.
	Relays Relays
	// Folders are those the node watches.
	Folders Folders
	// Schedules are what it does at times.
	Schedules Schedules
	// Expecting is the files that are to come to it.
	Expecting Expecting
	// Objects are its partners and rules as they are written.
	Objects Objects
	// Tokens are the node's.
	Tokens *access.Tokens

	Log *slog.Logger // refused callers and what operators have ordered. Default: none
}

// Server is the service. It has no goroutines but those of the calls; Serve
// returns when all of them have.
type Server struct {
	adminpb.UnimplementedAdminServer
	cfg     Config
	grpc    *grpc.Server
	web     *grpc.Server // of HTTP
	started time.Time
	quit    context.Context // ends with Close
	close   context.CancelFunc
	once    sync.Once

	logged *access.Refusals // refused callers that are logged

	mu      sync.Mutex
	held    map[place]int               // calls that are counted, of tokens
	paces   map[string]*rate.Limiter    // how fast a token's calls look at records
	refused map[string]*access.Refusals // refused orders that are recorded, by who has given them
}

// closePatience is how long Close waits for calls to notice it.
const closePatience = time.Second

// New makes the service. It answers when Serve is called.
func New(cfg Config) (*Server, error) {
	if cfg.Engine == nil || cfg.Node == "" {
		return nil, fault.New("make admin service", fault.Invalid, "set Engine and Node")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{cfg: cfg, started: time.Now(), logged: access.NewRefusals(mostRefusals), held: map[place]int{}, paces: map[string]*rate.Limiter{}, refused: map[string]*access.Refusals{}}
	s.quit, s.close = context.WithCancel(context.Background())
	if err := scoped(); err != nil {
		return nil, err
	}
	s.grpc = grpc.NewServer(grpc.Creds(userCredentials{}),
		grpc.UnaryInterceptor(s.unary), grpc.StreamInterceptor(s.stream))
	s.web = grpc.NewServer(grpc.UnaryInterceptor(s.unary), grpc.StreamInterceptor(s.stream))
	adminpb.RegisterAdminServer(s.grpc, s)
	adminpb.RegisterAdminServer(s.web, s)
	return s, nil
}

// Serve answers on l, of Listen, until Close. It closes l.
func (s *Server) Serve(l *Listener) error {
	return fault.Wrap("serve admin", l.Addr().String(), s.grpc.Serve(l))
}

// Close ends all calls: those that wait end with fault.Draining, the others have
// a second.
func (s *Server) Close() {
	s.once.Do(func() {
		s.close()
		late := time.AfterFunc(closePatience, s.grpc.Stop)
		defer late.Stop()
		s.grpc.GracefulStop()
		s.web.Stop()
	})
}

// unary is around each call: who may, and errors as they travel.
func (s *Server) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	ctx, err := s.mayCall(ctx, info.FullMethod)
	if err != nil {
		return nil, asStatus(err)
	}
	if err := s.admits(info.FullMethod); err != nil {
		return nil, asStatus(err)
	}
	ctx, done := s.until(ctx)
	defer done()
	var reply any
	leave, err := s.enter(ctx, info.FullMethod)
	if err == nil {
		reply, err = next(ctx, req)
		leave()
	}
	err = s.ended(ctx, err)
	s.audited(ctx, info.FullMethod, req, reply, err)
	return reply, asStatus(err)
}

func (s *Server) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	ctx, err := s.mayCall(ss.Context(), info.FullMethod)
	if err != nil {
		return asStatus(err)
	}
	if err := s.admits(info.FullMethod); err != nil {
		return asStatus(err)
	}
	ctx, done := s.until(ctx)
	defer done()
	with := &stream{ss, ctx, nil}
	leave, err := s.enter(ctx, info.FullMethod)
	if err == nil {
		err = next(srv, with)
		leave()
	}
	err = s.ended(ctx, err)
	s.audited(ctx, info.FullMethod, with.in, nil, err)
	return asStatus(err)
}

// until is ctx that ends with the server, and with the caller's token, too.
func (s *Server) until(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(s.quit, cancel)
	forget := func() {}
	if c := access.CallerOf(ctx); c.ID != "" && s.cfg.Tokens != nil {
		ctx, forget = s.cfg.Tokens.Until(ctx, c.ID)
	}
	return ctx, func() { forget(); stop(); cancel() }
}

// ended is err, or that the server is closed or the caller's token is gone, if that is why.
func (s *Server) ended(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); err != nil && fault.KindOf(cause) == fault.Unauthenticated {
		return cause
	}
	if err != nil && s.quit.Err() != nil && fault.KindOf(err) == fault.Canceled {
		return fault.New("call daemon", fault.Draining, "the daemon is going down; requests go on when it is back")
	}
	return err
}

// stream is a server's stream with another context, and what was asked.
type stream struct {
	grpc.ServerStream
	ctx context.Context
	in  any
}

// RecvMsg keeps the message: a call has one.
func (s *stream) RecvMsg(m any) error {
	err := s.ServerStream.RecvMsg(m)
	if err == nil {
		s.in = m
	}
	return err
}

func (s *stream) Context() context.Context { return s.ctx }
