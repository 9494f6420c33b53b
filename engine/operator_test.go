package engine_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/enginetest"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/engine/task"
	"github.com/pannier/pannier/flow/flowtest"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/quantity"
)

// gateOn holds the first block of a transfer until open is closed.
func gateOn(p *pair) (reached, open chan struct{}) {
	reached, open = make(chan struct{}), make(chan struct{})
	var once sync.Once
	p.wire.Fault = func(where enginetest.Place, c enginetest.Call) error {
		if where == enginetest.Block && c.Offset >= 64<<10 {
			once.Do(func() { close(reached) })
			<-open
		}
		return nil
	}
	return reached, open
}

func TestPauseAndResume(t *testing.T) {
	for _, end := range []string{"a", "b"} {
		synctest.Test(t, func(t *testing.T) {
			p := newPair(t, nil)
			content := p.file("a", "x", crashSize)
			reached, open := gateOn(p)
			ref := p.submit("push", "x", "y")
			<-reached
			at := ref
			if end == "b" {
				at = other(ref)
			}
			go func() { time.Sleep(time.Second); close(open) }()
			r, err := p.nodes[end].engine.Pause(t.Context(), at)
			if err != nil || r.State != lifecycle.Interrupted || r.Reason != lifecycle.Stopped {
				t.Fatal(r.State, r.Reason, err)
			}
			time.Sleep(time.Hour)
			if r, _ := p.nodes["a"].engine.Get(t.Context(), ref); r.State != lifecycle.Interrupted {
				t.Fatalf("after an hour: %v", r.State)
			}
			why, err := p.nodes["a"].engine.Explain(t.Context(), ref)
			if err != nil || !strings.Contains(why.Summary, "operator") || why.Next == "" {
				t.Errorf("%+v %v", why, err)
			}
			if _, err := p.nodes[end].engine.Resume(t.Context(), at); err != nil {
				t.Fatal(err)
			}
			p.endWithin(ref, lifecycle.Done, time.Hour)
			p.has("b", "y", content)
		})
	}
}

func TestCancel(t *testing.T) {
	for _, rule := range []string{"push", "pull"} {
		for _, end := range []string{"a", "b"} {
			synctest.Test(t, func(t *testing.T) {
				p := newPair(t, nil)
				p.file("a", "x", crashSize)
				p.file("b", "x", crashSize)
				reached, open := gateOn(p)
				ref := p.submit(rule, "x", "y")
				<-reached
				at := ref
				if end == "b" {
					at = other(ref)
				}
				go func() { time.Sleep(time.Second); close(open) }()
				r, err := p.nodes[end].engine.Cancel(t.Context(), at, "by alice")
				if err != nil || r.State != lifecycle.InError || r.Failure.Kind != fault.Canceled || !strings.Contains(r.Failure.Cause, "alice") {
					t.Fatal(r.State, r.Failure, err)
				}
				p.endWithin(ref, lifecycle.InError, time.Hour)
				synctest.Wait() // the record comes first, the partial file goes after
				for _, n := range p.nodes {
					left, _ := filepath.Glob(filepath.Join(n.root, "*y*"))
					hidden, _ := filepath.Glob(filepath.Join(n.root, ".*"))
					if len(left)+len(hidden) > 0 {
						t.Errorf("%s still has %v %v", n.name, left, hidden)
					}
				}
				if _, err := p.nodes[end].engine.Retry(t.Context(), at); err != nil {
					t.Fatal(err)
				}
				if end == "b" { // the requester has ended too, and only an operator there starts it
					if _, err := p.nodes["a"].engine.Retry(t.Context(), ref); err != nil {
						t.Fatal(err)
					}
				}
				p.endWithin(ref, lifecycle.Done, time.Hour)
			})
		}
	}
}

func TestCancelTooLate(t *testing.T) {
	p := newPair(t, nil)
	content := p.file("a", "x", 100)
	ref := p.submit("push", "x", "y")
	p.end(ref, lifecycle.Done)
	if _, err := p.nodes["b"].engine.Cancel(t.Context(), other(ref), ""); fault.KindOf(err) != fault.Invalid {
		t.Error(err)
	}
	p.has("b", "y", content)
}

