package rpctest

import (
	"context"
	"sync"
	"testing"

	"google.golang.org/grpc"

	"github.com/pannier/pannier/rpc"
	"github.com/pannier/pannier/rpc/internal/storepb"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

// Pair is a server and a client connected to it over one carrier. Whoever makes
// it ends it, with Cleanup of the test.
type Pair struct {
	Server *rpc.Server
	Client grpc.ClientConnInterface // made by rpc.Dial or rpc.DialOver
	HTTP2  bool                     // the client has no session: RoadSession is refused
	// Cut breaks all connections at once, as a cable does; nil: the carrier
	// cannot.
	Cut func()
}

// Connect makes a Pair. It calls register, once, before the server serves.
type Connect func(t testing.TB, register func(*rpc.Server)) Pair

// handler is what the server does with one call.
type handler func(context.Context) error

// service answers each call with the handler that the call's name stands for.
type service struct {
	storepb.UnimplementedStoreServer
	mu       sync.Mutex
	handlers map[string]*running
}

// running is a call that may be under way at the server.
type running struct {
	handler
	over sync.WaitGroup
}

// Call implements storepb.StoreServer.
func (s *service) Call(ctx context.Context, i *storepb.Item) (*storepb.Receipt, error) {
	s.mu.Lock()
	h := s.handlers[i.GetName()]
	if h != nil {
		h.over.Add(1)
		defer h.over.Done()
	}
	s.mu.Unlock()
	if h == nil {
		return nil, fault.New("find handler", fault.Internal, "no case is called %q", i.GetName())
	}
	if err := h.handler(ctx); err != nil {
		return nil, err
	}
	return &storepb.Receipt{Name: i.GetName()}, nil
}

// bench is a connected pair with the service on it.
type bench struct {
	Pair
	service *service
	stub    storepb.StoreClient
}

func connected(t testing.TB, connect Connect) *bench {
	t.Helper()
	b := &bench{service: &service{handlers: map[string]*running{}}}
	b.Pair = connect(t, func(s *rpc.Server) { storepb.RegisterStoreServer(s, b.service) })
	b.stub = storepb.NewStoreClient(b.Client)
	return b
}

// call makes one call with side effects, and waits for its handler too: a
// client that gives up does not. The name is the caller's for as long as that.
func (b *bench) call(ctx context.Context, name string, h handler, effects ...*sideeffect.Descriptor) error {
	r := &running{handler: h}
	b.service.mu.Lock()
	b.service.handlers[name] = r
	b.service.mu.Unlock()
	_, err := b.stub.Call(ctx, &storepb.Item{Name: name}, rpc.With(effects...))
	b.service.mu.Lock()
	delete(b.service.handlers, name)
	b.service.mu.Unlock()
	r.over.Wait()
	return err
}

// runs is the handler that runs the first effect with d.
func runs(d *sideeffect.Descriptor, await sideeffect.Await) handler {
	return func(ctx context.Context) error {
		e, err := rpc.SideEffect(ctx)
		if err != nil {
			return err
		}
		return e.Run(ctx, d, await)
	}
}
