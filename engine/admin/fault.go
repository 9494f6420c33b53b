package admin

import (
	"errors"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/pannier/pannier/rpc"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

// maxText is the most bytes of a Problem's text.
const maxText = 4096

// asStatus is err as it travels. Unlike a partner the caller may read all of
// it: names and paths are what an operator needs.
func asStatus(err error) error {
	if err == nil {
		return nil
	}
	if _, is := err.(interface{ GRPCStatus() *status.Status }); is {
		return err // gRPC's own, as of a stream that is over
	}
	var f *fault.Error
	side := fault.Here
	if errors.As(err, &f) {
		side = f.Side
	}
	kind := fault.KindOf(err)
	text := clipped(fault.Plain(err))
	if _, ok := err.(advising); ok {
		text = clipped(err.Error())
	}
	st := status.New(rpc.Code(kind), text)
	if full, derr := st.WithDetails(&adminpb.Problem{Kind: uint32(kind), Side: uint32(side), Text: text}); derr == nil {
		st = full
	}
	return st.Err()
}

// advising is an error of reaching a partner, whose advice is for operators: what to change in the
// file, or to look at.
type advising struct{ error }

func (a advising) Unwrap() error { return a.error }

func clipped(s string) string {
	s = strings.ToValidUTF8(s, "?")
	if len(s) > maxText {
		s = strings.ToValidUTF8(s[:maxText-3], "") + "..."
	}
	return s
}

// Unreachable is an error of a client that found no daemon, or lost it.
// errors.As finds it and the *fault.Error in it.
type Unreachable struct{ Fault *fault.Error }

func (u *Unreachable) Error() string { return u.Fault.Error() }
func (u *Unreachable) Unwrap() error { return u.Fault }

// told is what a daemon said: its words, and its kind.
type told struct {
	text  string
	fault *fault.Error
}

func (t *told) Error() string { return t.text }
func (t *told) Unwrap() error { return t.fault }

// FromStatus is the error behind a status of the service. errors.As finds the
// *fault.Error that the daemon had; its words are the daemon's. A status that
// is not the daemon's has the nearest kind. FromStatus(nil) is nil.
func FromStatus(err error) error {
	const op = "call daemon"
	var known *fault.Error
	if err == nil || errors.As(err, &known) {
		return err
	}
	st, ok := status.FromError(err)
	if !ok {
		return err // as io.EOF, or what the caller's own code has returned
	}
	for _, d := range st.Details() {
		if p, ok := d.(*adminpb.Problem); ok {
			return fromProblem(p)
		}
	}
	switch st.Code() {
	case codes.Canceled:
		return fault.New(op, fault.Canceled, "%s", st.Message())
	case codes.DeadlineExceeded:
		return fault.New(op, fault.Deadline, "%s", st.Message())
	case codes.Unavailable:
		return &Unreachable{fault.Concluded(op, fault.Lost, "%s", st.Message())}
	case codes.Unimplemented:
		return fault.New(op, fault.Unsupported, "the daemon is of another version: %s", st.Message())
	case codes.ResourceExhausted:
		return fault.New(op, fault.TooLong, "%s", st.Message())
	}
	return fault.New(op, fault.Protocol, "%s", st.Message())
}

// fromProblem takes numbers that no kind can have as Internal.
func fromProblem(p *adminpb.Problem) error {
	kind := fault.Kind(p.GetKind())
	if p.GetKind() == 0 || p.GetKind() > 1<<16-1 {
		kind = fault.Internal
	}
	return &told{clipped(p.GetText()), &fault.Error{Op: "call daemon", Kind: kind, Side: fault.Side(min(p.GetSide(), uint32(fault.Inferred)))}}
}