// TestTaskFails wants a failed task to end the request at both ends, error tasks
// to run, and a retry to go on there without running again what is done.
func TestTaskFails(t *testing.T) {
	for _, where := range []string{"sender pre", "receiver pre", "receiver post", "sender post"} {
		synctest.Test(t, func(t *testing.T) {
			dir := t.TempDir()
			log := filepath.Join(dir, "log")
			note := func(what string) task.Table {
				script := `echo "$1" >> "$0"; test "$1" != "$2" || test -e "$3" || if true; then echo no such luck >&2; exit 7; fi`
				return task.Table{Task: "exec", Argv: []string{"/bin/sh", "-c", script, log, what, where, filepath.Join(dir, "lucky")}}
			}
			failed := func(side string) task.Table {
				return task.Table{Task: "exec", Argv: []string{"/bin/sh", "-c", `echo "$1 error $2 $3" >> "$0"`, log, side, "{error.code}", "{error.text}"}}
			}
			p := newPair(t, func(n *node) {
				for _, r := range n.rules {
					r.Sender = engine.Lists{Pre: tasks(t, note("sender pre")), Post: tasks(t, note("sender post")), Error: tasks(t, failed("sender"))}
					r.Receiver = engine.Lists{Pre: tasks(t, note("receiver pre")), Post: tasks(t, note("receiver post")), Error: tasks(t, failed("receiver"))}
				}
			})
			content := p.file("a", "x", crashSize)
			ref := p.submit("push", "x", "y")
			a, b := p.endWithin(ref, lifecycle.InError, time.Hour)
			if a.Failure.Kind != fault.Refused || b.Failure.Kind != fault.Refused {
				t.Errorf("%+v\n%+v", a.Failure, b.Failure)
			}
			local := a
			if strings.HasPrefix(where, "receiver") {
				local = b
			}
			if local.Failure.Side != fault.Here || !strings.Contains(local.Failure.Cause, "no such luck") {
				t.Errorf("%+v", local.Failure)
			}
			lines, _ := os.ReadFile(log)
			for _, side := range []string{"sender error refused", "receiver error refused"} {
				if strings.Count(string(lines), side) != 1 {
					t.Errorf("%q not once in:\n%s", side, lines)
				}
			}
			if err := os.WriteFile(filepath.Join(dir, "lucky"), nil, 0o644); err != nil {
				t.Fatal(err)
			}
			if _, err := p.nodes["a"].engine.Retry(t.Context(), ref); err != nil {
				t.Fatal(err)
			}
			if a, b = p.endWithin(ref, lifecycle.Done, time.Hour); a.Verified == "" || a.Verified != b.Verified {
				t.Errorf("%s failed: the sender says it was compared by %q, the receiver by %q", where, a.Verified, b.Verified)
			}
			p.has("b", "y", content)
			lines, _ = os.ReadFile(log)
			for _, name := range []string{"sender pre", "receiver pre", "receiver post", "sender post"} {
				want := 1
				if name == where {
					want = 2
				}
				if n := strings.Count("\n"+string(lines), "\n"+name+"\n"); n != want {
					t.Errorf("%s failed: %s ran %d times, want %d:\n%s", where, name, n, want, lines)
				}
			}
		})
	}
}

// TestTaskTimesOut: a task that is ended at its limit runs once, at either end, and
// the request is an operator's.
func TestTaskTimesOut(t *testing.T) {
	for _, end := range []string{"a", "b"} {
		synctest.Test(t, func(t *testing.T) {
			stuck := &hanging{}
			p := newPair(t, func(n *node) {
				if n.name == end {
					lists := engine.Lists{Pre: []task.Step{{Name: "hanging", Task: stuck, Timeout: time.Minute}}}
					n.rules["push"].Sender, n.rules["push"].Receiver = lists, lists
				}
			})
			p.file("a", "x", 10)
			a, b := p.endWithin(p.submit("push", "x", "y"), lifecycle.InError, time.Hour)
			if a.Failure.Kind != fault.Deadline || b.Failure.Kind != fault.Deadline || stuck.runs.Load() != 1 {
				t.Errorf("%+v\n%+v\n%d runs", a.Failure, b.Failure, stuck.runs.Load())
			}
		})
	}
}

// hanging is a task that never ends by itself.
type hanging struct{ runs atomic.Int64 }

