package rpc

import (
	"context"
	"io"
	"slices"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/pannier/pannier/sideeffect"
)

// NewStream starts a streaming call; generated stubs call it. Side effects run
// while messages flow. They are over, and their Results set, when RecvMsg has
// returned the stream's end: io.EOF or an error, or the one reply of a
// client-streaming call. An error of a side effect takes the place of io.EOF.
// A stream that is given up must be cancelled, as always with gRPC. What Invoke says of panics
// holds for the method of the stream that finds its end.
func (cc *ClientConn) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	effects, opts := split(opts)
	if len(effects) == 0 {
		return cc.grpc.NewStream(ctx, desc, method, opts...)
	}
	p, err := cc.prepare(ctx, effects, opts, nil, nil)
	if err != nil {
		return nil, asCall(err, -1)
	}
	if p.call == nil {
		cc.calls.unuse(effects)
		return cc.grpc.NewStream(ctx, desc, method, opts...)
	}
	st, end, err := cc.newStream(ctx, &p, desc, method, opts)
	s := &clientStream{ClientStream: st, cc: cc, call: p.call, effects: effects, method: method, single: !desc.ServerStreams, end: end}
	if err != nil {
		return nil, s.conclude(err, nil)
	}
	context.AfterFunc(&p.call.life, func() { s.settle(cause("call", &p.call.life), nil) })
	return s, nil
}

// newStream is gRPC's, over a connection of the session that the call is made for: one that goes astray is
// made anew, as long as may be, and left to the server's refusal then. end ends it.
func (cc *ClientConn) newStream(ctx context.Context, p *prepared, desc *grpc.StreamDesc, method string, opts []grpc.CallOption) (st grpc.ClientStream, end func(), err error) {
	where, option := newScout(slices.Concat(cc.options, opts))
	opts = append(slices.Clone(opts), option)
	for pause := firstAgain; ; pause *= 2 {
		attempt, cancel := context.WithCancel(p.ctx)
		st, err = cc.grpc.NewStream(attempt, desc, method, opts...)
		if err != nil || pause > mostAgain || !where.strays(p) || !cc.again(ctx, p, pause) {
			return st, cancel, err
		}
		cancel() // the server has refused it, or does
	}
}

// clientStream ends the side effects of a streaming call with the stream.
type clientStream struct {
	grpc.ClientStream
	cc      *ClientConn
	call    *call
	effects []*sideeffect.Descriptor
	method  string
	single  bool // one reply
	end     func()
	once    sync.Once
	err     error // of the effects; set by conclude
}

// RecvMsg implements grpc.ClientStream.
func (s *clientStream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	switch {
	case err == nil && !s.single:
		return nil
	case err == nil || err == io.EOF:
		if failed := s.conclude(nil, s.Trailer()); failed != nil {
			return failed
		}
		return err
	}
	s.conclude(err, s.Trailer())
	return s.call.own(fromCall(s.method, err))
}

// SendMsg implements grpc.ClientStream.
func (s *clientStream) SendMsg(m any) error {
	err := s.ClientStream.SendMsg(m)
	if err != nil && err != io.EOF {
		s.conclude(err, nil)
		return fromCall(s.method, err)
	}
	return err // io.EOF: RecvMsg has the reason
}

// Header implements grpc.ClientStream.
func (s *clientStream) Header() (metadata.MD, error) {
	md, err := s.ClientStream.Header()
	if err != nil {
		s.conclude(err, nil)
		return md, fromCall(s.method, err)
	}
	return md, nil
}

// conclude is settle on a goroutine of the caller's, where a panic of its own is raised.
func (s *clientStream) conclude(err error, trailer metadata.MD) error {
	defer s.call.raise()
	return s.settle(err, trailer)
}

// settle ends the effects once, and waits for them. The trailer may be read
// only when RecvMsg has returned the end.
func (s *clientStream) settle(err error, trailer metadata.MD) error {
	s.once.Do(func() {
		s.err = s.call.conclude(s.method, trailer, nil, err)
		s.cc.calls.remove(s.call)
		s.cc.calls.unuse(s.effects)
		s.end()
	})
	return s.err
}
