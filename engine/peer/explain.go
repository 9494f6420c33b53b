package peer

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/spec/fault"
)

// explainConnect says of an attempt that failed what was tried and what to look
// at. What may be better later is Lost, whatever the carrier called it.
func explainConnect(node string, p engine.Partner, err error) error {
	const op = "reach partner"
	err = asFault(err)
	kind, side, words := fault.KindOf(err), fault.Here, fault.Brief(err)
	var f *fault.Error
	if errors.As(err, &f) {
		side = f.Side
	}
	switch {
	case kind == fault.Unauthenticated && side != fault.Peer && f.Op == op:
		return err // has said it all
	case kind == fault.Unauthenticated && side != fault.Peer:
		return fault.New(op, kind, "the node at %s did not prove a key of partner %q: %s", p.Address, p.Name, words).
			Advise("`pannier id` at the partner prints its key; if the configuration here has another for it, change key there, else somebody else answers at that address")
	case (kind == fault.Unauthenticated || kind == fault.Refused || kind == fault.Permission) && side == fault.Peer:
		return fault.New(op, fault.Unauthenticated, "the node at %s does not let this one in: %s", p.Address, words).
			Advise("`pannier id` here prints the key that it has to know of partner %q", node)
	}
	advice := "look whether it runs, listens on this address and can be reached from here"
	switch kind {
	case fault.Invalid, fault.Protocol, fault.Unsupported, fault.Draining, fault.DeadPeer:
		return fault.Wrap(op, p.Name, err)
	case fault.NotFound:
		advice = "look whether the address is spelt right"
	case fault.Deadline, fault.Canceled:
		words = "no answer in time"
	}
	return fault.Concluded(op, fault.Lost, "connecting to %s failed: %s; %s", p.Address, words, fault.Shown(advice))
}

// explainCall gives a call's error its kind. An error of this end's context is
// that, one of the connection says how the session ended, and all others are what
// the partner or the effect said.
func (l *Line) explainCall(ctx context.Context, r *road, err error) error {
	l.mu.Lock()
	forgotten := r.forgotten
	l.mu.Unlock()
	var f *fault.Error
	said := errors.As(err, &f)
	switch {
	case ctx.Err() != nil && (!said || f.Side != fault.Peer):
		return fault.Wrap("call partner", r.partner, context.Cause(ctx))
	case forgotten && (!said || f.Side != fault.Peer):
		return errForgotten(r.partner)
	case said:
		return fault.Wrap("call partner", r.partner, err)
	}
	err = asFault(err)
	if k := fault.KindOf(err); k != fault.Lost && k != fault.Canceled {
		return fault.Wrap("call partner", r.partner, err)
	}
	kind, words := fault.Lost, fault.Brief(err)
	if end := r.session.Err(); end != nil {
		words = fault.Brief(end)
		if k := fault.KindOf(end); k == fault.DeadPeer || k == fault.Draining {
			kind = k
		}
	}
	return fault.Concluded("call partner", kind, "the session with %s is gone: %s", fault.Shown(r.partner), words)
}

// asFault is err with the kind of its status, where it has no fault.
func asFault(err error) error {
	var f *fault.Error
	st, ok := status.FromError(err)
	if errors.As(err, &f) || !ok {
		return err
	}
	e := fault.FromPeer("call partner", fault.Refused, st.Message())
	switch st.Code() {
	case codes.Canceled:
		e.Kind, e.Side = fault.Canceled, fault.Here
	case codes.DeadlineExceeded:
		e.Kind, e.Side = fault.Deadline, fault.Here
	case codes.Unavailable:
		e.Kind, e.Side = fault.Lost, fault.Inferred
	case codes.Unimplemented:
		e.Kind = fault.Unsupported
	case codes.Unauthenticated:
		e.Kind = fault.Unauthenticated
	case codes.PermissionDenied:
		e.Kind = fault.Permission
	case codes.ResourceExhausted:
		e.Kind = fault.Overloaded
	case codes.InvalidArgument:
		e.Kind = fault.Invalid
	case codes.Internal, codes.Unknown:
		e.Kind = fault.Internal
	}
	return e
}
