package peer

import (
	"context"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"github.com/pannier/pannier/rpc"
	"github.com/pannier/pannier/spec/fault"
)

// refuse tells of a caller that is no partner.
func (s *Server) refuse(who string, err error) error {
	if err != nil && s.o.Refused != nil && fault.KindOf(err) == fault.Unauthenticated {
		s.o.Refused(who, err)
	}
	return err
}

// turnedAway tells of a call on a connection whose other end is no partner any more: nothing else does, for
// it was let in.
func (s *Server) turnedAway(ctx context.Context, err error) {
	_ = s.refuse("a caller of a session", err)
	key, from := "", ""
	if p, ok := peer.FromContext(ctx); ok {
		from = p.Addr.String()
		switch a := p.AuthInfo.(type) {
		case rpc.AuthInfo:
			if a.Session != nil {
				key = a.Session.Peer().Key
			}
		case credentials.TLSInfo:
			key = keyOf(a)
		}
	}
	if unlogged, yes := s.calm.Speak(key); yes && s.o.Flow.Logger != nil {
		s.o.Flow.Logger.WarnContext(ctx, "a call is refused", "from", from, "unlogged", unlogged, "error", fault.Help(err))
	}
}
