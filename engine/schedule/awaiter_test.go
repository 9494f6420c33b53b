package schedule

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/spec/fault"
)

// waiting is an awaiter with a store of what has come.
type waiting struct {
	t       *testing.T
	dir     string
	off     atomic.Int64
	all     map[string]Expected
	mu      sync.Mutex // guards told and records
	records []lifecycle.Record
	notes   *Notes
	w       *Awaiter
	told    []string
	slow    time.Duration // of Find, for each record
	looked  atomic.Int64  // records that Find has given
}

// hourly is a file at each full hour, for half an hour after it.
func hourly(t testing.TB) Expected {
	return Expected{Name: "e", Times: Times{Cron: mustCron(t, "0 * * * *"), Zone: time.UTC}, Expire: 90 * time.Minute, Rule: "in", Partner: "bank", File: "*.csv"}
}

func expectAll(t *testing.T, all ...Expected) *waiting {
	x := &waiting{t: t, dir: t.TempDir(), all: map[string]Expected{}}
	for _, e := range all {
		if err := e.Check(); err != nil {
			t.Fatal(err)
		}
		x.all[e.Name] = e
	}
	x.start()
	return x
}

func (x *waiting) now() time.Time { return time.Now().Round(0).Add(time.Duration(x.off.Load())) }

func (x *waiting) start() {
	x.t.Helper()
	var err error
	if x.notes, err = OpenNotes(filepath.Join(x.dir, "schedules.db")); err != nil {
		x.t.Fatal(err)
	}
	x.w, err = Expect(AwaiterConfig{Notes: x.notes, Clock: x.now, Log: slog.New(slog.NewTextHandler(x.t.Output(), nil)),
		Find: func(_ context.Context, q store.Query) iter.Seq2[engine.Status, error] {
			return func(yield func(engine.Status, error) bool) {
				x.mu.Lock()
				all := slices.Clone(x.records)
				x.mu.Unlock()
				for _, r := range all {
					if !q.Matches(&r) {
						continue
					}
					if x.slow > 0 {
						time.Sleep(x.slow)
					}
					if x.looked.Add(1); !yield(engine.Status{Record: r}, nil) {
						return
					}
				}
			}
		},
		Told: func(e *Expected, a Awaits) {
			x.mu.Lock()
			defer x.mu.Unlock()
			x.told = append(x.told, fmt.Sprintf("%s %s %s", e.Name, a.Due.UTC().Format("02 15:04"), a.State))
		},
	}, x.all)
	if err != nil {
		x.t.Fatal(err)
	}
	synctest.Wait()
}

func (x *waiting) stop() {
	x.w.Stop()
	if err := x.notes.Close(); err != nil {
		x.t.Error(err)
	}
}

// come has a file come, told or not.
func (x *waiting) come(name string, told bool, change func(*lifecycle.Record)) {
	r := lifecycle.Record{Key: lifecycle.Key{Requester: "bank", ID: lifecycle.ID{byte(len(x.records) + 1)}}, Side: lifecycle.Receiver, State: lifecycle.Done, Changed: x.now(),
		Spec: lifecycle.Spec{Partner: "bank", Rule: "in", Target: mustPath(x.t, name)}}
	if change != nil {
		change(&r)
	}
	x.mu.Lock()
	x.records = append(x.records, r)
	x.mu.Unlock()
	if told {
		x.w.Came(&r)
		synctest.Wait()
	}
}

// says compares what was told since, and forgets it.
func (x *waiting) says(want ...string) {
	x.t.Helper()
	synctest.Wait()
	x.mu.Lock()
	defer x.mu.Unlock()
	if !slices.Equal(x.told, want) {
		x.t.Errorf("told was %q, want %q", x.told, want)
	}
	x.told = nil
}

// count is how many were told since, and forgets them.
func (x *waiting) count() (n int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	n, x.told = len(x.told), nil
	return n
}

