package schedule

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"runtime"
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
	"github.com/pannier/pannier/spec/relpath"
)

// fake is an engine that keeps what is registered.
type fake struct {
	mu       sync.Mutex
	orders   map[lifecycle.ID]engine.Order
	made     []string // sources, in order, once for each request
	refuse   error    // of Submit
	together []int    // of each
	open     bool     // what is registered stays open
	dead     bool     // the process has been killed: nothing is registered any more
}

func (f *fake) Submit(_ context.Context, o engine.Order) (lifecycle.Record, bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dead {
		return lifecycle.Record{}, false, fault.New("submit", fault.Draining, "dead")
	}
	if f.refuse != nil {
		return lifecycle.Record{}, false, f.refuse
	}
	if _, there := f.orders[o.ID]; there {
		return lifecycle.Record{}, false, nil
	}
	f.orders[o.ID] = o
	f.together = append(f.together, o.Together)
	f.made = append(f.made, o.Source.String()+">"+o.Partner)
	return lifecycle.Record{}, true, nil
}

func (f *fake) Find(_ context.Context, q store.Query) iter.Seq2[engine.Status, error] {
	return func(yield func(engine.Status, error) bool) {
		f.mu.Lock()
		defer f.mu.Unlock()
		for _, o := range f.orders {
			if f.open && o.Follow == q.Follow && !yield(engine.Status{}, nil) {
				return
			}
		}
	}
}

func (f *fake) set(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do()
}

func (f *fake) got() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.made)
}

// bench is schedules with a fake engine, in a bubble.
type bench struct {
	*fake
	t      *testing.T
	dir    string
	off    atomic.Int64 // of the clock
	all    map[string]Schedule
	notes  *Notes
	runner *Runner
	told   sync.Map // Outcome: *atomic.Int64
}

// minutely is a schedule whose sources say when they were due.
func minutely(t testing.TB) Schedule {
	return Schedule{Name: "s", Times: Times{Cron: mustCron(t, "* * * * *"), Zone: time.UTC}, Most: 3, Grace: MinGrace, Rule: "out", Send: true, Root: "/nowhere", Partners: []string{"hostb"}, Source: "{date}-{time}"}
}

func begin(t *testing.T, all ...Schedule) *bench {
	b := &bench{t: t, fake: &fake{orders: map[lifecycle.ID]engine.Order{}}, dir: t.TempDir(), all: map[string]Schedule{}}
	for _, s := range all {
		if err := s.Check(); err != nil {
			t.Fatal(err)
		}
		b.all[s.Name] = s
	}
	b.start()
	return b
}

func (b *bench) now() time.Time { return time.Now().Round(0).Add(time.Duration(b.off.Load())) }

func (b *bench) start() {
	b.t.Helper()
	var err error
	if b.notes, err = OpenNotes(filepath.Join(b.dir, "schedules.db")); err != nil {
		b.t.Fatal(err)
	}
	b.runner, err = Start(Config{Engine: b.fake, Notes: b.notes, Clock: b.now, Log: slog.New(slog.NewTextHandler(b.t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})), Told: func(_ *Schedule, o Outcome) {
		n, _ := b.told.LoadOrStore(o, new(atomic.Int64))
		n.(*atomic.Int64).Add(1)
	}}, b.all)
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) stop() {
	b.runner.Stop()
	_ = b.notes.Close() // it may be closed
}

func (b *bench) count(o Outcome) int64 {
	n, _ := b.told.LoadOrStore(o, new(atomic.Int64))
	return n.(*atomic.Int64).Load()
}

// pass lets time pass.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// minutes are the sources of a minutely schedule, from the first minute of 2000 on.
func minutes(partner string, each ...int) (all []string) {
	for _, m := range each {
		all = append(all, time.Date(2000, 1, 1, 0, m, 0, 0, time.UTC).Format("2006-01-02-150405")+">"+partner)
	}
	return all
}

func (b *bench) want(want []string) {
	b.t.Helper()
	if got := b.got(); !slices.Equal(got, want) {
		b.t.Errorf("made are %v, want %v", got, want)
	}
}

func bubble(t *testing.T, name string, do func(t *testing.T)) {
	t.Run(name, func(t *testing.T) { synctest.Test(t, do) })
}

