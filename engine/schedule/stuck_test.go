package schedule

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/spec/fault"
)

// slow is an engine whose Submit waits until it is let go.
type slow struct {
	*fake
	let  chan struct{}
	once sync.Once
}

func (s *slow) Submit(ctx context.Context, o engine.Order) (lifecycle.Record, bool, error) {
	select {
	case <-s.let:
	case <-ctx.Done():
		return lifecycle.Record{}, false, fault.Wrap("submit", "", ctx.Err())
	}
	return s.fake.Submit(ctx, o)
}

func (s *slow) release() { s.once.Do(func() { close(s.let) }) }

// slowly begins schedules with an engine that waits; clock is called with each look at the clock.
func slowly(t *testing.T, clock func(), all ...Schedule) (*bench, *slow) {
	b := begin(t)
	s := &slow{fake: b.fake, let: make(chan struct{})}
	b.runner.Stop()
	for i := range all {
		b.all[all[i].Name] = all[i]
	}
	var err error
	b.runner, err = Start(Config{Engine: s, Notes: b.notes, Clock: func() time.Time { clock(); return b.now() }}, b.all)
	if err != nil {
		t.Fatal(err)
	}
	return b, s
}

// TestAllBusy: while as many runs as may are being made, the others wait, and nothing turns round.
func TestAllBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var all []Schedule
		for i := range atOnce + 4 {
			s := minutely(t)
			s.Name, s.Overlap = fmt.Sprint("s", i), Wait
			all = append(all, s)
		}
		var looks atomic.Int64
		var s *slow
		b, s := slowly(t, func() {
			if looks.Add(1) == 10_000 {
				t.Error("the schedules look at the clock all the time")
				s.release()
			}
		}, all...)
		pass(5 * time.Minute)
		if n := looks.Load(); n > 200 {
			t.Errorf("%d looks at the clock in five minutes", n)
		}
		s.release()
		pass(time.Minute)
		if n := len(b.got()); n < len(all) {
			t.Errorf("only %d runs were made", n)
		}
		b.stop()
	})
}

// TestOrderedAndChanged: who waits for a run hears of its end although the schedule is changed or
// removed meanwhile.
func TestOrderedAndChanged(t *testing.T) {
	for name, change := range map[string]func(all map[string]Schedule){
		"removed": func(all map[string]Schedule) { delete(all, "s") },
		"changed": func(all map[string]Schedule) {
			s := all["s"]
			s.Times.Cron = mustCron(t, "0 0 1 1 *")
			all["s"] = s
		},
	} {
		for _, begun := range []bool{true, false} {
			bubble(t, fmt.Sprint(name, " begun ", begun), func(t *testing.T) {
				all := []Schedule{minutely(t)}
				if !begun { // others have all places
					for i := range atOnce {
						o := minutely(t)
						o.Name = fmt.Sprint("o", i)
						all = append(all, o)
					}
					all[0].Times.Cron = mustCron(t, "0 0 2 1 *")
				}
				b, s := slowly(t, func() {}, all...)
				if !begun {
					pass(time.Minute)
				}
				ended := make(chan error, 1)
				var run Run
				go func() {
					ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
					defer cancel()
					var err error
					_, run, err = b.runner.Run(ctx, "s", "user 1")
					ended <- err
				}()
				synctest.Wait()
				now := maps.Clone(b.all)
				change(now)
				if err := b.runner.Change(now); err != nil {
					t.Fatal(err)
				}
				pass(time.Second)
				s.release()
				pass(time.Second)
				select {
				case err := <-ended:
					switch {
					case begun && (err != nil || run.Requests != 1):
						t.Errorf("%+v, %v", run, err)
					case !begun && !errors.Is(err, fault.Canceled):
						t.Error(err)
					}
				default:
					t.Error("it waits")
				}
				b.stop()
			})
		}
	}
}

// TestExpectedClockBack: a clock that is set back while the node is down keeps nobody from being told,
// whether files had come by the wrong date or not.
func TestExpectedClockBack(t *testing.T) {
	for _, came := range []bool{false, true} {
		bubble(t, fmt.Sprint("came ", came), func(t *testing.T) {
			x := expectAll(t, hourly(t))
			pass(30 * time.Minute)
			x.off.Store(int64(300 * 24 * time.Hour))
			pass(nap)
			if came {
				x.come("a.csv", true, nil)
			}
			x.count()
			x.stop()
			x.off.Store(0)
			x.start()
			x.says()
			pass(45 * time.Minute)
			x.says("e 01 01:00 late")
			x.stop()
			x.start() // it is not set back any more
			x.says()
			x.come("b.csv", true, nil)
			x.says("e 01 01:00 came late")
			x.stop()
		})
	}
}

// TestExpectedNotSetBack: a restart is no clock that was set back, though a file that is due much later has come.
func TestExpectedNotSetBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := hourly(t)
		e.Times.Cron = mustCron(t, "0 0 1 * *")
		x := expectAll(t, e)
		pass(30 * time.Minute)
		x.come("a.csv", true, nil)
		x.says("e 01 00:00 in time")
		x.stop()
		x.start()
		x.come("b.csv", true, nil)
		x.says()
		x.stop()
	})
}
