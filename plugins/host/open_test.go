package host

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/bridgepb"
	"github.com/pannier/pannier/spec/fault"
)

// slowBridge answers Open after a time, as session 7. What has been cancelled by then has no answer.
type slowBridge struct {
	bridgepb.BridgeClient
	after  time.Duration
	ended  time.Duration // when Open was over
	began  time.Time
	closed []uint64
}

func (b *slowBridge) Open(ctx context.Context, _ *bridgepb.OpenRequest, _ ...grpc.CallOption) (*bridgepb.OpenReply, error) {
	defer func() { b.ended = time.Since(b.began) }()
	select {
	case <-time.After(b.after):
		return &bridgepb.OpenReply{Session: 7}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (b *slowBridge) Close(_ context.Context, r *bridgepb.CloseRequest, _ ...grpc.CallOption) (*bridgepb.CloseReply, error) {
	b.closed = append(b.closed, r.GetSession())
	return &bridgepb.CloseReply{}, nil
}

// TestOpenLate: a session that is there when who has called has gone is closed. A login that takes longer than that is
// cancelled, and nothing is left of it.
func TestOpenLate(t *testing.T) {
	const patience = time.Second
	for name, c := range map[string]struct {
		after, ends time.Duration
		kind        fault.Kind
		closed      int
	}{
		"in time":  {patience - 1, patience - 1, 0, 0},
		"late":     {patience + lateOpen - 1, patience + lateOpen - 1, fault.Deadline, 1},
		"too late": {patience + lateOpen + 1, patience + lateOpen, fault.Deadline, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := &slowBridge{after: c.after, began: time.Now()}
			p := &process{cfg: Config{Name: "x"}.orDefaults(), bridge: b, gone: make(chan struct{})}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			s, err := openOn(ctx, p, plugins.Endpoint{})
			if (s != nil) != (c.kind == 0) || err != nil && fault.KindOf(err) != c.kind || time.Since(b.began) > patience {
				t.Errorf("%s: after %v %v, %v", name, time.Since(b.began), s, err)
			}
			time.Sleep(time.Hour)
			synctest.Wait()
			if len(b.closed) != c.closed || b.ended != c.ends {
				t.Errorf("%s: the login ended after %v, want %v; closed are %v", name, b.ended, c.ends, b.closed)
			}
		})
	}
}
