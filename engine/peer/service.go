package peer

import (
	"context"
	"time"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/rpc"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/peerpb"
)

// service is the handlers. Each reads its message, and serves only what is whole.
type service struct {
	peerpb.UnimplementedPeerServer
	s *Server
}

func (v *service) Request(ctx context.Context, m *peerpb.RequestAsk) (*peerpb.Answer, error) {
	return serve(ctx, v.s, m, readRequest)
}

func (v *service) Transfer(ctx context.Context, m *peerpb.TransferAsk) (*peerpb.Answer, error) {
	return serve(ctx, v.s, m, readTransfer)
}

func (v *service) EndTransfer(ctx context.Context, m *peerpb.EndTransferAsk) (*peerpb.Answer, error) {
	return serve(ctx, v.s, m, readEndTransfer)
}

func (v *service) EndRequest(ctx context.Context, m *peerpb.EndRequestAsk) (*peerpb.Answer, error) {
	return serve(ctx, v.s, m, readEndRequest)
}

func (v *service) Stop(ctx context.Context, m *peerpb.StopAsk) (*peerpb.Answer, error) {
	return serve(ctx, v.s, m, readStop)
}

func serve[M any](ctx context.Context, s *Server, m M, read func(M) (engine.Ask, error)) (*peerpb.Answer, error) {
	partner, err := callerIn(ctx)
	if err != nil {
		return nil, err
	}
	a, err := read(m)
	if err != nil {
		return nil, err
	}
	if a.Key.Requester != partner {
		return nil, fault.New(opRead, fault.Unauthenticated, "the call is of requester %q, but comes from partner %q", fault.Shown(a.Key.Requester), fault.Shown(partner))
	}
	var effect engine.Effect
	if all := rpc.SideEffects(ctx); len(all) > 1 || len(all) == 1 && a.Move != lifecycle.Transfer && a.Move != lifecycle.Prepare {
		return nil, fault.New(opRead, fault.Invalid, "%d side effects come with it; Transfer has one, Request may have one, other calls none", len(all))
	} else if len(all) == 1 {
		effect = all[0]
	}
	answer, err := s.o.Node.Serve(ctx, partner, a, effect)
	if err != nil {
		return nil, cleaned(ctx, err)
	}
	return writeAnswer(&answer)
}

// callerIn is the partner that admit has found.
func callerIn(ctx context.Context) (string, error) {
	if name, ok := ctx.Value(callerKey{}).(string); ok {
		return name, nil
	}
	return "", errNobody()
}

// errFull is for calls beside a request's own when there is no place for one.
func errFull() error {
	return fault.New(opRead, fault.Overloaded, "this node serves as many calls as it may, or goes down: ask again later")
}

// self is what this node says of itself.
func (s *Server) self() *peerpb.Node {
	return &peerpb.Node{Name: s.o.Name, Version: s.o.Version, Time: time.Now().UnixNano(), Features: s.o.Features}
}
