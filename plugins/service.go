package plugins

import (
	"context"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/pannier/pannier/plugins/channel"
	"github.com/pannier/pannier/spec/bridgepb"
	"github.com/pannier/pannier/spec/fault"
)

// Service is a driver as the Bridge service of spec/bridgepb. Serve makes one in a
// process of its own; a host that has the driver in its own process makes one too.
type Service struct {
	bridgepb.UnimplementedBridgeServer
	driver   Driver
	channels *channels    // nil: bytes come and go in messages
	memory   bool         // of channels; what the other end can change at any time, the driver is given as it is
	dial     Dial         // nil: foreign clients are not served
	outside  *slog.Logger // has the errors whole, which others than this operator get; nil: they are for this one

	mu       sync.Mutex
	last     uint64 // number of a session or write
	sessions map[uint64]*opened
	writes   map[uint64]*write
	draining bool
	listens  map[*opened]bool         // calls of Listen; only over and end are set
	copies   map[target]chan struct{} // that are under way; each is closed when it is over
	fewer    chan struct{}            // closed, and made anew, when a session or a Listen ends
}

// opened is a session of the driver.
type opened struct {
	Session
	number   uint64
	can      Capabilities
	over     context.Context // ends with Close
	end      context.CancelFunc
	finished []uint64 // writes that are over, oldest first, kept for calls that are repeated
}

// NewService makes the service. Descriptors come over from, a SOCK_SEQPACKET socket;
// nil for none.
func NewService(d Driver, from *net.UnixConn) *Service {
	s := &Service{driver: d, sessions: map[uint64]*opened{}, listens: map[*opened]bool{}, copies: map[target]chan struct{}{}, writes: map[uint64]*write{}, fewer: make(chan struct{})}
	if from != nil {
		s.channels = &channels{waiting: map[uint64]net.Conn{}, wanted: map[uint64]chan net.Conn{}}
		go s.channels.receive(from)
	}
	return s
}

// ShareMemory has large files go through memory that the other end hands over and goes on sharing:
// only for one that is trusted, as a plugin trusts its host.
func (s *Service) ShareMemory() { s.memory = s.channels != nil && channel.Shares }

// How many bytes of a call's messages are on the way, and of all that somebody has begun to take, fixed: otherwise gRPC
// measures at each message how many are of use, and that wakes both processes once more.
const (
	callWindow = 1 << 20
	connWindow = 16 << 20
)

// DialOptions are what a client of the service needs.
func DialOptions() []grpc.DialOption {
	return []grpc.DialOption{grpc.WithStaticStreamWindowSize(callWindow), grpc.WithStaticConnWindowSize(connWindow)}
}

// Options are what a gRPC server of the service needs: errors become Failures, panics
// of the driver errors.
func (s *Service) Options() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.StaticStreamWindowSize(callWindow), grpc.StaticConnWindowSize(connWindow),
		grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (reply any, err error) {
			if !isBridge(info.Server) {
				return handler(ctx, req)
			}
			err = guarded(info.FullMethod, func() (err error) { reply, err = handler(ctx, req); return err })
			return reply, asStatus(s.told(err))
		}),
		grpc.ChainStreamInterceptor(func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			if !isBridge(srv) {
				return handler(srv, stream)
			}
			return asStatus(s.told(guarded(info.FullMethod, func() error { return handler(srv, stream) })))
		}),
	}
}

// isBridge tells our service from those of go-plugin.
func isBridge(server any) bool {
	_, ok := server.(*Service)
	return ok
}

func guarded(op string, f func() error) (err error) {
	defer recovered(op, &err)
	return f()
}

// Describe implements bridgepb.BridgeServer.
func (s *Service) Describe(context.Context, *bridgepb.DescribeRequest) (*bridgepb.DescribeReply, error) {
	_, server := s.driver.(Server)
	m := descriptionMessage(s.driver.Describe(), s.channels != nil, server && s.dial != nil)
	m.Memory = s.memory
	return m, nil
}

// Open implements bridgepb.BridgeServer.
func (s *Service) Open(ctx context.Context, r *bridgepb.OpenRequest) (*bridgepb.OpenReply, error) {
	s.mu.Lock()
	draining := s.draining
	s.mu.Unlock()
	if draining {
		return nil, fault.New("open", fault.Draining, "this plugin is being stopped")
	}
	session, err := s.driver.Open(ctx, Endpoint{URL: r.GetUrl(), User: r.GetUser(), Password: r.GetPassword(), Secrets: r.GetSecrets(), Options: r.GetOptions()})
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil { // nobody is left who would close it
		_ = session.Close()
		return nil, err
	}
	o := &opened{Session: session, can: session.Capabilities()}
	o.over, o.end = context.WithCancel(context.Background())
	s.mu.Lock()
	draining = s.draining
	if !draining {
		s.last++
		o.number = s.last
		s.sessions[o.number] = o
	}
	s.mu.Unlock()
	if draining { // meanwhile: nobody else would close it
		o.end()
		_ = session.Close()
		return nil, fault.New("open", fault.Draining, "this plugin is being stopped")
	}
	return &bridgepb.OpenReply{Session: o.number, Capabilities: capabilitiesMessage(o.can)}, nil
}

