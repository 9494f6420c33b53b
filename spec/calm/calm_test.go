package calm_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/spec/calm"
)

// TestSpeak: the first hundred of each partner's are told, then one a second with the number of
// those that were not; one partner's noise hides no other.
func TestSpeak(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c calm.Calm
		told := 0
		for range 1000 {
			if untold, yes := c.Speak("loud"); yes && untold != 0 {
				t.Errorf("%d were not told of the first", untold)
			} else if yes {
				told++
			}
		}
		if told != 100 {
			t.Errorf("%d of 1,000 at once are told", told)
		}
		if _, yes := c.Speak("other"); !yes {
			t.Error("another partner is not heard")
		}
		time.Sleep(time.Second)
		if untold, yes := c.Speak("loud"); !yes || untold != 900 {
			t.Errorf("a second later: %v, %d before it were not", yes, untold)
		}
		if _, yes := c.Speak("loud"); yes {
			t.Error("two in a second")
		}
	})
}
