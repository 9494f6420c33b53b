package engine

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/spec/fault"
)

// TestJitter: those that try to reach a partner which is down come at times that are spread over the
// whole of the back-off, none of them at once.
func TestJitter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const nodes, parts = 1000, 10
		for tries, most := range map[int]time.Duration{0: time.Second, 3: 8 * time.Second, 30: 2 * time.Minute} {
			var in [parts]int
			for range nodes {
				l := &line{tries: tries}
				l.down(fault.New("reach", fault.Lost, "nobody answers"))
				wait := time.Until(l.retryAt) - time.Second/2
				if wait < 0 || wait >= most || l.tries != tries+1 {
					t.Fatalf("after %d tries: %v, want less than %v", tries, wait, most)
				}
				in[int(wait*parts/most)]++
			}
			for i, n := range in { // 100 of each; less than half of that comes by chance once in a million times
				if n < nodes/parts/2 {
					t.Errorf("after %d tries %d of %d are in part %d of %v: %v", tries, n, nodes, i, most, in)
				}
			}
		}
	})
}