// TestRuns: each time makes a run, once, over restarts and reloads.
func TestRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := begin(t, minutely(t))
		pass(150 * time.Second)
		b.want(minutes("hostb", 1, 2))
		b.stop()
		b.start()
		b.stop()
		pass(20 * time.Second)
		b.start()
		pass(time.Minute)
		b.want(minutes("hostb", 1, 2, 3))
		if err := b.runner.Change(b.all); err != nil {
			t.Fatal(err)
		}
		pass(time.Minute)
		b.want(minutes("hostb", 1, 2, 3, 4))
		st, err := b.runner.Show("s")
		if err != nil || st.Last.Requests != 1 || !st.Next.Equal(time.Date(2000, 1, 1, 0, 5, 0, 0, time.UTC)) || st.Last.Due.Minute() != 4 || len(st.Pending) != 0 {
			t.Errorf("%+v, %v", st, err)
		}
		for _, o := range b.orders {
			if o.Info != "schedule s" || o.Follow == (lifecycle.ID{}) {
				t.Errorf("%+v", o)
			}
		}
		b.stop()
	})
}

// TestMissed: what a node makes up for that did not run at the time.
func TestMissed(t *testing.T) {
	for _, c := range []struct {
		missed Missed
		away   time.Duration
		want   []int
		passed int64
	}{
		{Skip, 45 * time.Second, []int{1, 2}, 0},               // the next start is 45 s after minute 2
		{Skip, 3*time.Minute + 30*time.Second, []int{1, 5}, 1}, // the last is no older than grace
		{Once, 3*time.Minute + 30*time.Second, []int{1, 5}, 1},
		{All, 2*time.Minute + 30*time.Second, []int{1, 2, 3, 4}, 0},
		{All, 10*time.Minute + 30*time.Second, []int{1, 10, 11, 12}, 1}, // Most
	} {
		bubble(t, fmt.Sprint(c.missed, c.away), func(t *testing.T) {
			s := minutely(t)
			s.Missed = c.missed
			b := begin(t, s)
			pass(90 * time.Second)
			b.stop()
			pass(c.away)
			b.start()
			synctest.Wait()
			b.want(minutes("hostb", c.want...))
			if n := b.count(Passed); n != c.passed {
				t.Errorf("%d were said to be passed over", n)
			}
			b.stop()
		})
	}
	bubble(t, "older than grace", func(t *testing.T) {
		s := minutely(t)
		s.Times.Cron, s.Grace = mustCron(t, "0 * * * *"), 5*time.Minute
		for _, s.Missed = range []Missed{Skip, Once} {
			s.Name = s.Missed.String()
			b := begin(t, s)
			b.stop()
			pass(time.Hour + 10*time.Minute) // 01:10, then 03:20
			b.start()
			synctest.Wait()
			if n := len(b.got()); n != int(s.Missed) || b.count(Passed) != 1-int64(s.Missed) {
				t.Errorf("%v: %v made, %d passed over", s.Missed, b.got(), b.count(Passed))
			}
			b.stop()
		}
	})
}

// TestTogether: the requests of a file are known to read it at the same time.
func TestTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := minutely(t)
		s.Partners = []string{"b1", "b2", "b3"}
		b := begin(t, s)
		pass(61 * time.Second)
		b.stop()
		if !slices.Equal(b.together, []int{3, 3, 3}) {
			t.Errorf("submitted together: %v", b.together)
		}
	})
}

// TestKilled: wherever the process is killed, each time leads to one run with all of its
// requests.
func TestKilled(t *testing.T) {
	for _, point := range []string{"noted", "one", "registered", "over"} {
		for n := range int32(3) {
			bubble(t, fmt.Sprintf("%s/%d", point, n+1), func(t *testing.T) {
				s := minutely(t)
				s.Partners = []string{"b1", "b2", "b3"}
				b := begin(t, s)
				var left atomic.Int32
				left.Store(n + 1)
				killed := false
				at := func(p string) {
					if p != point || left.Add(-1) != 0 {
						return
					}
					killed = true
					b.set(func() { b.dead = true })
					b.notes.Close()
					b.runner.cancel()
					if p == "noted" || p == "over" {
						runtime.Goexit()
					}
				}
				hook.Store(&at)
				defer hook.Store(nil)
				pass(210 * time.Second)
				if !killed {
					t.Fatal("it has not come so far")
				}
				b.stop()
				b.set(func() { b.dead = false })
				hook.Store(nil)
				b.all["s"] = func() Schedule { s.Missed = All; return s }()
				b.start()
				pass(30 * time.Second) // 240 s: the fourth is due just now
				b.stop()
				var want []string
				for _, p := range s.Partners {
					want = append(want, minutes(p, 1, 2, 3, 4)...)
				}
				got := b.got()
				slices.Sort(got)
				slices.Sort(want)
				if !slices.Equal(got, want) {
					t.Errorf("made are %v", got)
				}
			})
		}
	}
}