func (h *hanging) Run(ctx context.Context, _ *task.On) (task.Result, error) {
	h.runs.Add(1)
	<-ctx.Done()
	return task.Result{}, ctx.Err()
}

func TestReschedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		p := newPair(t, func(n *node) {
			n.rules["push"].Sender = engine.Lists{
				Pre:   tasks(t, task.Table{Task: "exec", Argv: []string{"/usr/bin/test", "-e", filepath.Join(dir, "lucky")}, Warning: []int{}}),
				Error: tasks(t, task.Table{Task: "reschedule", Delay: task.Duration(time.Hour)}),
			}
		})
		content := p.file("a", "x", 10)
		ref := p.submit("push", "x", "y")
		time.Sleep(30 * time.Minute)
		if r, err := p.nodes["a"].engine.Get(t.Context(), ref); err != nil || r.State != lifecycle.ToSubmit || r.Round != 1 {
			t.Fatal(r.State, r.Round, err)
		}
		if err := os.WriteFile(filepath.Join(dir, "lucky"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		p.endWithin(ref, lifecycle.Done, 2*time.Hour)
		p.has("b", "y", content)
	})
}

func TestRefusals(t *testing.T) {
	var log flowtest.Log
	p := newPair(t, func(n *node) {
		n.limits.Log = slog.New(slog.NewTextHandler(&log, nil))
		if n.name == "b" {
			n.rules["push"].Partners = []string{"c"}
			n.rules["pull"].Quota = 5
		} else {
			n.rules["pull"].Quota = 5
		}
	})
	p.file("a", "x", 10)
	p.file("b", "x", 10)
	ref := p.submit("push", "x", "y")
	if r, err := p.nodes["a"].engine.Wait(t.Context(), ref); err != nil || r.Failure.Kind != fault.Permission || r.Failure.Side != fault.Peer {
		t.Errorf("%+v %v", r.Failure, err)
	}
	if r, err := p.nodes["b"].engine.Get(t.Context(), other(ref)); fault.KindOf(err) != fault.NotFound {
		t.Errorf("a refused request has left %+v", r)
	}
	if said := log.String(); !strings.Contains(said, `msg="a request is not accepted" id=`+ref.Key.ID.String()) || !strings.Contains(said, `no rule \"push\" for partner \"a\"`) {
		t.Errorf("the partner's log has\n%s", said)
	}
	ref = p.submit("pull", "x", "y")
	if a, _ := p.end(ref, lifecycle.InError); a.Failure.Kind != fault.QuotaExceeded {
		t.Errorf("%+v", a.Failure)
	}
	ref = p.submit("pull", "missing", "y")
	if a, b := p.end(ref, lifecycle.InError); a.Failure.Kind != fault.NotFound || a.Failure.Side != fault.Peer || b.Failure.Side != fault.Here {
		t.Errorf("%+v %+v", a.Failure, b.Failure)
	}
	for _, o := range []engine.Order{
		{Partner: "b", Rule: "none", Source: path(t, "x")},
		{Partner: "none", Rule: "push", Source: path(t, "x")},
		{Partner: "b", Rule: "push"},
	} {
		if _, _, err := p.nodes["a"].engine.Submit(t.Context(), o); err == nil {
			t.Errorf("%+v was taken", o)
		}
	}
}

// TestSameAgain submits and calls many times at once.
func TestSameAgain(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	p := crashPair(t, log)
	content := p.file("a", "x", 1000)
	order := engine.Order{ID: lifecycle.ID{7}, Partner: "b", Rule: "push", Source: path(t, "x"), Target: path(t, "y")}
	var made sync.Map
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			_, m, err := p.nodes["a"].engine.Submit(t.Context(), order)
			if err != nil {
				t.Error(err)
			}
			if m {
				made.Store(i, true)
			}
		})
	}
	all.Wait()
	n := 0
	made.Range(func(any, any) bool { n++; return true })
	if n != 1 {
		t.Errorf("registered %d times", n)
	}
	ref := store.Ref{Key: lifecycle.Key{Requester: "a", ID: order.ID}, Role: lifecycle.Requester}
	p.end(ref, lifecycle.Done)
	for _, c := range p.wire.Calls() { // and each call of it comes again
		if c.Move == lifecycle.Transfer {
			continue
		}
		for range 3 {
			all.Go(func() {
				a, err := p.nodes["b"].engine.Serve(t.Context(), "a", c.Ask, nil)
				for ; err == nil && a.Outcome == engine.Busy; time.Sleep(time.Millisecond) { // too many of them wait
					a, err = p.nodes["b"].engine.Serve(t.Context(), "a", c.Ask, nil)
				}
				if err != nil || a.Phase != lifecycle.Finished {
					t.Errorf("%v: %+v %v", c, a, err)
				}
			})
		}
	}
	all.Wait()
	p.has("b", "done/y", content)
	p.ran(log, 0)
	order.Info = "another"
	if _, _, err := p.nodes["a"].engine.Submit(t.Context(), order); fault.KindOf(err) != fault.Exists {
		t.Error(err)
	}
}

