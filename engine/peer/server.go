package peer

import (
	"context"
	"errors"
	"io/fs"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/rpc"
	"github.com/pannier/pannier/spec/calm"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/peerpb"
)

// maxMessage is the most bytes of a message that a partner sends: names and texts
// at their limits are 8 KiB, contents that ride along 20.
const maxMessage = 64 << 10

// maxPending is the memory that messages of all partners may hold before they are
// whole and read; one partner may have half.
const maxPending = 64 << 20

// Node is what serves the calls; *engine.Engine is one.
type Node interface {
	// Serve is called for each call. partner is proven, a is within all limits and
	// its key's requester is partner. effect is nil unless the call carries one. An
	// error that is no *fault.Error is told to the partner as internal.
	Serve(ctx context.Context, partner string, a engine.Ask, effect engine.Effect) (engine.Answer, error)
	// Commission serves what a partner wants done with a third node.
	Commission(ctx context.Context, partner string, c engine.Commission) (engine.Commissioned, error)
	// Steps is how far the node's record of a request is, for the other party of it; NotFound
	// for any other.
	Steps(ctx context.Context, partner string, key lifecycle.Key, role lifecycle.Role) (engine.Steps, error)
	// Enter takes a place for a call beside those of requests, until leave; false: there is none.
	Enter(partner string) (leave func(), ok bool)
}

// Options are who a node lets in, and what it shows.
type Options struct {
	Name     string // this node's; required
	Version  string // of the program, for partners to read; at most 64 bytes
	Features []string
	Identity *carrier.Identity // needed to listen on tls
	Node     Node              // required
	Book     engine.Book       // the first; SetBook gives another
	// Files are what partners may look at. Default: those of the book's rules.
	Files Files

	// UnixPartner names the partner that a process of a user is, who calls over a
	// unix socket, or over Pipe, whose user is this process's. It is asked for each
	// call, so it has to be quick. Default: such callers are refused.
	UnixPartner func(uid int) (string, error)
	UnixMode    fs.FileMode   // of sockets. Default 0600
	Pipe        *carrier.Pipe // where "pipe:" listens, for tests

	// Refused is told of callers that are no partner, by what they have proved. It must not
	// wait. Default: nobody is.
	Refused func(who string, err error)

	// Streams takes what partners open beside calls. Default: it is refused.
	Streams Streams

	// Flow tunes sessions; Name, MaxStreams, Pool and Authorize are completed.
	Flow flow.Config
}

// Server lets partners call a node. All methods may be called at the same time.
type Server struct {
	o    Options
	rpc  *rpc.Server
	book atomic.Pointer[book]
	came accepted
	calm calm.Calm // of what is refused on sessions, by key
}

// book is an engine's, and whose each key is.
type book struct {
	engine.Book
	owners map[string]string
}

func newBook(b engine.Book) (*book, error) {
	const op = "take book"
	n := &book{Book: b, owners: map[string]string{}}
	for name, p := range b.Partners {
		keys, err := carrier.ParsePins(p.Keys...)
		if err != nil {
			return nil, fault.Wrap(op, name, err)
		}
		for _, k := range keys {
			if other, taken := n.owners[k]; taken && other != name {
				return nil, fault.New(op, fault.Invalid, "partners %q and %q have the same key: a key is of one node", min(name, other), max(name, other))
			}
			n.owners[k] = name
		}
	}
	return n, nil
}

// NewServer makes a server. Errors are fault.Invalid.
func NewServer(o Options) (*Server, error) {
	const op = "new server"
	if err := checkName("node's name", o.Name); err != nil {
		return nil, fault.Wrap(op, "", err)
	}
	if o.Node == nil {
		return nil, fault.New(op, fault.Invalid, "nothing serves the calls").Advise("set Node")
	}
	s := &Server{o: o}
	if _, err := readNode(s.self()); err != nil {
		return nil, fault.Wrap(op, "", err)
	}
	if err := s.SetBook(o.Book); err != nil {
		return nil, err
	}
	if s.o.Files == nil {
		s.o.Files = NewShelf(func() engine.Book { return s.book.Load().Book })
	}
	s.came = accepted{s: s, streams: orNone(o.Streams), of: map[*flow.Session]string{}}
	cfg := flowOf(o.Flow, o.Name, o.Streams)
	cfg.Authorize = func(p flow.Peer) error {
		_, err := s.partner(p)
		return err
	}
	var err error
	s.rpc, err = rpc.NewServer(rpc.ServerConfig{Identity: o.Identity, AuthorizeKey: s.authorize, UnixMode: o.UnixMode, Pipe: o.Pipe, Flow: cfg, Streams: &s.came, MaxPending: maxPending},
		grpc.MaxRecvMsgSize(maxMessage), grpc.MaxConcurrentStreams(maxStreams), grpc.InTapHandle(s.admit))
	if err != nil {
		return nil, err
	}
	peerpb.RegisterPeerServer(s.rpc, &service{s: s})
	return s, nil
}

