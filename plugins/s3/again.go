package s3

import (
	"context"
	"time"

	"github.com/pannier/pannier/spec/fault"
)

// attempts is how often a request that may be repeated is made; pauses between them begin
// with firstPause and double.
const (
	attempts   = 3
	firstPause = 200 * time.Millisecond
)

// again makes a request that may be repeated, until it succeeds, fails in a way that no
// repetition changes, or has failed often enough. A server that was silent is not asked
// again: that has taken its time.
func again(ctx context.Context, request func() error) error {
	pause := firstPause
	for n := 1; ; n++ {
		err := request()
		switch fault.KindOf(err) {
		case fault.Lost, fault.Overloaded, fault.IO:
		default:
			return err
		}
		if err == nil || n == attempts {
			return err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return err
		}
		pause *= 2
	}
}