// TestPartnerAway has many requests wait for a partner that is away for an hour.
func TestPartnerAway(t *testing.T) {
	const requests = 300
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, nil)
		p.file("a", "x", 100)
		p.stop("b")
		var refs []store.Ref
		for i := range requests {
			refs = append(refs, p.submit("push", "x", fmt.Sprintf("y%d", i)))
		}
		time.Sleep(time.Hour)
		dials := p.wire.Dials()
		if dials < 20 || dials > 120 {
			t.Errorf("%d tries in an hour", dials)
		}
		if len(p.wire.Calls()) > 0 {
			t.Error("calls without a partner")
		}
		r, err := p.nodes["a"].engine.Get(t.Context(), refs[0])
		if err != nil || r.State != lifecycle.ToSubmit || r.Attempt != 0 {
			t.Errorf("%+v %v", r, err)
		}
		why, _ := p.nodes["a"].engine.Explain(t.Context(), refs[0])
		if !strings.Contains(why.Summary, "cannot be reached") || why.At.IsZero() {
			t.Errorf("%+v", why)
		}
		p.start("b")
		for _, ref := range refs {
			p.endWithin(ref, lifecycle.Done, 10*time.Minute)
		}
	})
}

// TestPartnerRefuses has requests for a partner that lets this node in no more. That of a
// bridge is told to each of them, which ends; a node is waited for.
func TestPartnerRefuses(t *testing.T) {
	for _, bridge := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			p := newPair(t, nil)
			p.file("a", "x", 100)
			p.rebook(func(b *engine.Book) { b.Partners["b"].Bridge = bridge })
			var wrong atomic.Bool
			wrong.Store(true)
			p.wire.Fault = func(_ enginetest.Place, c enginetest.Call) error {
				if wrong.Load() && c.To == "b" {
					return &fault.Error{Op: "log in", Kind: fault.Refused, Side: fault.Peer, Err: errors.New("530 wrong password")}
				}
				return nil
			}
			refs := []store.Ref{p.submit("push", "x", "y"), p.submit("push", "x", "z")}
			time.Sleep(time.Minute)
			for _, ref := range refs {
				r, err := p.nodes["a"].engine.Get(t.Context(), ref)
				if err != nil || bridge != (r.State == lifecycle.InError) || bridge != (r.Failure.Kind == fault.Refused) || bridge != strings.Contains(r.Failure.Cause, "530") {
					t.Errorf("of a bridge: %v: %+v %v", bridge, r, err)
				}
			}
			wrong.Store(false)
			p.endWithin(p.submit("push", "x", "right"), lifecycle.Done, 10*time.Minute)
		})
	}
}

// TestPoison has a request whose run ends the process each time.
func TestPoison(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, nil)
		p.file("a", "x", crashSize)
		deaths := 0
		bad := lifecycle.ID{1}
		p.wire.Fault = func(where enginetest.Place, c enginetest.Call) error {
			if where == enginetest.Asking && c.Key.ID == bad && c.Move != lifecycle.Mismatch {
				p.nodes["a"].gate.Shut()
				return fault.New("call", fault.Internal, "dead")
			}
			return nil
		}
		p.stop("b")
		_, _, err := p.nodes["a"].engine.Submit(t.Context(), engine.Order{ID: bad, Partner: "b", Rule: "push", Source: path(t, "x"), Target: path(t, "bad")})
		if err != nil {
			t.Fatal(err)
		}
		var good []store.Ref
		for i := range 10 {
			good = append(good, p.submit("push", "x", fmt.Sprintf("y%d", i)))
		}
		p.start("b")
		for over := false; !over; {
			select {
			case <-p.nodes["a"].gate.Dead:
				deaths++
				p.stop("a")
				p.start("a")
			case <-time.After(time.Hour):
				over = true
			}
		}
		r, err := p.nodes["a"].engine.Get(t.Context(), store.Ref{Key: lifecycle.Key{Requester: "a", ID: bad}, Role: lifecycle.Requester})
		if err != nil || r.State != lifecycle.InError || deaths != 3 {
			t.Errorf("after %d deaths: %v %v %v", deaths, r.State, r.Failure, err)
		}
		for _, ref := range good {
			p.endWithin(ref, lifecycle.Done, time.Hour)
		}
	})
}

