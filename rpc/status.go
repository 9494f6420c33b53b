package rpc

import (
	"context"
	"errors"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/rpcpb"
)

// Code is the gRPC status code that a kind of failure travels as. The kind
// itself travels beside it, in the status details, so that the other end sees
// a *fault.Error and not only a code.
func Code(k fault.Kind) codes.Code {
	switch k {
	case fault.Invalid, fault.TooLong:
		return codes.InvalidArgument
	case fault.Canceled:
		return codes.Canceled
	case fault.Deadline:
		return codes.DeadlineExceeded
	case fault.NotFound:
		return codes.NotFound
	case fault.Exists:
		return codes.AlreadyExists
	case fault.Permission:
		return codes.PermissionDenied
	case fault.Unauthenticated:
		return codes.Unauthenticated
	case fault.Unsupported:
		return codes.Unimplemented
	case fault.Refused, fault.WrongBackend, fault.NotStarted:
		return codes.FailedPrecondition
	case fault.Corrupt:
		return codes.DataLoss
	case fault.QuotaExceeded, fault.NoSpace, fault.Overloaded:
		return codes.ResourceExhausted
	case fault.SourceChanged, fault.Stale:
		return codes.Aborted
	case fault.Lost, fault.DeadPeer, fault.Draining:
		return codes.Unavailable
	}
	return codes.Internal // Internal, Protocol, IO and kinds of later versions
}

// kindOf is the nearest kind for a status that came without one.
func kindOf(c codes.Code) fault.Kind {
	switch c {
	case codes.Canceled:
		return fault.Canceled
	case codes.DeadlineExceeded:
		return fault.Deadline
	case codes.Unavailable:
		return fault.Lost
	case codes.Unimplemented:
		return fault.Unsupported
	case codes.Unauthenticated:
		return fault.Unauthenticated
	case codes.PermissionDenied:
		return fault.Permission
	case codes.ResourceExhausted: // as of a call that held too much of the server's memory
		return fault.Overloaded
	}
	return fault.Refused
}

// A callError is one failure in the two languages of a call: errors.As finds
// the *fault.Error in it, and status.FromError the gRPC status.
type callError struct {
	err error // wraps a *fault.Error
	st  *status.Status
}

func (e *callError) Error() string              { return e.err.Error() }
func (e *callError) Unwrap() error              { return e.err }
func (e *callError) GRPCStatus() *status.Status { return e.st }

// stated is an error that has a status.
type stated interface{ GRPCStatus() *status.Status }

// asCall gives an error of ours a status. effect is the index of the effect it
// belongs to, or -1. What is a status, or has no fault in it, is returned as it
// is. gRPC would send the whole message of an error around a status, so such
// a one is given its text here, too.
func asCall(err error, effect int) error {
	if err == nil {
		return nil // before f, which costs memory
	}
	var f *fault.Error
	if _, is := err.(stated); is || !errors.As(err, &f) {
		return err
	}
	told := faultProto(err, effect)
	told.Text = clip(relayed(err), fault.MaxText)
	st := status.New(Code(f.Kind), told.Text)
	var inner stated
	if errors.As(err, &inner) && inner.GRPCStatus() != nil {
		p := inner.GRPCStatus().Proto()
		p.Message = told.Text
		return &callError{err: err, st: status.FromProto(p)}
	}
	if full, derr := st.WithDetails(told); derr == nil {
		st = full
	}
	return &callError{err: err, st: st}
}

// relayed is what the client reads of a handler's error: the handler's own words
// as they are, and of a fault among them what fault.Text lets out.
func relayed(err error) string {
	var inner []error
	switch e := err.(type) {
	case *fault.Error:
		return fault.Text(e)
	case *callError:
		return relayed(e.err)
	case interface{ Unwrap() error }:
		inner = []error{e.Unwrap()}
	case interface{ Unwrap() []error }:
		inner = e.Unwrap()
	}
	text := err.Error()
	for _, e := range inner {
		if e == nil {
			continue
		}
		said := e.Error()
		if !strings.Contains(text, said) {
			return fault.Text(err)
		}
		text = strings.Replace(text, said, relayed(e), 1)
	}
	return text
}

// fromCall gives a status that carries a fault of the peer, and one that gRPC makes itself when
// the caller gives up or a connection is lost, the *fault.Error that errors.As finds. Other errors are
// returned as they are: a status of the handler's own is its own business, unless it is one of those.
func fromCall(op string, err error) error {
	if err == nil {
		return nil
	}
	var known *fault.Error
	if errors.As(err, &known) {
		return err
	}
	st, ok := status.FromError(err)
	if !ok {
		return err
	}
	for _, d := range st.Details() {
		if p, ok := d.(*rpcpb.Fault); ok {
			return &callError{err: faultFrom(op, p), st: st}
		}
	}
	switch c := st.Code(); c {
	case codes.Canceled, codes.DeadlineExceeded, codes.Unavailable:
		return &callError{err: &fault.Error{Op: op, Kind: kindOf(c), Side: sideOf(c), Err: errors.New(st.Message())}, st: st}
	}
	return err
}

// asFault is err as a *fault.Error, with a kind taken from its status if it is one.
func asFault(op string, err error) error {
	var f *fault.Error
	if err == nil || errors.As(err, &f) {
		return err
	}
	if st, ok := status.FromError(err); ok {
		return &fault.Error{Op: op, Kind: kindOf(st.Code()), Side: sideOf(st.Code()), Err: err}
	}
	return fault.Wrap(op, "", err)
}

// sideOf is whose failure a status without a fault is: gRPC makes the first two
// itself when the caller's context ends, and Unavailable when a connection does.
func sideOf(c codes.Code) fault.Side {
	switch c {
	case codes.Canceled, codes.DeadlineExceeded:
		return fault.Here
	case codes.Unavailable:
		return fault.Inferred
	}
	return fault.Peer
}

// blames reports whose failure err is.
func blames(err error, side fault.Side) bool {
	var f *fault.Error
	return errors.As(err, &f) && f.Side == side
}

// cause is why ctx is over, as an error.
func cause(op string, ctx context.Context) error {
	return fault.Wrap(op, "", context.Cause(ctx))
}

func faultProto(err error, effect int) *rpcpb.Fault {
	return &rpcpb.Fault{Kind: uint32(fault.KindOf(err)), Text: fault.Text(err), Effect: int32(effect + 1), Side: uint32(sideIn(err))}
}

// sideIn is whose failure err is, seen from here.
func sideIn(err error) fault.Side {
	var f *fault.Error
	if errors.As(err, &f) {
		return f.Side
	}
	return fault.Here
}

// faultFrom is what the peer reported; nil for nil. Texts over the limit are
// cut, numbers that no kind can have become Internal. What the peer says was this
// end's failure is Here.
func faultFrom(op string, p *rpcpb.Fault) *fault.Error {
	if p == nil {
		return nil
	}
	k := fault.Kind(p.GetKind())
	if p.GetKind() == 0 || p.GetKind() > 1<<16-1 {
		k = fault.Internal
	}
	f := fault.FromPeer(op, k, p.GetText())
	switch fault.Side(min(p.GetSide(), 255)) {
	case fault.Peer:
		f.Side = fault.Here
	case fault.Inferred:
		f.Side = fault.Inferred
	}
	return f
}
