package command

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/pannier/pannier/spec/fault"
)

// Exit codes of all commands. They are API: never renumbered, only added to.
const (
	Done        = 0
	Failed      = 1
	Usage       = 2
	Some        = 3
	Permission  = 4
	NotFound    = 5
	Corrupt     = 6
	Unreachable = 7
	Running     = 8
	NoSpace     = 10
	Refused     = 11
	NoDaemon    = 12
	TaskFailed  = 13
	Cancelled   = 14
	Interrupted = 130
)

// exits is the table of exit codes: what the help says, and which kinds of
// errors end a command with which.
var exits = []struct {
	code    int
	meaning string
	kinds   []fault.Kind
}{
	{Done, "done", nil},
	{Failed, "failed, not otherwise classified", nil},
	{Usage, "usage: a flag, an argument or a name is wrong", []fault.Kind{fault.Invalid, fault.TooLong}},
	{Some, "some of what was asked failed: results on stdout, failures on stderr", nil},
	{Permission, "permission denied, or one end does not accept the other's key or password", []fault.Kind{fault.Permission, fault.Unauthenticated}},
	{NotFound, "not found", []fault.Kind{fault.NotFound}},
	{Corrupt, "what arrived is not what was sent", []fault.Kind{fault.Corrupt, fault.SourceChanged}},
	{Unreachable, "the peer is unreachable or stopped answering; try again later",
		[]fault.Kind{fault.Lost, fault.DeadPeer, fault.Deadline, fault.Draining}},
	{Running, "what was waited for is still running", nil},
	{NoSpace, "no space, or a quota is used up", []fault.Kind{fault.NoSpace, fault.QuotaExceeded}},
	{Refused, "the peer refused, or a task of its could not be done or has run into its time limit", []fault.Kind{fault.Refused}},
	{NoDaemon, "the daemon of this host does not answer", nil},
	{TaskFailed, "a task of this node has refused the file, could not be done, or has run into its time limit", nil},
	{Cancelled, "an operator of either node has cancelled the request", nil},
	{Interrupted, "interrupted", []fault.Kind{fault.Canceled}},
}

func exitCodesTopic() *cobra.Command {
	var b strings.Builder
	for _, e := range exits {
		fmt.Fprintf(&b, "%-3d  %s\n", e.code, e.meaning)
	}
	b.WriteString("\nNew codes may be added; treat an unknown one as failure.")
	return Topic("exit-codes", "What the exit codes mean", b.String())
}

// Topic is a text that "help" prints.
func Topic(name, short, text string) *cobra.Command {
	return &cobra.Command{Use: name, Short: short, Long: text}
}

// A partial is the error of a command that has printed results all the same.
type partial struct{ error }

func (p partial) Unwrap() error { return p.error }

// Partial marks err as the failure of a part: the rest was done. Partial(nil) is nil.
func Partial(err error) error {
	if err == nil {
		return nil
	}
	return partial{err}
}

// A coded is an error whose exit code is not that of its kind.
type coded struct {
	error
	code int
}

func (c coded) Unwrap() error { return c.error }

// WithCode gives err that exit code, whatever its kind and whatever has ended
// the command. WithCode(nil) is nil.
func WithCode(code int, err error) error {
	if err == nil {
		return nil
	}
	return coded{err, code}
}

// errSilent is the cause of what Exit returns.
var errSilent = errors.New("said already")

// Exit ends a command with that code and without an error's message: the command
// has said what there is to say. Exit(Done) is nil.
func Exit(code int) error {
	if code == Done {
		return nil
	}
	return coded{errSilent, code}
}

// Code is the exit code for what a command returned. Whatever fails once ctx is
// over fails because of that.
func Code(ctx context.Context, err error) int {
	var part partial
	var own coded
	some, coded := errors.As(err, &part), errors.As(err, &own)
	if some && coded && !errors.As(own.error, &part) {
		coded = false // it is the code of the part
	}
	switch {
	case err == nil:
		return Done
	case coded:
		return own.code
	case ctx.Err() != nil:
		return Interrupted
	case some:
		return Some
	}
	k := KindOf(err)
	for _, e := range exits {
		for _, kind := range e.kinds {
			if kind == k {
				return e.code
			}
		}
	}
	return Failed
}

// KeyRefused reports whether the peer did not accept this end's key: it ended
// the TLS handshake with an alert, which crypto/tls marks by Op alone.
func KeyRefused(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error"
}

// KindOf is the kind of err as the user of a command sees it. A peer that cannot
// be dialed is lost, whatever its name or socket lacks; one that does not accept
// this end's key, which ends sessions and reads as lost further out, denies
// permission; gRPC's own statuses, which have no kind, count as their nearest one.
func KindOf(err error) fault.Kind {
	var op *net.OpError
	switch {
	case errors.As(err, &op) && op.Op == "dial":
		return fault.Lost
	case KeyRefused(err):
		return fault.Permission
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
