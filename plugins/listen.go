package plugins

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"

	"google.golang.org/grpc"

	"github.com/pannier/pannier/spec/bridgepb"
	"github.com/pannier/pannier/spec/fault"
)

// Dial makes the node of Server.Listen of two sockets: one at whose other end the node
// serves Bridge, and one that takes descriptors there. Package host has it; Serve gets it
// where a driver is a Server. What it closes by may have a Gone() <-chan struct{}, closed when the
// node can be asked no more: then clients are not served any more.
type Dial func(node, descriptors *net.UnixConn) (Driver, io.Closer, error)

// SetDial has the service serve foreign clients, if its driver is a Server. It is called
// before the first call.
func (s *Service) SetDial(d Dial) { s.dial = d }

// SetOutside has the service say no more of errors than others than this operator may read:
// what fault.Text lets out, and what a server has said. The log has the rest. It is called
// before the first call.
func (s *Service) SetOutside(log *slog.Logger) { s.outside = log }

// told is an error as the other end may have it.
func (s *Service) told(err error) error {
	if err == nil || s.outside == nil {
		return err
	}
	out := &fault.Error{Op: "ask the node", Kind: fault.KindOf(err), Err: err}
	if e, ok := errors.AsType[*fault.Error](err); ok {
		out.Op, out.Side, out.Err = e.Op, e.Side, e.Err
	}
	switch out.Kind {
	case fault.NotFound, fault.Exists, fault.Invalid, fault.Permission, fault.Unauthenticated, fault.Unsupported, fault.Canceled: // its own affair
	default:
		s.outside.Info("a foreign client gets an error, without what is not for it", "error", err)
	}
	if n, ok := errors.AsType[Native](err); ok {
		out.Err = n
		return out
	}
	text := fault.Text(out.Err)
	if out.Err = nil; text != out.Kind.String() {
		out.Err = errors.New(text)
	}
	return out
}

// Listen implements bridgepb.BridgeServer.
func (s *Service) Listen(r *bridgepb.ListenRequest, stream grpc.ServerStreamingServer[bridgepb.ListenReply]) error {
	d, ok := s.driver.(Server)
	if !ok {
		return fault.New("listen", fault.Unsupported, "this plugin serves no foreign clients")
	}
	if s.dial == nil {
		return fault.New("listen", fault.Unsupported, "this plugin's main function has no way to ask the node: it has to call plugins.Serve(driver, host.Node)")
	}
	ctx := stream.Context()
	l, err := s.listener(ctx, r.GetSocket())
	if err != nil {
		return err
	}
	defer l.Close()
	var ends [2]*net.UnixConn
	for i, number := range []uint64{r.GetNode(), r.GetDescriptors()} {
		c, err := s.channels.take(ctx, number)
		if err == nil {
			ends[i], ok = c.(*net.UnixConn)
			if !ok {
				err = errors.Join(fault.New("listen", fault.Protocol, "descriptor %d is no unix socket", number), c.Close())
			}
		}
		if err != nil {
			if ends[0] != nil {
				_ = ends[0].Close()
			}
			return err
		}
	}
	node, end, err := s.dial(ends[0], ends[1])
	if err != nil {
		return err
	}
	defer end.Close()
	clients, done, err := s.listening(ctx)
	if err != nil {
		return err
	}
	defer done()
	var gone <-chan struct{}
	if g, ok := end.(interface{ Gone() <-chan struct{} }); ok {
		gone = g.Gone()
	}
	clients, leave := context.WithCancel(clients)
	defer leave()
	go func() {
		select {
		case <-gone:
			leave()
		case <-clients.Done():
		}
	}()
	served := func() { _ = stream.Send(&bridgepb.ListenReply{}) } // who is gone ends the context
	err = guarded("listen", func() error {
		return d.Listen(clients, &waitedFor{Listener: l, served: sync.OnceFunc(served)}, r.GetOptions(), node)
	})
	select {
	case <-gone: // and is to hand over a new way to it
		return fault.New("listen", fault.Lost, "the node cannot be asked any more")
	default:
	}
	switch {
	case ctx.Err() != nil:
		return fault.Wrap("listen", "", ctx.Err())
	case clients.Err() != nil:
		return fault.New("listen", fault.Draining, "this plugin is being stopped")
	}
	if err == nil {
		err = fault.New("listen", fault.Internal, "the driver has stopped listening by itself")
	}
	return err
}

// waitedFor is a listener that tells when a client is first waited for: then, and not before, the
// driver serves, and its options make sense.
type waitedFor struct {
	net.Listener
	served func()
}

// Accept implements net.Listener.
func (w *waitedFor) Accept() (net.Conn, error) {
	w.served()
	return w.Listener.Accept()
}

// listening is the context of a Listen, which Drain ends before the call.
func (s *Service) listening(ctx context.Context) (context.Context, func(), error) {
	o := &opened{}
	o.over, o.end = context.WithCancel(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining {
		o.end()
		return nil, nil, fault.New("listen", fault.Draining, "this plugin is being stopped")
	}
	s.listens[o] = true
	return o.over, func() {
		o.end()
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.listens, o)
		s.less()
	}, nil
}

// listener is the listening socket of that number.
func (s *Service) listener(ctx context.Context, number uint64) (net.Listener, error) {
	c, err := s.channels.take(ctx, number)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	file, ok := c.(interface{ File() (*os.File, error) })
	if !ok {
		return nil, fault.New("listen", fault.Protocol, "descriptor %d is no socket", number)
	}
	f, err := file.File()
	if err != nil {
		return nil, fault.Wrap("listen", "", err)
	}
	defer f.Close()
	l, err := net.FileListener(f)
	return l, fault.Wrap("listen", "", err)
}

// End closes all sessions and aborts what is written in them, or keeps it where the session
// remembers that: the other end is gone.
func (s *Service) End() {
	s.mu.Lock()
	s.draining = true
	var all []uint64
	for number := range s.sessions {
		all = append(all, number)
	}
	s.mu.Unlock()
	for _, number := range all {
		_ = s.close(context.Background(), number, true)
	}
}
