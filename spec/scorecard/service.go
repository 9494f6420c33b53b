package main

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/pannier/pannier/rpc"
	"github.com/pannier/pannier/sideeffect"
)

// putMethod takes a name and carries a file either way.
const putMethod = "/pannier.scorecard.v1.Target/Put"

// handler is what the server does with a call: the name is the request's.
type handler func(ctx context.Context, name string) error

// register puts the one service of the checks on a server.
func register(s *rpc.Server, h handler) {
	s.RegisterService(&grpc.ServiceDesc{
		ServiceName: "pannier.scorecard.v1.Target", HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Put", Handler: putHandler}},
	}, h)
}

func putHandler(impl any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	in := new(wrapperspb.StringValue)
	if err := decode(in); err != nil {
		return nil, err
	}
	if err := impl.(handler)(ctx, in.Value); err != nil {
		return nil, err
	}
	return new(emptypb.Empty), nil
}

// put makes a call with side effects.
func put(ctx context.Context, cc *rpc.ClientConn, name string, effects ...*sideeffect.Descriptor) error {
	return cc.Invoke(ctx, putMethod, wrapperspb.String(name), new(emptypb.Empty), rpc.With(effects...))
}

// running is a server inside this process.
type running struct {
	*rpc.Server
	address string
	served  chan error
}

// serving makes a server on an address; stop ends it.
func serving(cfg rpc.ServerConfig, address string, h handler) (*running, error) {
	s, err := rpc.NewServer(cfg)
	if err != nil {
		return nil, err
	}
	register(s, h)
	r := &running{Server: s, served: make(chan error, 1)}
	if r.address, err = s.Listen(address); err != nil {
		return nil, err
	}
	go func() { r.served <- s.Serve() }()
	return r, nil
}

func (r *running) stop() {
	r.Stop()
	<-r.served
}
