package admin

import (
	"context"
	"io"
	"net/http"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

// Local is a client of the service inside of this process, for what turns other ways
// of asking into its calls. Who calls is whom the call's context names (access.With);
// it is asked for scopes as all are. Errors are statuses.
func (s *Server) Local() adminpb.AdminClient { return adminpb.NewAdminClient(local{s}) }

// HTTP serves gRPC calls that an HTTP server has received and whose callers it has
// recognized (access.With). It ends with Close.
func (s *Server) HTTP() http.Handler { return s.web }

// local is a connection within the process. All of the service's calls are of one
// request, with one answer or a stream of them.
type local struct{ s *Server }

var _ grpc.ClientConnInterface = local{}

// incoming is the context of a call as the service sees it.
func incoming(ctx context.Context) context.Context {
	md, _ := metadata.FromOutgoingContext(ctx)
	return metadata.NewIncomingContext(ctx, md)
}

func (l local) Invoke(ctx context.Context, method string, args, reply any, _ ...grpc.CallOption) error {
	for _, m := range adminpb.Admin_ServiceDesc.Methods {
		if "/"+adminpb.Admin_ServiceDesc.ServiceName+"/"+m.MethodName != method {
			continue
		}
		out, err := m.Handler(l.s, incoming(ctx), func(in any) error {
			proto.Merge(in.(proto.Message), args.(proto.Message))
			return nil
		}, l.s.unary)
		if err != nil {
			return err
		}
		proto.Merge(reply.(proto.Message), out.(proto.Message))
		return nil
	}
	return asStatus(fault.New("call daemon", fault.Unsupported, "there is no call %s", method))
}

func (l local) NewStream(ctx context.Context, _ *grpc.StreamDesc, method string, _ ...grpc.CallOption) (grpc.ClientStream, error) {
	for _, d := range adminpb.Admin_ServiceDesc.Streams {
		if "/"+adminpb.Admin_ServiceDesc.ServiceName+"/"+d.StreamName == method {
			ctx, cancel := context.WithCancel(ctx)
			return &localStream{l: l, desc: d, method: method, ctx: ctx, cancel: cancel, begun: make(chan struct{}), answers: make(chan proto.Message), over: make(chan struct{})}, nil
		}
	}
	return nil, asStatus(fault.New("call daemon", fault.Unsupported, "there is no call %s", method))
}

// localStream is the client's end of a stream. The service's end waits for each answer to
// be taken, and ends with the context.
type localStream struct {
	l       local
	desc    grpc.StreamDesc
	method  string
	ctx     context.Context
	cancel  context.CancelFunc
	request proto.Message
	begun   chan struct{} // closed when the service sends its header
	answers chan proto.Message
	over    chan struct{}
	err     error // read when over is closed
}

// Header returns when the service says that it has begun, or has ended. Only Watch says it before its
// first answer.
func (c *localStream) Header() (metadata.MD, error) {
	select {
	case <-c.begun:
	case <-c.over:
	}
	return nil, nil
}

func (c *localStream) Trailer() metadata.MD     { return nil }
func (c *localStream) Context() context.Context { return c.ctx }

func (c *localStream) SendMsg(m any) error {
	c.request = m.(proto.Message)
	return nil
}

// CloseSend begins the call.
func (c *localStream) CloseSend() error {
	go func() {
		defer c.cancel()
		c.err = c.l.s.stream(c.l.s, &servedStream{c: c, ctx: incoming(c.ctx)},
			&grpc.StreamServerInfo{FullMethod: c.method, IsServerStream: true}, c.desc.Handler)
		if c.err == nil {
			c.err = io.EOF
		}
		close(c.over)
	}()
	return nil
}

func (c *localStream) RecvMsg(m any) error {
	select {
	case a := <-c.answers:
		proto.Merge(m.(proto.Message), a)
		return nil
	case <-c.over:
		return c.err
	}
}

// servedStream is the service's end.
type servedStream struct {
	c   *localStream
	ctx context.Context
}

func (s *servedStream) SetHeader(metadata.MD) error  { return nil }
func (s *servedStream) SendHeader(metadata.MD) error { close(s.c.begun); return nil }
func (s *servedStream) SetTrailer(metadata.MD)       {}
func (s *servedStream) Context() context.Context     { return s.ctx }

func (s *servedStream) RecvMsg(m any) error {
	proto.Merge(m.(proto.Message), s.c.request)
	return nil
}

func (s *servedStream) SendMsg(m any) error {
	select {
	case s.c.answers <- proto.Clone(m.(proto.Message)):
		return nil
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
}
