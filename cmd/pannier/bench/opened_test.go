package bench

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/plugins/dir"
	"github.com/pannier/pannier/plugins/host"
	"github.com/pannier/pannier/spec/fault"
)

// together is the driver dir, which lets nobody in before all have come.
type together struct {
	dir.Driver
	all *sync.WaitGroup
}

func (d together) Open(ctx context.Context, to plugins.Endpoint) (plugins.Session, error) {
	d.all.Done()
	came := make(chan struct{})
	go func() {
		d.all.Wait()
		close(came)
	}()
	select {
	case <-came:
		return d.Driver.Open(ctx, to)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// TestOpened: logins wait for no other, and one that is refused does not take the others along.
func TestOpened(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	all := &sync.WaitGroup{}
	p := host.InProcess(host.Config{Name: "dir"}, together{all: all})
	defer func() { _ = p.Close(context.Background()) }()
	for last, refused := range map[string]bool{t.TempDir(): false, t.TempDir() + "/none": true} {
		all.Add(2)
		sessions, err := opened(ctx, p, []plugins.Endpoint{{URL: "dir://" + t.TempDir()}, {URL: "dir://" + last}})
		if refused && (len(sessions) != 1 || fault.KindOf(err) != fault.NotFound) || !refused && (len(sessions) != 2 || err != nil) {
			t.Errorf("refused %v: %d sessions, %v", refused, len(sessions), err)
		}
		for _, s := range sessions {
			_ = s.Close()
		}
	}
}