// TestExpected: a file that comes is no event but that it came; one that does not is late, then
// missing; and each file counts once.
func TestExpected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := expectAll(t, hourly(t)) // it is midnight
		pass(30 * time.Minute)
		for _, change := range []func(*lifecycle.Record){
			func(r *lifecycle.Record) { r.Side = lifecycle.Sender },
			func(r *lifecycle.Record) { r.State = lifecycle.InError },
			func(r *lifecycle.Record) { r.Spec.Partner = "other" },
			func(r *lifecycle.Record) { r.Spec.Rule = "other" },
			func(r *lifecycle.Record) { r.Spec.Target = mustPath(t, "a.txt") },
		} {
			x.come("a.csv", true, change)
		}
		x.says()
		x.come("in/a.csv", true, nil)
		x.says("e 01 01:00 in time")
		x.come("b.csv", true, nil) // more than was expected: not the one of 02:00
		pass(time.Hour)
		x.says()
		pass(30 * time.Minute)
		x.says("e 01 02:00 late")
		pass(time.Hour)
		x.says("e 01 03:00 late")
		x.come("c.csv", true, nil)
		x.says("e 01 03:00 came late")
		pass(90 * time.Minute)
		x.says("e 01 02:00 missing", "e 01 04:00 late")
		all, err := x.w.List()
		if err != nil || len(all) != 1 || len(all[0].Late) != 1 || all[0].Late[0].Due.Hour() != 4 || all[0].Next.Hour() != 5 || len(all[0].Over) != 3 || all[0].Over[1].Request.ID != (lifecycle.ID{8}) {
			t.Errorf("%+v, %v", all, err)
		}
		x.stop()
	})
}

// TestExpectedRestart: what has come and was due while nobody looked is what it was; nothing
// counts twice.
func TestExpectedRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := expectAll(t, hourly(t))
		pass(30 * time.Minute)
		x.come("a.csv", true, nil)
		x.says("e 01 01:00 in time")
		x.stop()
		x.start()
		x.says()
		pass(50 * time.Minute) // 01:20
		x.come("b.csv", false, nil)
		x.stop()
		pass(2 * time.Hour) // 03:20
		x.start()
		x.says("e 01 02:00 in time", "e 01 03:00 late")
		x.stop()
		x.start()
		x.says()
		pass(70 * time.Minute)
		x.says("e 01 04:00 late", "e 01 03:00 missing")
		x.stop()
	})
}

// TestExpectedOnce: one file at one time, and none after it; one whose time has been is
// late at once.
func TestExpectedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, past := hourly(t), hourly(t)
		e.Times, e.At = Times{}, time.Now().Add(time.Hour)
		past.Name, past.Times, past.At, past.File = "past", Times{}, time.Now().Add(-time.Hour), "x"
		x := expectAll(t, e, past)
		x.says("past 31 23:00 late")
		all, err := x.w.List()
		if err != nil || len(all) != 2 || all[0].Expected.Name != "past" { // the late one first
			t.Errorf("%+v, %v", all, err)
		}
		x.come("a.csv", true, nil)
		x.come("b.csv", true, nil)
		x.says("e 01 01:00 in time")
		pass(48 * time.Hour)
		x.says("past 31 23:00 missing")
		x.stop()
	})
}

// daily is a file at each 18:00, for two days after it.
func daily(t testing.TB) Expected {
	e := hourly(t)
	e.Times.Cron, e.Expire = mustCron(t, "0 18 * * *"), 48*time.Hour
	return e
}

// until lets time pass up to that hour of that day.
func (x *waiting) until(day, hour int) {
	pass(time.Date(2000, 1, day, hour, 0, 0, 0, time.UTC).Sub(x.now()))
	synctest.Wait()
}