// TestAttemptsEnd wants a request that makes no progress to end.
func TestAttemptsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, func(n *node) {
			n.rules["push"].Retry = engine.Retry{Attempts: 4, Delay: time.Minute, Factor: 2, Most: 3 * time.Minute}
		})
		p.file("a", "x", 100)
		var calls []time.Time
		p.wire.Fault = func(where enginetest.Place, c enginetest.Call) error {
			if where == enginetest.Asking && c.Move != lifecycle.Mismatch {
				calls = append(calls, time.Now())
				return fault.FromPeer("call", fault.NoSpace, "the disk is full")
			}
			return nil
		}
		ref := p.submit("push", "x", "y")
		r, err := p.nodes["a"].engine.Wait(t.Context(), ref)
		if err != nil || r.State != lifecycle.InError || r.Failure.Kind != fault.NoSpace {
			t.Fatal(r.State, r.Failure, err)
		}
		if len(calls) != 4 {
			t.Fatalf("%d attempts", len(calls))
		}
		for i, want := range []time.Duration{time.Minute, 2 * time.Minute, 3 * time.Minute} {
			if d := calls[i+1].Sub(calls[i]); d < want*7/10 || d > want*13/10 {
				t.Errorf("attempt %d after %v, want about %v", i+2, d, want)
			}
		}
	})
}

// TestGivenUp wants the other end to hear at once that the requester has given up, whosever failure it was.
func TestGivenUp(t *testing.T) {
	for rule, sender := range map[string]string{"push": "a", "pull": "b"} {
		for _, why := range []error{
			fault.FromPeer("write", fault.NoSpace, "the disk is full"),
			fault.Concluded("write", fault.Lost, "the connection was cut"),
			fault.New("write", fault.IO, "/srv/private: %w", os.ErrInvalid),
		} {
			synctest.Test(t, func(t *testing.T) {
				p := newPair(t, func(n *node) { n.rules[rule].Retry = engine.Retry{Attempts: 2, Delay: time.Second} })
				p.file(sender, "x", crashSize)
				p.wire.Fault = func(where enginetest.Place, _ enginetest.Call) error {
					if where == enginetest.Block {
						return why
					}
					return nil
				}
				a, b := p.end(p.submit(rule, "x", "y"), lifecycle.InError)
				if a.Failure.Side != fault.Peer || b.Failure.Side != fault.Peer || b.Failure.Kind != fault.KindOf(why) || a.Failure.Kind != b.Failure.Kind {
					t.Errorf("%s, %v: %+v, and there %+v", rule, why, a.Failure, b.Failure)
				}
				if want := "given up, because the last attempt has failed at b: " + a.Failure.Cause; b.Failure.Cause != want || strings.Contains(want, "private") {
					t.Errorf("%s, %v: there %q, want %q", rule, why, b.Failure.Cause, want)
				}
			})
		}
	}
}

