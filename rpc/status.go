package rpc

import (
	"context"
	"errors"

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

// asCall gives an error of ours a status. effect is the index of the effect it
// belongs to, or -1. What already has a status, or is no fault, is returned
// as it is.
func asCall(err error, effect int) error {
	var f *fault.Error
	if err == nil || hasStatus(err) || !errors.As(err, &f) {
		return err
	}
	st := status.New(Code(f.Kind), fault.Text(err))
	if full, derr := st.WithDetails(faultProto(err, effect)); derr == nil {
		st = full
	}
	return &callError{err: err, st: st}
}

func hasStatus(err error) bool {
	var s interface{ GRPCStatus() *status.Status }
	return errors.As(err, &s)
}

// fromCall gives a status that carries a fault of the peer the *fault.Error
// that errors.As finds. Other errors are returned as they are.
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
	return err
}

// asFault is err as a *fault.Error, with a kind taken from its status if it is one.
func asFault(op string, err error) error {
	var f *fault.Error
	if err == nil || errors.As(err, &f) {
		return err
	}
	if st, ok := status.FromError(err); ok {
		return &fault.Error{Op: op, Kind: kindOf(st.Code()), Err: err}
	}
	return fault.Wrap(op, "", err)
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
	return &rpcpb.Fault{Kind: uint32(fault.KindOf(err)), Text: fault.Text(err), Effect: int32(effect + 1)}
}

// faultFrom is what the peer reported; nil for nil. Texts over the limit are
// cut, numbers that no kind can have become Internal.
func faultFrom(op string, p *rpcpb.Fault) *fault.Error {
	if p == nil {
		return nil
	}
	k := fault.Kind(p.GetKind())
	if p.GetKind() == 0 || p.GetKind() > 1<<16-1 {
		k = fault.Internal
	}
	return fault.FromPeer(op, k, fault.Text(errors.New(p.GetText())))
}
