package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"testing"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/pannier/pannier/spec/fault"
)

// TestCodeOfKinds: the numbers are API.
func TestCodeOfKinds(t *testing.T) {
	want := map[fault.Kind]int{
		fault.Invalid: 2, fault.TooLong: 2, fault.Permission: 4, fault.Unauthenticated: 4, fault.NotFound: 5, fault.Corrupt: 6,
		fault.SourceChanged: 6, fault.Lost: 7, fault.DeadPeer: 7, fault.Deadline: 7, fault.Draining: 7,
		fault.NoSpace: 10, fault.QuotaExceeded: 10, fault.Refused: 11, fault.Canceled: 130,
	}
	for _, k := range fault.Kinds() {
		code := want[k]
		if code == 0 {
			code = Failed
		}
		if got := Code(t.Context(), fault.New("test", k, "x")); got != code {
			t.Errorf("%v: %d, want %d", k, got, code)
		}
	}
}

func TestCode(t *testing.T) {
	dial := &net.OpError{Op: "dial", Err: errors.New("no such host")}
	alert := &fault.Error{Op: "tls handshake", Kind: fault.Refused, Side: fault.Peer, Err: &net.OpError{Op: "remote error", Err: errors.New("bad certificate")}}
	for _, c := range []struct {
		err  error
		code int
	}{
		{nil, Done},
		{errors.New("x"), Failed},
		{alert, Permission},
		{fault.New("connect", fault.Lost, "handshake: %w", alert), Permission},
		{fault.New("x", fault.NotFound, "%w", dial), Unreachable},
		{status.Error(codes.Unavailable, "x"), Unreachable},
		{status.Error(codes.DeadlineExceeded, "x"), Unreachable},
		{status.Error(codes.Canceled, "x"), Interrupted},
		{status.Error(codes.Internal, "x"), Failed},
		{fmt.Errorf("x: %w", fault.FromPeer("x", fault.QuotaExceeded, "x")), NoSpace},
		{Suggest(fault.New("x", fault.NotFound, "x"), "look elsewhere"), NotFound},
		{Partial(fault.New("x", fault.NotFound, "x")), Some},
		{Partial(nil), Done},
		{Partial(errors.Join(WithCode(TaskFailed, errors.New("x")))), Some},
		{WithCode(Running, Partial(WithCode(TaskFailed, errors.New("x")))), Running},
		{WithCode(TaskFailed, fault.New("x", fault.Refused, "x")), 13},
		{WithCode(Cancelled, fault.New("x", fault.Canceled, "x")), 14},
		{WithCode(NoDaemon, fault.New("x", fault.Lost, "x")), NoDaemon},
		{Suggest(WithCode(Failed, fault.New("x", fault.Canceled, "x")), "again"), Failed},
		{WithCode(Failed, nil), Done},
		{Exit(Done), Done},
	} {
		if got := Code(t.Context(), c.err); got != c.code {
			t.Errorf("%v: exit code %d, want %d", c.err, got, c.code)
		}
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if got := Code(over, Partial(fault.New("x", fault.Lost, "x"))); got != Interrupted {
		t.Errorf("interrupted: %d", got)
	}
	if got := Code(over, Exit(Running)); got != Running {
		t.Errorf("a code of its own: %d", got)
	}
	if got := Code(over, nil); got != Done {
		t.Errorf("a server that was stopped: %d", got)
	}
}

// TestExitCodesAreDocumented: each in one line, in order.
func TestExitCodesAreDocumented(t *testing.T) {
	const want = `0    done
1    failed, not otherwise classified
2    usage: a flag, an argument or a name is wrong
3    some of what was asked failed: results on stdout, failures on stderr
4    permission denied, or one end does not accept the other's key or password
5    not found
6    what arrived is not what was sent
7    the peer is unreachable or stopped answering; try again later
8    what was waited for is still running
10   no space, or a quota is used up
11   the peer refused, or a task of its could not be done or has run into its time limit
12   the daemon of this host does not answer
13   a task of this node has refused the file, could not be done, or has run into its time limit
14   an operator of either node has cancelled the request
130  interrupted

New codes may be added; treat an unknown one as failure.

`
	code, out, messages := run("help", "exit-codes")
	if code != Done || out != want || messages != "" {
		t.Errorf("%d, %s%s", code, out, messages)
	}
}

// run is Run of a small command.
func run(args ...string) (code int, out, messages string) {
	sub := &cobra.Command{Use: "copy FROM TO", Args: Arguments(2), RunE: func(*cobra.Command, []string) error {
		return fault.New("copy", fault.NotFound, "no \x1b[31msuch\nfile").Advise("set Name")
	}}
	sub.Flags().Var(Size(new(int64), 1), "size", "bytes")
	var o, m bytes.Buffer
	code = Run(context.Background(), Root(&cobra.Command{Use: "tool", Long: "A tool."}, sub), args, nil, &o, &m)
	return code, o.String(), m.String()
}