// TestNobodyCalls wants a requested end to give up a requester that is gone.
func TestNobodyCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := filepath.Join(t.TempDir(), "log")
		p := newPair(t, func(n *node) {
			n.limits.Patience = 48 * time.Hour
			n.rules["push"].Receiver.Error = tasks(t, task.Table{Task: "exec", Argv: []string{"/bin/sh", "-c", `echo "$1" >> "$0"`, log, "{error.code}"}})
		})
		p.file("a", "x", crashSize)
		reached, open := gateOn(p)
		ref := p.submit("push", "x", "y")
		<-reached
		p.nodes["a"].gate.Shut()
		close(open)
		synctest.Wait()
		p.stop("a")
		time.Sleep(47 * time.Hour)
		if r, _ := p.nodes["b"].engine.Get(t.Context(), other(ref)); r.State != lifecycle.Interrupted {
			t.Fatal(r.State)
		}
		time.Sleep(2 * time.Hour)
		r, err := p.nodes["b"].engine.Get(t.Context(), other(ref))
		if b, _ := os.ReadFile(log); err != nil || r.State != lifecycle.InError || r.Failure.Kind != fault.Deadline || string(b) != "deadline exceeded\n" {
			t.Fatal(r.State, r.Failure, err, string(b))
		}
		p.start("a") // the requester is back: both ends agree
		p.endWithin(ref, lifecycle.InError, time.Hour)
	})
}

func TestWindowsAndStartTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // time begins on a Saturday, 2000-01-01 00:00 UTC
		w, err := engine.ParseWindow("Mon 20:00-06:00")
		if err != nil {
			t.Fatal(err)
		}
		p := newPair(t, func(n *node) { n.rules["push"].Retry.Windows = engine.Windows{w} })
		p.file("a", "x", 100)
		ref := p.submit("push", "x", "y")
		a, _ := p.endWithin(ref, lifecycle.Done, 7*24*time.Hour)
		started := a.Changed.In(time.Local)
		if started.Weekday() != time.Monday || started.Hour() != 20 {
			t.Errorf("it ran at %v", started)
		}
		p.file("b", "x", 100)
		at := time.Now().Add(5 * time.Hour)
		r, _, err := p.nodes["a"].engine.Submit(t.Context(), engine.Order{Partner: "b", Rule: "pull", Source: path(t, "x"), NotAt: at})
		if err != nil || r.Reason != lifecycle.Scheduled {
			t.Fatal(r.Reason, err)
		}
		end, _ := p.endWithin(store.RefOf(&r), lifecycle.Done, 7*24*time.Hour)
		if end.Changed.Before(at) || end.Changed.After(at.Add(time.Minute)) {
			t.Errorf("it ran at %v, want %v", end.Changed, at)
		}
	})
}

// TestPriorities has one place, so that the order shows.
func TestPriorities(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, func(n *node) { n.limits.Concurrent = 1 })
		p.file("a", "x", 100)
		p.stop("b")
		var want []lifecycle.ID
		for _, priority := range []int8{0, 5, -5, 5} {
			r, _, err := p.nodes["a"].engine.Submit(t.Context(), engine.Order{Partner: "b", Rule: "push", Source: path(t, "x"), Target: path(t, fmt.Sprintf("y%d", len(want))), Priority: priority})
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, r.Key.ID)
		}
		p.start("b")
		for _, id := range want {
			p.endWithin(store.Ref{Key: lifecycle.Key{Requester: "a", ID: id}, Role: lifecycle.Requester}, lifecycle.Done, time.Hour)
		}
		var got []lifecycle.ID
		for _, c := range p.wire.Calls() {
			if c.Move == lifecycle.Prepare {
				got = append(got, c.Key.ID)
			}
		}
		want = []lifecycle.ID{want[1], want[3], want[0], want[2]}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("ran %v, want %v", got, want)
		}
	})
}

func TestBandwidth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, func(n *node) {
			if n.name == "a" {
				n.limits.Bandwidth = quantity.Always(10 << 20)
			}
		})
		p.file("a", "x", 101<<20)
		began := time.Now()
		p.endWithin(p.submit("push", "x", "y"), lifecycle.Done, time.Hour)
		if took := time.Since(began); took < 9*time.Second || took > 11*time.Second {
			t.Errorf("101 MiB at 10 MiB/s took %v", took)
		}
	})
}

// TestDrain has a transfer under way when its node goes down in order.
func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, nil)
		content := p.file("a", "x", crashSize)
		reached, open := gateOn(p)
		ref := p.submit("push", "x", "y")
		<-reached
		go func() { time.Sleep(time.Minute); close(open) }()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		if err := p.nodes["a"].engine.Drain(ctx); err != nil {
			t.Fatal(err)
		}
		_, _, err := p.nodes["a"].engine.Submit(t.Context(), engine.Order{Partner: "b", Rule: "push", Source: path(t, "x")})
		if fault.KindOf(err) != fault.Draining {
			t.Error(err)
		}
		r, err := p.nodes["a"].store.Get(t.Context(), ref)
		if err != nil || r.State != lifecycle.Interrupted || r.Streak != 0 {
			t.Errorf("after %v: %v, streak %d, %v", time.Since(began), r.State, r.Streak, err)
		}
		p.stop("a")
		p.start("a")
		p.endWithin(ref, lifecycle.Done, time.Hour)
		p.has("b", "y", content)
	})
}

