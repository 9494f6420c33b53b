package host

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"
)

// mute is a process that does not answer its first question; it is late by so much when that is known.
type mute struct {
	grpc_health_v1.HealthClient
	late  time.Duration
	asked int
}

func (m *mute) Check(ctx context.Context, _ *grpc_health_v1.HealthCheckRequest, _ ...grpc.CallOption) (*grpc_health_v1.HealthCheckResponse, error) {
	if m.asked++; m.asked > 1 {
		return &grpc_health_v1.HealthCheckResponse{}, nil
	}
	<-ctx.Done()
	if m.late > 0 {
		time.Sleep(m.late)
	}
	return nil, ctx.Err()
}

// TestWatch: a process that does not answer in time is killed, unless this one stood still meanwhile and
// could not have heard it: then it is asked again.
func TestWatch(t *testing.T) {
	for _, late := range []time.Duration{0, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			m := &mute{late: late}
			p := &process{cfg: Config{Name: "mute", Answer: 10 * time.Second, Log: slog.New(slog.DiscardHandler)}, health: m, gone: make(chan struct{})}
			killed := false
			end := sync.OnceFunc(func() { close(p.gone) })
			p.kill = func() { killed = true; end() }
			go p.watch()
			time.Sleep(late + time.Minute)
			end()
			synctest.Wait()
			if killed != (late == 0) || killed == (m.asked > 1) {
				t.Errorf("late by %v: killed %v, asked %d times", late, killed, m.asked)
			}
		})
	}
}
