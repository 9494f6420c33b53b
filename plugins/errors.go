package plugins

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"

	"github.com/pannier/pannier/spec/bridgepb"
	"github.com/pannier/pannier/spec/fault"
)

// Errors of a driver as they travel to the host: whole, because both run for the same
// operator, who needs the names and paths in them.

// grpcCodes are for those who look at the code alone; the kind is in the detail.
var grpcCodes = map[fault.Kind]codes.Code{
	fault.Invalid: codes.InvalidArgument, fault.Canceled: codes.Canceled, fault.Deadline: codes.DeadlineExceeded, fault.NotFound: codes.NotFound,
	fault.Exists: codes.AlreadyExists, fault.Permission: codes.PermissionDenied, fault.Unauthenticated: codes.Unauthenticated,
	fault.Unsupported: codes.Unimplemented, fault.Corrupt: codes.DataLoss, fault.Internal: codes.Internal, fault.Overloaded: codes.ResourceExhausted,
}

// asStatus is err with a Failure as its detail; nil stays nil.
func asStatus(err error) error {
	if err == nil {
		return nil
	}
	f := asFailure(err)
	code, ok := grpcCodes[fault.Kind(f.GetKind())]
	if !ok {
		code = codes.Unknown
	}
	s, detailErr := status.New(code, f.GetText()).WithDetails(protoadapt.MessageV1Of(f))
	if detailErr != nil {
		return status.Error(codes.Internal, detailErr.Error())
	}
	return s.Err()
}

// asFailure takes the outermost *fault.Error apart. What its causes advise is advice, too: Text has none.
func asFailure(err error) *bridgepb.Failure {
	f := &bridgepb.Failure{Kind: uint32(fault.KindOf(err)), Op: "use driver", Text: cut(err.Error())}
	var e *fault.Error
	if errors.As(err, &e) {
		f.Side, f.Op, f.Subject, f.Text = uint32(e.Side), cut(e.Op), cut(e.Subject), ""
		if e.Err != nil {
			f.Text = cut(fault.Plain(e.Err))
		}
		f.Advice = cut(fault.Advice(e))
	}
	if n, ok := errors.AsType[Native](err); ok {
		f.Code = cut(n.Code)
	}
	return f
}

// cut is s as valid text of a length that a message has room for.
func cut(s string) string {
	const most = 2 * MaxName
	return string([]rune(s[:min(len(s), most)]))
}

// recovered makes a panic of the driver an error of its call, in a deferred call.
func recovered(op string, err *error) {
	if v := recover(); v != nil {
		slog.Error("the driver has panicked", "in", op, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
		*err = fault.New(op, fault.Internal, "the driver has panicked: %s", fmt.Sprint(v)).Advise("tell who has made the plugin; its log has the stack")
	}
}
