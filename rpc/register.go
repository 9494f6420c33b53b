package rpc

import (
	"context"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/spec/fault"
)

// RegisterService registers a service whose handlers may run side effects;
// generated code calls it. Handlers are wrapped outside of unary interceptors,
// so that these see messages without the inline road's field and contexts in
// which SideEffect works; and inside of stream interceptors.
func (s *Server) RegisterService(desc *grpc.ServiceDesc, impl any) {
	wrapped := *desc
	wrapped.Methods = slices.Clone(desc.Methods)
	for i, m := range desc.Methods {
		wrapped.Methods[i].Handler = s.wrapUnary(m.Handler)
	}
	wrapped.Streams = slices.Clone(desc.Streams)
	for i, m := range desc.Streams {
		wrapped.Streams[i].Handler = s.wrapStream(m.Handler)
	}
	s.Server.RegisterService(&wrapped, impl)
}

func (s *Server) wrapUnary(handler grpc.MethodHandler) grpc.MethodHandler {
	return func(impl any, ctx context.Context, decode func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
		asks := metadata.ValueFromIncomingContext(ctx, MetadataKey)
		if len(asks) == 0 {
			reply, err := handler(impl, ctx, decode, interceptor)
			return reply, asCall(err, -1)
		}
		c, err := s.begins(ctx, asks, true)
		if err != nil {
			return nil, asCall(err, -1)
		}
		defer s.leave(c)
		defer c.abandon()
		open := func(m any) error { return c.open(decode, m) }
		reply, err := handler(impl, c.context(ctx), open, interceptor)
		reply, answer := c.conclude(reply, err)
		_ = grpc.SetTrailer(ctx, answer)
		return reply, asCall(err, -1)
	}
}

func (s *Server) wrapStream(handler grpc.StreamHandler) grpc.StreamHandler {
	return func(impl any, stream grpc.ServerStream) error {
		ctx := stream.Context()
		asks := metadata.ValueFromIncomingContext(ctx, MetadataKey)
		if len(asks) == 0 {
			return asCall(handler(impl, stream), -1)
		}
		c, err := s.begins(ctx, asks, false)
		if err != nil {
			return asCall(err, -1)
		}
		defer s.leave(c)
		defer c.abandon()
		err = handler(impl, &serverStream{ServerStream: stream, ctx: c.context(ctx)})
		_, answer := c.conclude(nil, err)
		stream.SetTrailer(answer)
		return asCall(err, -1)
	}
}

// serverStream is a stream whose context has the side effects.
type serverStream struct {
	grpc.ServerStream
	ctx context.Context
}

// Context implements grpc.ServerStream.
func (s *serverStream) Context() context.Context { return s.ctx }

// begins reads the ask of a call and finds its session. An error refuses the
// call before its handler runs, and nothing of it is remembered. On success
// s.leave has to follow.
func (s *Server) begins(ctx context.Context, asks []string, unary bool) (*serverCall, error) {
	const op = "accept call"
	if len(asks) != 1 {
		return nil, fault.New(op, fault.Invalid, "%d asks in one call", len(asks))
	}
	a, err := parseAsk([]byte(asks[0]))
	if err != nil {
		return nil, fault.Wrap(op, "", err)
	}
	session := sessionOf(ctx)
	if a.carried {
		session = s.acceptor.Lookup(flow.ID(a.session), flow.Token(a.token))
		if session == nil {
			return nil, strayed(ctx, fault.New(op, fault.WrongBackend,
				"the call's session is not here: a proxy has sent the two to different servers, or that of the session goes away; nothing of the call has run: make it again"))
		}
	}
	if !a.carried && a.session != (flow.ID{}) && (session == nil || a.session != session.ID()) {
		return nil, strayed(ctx, fault.New(op, fault.Draining,
			"the call was made for another session than it came over, as while a server goes away; nothing of it has run: make it again"))
	}
	by := callerOf(ctx, session)
	if !s.recent.admit(by, a.call, time.Now()) {
		return nil, fault.New(op, fault.Stale, "this call came before; its side effects run once")
	}
	s.enter()
	c := newServerCall(ctx, s, a, session, unary)
	c.caller = by
	return c, nil
}

// What gRPC's clients say with a call that their policy repeats, and heed in the answer.
const (
	previousAttempts = "grpc-previous-rpc-attempts"
	retryPushback    = "grpc-retry-pushback-ms"
)

// strayed refuses a call that came over another session than the one it was made for, or to another server. That happens while
// a server drains, and then nobody has run it: its client may make it anew. Of one that
// gRPC has repeated, that is not known, and repeating this one as it is would be of no use.
func strayed(ctx context.Context, err error) error {
	if len(metadata.ValueFromIncomingContext(ctx, previousAttempts)) > 0 {
		return fault.New("accept call", fault.Stale, "the call was made on another session; gRPC has repeated it, and its side effects run once")
	}
	_ = grpc.SetTrailer(ctx, metadata.Pairs(retryPushback, "-1")) // fails outside of a call only
	return err
}