// TestExpectedAfterMissed: a file that was missed once is late once; what comes about the next
// time is that one, and no alarm.
func TestExpectedAfterMissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := expectAll(t, daily(t))
		x.until(1, 19)
		x.says("e 01 18:00 late")
		for day := 2; day <= 3; day++ { // as ever, an hour before
			x.until(day, 17)
			x.come("a.csv", true, nil)
			x.says(fmt.Sprintf("e %02d 18:00 in time", day))
		}
		x.until(3, 20)
		x.says("e 01 18:00 missing")
		x.until(4, 19)
		x.says("e 04 18:00 late")
		x.until(5, 3) // at night: it is nearer to that of yesterday
		x.come("b.csv", true, nil)
		x.says("e 04 18:00 came late")
		x.until(5, 17)
		x.come("c.csv", true, nil)
		x.says("e 05 18:00 in time")
		x.until(7, 19)
		x.says("e 06 18:00 late", "e 07 18:00 late")
		x.come("d.csv", true, nil)
		x.come("e.csv", true, nil) // the partner has found both
		x.says("e 07 18:00 came late", "e 06 18:00 came late")
		x.stop()
	})
}

// TestExpectedEarly: with early, what comes before is that of yesterday, or none.
func TestExpectedEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := daily(t)
		e.Early = 14 * time.Hour
		x := expectAll(t, e)
		x.until(1, 19)
		x.says("e 01 18:00 late")
		x.until(2, 5) // 13 hours before
		x.come("a.csv", true, nil)
		x.says("e 02 18:00 in time")
		x.until(3, 3) // 15 hours before
		x.come("b.csv", true, nil)
		x.says("e 01 18:00 came late")
		x.come("c.csv", true, nil)
		x.says()
		x.stop()
	})
}

// TestAcknowledge: what is known is not late any more, survives a restart, and comes no more;
// the next file is the next one.
func TestAcknowledge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := expectAll(t, daily(t))
		none := func(name string, due time.Time) {
			t.Helper()
			if err := x.w.Acknowledge(name, "user 0", due); !errors.Is(err, fault.NotFound) {
				t.Error(err)
			}
		}
		none("other", time.Time{})
		none("e", time.Time{})
		x.until(2, 19)
		x.says("e 01 18:00 late", "e 02 18:00 late")
		none("e", x.now())
		if err := x.w.Acknowledge("e", "user 0", time.Date(2000, 1, 2, 18, 0, 0, 0, time.UTC)); err != nil {
			t.Fatal(err)
		}
		x.says("e 02 18:00 acknowledged")
		if err := x.w.Acknowledge("e", "user 0", time.Time{}); err != nil {
			t.Fatal(err)
		}
		x.says("e 01 18:00 acknowledged")
		none("e", time.Time{})
		x.stop()
		x.start()
		all, err := x.w.List()
		if err != nil || all[0].State() != Awaited || all[0].Over[0].State != Known || all[0].Over[0].By != "user 0" {
			t.Errorf("%+v, %v", all, err)
		}
		x.until(3, 3)
		x.come("a.csv", true, nil)
		x.says("e 03 18:00 in time")
		x.stop()
	})
}

// TestExpectedChanged: other times begin now, what goes is forgotten.
func TestExpectedChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := expectAll(t, hourly(t))
		pass(90 * time.Minute)
		x.says("e 01 01:00 late")
		e := hourly(t)
		e.Expire = time.Hour // its times are the same: 01:00 is waited for still
		if err := x.w.Change(map[string]Expected{"e": e}); err != nil {
			t.Fatal(err)
		}
		pass(40 * time.Minute)
		x.says("e 01 02:00 late", "e 01 01:00 missing")
		e.Times.Cron = mustCron(t, "30 * * * *")
		if err := x.w.Change(map[string]Expected{"e": e}); err != nil {
			t.Fatal(err)
		}
		pass(time.Hour)
		x.says("e 01 02:30 late")
		if err := x.w.Change(nil); err != nil {
			t.Fatal(err)
		}
		pass(time.Hour)
		x.says()
		x.stop()
		if _, err := x.w.List(); !errors.Is(err, fault.Draining) {
			t.Error(err)
		}
	})
}

