package admin_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

// TestFaultsTravel: kind, side and all words arrive; advice, which is for callers
// of a Go API, does not, but that of reaching a partner, which is for operators.
func TestFaultsTravel(t *testing.T) {
	var said atomic.Pointer[fault.Error]
	n := newNode(t, func(c *admin.Config) {
		c.Reload = func(context.Context) (admin.Reloaded, error) { return admin.Reloaded{}, said.Load() }
	})
	for _, k := range append(fault.Kinds(), 999) {
		for _, side := range []fault.Side{fault.Here, fault.Peer, fault.Inferred} {
			e := fault.New("reach", k, "name %q \xff", "secret").Advise("set X")
			e.Side = side
			said.Store(e)
			n.engine.SetPartner(engine.PartnerStatus{Name: "there"}, e)
			_, plain := n.Reload(t.Context(), &adminpb.ReloadRequest{})
			_, advised := n.TestPartner(t.Context(), &adminpb.TestPartnerRequest{Partner: "there"})
			for want, err := range map[string]error{fault.Plain(e): plain, e.Error(): advised} {
				var f *fault.Error
				if !errors.As(err, &f) || f.Kind != k || f.Side != side {
					t.Fatalf("%v at %v: %v", k, side, err)
				}
				if want := strings.ToValidUTF8(want, "?"); err.Error() != want {
					t.Errorf("%q, want %q", err, want)
				}
				var u *admin.Unreachable
				if errors.As(err, &u) {
					t.Errorf("%v: what a reachable daemon says is not that there is none", err)
				}
			}
		}
	}
	n.engine.SetPartner(engine.PartnerStatus{Name: "there"}, errors.New(strings.Repeat("x", 9000)))
	if _, err := n.TestPartner(t.Context(), &adminpb.TestPartnerRequest{Partner: "there"}); fault.KindOf(err) != fault.Internal || len(err.Error()) > 4096 {
		t.Errorf("%d bytes, %v", len(err.Error()), fault.KindOf(err))
	}
}

// TestStatusWithoutProblem: what is not the daemon's own word has the nearest kind.
func TestStatusWithoutProblem(t *testing.T) {
	for c, k := range map[codes.Code]fault.Kind{
		codes.Canceled: fault.Canceled, codes.DeadlineExceeded: fault.Deadline, codes.Unavailable: fault.Lost,
		codes.Unimplemented: fault.Unsupported, codes.ResourceExhausted: fault.TooLong, codes.DataLoss: fault.Protocol,
	} {
		wantKind(t, admin.FromStatus(status.Error(c, "x")), k)
	}
	st, err := status.New(codes.Internal, "x").WithDetails(&adminpb.Problem{Kind: 1 << 20, Side: 77, Text: "t"})
	if err != nil {
		t.Fatal(err)
	}
	wantKind(t, admin.FromStatus(st.Err()), fault.Internal)
	if admin.FromStatus(nil) != nil {
		t.Error("nil")
	}
}
