package bench

import (
	"context"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/spec/fault"
)

// slowMove is a Mover whose moves take so long and fail after some.
type slowMove struct {
	job   Job
	takes time.Duration
	fails int // number of the move that fails; 0: none
}

func (m slowMove) Move(_ context.Context, i int) error {
	time.Sleep(m.takes)
	if i == m.fails {
		return fault.New("move", fault.Lost, "on purpose")
	}
	return os.WriteFile(m.job.Target(i), nil, 0o600)
}

// slowCall is a Caller that counts.
type slowCall struct {
	takes time.Duration
	made  int
}

func (c *slowCall) Call(context.Context) error {
	time.Sleep(c.takes)
	c.made++
	return nil
}

// Three calls of 3 ms fit into a move of 10 ms; the fourth straddles two moves
// and must not count.
func TestCallsBetweenMovesDoNotCount(t *testing.T) {
	job := Job{Dir: t.TempDir(), Size: 1}
	synctest.Test(t, func(t *testing.T) {
		c := &slowCall{takes: 3 * time.Millisecond}
		r := callBeside(t.Context(), slowMove{job: job, takes: 10 * time.Millisecond}, c, job, 9)
		if r.err("end") != nil || r.Latency.Count != 9 || c.made <= 10 || r.Bytes < 2 {
			t.Errorf("%+v, %d calls made", r, c.made)
		}
	})
}

func TestLoadThatFailsIsReported(t *testing.T) {
	job := Job{Dir: t.TempDir(), Size: 1}
	synctest.Test(t, func(t *testing.T) {
		r := callBeside(t.Context(), slowMove{job: job, takes: time.Millisecond, fails: 2}, &slowCall{takes: time.Millisecond}, job, 1000)
		if r.Kind != fault.Lost {
			t.Errorf("%+v", r)
		}
	})
}