// TestExpectedClock: a clock that was set ahead and back again leaves nothing waiting for a
// time that is far.
func TestExpectedClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := expectAll(t, hourly(t))
		pass(30 * time.Minute)
		x.off.Store(int64(300 * 24 * time.Hour))
		pass(nap)
		if n := x.count(); n != 2*MaxWaited-1 { // of the last hundred hours, all but one are missing
			t.Errorf("%d were told", n)
		}
		x.off.Store(0)
		pass(nap)
		pass(time.Hour)
		x.says("e 01 01:00 late")
		x.stop()
	})
}

// TestExpectedMany: more than the channel holds comes at once, and nothing is lost.
func TestExpectedMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var all []Expected
		for i := range 300 {
			e := hourly(t)
			e.Name, e.File = fmt.Sprint(i), fmt.Sprintf("f%d", i)
			all = append(all, e)
		}
		x := expectAll(t, all...)
		for i := range all {
			x.come(fmt.Sprintf("f%d", i), false, func(r *lifecycle.Record) { r.Key.ID[15] = byte(i / 200); x.w.Came(r) })
		}
		pass(2 * nap)
		if n := x.count(); n != 300 {
			t.Errorf("%d were told", n)
		}
		x.stop()
	})
}

// TestExpectedSearch: what has come is looked through once, however many files are expected and however
// many come meanwhile that nobody expects; the awaiter answers during it, and what comes then counts.
// After a restart it is not looked through again.
func TestExpectedSearch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var all []Expected
		for i := range 50 {
			e := hourly(t)
			e.Name, e.File = fmt.Sprint(i), fmt.Sprintf("f%d", i)
			all = append(all, e)
		}
		x := expectAll(t, all...)
		x.stop()
		pass(time.Minute)
		for range 1000 {
			x.come("other", false, nil)
		}
		x.come("f3", false, nil)
		x.slow = time.Second
		x.start()
		other := func(r *lifecycle.Record) { r.Spec.Rule = "other" }
		for range 600 {
			x.come("x", true, other)
			x.come("y", true, nil)
		}
		x.come("f7", true, nil)
		began := time.Now()
		if list, err := x.w.List(); err != nil || len(list) != 50 {
			t.Errorf("%d, %v", len(list), err)
		}
		if err := x.w.Change(x.all); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took > 0 {
			t.Errorf("answers took %v", took)
		}
		x.says()
		pass(40 * time.Minute)
		x.says("3 01 01:00 in time", "7 01 01:00 in time")
		if n := x.looked.Load(); n != 1001 {
			t.Errorf("it has looked at %d, there were 1001", n)
		}
		x.stop()
		x.slow = 0
		x.start()
		if n := x.looked.Load(); n != 1001 {
			t.Errorf("after a restart it has looked at %d again", n-1001)
		}
		x.stop()
	})
}

func TestExpectedChecked(t *testing.T) {
	for want, change := range map[string]func(*Expected){
		"its name":   func(e *Expected) { e.Name = "" },
		"the one":    func(e *Expected) { e.At = time.Now() },
		"a rule":     func(e *Expected) { e.Partner = "" },
		"negative":   func(e *Expected) { e.Early = -1 },
		"expire":     func(e *Expected) { e.Expire = time.Second },
		"which file": func(e *Expected) { e.File = "" },
		"no pattern": func(e *Expected) { e.File = "[a" },
	} {
		e := hourly(t)
		change(&e)
		if err := e.Check(); !errors.Is(err, fault.Invalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	for text, want := range map[string]string{"2026-12-01T18:00:00+01:00": "17:00", "2026-12-01 18:00": "17:00"} {
		if at, err := ParseAt(text, mustZone(t, "Europe/Berlin")); err != nil || at.UTC().Format("15:04") != want {
			t.Errorf("%s: %v, %v", text, at, err)
		}
	}
	if _, err := ParseAt("tomorrow", time.UTC); !errors.Is(err, fault.Invalid) {
		t.Error(err)
	}
}