// TestNoted: a run that was noted is made, also when it is missed by the time the node is back.
func TestNoted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := begin(t, minutely(t))
		at := func(string) {
			b.notes.Close()
			b.runner.cancel()
			runtime.Goexit()
		}
		hook.Store(&at)
		pass(time.Minute)
		hook.Store(nil)
		b.stop()
		pass(10 * time.Minute)
		b.start()
		synctest.Wait()
		b.want(minutes("hostb", 1, 11))
		b.stop()
		pass(30 * time.Second)
		b.start() // and once: what is over is noted, too
		if st, _ := b.runner.Show("s"); st.Last.Due.Minute() != 11 || len(st.Pending) != 0 {
			t.Errorf("%+v", st)
		}
		b.stop()
	})
}

// TestClock: a clock that is set makes no run twice, unless it is set back by more than an
// hour: then all begins anew.
func TestClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := begin(t, minutely(t))
		pass(150 * time.Second) // 00:02:30
		b.off.Store(int64(-2 * time.Minute))
		pass(2 * time.Minute) // 00:02:30 again
		b.want(minutes("hostb", 1, 2))
		b.off.Store(int64(8 * time.Minute)) // 00:12:30
		pass(nap)
		b.want(minutes("hostb", 1, 2, 12))
		b.off.Store(int64(100 * 24 * time.Hour))
		pass(nap)
		if n := len(b.got()); n != 4 {
			t.Errorf("%v", b.got())
		}
		b.off.Store(0) // 00:05:00
		pass(nap)
		pass(time.Minute)
		b.want(append(b.got()[:4:4], minutes("hostb", 6)...))
		b.stop()
	})
}

// TestOverlap: with overlap = skip no run is made while one before has open requests.
func TestOverlap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := minutely(t)
		s.Overlap = Wait
		b := begin(t, s)
		b.set(func() { b.open = true })
		pass(200 * time.Second)
		b.want(minutes("hostb", 1))
		if n := b.count(Passed); n != 2 {
			t.Errorf("%d are passed over", n)
		}
		b.set(func() { b.open = false })
		pass(time.Minute)
		b.want(minutes("hostb", 1, 4))
		b.stop()
	})
}

// TestRefusedRequests: what the engine refuses for good is said, what may be later is tried again.
func TestRefusedRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := begin(t, minutely(t))
		b.set(func() { b.refuse = fault.New("submit", fault.Permission, "no") })
		pass(61 * time.Second)
		if st, _ := b.runner.Show("s"); st.Last.Failed != 1 || st.Last.What != Failed || !strings.Contains(st.Last.Why, "no") || b.count(Failed) != 1 {
			t.Errorf("%+v", st)
		}
		b.set(func() { b.refuse = fault.New("submit", fault.NoSpace, "full") })
		pass(3 * time.Minute)
		if st, _ := b.runner.Show("s"); len(st.Pending) != 1 || st.Trouble == "" {
			t.Errorf("%+v", st)
		}
		b.set(func() { b.refuse = nil })
		pass(again)
		b.want(minutes("hostb", 2, 4))
		b.stop()
	})
}