// TestWaitsForTheirTasks: a sender whose partner has all bytes does not say that they move, as
// long as the partner's tasks may take.
func TestWaitsForTheirTasks(t *testing.T) {
	for _, size := range []int{1000, 3 << 20} { // the bytes of a small file come with the first call
		synctest.Test(t, func(t *testing.T) {
			p := newPair(t, func(n *node) {
				n.rules["push"].Receiver.Post = tasks(t, task.Table{Task: "wait", Path: "ready"})
			})
			p.file("a", "x", size)
			ref := p.submit("push", "x", "y")
			time.Sleep(10 * time.Second)
			x, err := p.nodes["a"].engine.Explain(t.Context(), ref)
			if err != nil || x.Summary != "waiting for the partner's answer: all bytes are sent" {
				t.Errorf("%d bytes: %q, %v", size, x.Summary, err)
			}
			p.file("b", "ready", 1)
			if err := os.Chtimes(filepath.Join(p.nodes["b"].root, "ready"), time.Time{}, time.Now().Add(-time.Hour)); err != nil { // its clock is another
				t.Fatal(err)
			}
			p.endWithin(ref, lifecycle.Done, time.Hour)
		})
	}
}

// TestForward sends on what has arrived, and waits for that.
func TestForward(t *testing.T) {
	p := newPair(t, func(n *node) {
		n.rules["on"] = &engine.Rule{Name: "on", Direction: engine.Send, Partners: []string{"*"}, Root: n.root, Quota: -1}
		if n.name == "b" {
			n.rules["push"].Receiver.Post = tasks(t, task.Table{Task: "transfer", Partner: "a", Rule: "on", Wait: true})
		}
	})
	content := p.file("a", "x", 1000)
	ref := p.submit("push", "x", "back")
	p.end(ref, lifecycle.Done)
	p.has("a", "back", content)
	n := 0
	for s, err := range p.nodes["b"].engine.Find(t.Context(), store.Query{Follow: ref.Key.ID}) {
		if err != nil || s.State != lifecycle.Done {
			t.Error(s.State, err)
		}
		n++
	}
	if n != 2 {
		t.Errorf("%d requests of the chain at b", n)
	}
}

// TestForwardFindsTheFile: a transfer task sends the very file of its request, whatever the
// root of the rule it names: never one that has the same name there.
func TestForwardFindsTheFile(t *testing.T) {
	other := t.TempDir()
	for name, tc := range map[string]struct {
		root func(n *node) string
		end  lifecycle.State
	}{
		"above":     {func(n *node) string { return n.dir }, lifecycle.Done},
		"below":     {func(n *node) string { return filepath.Join(n.root, "sub") }, lifecycle.Done},
		"beside":    {func(n *node) string { return filepath.Join(n.root, "else") }, lifecycle.InError},
		"elsewhere": {func(*node) string { return other }, lifecycle.InError},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, func(n *node) {
				root := tc.root(n)
				for _, dir := range []string{root, filepath.Join(n.root, "sub"), filepath.Join(root, "sub")} {
					if err := os.MkdirAll(dir, 0o755); err != nil {
						t.Fatal(err)
					}
				}
				for _, decoy := range []string{"back", "sub/back"} { // where another file must not be taken for it
					if err := os.WriteFile(filepath.Join(root, decoy), []byte("another file"), 0o644); err != nil {
						t.Fatal(err)
					}
				}
				n.rules["on"] = &engine.Rule{Name: "on", Direction: engine.Send, Partners: []string{"*"}, Root: root, Quota: -1}
				if n.name == "b" {
					n.rules["push"].Receiver.Post = tasks(t, task.Table{Task: "transfer", Partner: "a", Rule: "on", Wait: true})
				}
			})
			content := p.file("a", "x", 1000)
			ref := p.submit("push", "x", "sub/back")
			p.end(ref, tc.end)
			if tc.end == lifecycle.Done {
				p.has("a", "sub/back", content)
				return
			}
			r, err := p.nodes["b"].store.Get(t.Context(), store.Ref{Key: ref.Key, Role: lifecycle.Requested})
			if err != nil || r.Failure.Kind != fault.Invalid || !strings.Contains(r.Failure.Cause, "name a rule of that root") {
				t.Errorf("%v, %+v", err, r.Failure)
			}
			for _, err := range p.nodes["a"].engine.Find(t.Context(), store.Query{Rule: "on"}) {
				t.Error("a request was made", err)
			}
		})
	}
}