// SetBook replaces the book. The sessions of who is another partner now, or none, end with all
// that runs on them. Calls that run without a session go on; new ones are refused. Invalid: a
// key that is none, or of two partners.
func (s *Server) SetBook(b engine.Book) error {
	n, err := newBook(b)
	if err == nil {
		s.book.Store(n)
		s.came.review()
	}
	return err
}

// Listen opens an address, "tls://host:port" or "unix:///path"; tcp is refused.
// Nothing is accepted before Serve. The result has the port that was chosen.
func (s *Server) Listen(address string) (string, error) { return s.rpc.Listen(address) }

// Serve accepts until Stop or Shutdown, and then returns nil.
func (s *Server) Serve() error { return s.rpc.Serve() }

// Shutdown takes nothing new and waits for the calls that run. If ctx ends first
// they are cut off, and the error says so.
func (s *Server) Shutdown(ctx context.Context) error { return s.rpc.Shutdown(ctx) }

// Stop ends everything at once.
func (s *Server) Stop() { s.rpc.Stop() }

// authorize is asked for keys before there is a session.
func (s *Server) authorize(key string) error {
	_, err := s.owner(key)
	return s.refuse("key "+key, err)
}

func (s *Server) owner(key string) (string, error) {
	if name, ok := s.book.Load().owners[key]; ok {
		return name, nil
	}
	return "", fault.New("find caller", fault.Unauthenticated, "key %s is of no partner of this node", fault.Shown(key)).
		Advise("if its node is to call, add it as key of a [[partner]] and reload")
}

// partner is who the other end of a session has proved to be.
func (s *Server) partner(p flow.Peer) (string, error) {
	const op = "find caller"
	if p.Key != "" {
		return s.owner(p.Key)
	}
	if p.UID < 0 || s.o.UnixPartner == nil {
		return "", errNobody()
	}
	name, err := s.o.UnixPartner(p.UID)
	if err != nil {
		return "", fault.New(op, fault.Unauthenticated, "user %d is no partner: %s", p.UID, fault.Shown(fault.Text(err)))
	}
	if s.book.Load().Partners[name] == nil {
		return "", fault.New(op, fault.Unauthenticated, "this node has no partner %q", fault.Shown(name))
	}
	return name, nil
}

func errNobody() *fault.Error {
	return fault.New("find caller", fault.Unauthenticated, "the connection does not prove which partner calls")
}

// caller is the partner who makes a call.
func (s *Server) caller(ctx context.Context) (string, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return "", errNobody()
	}
	switch a := p.AuthInfo.(type) {
	case rpc.AuthInfo:
		if a.Session != nil {
			return s.partner(a.Session.Peer())
		}
	case credentials.TLSInfo: // a proxy's or tool's HTTP/2, with a partner's key
		if key := keyOf(a); key != "" {
			return s.owner(key)
		}
	}
	return "", errNobody()
}

// keyOf is what the other end of a connection without a session has proved; "": nothing.
func keyOf(a credentials.TLSInfo) string {
	if certs := a.State.PeerCertificates; len(certs) > 0 {
		return carrier.KeyOf(certs[0])
	}
	return ""
}

type callerKey struct{}

// admit refuses, as the first thing that happens to a call of any method, one
// whose caller is no partner. The handler finds the name in the context.
func (s *Server) admit(ctx context.Context, _ *tap.Info) (context.Context, error) {
	name, err := s.caller(ctx)
	if err != nil {
		s.turnedAway(ctx, err)
		return nil, status.Error(codes.Unauthenticated, fault.Text(err))
	}
	return context.WithValue(ctx, callerKey{}, name), nil
}

// cleaned is the error of a handler as it may travel.
func cleaned(ctx context.Context, err error) error {
	var f *fault.Error
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil && (fault.KindOf(err) == fault.Canceled || fault.KindOf(err) == fault.Deadline || fault.KindOf(err) == fault.Lost):
		return fault.New("serve call", fault.KindOf(ctx.Err()), "the call was over before it was served")
	case errors.As(err, &f):
		return err
	}
	return fault.Wrap("serve call", "", err)
}
