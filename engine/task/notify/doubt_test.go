package notify

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/spec/fault"
)

// TestDoubt: after one message was given up the others do not wait for its server: one a
// second is tried, for a second, until one is taken. Who wants all attempts has them.
func TestDoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &doubts{of: map[string]*doubt{}}
		const dead, hangs, alive, rejects = "dead", "hangs", "alive", "rejects"
		is, calls := dead, 0
		once := func(ctx context.Context) error {
			calls++
			switch is {
			case dead:
				return fault.New("notify", fault.Lost, "it is away")
			case hangs:
				<-ctx.Done()
				return ctx.Err()
			case rejects:
				return permanent{errors.New("not for me")}
			}
			return nil
		}
		tell := func(c common, wantCalls int, wantTime time.Duration, wantSaid string) {
			t.Helper()
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			calls = 0
			began := time.Now()
			res, err := c.try(ctx, once)
			if took := time.Since(began); calls != wantCalls || took != wantTime {
				t.Errorf("%s: %d calls in %v, want %d in %v", is, calls, took, wantCalls, wantTime)
			}
			if err != nil || (res.Warning != "") != (wantSaid != "") || !strings.Contains(string(res.Output), wantSaid) {
				t.Errorf("%s: %v, %q %s", is, err, res.Warning, res.Output)
			}
		}
		any := common{server: "hooks.example", attempts: attempts, doubts: d}
		patient, elsewhere := any, any
		patient.patient, elsewhere.server = true, "other.example"

		tell(any, 4, 7*first, "it is away")
		tell(any, 0, 0, "hooks.example has taken nothing since ")
		tell(elsewhere, 4, 7*first, "it is away")
		time.Sleep(probeTime)
		tell(any, 1, 0, "it is away")
		tell(any, 0, 0, "has taken nothing")
		is = hangs
		time.Sleep(probeTime)
		tell(any, 1, probeTime, "deadline")
		is = dead
		tell(patient, 4, 7*first, "it is away")
		is = rejects // it answers
		time.Sleep(probeTime)
		tell(any, 1, 0, "not for me")
		is = dead
		tell(any, 4, 7*first, "it is away")
		is = alive
		tell(any, 0, 0, "has taken nothing")
		time.Sleep(probeTime)
		tell(any, 1, 0, "")
		tell(any, 1, 0, "")
	})
}

// TestDoubtMeanwhile: messages that are being tried when another is given up make no further
// attempt.
func TestDoubtMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &doubts{of: map[string]*doubt{}}
		c := common{server: "hooks.example", attempts: attempts, doubts: d}
		calls := 0
		res, err := c.try(t.Context(), func(context.Context) error {
			if calls++; calls == 2 {
				d.given(c.server, time.Now())
			}
			return errors.New("away")
		})
		if err != nil || res.Warning == "" || calls != 2 {
			t.Errorf("%+v, %v after %d calls", res, err, calls)
		}
	})
}