// Close implements bridgepb.BridgeServer. A session that is closed already is no error.
func (s *Service) Close(ctx context.Context, r *bridgepb.CloseRequest) (*bridgepb.CloseReply, error) {
	return &bridgepb.CloseReply{}, s.close(ctx, r.GetSession(), false)
}

// close closes a session. With keep, what is written in it is kept if the session remembers that.
func (s *Service) close(ctx context.Context, number uint64, keep bool) error {
	s.mu.Lock()
	o := s.sessions[number]
	delete(s.sessions, number)
	var left []*write
	for id, w := range s.writes {
		if w.session == o {
			left = append(left, w)
			delete(s.writes, id)
		}
	}
	s.mu.Unlock()
	if o == nil {
		return nil
	}
	for _, w := range left {
		_, _ = w.abort(ctx, keep && o.can.Kept)
	}
	o.end()
	err := guarded("close", o.Session.Close)
	s.mu.Lock()
	s.less()
	s.mu.Unlock()
	return err
}

// less tells Drain that one has ended. s.mu is held.
func (s *Service) less() {
	close(s.fewer)
	s.fewer = make(chan struct{})
}

// Drain implements bridgepb.BridgeServer.
func (s *Service) Drain(ctx context.Context, _ *bridgepb.DrainRequest) (*bridgepb.DrainReply, error) {
	late := time.NewTimer(drainTime)
	defer late.Stop()
	for {
		s.mu.Lock()
		s.draining = true
		left, fewer := len(s.sessions)+len(s.listens), s.fewer
		for l := range s.listens {
			l.end()
		}
		s.mu.Unlock()
		if left == 0 {
			return &bridgepb.DrainReply{}, nil
		}
		select {
		case <-fewer:
		case <-ctx.Done():
			return nil, fault.New("drain", fault.Deadline, "%d sessions are still open", left)
		case <-late.C:
			return nil, fault.New("drain", fault.Deadline, "%d sessions are still open after %v", left, drainTime)
		}
	}
}

// use finds a session, for a call on those names. The context ends with the session
// too; done is called when the call is over.
func (s *Service) use(ctx context.Context, number uint64, names ...string) (o *opened, both context.Context, done func(), err error) {
	s.mu.Lock()
	o = s.sessions[number]
	s.mu.Unlock()
	if o == nil {
		return nil, nil, nil, fault.New("find session", fault.Stale, "this plugin has no session %d", number)
	}
	for _, name := range names {
		if err := CheckName(name); err != nil {
			return nil, nil, nil, err
		}
	}
	both, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(o.over, cancel)
	return o, both, func() { stop(); cancel() }, nil
}

// optional is the session as one of the optional interfaces, if its capabilities list
// it.
func optional[T any](o *opened, what string, listed bool) (T, error) {
	t, ok := o.Session.(T)
	if listed && !ok {
		return t, fault.New(what, fault.Unsupported, "the capabilities list it, but the session has no such method")
	}
	if !listed {
		return t, fault.New(what, fault.Unsupported, "this server cannot do it for this user")
	}
	return t, nil
}

// Stat implements bridgepb.BridgeServer.
func (s *Service) Stat(ctx context.Context, r *bridgepb.StatRequest) (*bridgepb.Attr, error) {
	o, ctx, done, err := s.use(ctx, r.GetSession(), r.GetName())
	if err != nil {
		return nil, err
	}
	defer done()
	a, err := o.Session.Stat(ctx, r.GetName())
	return attrMessage(a), err
}

// listed is how many entries a message of List has at most.
const listed = 256

// List implements bridgepb.BridgeServer.
func (s *Service) List(r *bridgepb.ListRequest, stream grpc.ServerStreamingServer[bridgepb.ListReply]) error {
	o, ctx, done, err := s.use(stream.Context(), r.GetSession(), r.GetName())
	if err != nil {
		return err
	}
	defer done()
	l, err := optional[Lister](o, "list", o.can.List)
	if err != nil {
		return err
	}
	var m bridgepb.ListReply
	size := 0
	for a, err := range l.List(ctx, r.GetName()) {
		if err != nil {
			return err
		}
		m.Entries = append(m.Entries, attrMessage(a))
		if size += len(a.Name) + 32; len(m.Entries) == listed || size > 1<<20 {
			if err := stream.Send(&m); err != nil {
				return err
			}
			m.Entries, size = nil, 0
		}
	}
	if len(m.GetEntries()) > 0 {
		return stream.Send(&m)
	}
	return nil
}

