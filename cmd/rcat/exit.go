package main

import (
	"context"
	"errors"
	"net"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/pannier/pannier/spec/fault"
)

// Exit codes. They are API: never renumbered, only added to.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitPermission  = 4
	exitNotFound    = 5
	exitCorrupt     = 6
	exitUnreachable = 7
	exitNoSpace     = 10
	exitInterrupted = 130
)

const exitText = `0    done
1    failed, not otherwise classified
2    usage: a flag, an argument or a name is wrong
4    permission denied, or one end refused the other's key
5    the file is not found
6    what arrived is not what was sent
7    the server is unreachable or stopped answering
10   no space, or a quota is used up
130  interrupted

New codes may be added; treat an unknown one as failure.`

func exitCodesTopic() *cobra.Command {
	return &cobra.Command{Use: "exit-codes", Short: "What the exit codes mean", Long: exitText}
}

// exitCode is the code for what a command returned. Whatever fails once ctx is
// over fails because of that.
func exitCode(ctx context.Context, err error) int {
	switch {
	case err == nil:
		return exitDone
	case ctx.Err() != nil:
		return exitInterrupted
	}
	switch kindOf(err) {
	case fault.Invalid, fault.TooLong:
		return exitUsage
	case fault.Permission, fault.Unauthenticated, fault.Refused:
		return exitPermission
	case fault.NotFound:
		return exitNotFound
	case fault.Corrupt, fault.SourceChanged:
		return exitCorrupt
	case fault.Lost, fault.DeadPeer, fault.Deadline, fault.Draining:
		return exitUnreachable
	case fault.NoSpace, fault.QuotaExceeded:
		return exitNoSpace
	case fault.Canceled:
		return exitInterrupted
	}
	return exitFailed
}

// kindOf is the kind of err. A server that cannot be dialed is lost, whatever
// its name or socket lacks; gRPC's own statuses, which have no kind, count as
// their nearest one.
func kindOf(err error) fault.Kind {
	var dial *net.OpError
	if errors.As(err, &dial) && dial.Op == "dial" {
		return fault.Lost
	}
	if errors.Is(err, fault.Refused) {
		return fault.Refused // also where it ended a session, which reads as lost
	}
	var known *fault.Error
	if s, ok := status.FromError(err); ok && !errors.As(err, &known) {
		switch s.Code() {
		case codes.Unavailable:
			return fault.Lost
		case codes.DeadlineExceeded:
			return fault.Deadline
		case codes.Canceled:
			return fault.Canceled
		}
	}
	return fault.KindOf(err)
}
