package engine

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// TestStalls: bytes that stand still are given up, those that have all gone when the other end
// has had time to look through them.
func TestStalls(t *testing.T) {
	const size = 64 << 30
	for _, c := range []struct {
		what     string
		received int64
		want     time.Duration
	}{
		{"on the way", size / 2, stallLimit},
		{"all of them", size, stallLimit + size/lookRate*time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			x := &run{ctx: t.Context(), live: Live{Received: c.received, Total: size}}
			began := time.Now()
			err := x.stalls(func(ctx context.Context) error {
				time.Sleep(time.Second)
				x.mu.Lock()
				x.rose = time.Now()
				x.mu.Unlock()
				<-ctx.Done()
				return ctx.Err()
			})
			if took := time.Since(began); err != error(errStalled) || took != c.want+time.Second {
				t.Errorf("%s: %v after %v, not %v", c.what, err, took, c.want)
			}
		})
	}
}

// TestJudged: nobody says of bytes that have all gone that they stand still, while somebody else sees to it
// that the other end is there.
func TestJudged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := &run{ctx: t.Context(), live: Live{Received: 10, Total: 10}}
		began := time.Now()
		err := x.stalls(func(ctx context.Context) error {
			x.mu.Lock()
			x.rose = time.Now()
			x.mu.Unlock()
			var j Judging = ledger{x}
			if err := j.Judged(func() error {
				time.Sleep(10 * time.Hour)
				return ctx.Err()
			}); err != nil {
				t.Errorf("the verdict: %v", err)
			}
			<-ctx.Done()
			return ctx.Err()
		})
		if took := time.Since(began); err != error(errStalled) || took < 10*time.Hour+stallLimit || took > 10*time.Hour+2*stallLimit {
			t.Errorf("afterwards: %v after %v", err, took)
		}
	})
}
