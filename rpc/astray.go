package rpc

import (
	"context"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/spec/fault"
)

// A call is made for one session, and its effects run there. While a server goes away gRPC may send it over a connection of
// another one: it has strayed. The server refuses it before its handler runs, and the client makes it anew. A unary call hears of
// that with the refusal. A streaming call would have to keep its messages until then, so it looks where it has gone before its first.
// On the stream road only the server can see that, or that a proxy has sent the call elsewhere: a streaming call ends there.

// Pauses before a call that has strayed is made again. What it waits for is the word of gRPC
// at one end that a connection takes no more calls, when that of the session is there, or the other way round.
const (
	firstAgain = 5 * time.Millisecond
	mostAgain  = 640 * time.Millisecond
)

// strayed reports whether a call went over a connection of another session than its ask names, and was
// refused for that. Whatever the server has said then, no handler has seen it. On the stream road it is one that came
// to where its session is not: the server's word before any handler, which would have given an answer.
func (p *prepared) strayed(over *peer.Peer, trailer metadata.MD, err error) bool {
	if p.call.way.carried {
		pushback := trailer.Get(retryPushback)
		return fault.KindOf(fromCall("call", err)) == fault.WrongBackend && len(trailer.Get(MetadataKey)) == 0 && len(pushback) == 1 && pushback[0] == "-1"
	}
	info, ok := over.AuthInfo.(AuthInfo)
	return ok && info.Session != p.call.way.session && fault.KindOf(fromCall("call", err)) == fault.Draining
}

// again makes a call that has strayed ready once more, as another one of the same effects. False:
// it cannot be, and is as it was, but for its id.
func (cc *ClientConn) again(ctx context.Context, p *prepared, pause time.Duration) bool {
	select {
	case <-time.After(pause):
	case <-ctx.Done():
		return false
	}
	c := p.call
	w, err := cc.find(ctx, c.way.carried, false)
	if err != nil || w.session == nil || w.carried != c.way.carried {
		w.leave()
		return false
	}
	cc.calls.remove(c)
	c.way.leave()
	c.way, c.id = w, newCallID()
	p.ask.call, p.ask.session = c.id, w.session.ID()
	if w.carried {
		p.ask.token = w.session.Token()
	}
	return cc.calls.add(c) == nil && p.bring(ctx) == nil
}

// scout tells over a connection of which session the last attempt of a call goes: gRPC asks the credentials of a call for what
// they add to an attempt when it has chosen the connection. It adds nothing to the caller's own.
type scout struct {
	own  credentials.PerRPCCredentials // the caller's; nil: none
	over atomic.Pointer[flow.Session]  // nil: not known, or of none
}

// newScout is a scout for a call with these options, and the option that sends it out.
func newScout(opts []grpc.CallOption) (*scout, grpc.CallOption) {
	s := &scout{}
	for _, o := range opts {
		if c, ok := o.(grpc.PerRPCCredsCallOption); ok {
			s.own = c.Creds
		}
	}
	return s, grpc.PerRPCCredentials(s)
}

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (s *scout) GetRequestMetadata(ctx context.Context, uri ...string) (map[string]string, error) {
	ri, _ := credentials.RequestInfoFromContext(ctx)
	info, _ := ri.AuthInfo.(AuthInfo)
	s.over.Store(info.Session)
	if s.own == nil {
		return nil, nil
	}
	return s.own.GetRequestMetadata(ctx, uri...)
}

// RequireTransportSecurity implements credentials.PerRPCCredentials.
func (s *scout) RequireTransportSecurity() bool {
	return s.own != nil && s.own.RequireTransportSecurity()
}

// strays reports whether the call goes over a connection of another session than its ask names.
func (s *scout) strays(p *prepared) bool {
	over := s.over.Load()
	return over != nil && !p.call.way.carried && over != p.call.way.session
}