// Rename implements bridgepb.BridgeServer.
func (s *Service) Rename(ctx context.Context, r *bridgepb.RenameRequest) (*bridgepb.RenameReply, error) {
	o, ctx, done, err := s.use(ctx, r.GetSession(), r.GetFrom(), r.GetTo())
	if err != nil {
		return nil, err
	}
	defer done()
	as, err := optional[Renamer](o, "rename", o.can.Rename)
	if err != nil {
		return nil, err
	}
	return &bridgepb.RenameReply{}, as.Rename(ctx, r.GetFrom(), r.GetTo())
}

// Remove implements bridgepb.BridgeServer.
func (s *Service) Remove(ctx context.Context, r *bridgepb.RemoveRequest) (*bridgepb.RemoveReply, error) {
	o, ctx, done, err := s.use(ctx, r.GetSession(), r.GetName())
	if err != nil {
		return nil, err
	}
	defer done()
	as, err := optional[Remover](o, "remove", o.can.Remove)
	if err != nil {
		return nil, err
	}
	return &bridgepb.RemoveReply{}, as.Remove(ctx, r.GetName())
}

// Mkdir implements bridgepb.BridgeServer.
func (s *Service) Mkdir(ctx context.Context, r *bridgepb.MkdirRequest) (*bridgepb.MkdirReply, error) {
	o, ctx, done, err := s.use(ctx, r.GetSession(), r.GetName())
	if err != nil {
		return nil, err
	}
	defer done()
	as, err := optional[Maker](o, "make directory", o.can.Mkdir)
	if err != nil {
		return nil, err
	}
	return &bridgepb.MkdirReply{}, as.Mkdir(ctx, r.GetName())
}

// Checksum implements bridgepb.BridgeServer.
func (s *Service) Checksum(ctx context.Context, r *bridgepb.ChecksumRequest) (*bridgepb.ChecksumReply, error) {
	o, ctx, done, err := s.use(ctx, r.GetSession(), r.GetName())
	if err != nil {
		return nil, err
	}
	defer done()
	as, err := optional[Checksummer](o, "checksum "+strconv.Quote(r.GetAlgorithm()), slices.Contains(o.can.Checksums, r.GetAlgorithm()))
	if err != nil {
		return nil, err
	}
	sum, err := as.Checksum(ctx, r.GetName(), r.GetAlgorithm(), r.GetLength())
	return &bridgepb.ChecksumReply{Sum: sum}, err
}

// Copy implements bridgepb.BridgeServer.
func (s *Service) Copy(r *bridgepb.CopyRequest, stream grpc.ServerStreamingServer[bridgepb.CopyReply]) error {
	o, ctx, done, err := s.use(stream.Context(), r.GetSession(), r.GetName())
	if err != nil {
		return err
	}
	defer done()
	to, ctx, doneTo, err := s.use(ctx, r.GetToSession(), r.GetToName())
	if err != nil {
		return err
	}
	defer doneTo()
	as, err := optional[Copier](o, "copy", o.can.Copy)
	if err != nil {
		return err
	}
	over, err := s.alone(ctx, target{to, r.GetToName()})
	if err != nil {
		return err
	}
	defer over()
	var turn sync.Mutex // a driver may tell of progress from where it likes, but Send is for one
	told := false
	tell := func(m *bridgepb.CopyReply) error {
		turn.Lock()
		defer turn.Unlock()
		if told {
			return nil
		}
		told = m.GetDone()
		return stream.Send(m)
	}
	result, err := as.Copy(ctx, r.GetName(), to.Session, r.GetToName(), CopyRequest{
		Resume: r.GetResume(),
		Progress: func(offset int64, resume []byte) {
			if len(resume) > MaxResume {
				resume = nil
			}
			_ = tell(&bridgepb.CopyReply{Bytes: offset, Resume: resume}) // who is gone ends the context
		},
	})
	if err == nil || len(result.Resume) > MaxResume {
		result.Resume = nil
	}
	m := &bridgepb.CopyReply{Bytes: result.Bytes, Done: true, Verified: result.Verified, Resume: result.Resume}
	if err != nil {
		m.Failure = asFailure(err)
	}
	return tell(m)
}

// target is where a copy goes to.
type target struct {
	to   *opened
	name string
}

// alone waits until no other copy goes there: one that was given up may still be ending what its
// servers do, and this one may be to go on with what it leaves.
func (s *Service) alone(ctx context.Context, t target) (over func(), err error) {
	for {
		s.mu.Lock()
		other := s.copies[t]
		if other == nil {
			mine := make(chan struct{})
			s.copies[t] = mine
			s.mu.Unlock()
			return func() {
				s.mu.Lock()
				delete(s.copies, t)
				s.mu.Unlock()
				close(mine)
			}, nil
		}
		s.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, fault.Wrap("copy", t.name, ctx.Err())
		}
	}
}