// TestWatch sees a request from its registration to its end. The bytes of a small file
// come with the first call.
func TestWatch(t *testing.T) {
	watchOf(t, 300_000, "TOSUBMIT ACCEPTED, RUNNING ACCEPTED, RUNNING POSTED, DONE FINISHED")
	watchOf(t, 2<<20, "TOSUBMIT ACCEPTED, RUNNING ACCEPTED, RUNNING MOVING, RUNNING POSTED, DONE FINISHED")
}

func watchOf(t *testing.T, size int, want string) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, nil)
		p.file("a", "x", size)
		ctx, cancel := context.WithCancel(t.Context())
		seen := make(chan []string, 1)
		go func() {
			var states []string
			for c, err := range p.nodes["a"].engine.Watch(ctx, store.Query{}) {
				if err != nil {
					break
				}
				if s := c.State.String() + " " + c.Phase.Name(c.Side); len(states) == 0 || states[len(states)-1] != s {
					states = append(states, s)
				}
			}
			seen <- states
		}()
		synctest.Wait()
		p.endWithin(p.submit("push", "x", "y"), lifecycle.Done, time.Hour)
		synctest.Wait()
		cancel()
		got := strings.Join(<-seen, ", ")
		if got != want {
			t.Errorf("seen\n%s\nwant\n%s", got, want)
		}
	})
}

// TestWatchTellsOfTasks: who watches hears of an own task while it runs.
func TestWatchTellsOfTasks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nap := &gated{open: make(chan struct{})}
		p := newPair(t, func(n *node) {
			n.rules["push"].Sender.Post = []task.Step{{Name: "nap", Task: nap, Timeout: time.Hour}}
		})
		p.file("a", "x", 300_000)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		heard := make(chan time.Time, 100)
		go func() {
			for c, err := range p.nodes["a"].engine.Watch(ctx, store.Query{}) {
				if err == nil && c.Live != nil && strings.HasSuffix(c.Live.Doing, "task 1, nap") {
					heard <- time.Now()
				}
			}
		}()
		synctest.Wait()
		time.AfterFunc(time.Minute, func() { close(nap.open) })
		ref := p.submit("push", "x", "y")
		p.endWithin(ref, lifecycle.Done, time.Hour)
		if ended := time.Now(); len(heard) == 0 || ended.Sub(<-heard) < 50*time.Second {
			t.Error("it was not told while it ran")
		}
	})
}

// TestCancelSaysWhy: both ends have the operator's words, and only the end that has
// cancelled can go back on it; a second cancel changes nothing.
func TestCancelSaysWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, nil)
		p.file("a", "x", crashSize)
		reached, open := gateOn(p)
		ref := p.submit("push", "x", "y")
		<-reached
		go func() { time.Sleep(time.Second); close(open) }()
		if _, err := p.nodes["a"].engine.Cancel(t.Context(), ref, "sent twice"); err != nil {
			t.Fatal(err)
		}
		_, b := p.endWithin(ref, lifecycle.InError, time.Hour)
		if b.Failure.Cause != "sent twice" || b.Failure.Side != fault.Peer {
			t.Errorf("%+v", b.Failure)
		}
		if r, err := p.nodes["a"].engine.Cancel(t.Context(), ref, "again"); err != nil || r.Failure.Cause != "sent twice" {
			t.Errorf("%+v %v", r.Failure, err)
		}
		if _, err := p.nodes["b"].engine.Retry(t.Context(), other(ref)); fault.KindOf(err) != fault.Invalid {
			t.Errorf("a retry that nobody would call for: %v", err)
		}
	})
}