// TestPattern: a pattern is the files that are there, and only files.
func TestPattern(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := minutely(t)
		s.Root, s.Source, s.Target = t.TempDir(), "in/**/{a,b}*", "{date}/{name}"
		b := begin(t, s)
		for _, name := range []string{"in/a1", "in/x", "in/sub/b2", "out/a", "in/.a.pannier-r0000000000000000", "in/a\nb"} {
			at := filepath.Join(s.Root, name)
			if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o755), os.WriteFile(at, nil, 0o644)); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(os.Mkdir(filepath.Join(s.Root, "in/adir"), 0o755), os.Symlink("/etc/passwd", filepath.Join(s.Root, "in/alink"))); err != nil {
			t.Fatal(err)
		}
		pass(61 * time.Second)
		got := b.got()
		slices.Sort(got)
		if want := []string{"in/a1>hostb", "in/sub/b2>hostb"}; !slices.Equal(got, want) {
			t.Errorf("%v", got)
		}
		for _, o := range b.orders {
			if o.Target.String() != "2000-01-01/"+o.Source.Base() {
				t.Errorf("target %v", o.Target)
			}
		}
		os.RemoveAll(s.Root)
		pass(time.Minute)
		if st, _ := b.runner.Show("s"); st.Last.What != Failed || st.Last.Why == "" {
			t.Errorf("%+v", st)
		}
		b.stop()
	})
}

// TestNoDirectory: a pattern in a directory that is not there makes a run fail, which says so; one
// that fits no file of a directory makes none.
func TestNoDirectory(t *testing.T) {
	s := minutely(t)
	s.Root, s.Source = t.TempDir(), "nodir/*.txt"
	if _, _, err := s.files(t.Context(), time.Now(), 10); !errors.Is(err, fault.NotFound) || !strings.Contains(err.Error(), "there is no directory "+s.Root+"/nodir:") {
		t.Error(err)
	}
	for _, source := range []string{"*.txt", "no*/*.txt", "{a,b}/x"} {
		s.Source = source
		if all, odd, err := s.files(t.Context(), time.Now(), 10); len(all)+len(odd) > 0 || err != nil {
			t.Errorf("%s: %v, %v, %v", source, all, odd, err)
		}
	}
}

// TestTooMany: more files than a run may have are an error, and none is sent.
func TestTooMany(t *testing.T) {
	s := minutely(t)
	s.Root, s.Source = t.TempDir(), "*"
	for i := range 11 {
		if err := os.WriteFile(filepath.Join(s.Root, fmt.Sprint(i)), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := s.files(t.Context(), time.Now(), 10); !errors.Is(err, fault.TooLong) {
		t.Error(err)
	}
}

// TestChange: other times begin now; what goes is forgotten; what stays is not disturbed.
func TestChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		other := minutely(t)
		other.Name, other.Partners = "o", []string{"hostc"}
		b := begin(t, minutely(t), other)
		pass(90 * time.Second)
		o := b.all["o"]
		o.Times.Cron = mustCron(t, "*/2 * * * *")
		if err := b.runner.Change(map[string]Schedule{"s": b.all["s"], "o": o}); err != nil {
			t.Fatal(err)
		}
		b.runner.cancel() // killed at once: that it has begun is remembered
		b.runner.work.Wait()
		b.notes.Close()
		b.all["o"] = o
		pass(40 * time.Second)
		b.start()
		pass(20 * time.Second)
		got := b.got()
		slices.Sort(got)
		if want := slices.Concat(minutes("hostb", 1), minutes("hostc", 1), minutes("hostb", 2), minutes("hostc", 2)); !slices.Equal(got, want) {
			t.Errorf("%v", got)
		}
		if err := b.runner.Change(map[string]Schedule{"s": b.all["s"]}); err != nil {
			t.Fatal(err)
		}
		notes, err := read[note](b.notes, runBucket)
		if names := slices.Collect(maps.Keys(notes)); err != nil || !slices.Equal(names, []string{"s"}) {
			t.Errorf("%v, %v", names, err)
		}
		b.stop()
	})
}

