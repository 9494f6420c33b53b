package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/pannier/pannier/spec/fault"
)

func TestExitCode(t *testing.T) {
	dial := &net.OpError{Op: "dial", Err: errors.New("no such host")}
	refused := fault.FromPeer("tls handshake", fault.Refused, "bad certificate")
	for _, c := range []struct {
		err  error
		code int
	}{
		{nil, exitDone},
		{errors.New("x"), exitFailed},
		{fault.New("x", fault.Invalid, "x"), exitUsage},
		{fault.New("x", fault.TooLong, "x"), exitUsage},
		{fault.New("x", fault.Permission, "x"), exitPermission},
		{fault.New("x", fault.Unauthenticated, "x"), exitPermission},
		{refused, exitPermission},
		{fault.New("connect", fault.Lost, "handshake: %w", refused), exitPermission},
		{fault.FromPeer("x", fault.NotFound, "x"), exitNotFound},
		{fault.New("x", fault.Corrupt, "x"), exitCorrupt},
		{fault.New("x", fault.SourceChanged, "x"), exitCorrupt},
		{fault.New("x", fault.Lost, "x"), exitUnreachable},
		{fault.New("x", fault.DeadPeer, "x"), exitUnreachable},
		{fault.New("x", fault.NotFound, "%w", dial), exitUnreachable},
		{status.Error(codes.Unavailable, "x"), exitUnreachable},
		{status.Error(codes.DeadlineExceeded, "x"), exitUnreachable},
		{status.Error(codes.Canceled, "x"), exitInterrupted},
		{status.Error(codes.Internal, "x"), exitFailed},
		{fault.New("x", fault.NoSpace, "x"), exitNoSpace},
		{fault.New("x", fault.QuotaExceeded, "x"), exitNoSpace},
		{fmt.Errorf("x: %w", fault.FromPeer("x", fault.QuotaExceeded, "x")), exitNoSpace},
	} {
		if got := exitCode(context.Background(), c.err); got != c.code {
			t.Errorf("%v: exit code %d, want %d", c.err, got, c.code)
		}
	}
	over, cancel := context.WithCancel(context.Background())
	cancel()
	if got := exitCode(over, fault.New("x", fault.Lost, "x")); got != exitInterrupted {
		t.Errorf("interrupted: %d", got)
	}
	if got := exitCode(over, nil); got != exitDone {
		t.Errorf("a server that was stopped: %d", got)
	}
}
