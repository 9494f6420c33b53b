package answers

import (
	"maps"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestWithin: who does not answer is waited for once, all of them together, and is asked once however
// often it is asked for; others are heard, and who answers late is asked anew.
func TestWithin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		goOn := make(chan struct{})
		var calls atomic.Int32
		a := To(func(name string) string {
			switch name {
			case "well":
				return "yes"
			case "slow":
				time.Sleep(Patience / 2)
				return "late"
			}
			calls.Add(1)
			<-goOn
			return "at last"
		})
		began := time.Now()
		for range 3 {
			if said := a.Within(Patience, "hung", "well", "hung2", "slow", "hung"); !maps.Equal(said, map[string]string{"well": "yes", "slow": "late"}) {
				t.Errorf("%q", said)
			}
		}
		if took := time.Since(began); took != 3*Patience || calls.Load() != 2 {
			t.Errorf("after %v, asked %d times", took, calls.Load())
		}
		close(goOn)
		synctest.Wait()
		if said := a.Within(Patience, "hung"); said["hung"] != "at last" || calls.Load() != 3 || time.Since(began) != 3*Patience {
			t.Errorf("%q, asked %d times", said, calls.Load())
		}
	})
}