// TestUndo: a run that was due, and could not be made yet, is made when the change that has removed its schedule, or
// given it other times, is taken back; one that the change has brought is gone, also after a restart.
func TestUndo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		other := minutely(t)
		other.Name, other.Partners = "o", []string{"hostc"}
		b := begin(t, minutely(t), other)
		b.set(func() { b.refuse = fault.New("submit", fault.Overloaded, "full") })
		pass(70 * time.Second)
		o, added := b.all["o"], minutely(t)
		o.Times.Cron = mustCron(t, "*/7 * * * *")
		added.Name = "new"
		if err := b.runner.Change(map[string]Schedule{"o": o, "new": added}); err != nil {
			t.Fatal(err)
		}
		if err := b.runner.Undo(); err != nil {
			t.Fatal(err)
		}
		b.set(func() { b.refuse = nil })
		for range 2 { // by this process, and by the next
			pass(time.Minute)
			b.stop()
			b.start()
		}
		got := b.got()
		slices.Sort(got)
		for _, want := range slices.Concat(minutes("hostb", 1), minutes("hostc", 1)) {
			if n := len(slices.DeleteFunc(slices.Clone(got), func(s string) bool { return s != want })); n != 1 {
				t.Errorf("%s was made %d times: %v", want, n, got)
			}
		}
		notes, err := read[note](b.notes, runBucket)
		if names := slices.Sorted(maps.Keys(notes)); err != nil || !slices.Equal(names, []string{"o", "s"}) {
			t.Errorf("%v, %v", names, err)
		}
		b.stop()
	})
}

// TestOrdered: somebody's run is one more, and changes nothing about the clock's.
func TestOrdered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := minutely(t)
		s.Source = "x"
		b := begin(t, s)
		pass(90 * time.Second)
		for range 2 {
			_, run, err := b.runner.Run(t.Context(), "s", "user 1")
			if err != nil || run.Requests != 1 || run.By != "user 1" {
				t.Errorf("%+v, %v", run, err)
			}
			pass(time.Second)
		}
		if _, _, err := b.runner.Run(t.Context(), "t", ""); !errors.Is(err, fault.NotFound) {
			t.Error(err)
		}
		pass(40 * time.Second)
		if n := len(b.got()); n != 4 {
			t.Errorf("%d requests", n)
		}
		b.stop()
		if _, _, err := b.runner.Run(t.Context(), "s", ""); !errors.Is(err, fault.Draining) {
			t.Error(err)
		}
	})
}

// TestChecked: what cannot work is refused.
func TestChecked(t *testing.T) {
	for want, change := range map[string]func(*Schedule){
		"its name":      func(s *Schedule) { s.Name = "" },
		"no cron":       func(s *Schedule) { s.Times.Cron = Cron{} },
		"partners":      func(s *Schedule) { s.Partners = nil },
		"most":          func(s *Schedule) { s.Most = 0 },
		"grace":         func(s *Schedule) { s.Grace = time.Second },
		"no variable":   func(s *Schedule) { s.Source = "{dat}" },
		"gets one file": func(s *Schedule) { s.Send, s.Source = false, "*.x" },
		"at a bridge":   func(s *Schedule) { s.Root, s.Source = "", "*.x" },
		"no pattern":    func(s *Schedule) { s.Source = "[a" },
		"below the":     func(s *Schedule) { s.Source = "../*" },
		"one name":      func(s *Schedule) { s.Source, s.Target = "*", "x" },
		"unfinished":    func(s *Schedule) { s.Source = ".a.pannier-r0000000000000000" },
		"info":          func(s *Schedule) { s.Info = strings.Repeat("x", 5000) },
	} {
		s := minutely(t)
		change(&s)
		if err := s.Check(); !errors.Is(err, fault.Invalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// TestThousand: a thousand schedules that are due at once make a thousand runs, in a few
// commits.
func TestThousand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var all []Schedule
		for i := range 1000 {
			s := minutely(t)
			s.Name = fmt.Sprint(i)
			all = append(all, s)
		}
		b := begin(t, all...)
		pass(61 * time.Second)
		if n := len(b.got()); n != 1000 {
			t.Errorf("%d requests", n)
		}
		b.stop()
	})
}

// BenchmarkIdle is what a look at a thousand schedules costs that are not due: one each 15 s.
func BenchmarkIdle(b *testing.B) {
	r := &Runner{all: map[string]*item{}, log: slog.New(slog.DiscardHandler)}
	for i := range 1000 {
		s := minutely(b)
		s.Times.Cron = mustCron(b, "0 3 * * *")
		r.all[fmt.Sprint(i)] = &item{is: s, next: time.Now().Add(time.Hour), note: note{Last: time.Now()}}
	}
	r.cfg.Notes = nil
	for b.Loop() {
		now := time.Now()
		r.settle(now)
		r.begin()
		r.wait(now)
	}
}

func mustPath(t testing.TB, name string) relpath.Path {
	t.Helper()
	p, err := relpath.Parse(name)
	if err != nil {
		t.Fatal(err)
	}
	return p
}
