package engine_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/engine/task"
	"github.com/pannier/pannier/spec/fault"
)

// copiers are a caller, c, a source, a, and a destination, b. a makes requests by push for c.
func copiers(t *testing.T) *pair {
	p := newGroup(t, nil, "a", "b", "c")
	p.allow("a", "push")
	return p
}

// allow lets the others have requests made at a node.
func (p *pair) allow(at string, rules ...string) {
	e := p.nodes[at].engine
	book := e.Book()
	partners := map[string]*engine.Partner{}
	for name, is := range book.Partners {
		other := *is
		if name != at {
			other.ThirdParty = rules
		}
		partners[name] = &other
	}
	book.Partners = partners
	if err := e.SetBook(book); err != nil {
		p.t.Fatal(err)
	}
}

func (p *pair) copies(o engine.Order) (lifecycle.Record, error) {
	o.Partner, o.From, o.Source, o.Target = "b", "a", path(p.t, "x"), path(p.t, "y")
	r, _, err := p.nodes["c"].engine.Submit(p.t.Context(), o)
	return r, err
}

func commission(t *testing.T, id byte) engine.Commission {
	return engine.Commission{ID: lifecycle.ID{id}, Follow: lifecycle.ID{id}, Third: "b", Source: path(t, "x"), Target: path(t, "y")}
}

// TestCommissionConsent: nothing is made for a partner but what its rules say.
func TestCommissionConsent(t *testing.T) {
	p := copiers(t)
	p.file("a", "x", 10)
	for what, c := range map[string]struct {
		from   string
		change func(*engine.Commission)
	}{
		"a partner nobody knows":   {"nobody", func(*engine.Commission) {}},
		"a rule that is not there": {"c", func(c *engine.Commission) { c.Rule = "none" }},
		"a rule that is not its":   {"c", func(c *engine.Commission) { c.Rule = "pull" }},
		"the other direction":      {"c", func(c *engine.Commission) { c.Fetch = true }},
		"a node nobody knows":      {"c", func(c *engine.Commission) { c.Third = "nobody" }},
	} {
		for _, probe := range []bool{false, true} {
			ask := commission(t, 1)
			ask.Probe = probe
			c.change(&ask)
			if _, err := p.nodes["a"].engine.Commission(t.Context(), c.from, ask); err == nil || fault.KindOf(err) != fault.Permission && fault.KindOf(err) != fault.NotFound {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
	for st, err := range p.nodes["a"].engine.Find(t.Context(), store.Query{}) {
		t.Errorf("there is a request: %+v, %v", st.Spec, err)
	}
	p.allow("a")
	if _, err := p.nodes["a"].engine.Commission(t.Context(), "c", commission(t, 1)); fault.KindOf(err) != fault.Permission {
		t.Errorf("no rules: %v", err)
	}
	p.allow("a", "push")
	ask := commission(t, 1)
	ask.Probe, ask.Bandwidth = true, 5e6
	if a, err := p.nodes["a"].engine.Commission(t.Context(), "c", ask); err != nil || a.Rule != "push" || a.Bandwidth != 5e6 {
		t.Errorf("%+v, %v", a, err)
	}
}

// TestCommissionOnce: the same of the same partner is one request, of another partner another;
// what is known and not there is not made again.
func TestCommissionOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := copiers(t)
		p.file("a", "x", 10)
		ask := commission(t, 1)
		ask.Known = true
		if _, err := p.nodes["a"].engine.Commission(t.Context(), "c", ask); fault.KindOf(err) != fault.NotFound {
			t.Errorf("what is not there any more: %v", err)
		}
		ask.Known, ask.Bandwidth = false, 5e6
		first, err := p.nodes["a"].engine.Commission(t.Context(), "c", ask)
		if err != nil {
			t.Fatal(err)
		}
		again, err := p.nodes["a"].engine.Commission(t.Context(), "c", ask)
		if err != nil || again.ID != first.ID || first.ID == ask.ID {
			t.Errorf("%v, then %v, %v", first.ID, again.ID, err)
		}
		mine := ask
		mine.Third = "c"
		if other, err := p.nodes["a"].engine.Commission(t.Context(), "b", mine); err != nil || other.ID == first.ID {
			t.Errorf("of another partner: %v, %v", other.ID, err)
		}
		r, err := p.nodes["a"].engine.Wait(t.Context(), store.Ref{Key: lifecycle.Key{Requester: "a", ID: first.ID}, Role: lifecycle.Requester})
		if err != nil || r.Spec.Bandwidth != 5e6 || first.Bandwidth != 5e6 {
			t.Errorf("a bandwidth of %d, told as %d, %v", r.Spec.Bandwidth, first.Bandwidth, err)
		}
		n := 0
		for range p.nodes["a"].engine.Find(t.Context(), store.Query{}) {
			n++
		}
		if n != 2 {
			t.Errorf("%d requests", n)
		}
	})
}

// TestCommissionRetry: each retry of the caller's is one at the maker, whatever its operator has retried, and only
// while that lists the rule for the caller.
func TestCommissionRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newGroup(t, func(n *node) {
			other := *n.rules["push"]
			other.Name = "other"
			n.rules["other"] = &other
		}, "a", "b", "c")
		p.allow("a", "push")
		e := p.nodes["a"].engine
		said := func(id byte, round uint32) (engine.Commissioned, error) {
			ask := commission(t, id)
			ask.Round = round
			return e.Commission(t.Context(), "c", ask)
		}
		first, err := said(1, 0)
		if err != nil {
			t.Fatal(err)
		}
		ref := store.Ref{Key: lifecycle.Key{Requester: "a", ID: first.ID}, Role: lifecycle.Requester}
		is := func(what string, round, by uint32) {
			t.Helper()
			if r, err := e.Wait(t.Context(), ref); err != nil || r.State != lifecycle.InError || r.Round != round || r.ByRound != by {
				t.Errorf("%s: %v, round %d, the caller's %d, %v; want %d and %d", what, r.State, r.Round, r.ByRound, err, round, by)
			}
		}
		again := func(what string, to, round, by uint32) {
			t.Helper()
			if _, err := said(1, to); err != nil {
				t.Errorf("%s: %v", what, err)
			}
			is(what, round, by)
		}
		is("no such file", 0, 0)
		if _, err := e.Retry(t.Context(), ref); err != nil {
			t.Fatal(err)
		}
		is("the maker's operator", 1, 0)
		again("the caller's first retry", 1, 2, 1)
		again("the same, asked again", 1, 2, 1)
		again("a large one", 1000, 3, 1000)
		again("the same large one", 1000, 3, 1000)
		again("a smaller one", 999, 3, 1000)
		for _, listed := range [][]string{nil, {"other"}} {
			p.allow("a", listed...)
			if _, err := said(1, 1001); fault.KindOf(err) != fault.Permission {
				t.Errorf("the maker's operator lists %q for the caller: %v", listed, err)
			}
			is("refused", 3, 1000)
		}
		if st, err := said(1, 1000); err != nil || st.State != lifecycle.InError {
			t.Errorf("what became of it is not told: %v, %v", st.State, err)
		}
		p.allow("a", "other", "push")
		p.file("a", "x", 10)
		if _, err := said(1, 1001); err != nil {
			t.Error(err)
		}
		if r, err := e.Wait(t.Context(), ref); err != nil || r.State != lifecycle.Done || r.Spec.Rule != "push" {
			t.Errorf("with the file: %v by %q, %v", r.State, r.Spec.Rule, err)
		}

		p.allow("a", "push")
		if err := os.Remove(filepath.Join(p.nodes["a"].root, "x")); err != nil {
			t.Fatal(err)
		}
		if first, err = said(2, 5); err != nil {
			t.Fatal(err)
		}
		ref.Key.ID = first.ID
		is("made when the caller had retried", 0, 5)
		if _, err := said(2, 5); err != nil {
			t.Error(err)
		}
		is("the round it was made in is no retry", 0, 5)

		cancelled := func(round, by uint32) {
			t.Helper()
			if r, err := e.Get(t.Context(), ref); err != nil || r.Failure.Kind != fault.Canceled {
				t.Errorf("%v, %v", r.Failure, err)
			}
			is("cancelled", round, by)
		}
		if _, err := e.Cancel(t.Context(), ref, ""); err != nil {
			t.Fatal(err)
		}
		if st, err := said(2, 6); err != nil || st.State != lifecycle.InError || st.Failure.Kind != fault.Canceled {
			t.Errorf("the caller's retry of what the maker's operator has cancelled: %v, %v, %v", st.State, st.Failure, err)
		}
		cancelled(0, 5)
		if _, err := e.Retry(t.Context(), ref); err != nil {
			t.Fatal(err)
		}
		is("the maker's operator", 1, 5)
		p.stop("b")
		if _, err := e.Retry(t.Context(), ref); err != nil {
			t.Fatal(err)
		}
		ask := commission(t, 2)
		ask.Cancel = "not wanted"
		if _, err := e.Commission(t.Context(), "c", ask); err != nil {
			t.Fatal(err)
		}
		cancelled(2, 5)
		p.start("b")
		if _, err := said(2, 6); err != nil {
			t.Error(err)
		}
		is("the caller retries what it has cancelled", 3, 6)
		ask.Round = 7
		if _, err := e.Commission(t.Context(), "c", ask); err != nil {
			t.Fatal(err)
		}
		is("the caller has retried and cancelled before that was heard", 3, 6)
	})
}

// TestCommissionRoom: no more are under way for a partner than it may have open, and ten times as many have failed,
// after a restart, too; what is over or was refused takes no room.
func TestCommissionRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newGroup(t, func(n *node) { n.open = 2 }, "a", "b", "c")
		p.allow("a", "push")
		p.file("a", "x", 10)
		for i := range byte(5) { // one after the other, each of which runs at once
			c, err := p.nodes["a"].engine.Commission(t.Context(), "c", commission(t, 60+i))
			if err != nil {
				t.Fatal(err)
			}
			ref := store.Ref{Key: lifecycle.Key{Requester: "a", ID: c.ID}, Role: lifecycle.Requester}
			if r, err := p.nodes["a"].engine.Wait(t.Context(), ref); err != nil || r.State != lifecycle.Done {
				t.Fatalf("%v, %v", r.State, err)
			}
		}
		p.stop("b")
		restart := func() {
			p.stop("a")
			p.start("a")
			p.allow("a", "push")
		}
		ask := func(id byte, change func(*engine.Commission)) error {
			c := commission(t, id)
			if change != nil {
				change(&c)
			}
			_, err := p.nodes["a"].engine.Commission(t.Context(), "c", c)
			return err
		}
		full := func(what, want string) {
			t.Helper()
			if err := ask(100, nil); fault.KindOf(err) != fault.Overloaded || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v", what, err)
			}
		}
		cancel := func(c *engine.Commission) { c.Cancel = "not wanted" }
		for range 3 {
			if err := ask(9, func(c *engine.Commission) { c.Hops = 255 }); fault.KindOf(err) != fault.Refused {
				t.Error(err)
			}
		}
		for i := range byte(2) {
			if err := ask(i+1, nil); err != nil {
				t.Fatal(err)
			}
		}
		full("two are open", "2 requests that were made for this partner are open")
		restart()
		full("after a restart", "2 requests that were made for this partner are open")
		if err := ask(1, nil); err != nil {
			t.Errorf("one that was made: %v", err)
		}
		for i := range byte(20) { // as many as may have failed
			if err := errors.Join(ask(i+1, nil), ask(i+1, cancel)); err != nil {
				t.Fatal(i, err)
			}
		}
		full("20 have failed", "requests that were made for this partner have failed")
		restart()
		full("after a restart", "requests that were made for this partner have failed")
		retry := func(c *engine.Commission) { c.Round = 1 }
		busy := func(what string, err error) {
			t.Helper()
			if fault.KindOf(err) != fault.Overloaded || !strings.Contains(err.Error(), "2 requests that were made for this partner are open") {
				t.Errorf("%s: %v", what, err)
			}
		}
		all := make([]error, 20)
		var asking sync.WaitGroup
		for i := range byte(20) { // all at once
			asking.Go(func() { all[i] = ask(i+1, retry) })
		}
		asking.Wait()
		var open []byte
		for i, err := range all {
			if err == nil {
				open = append(open, byte(i)+1)
			} else {
				busy("one of 20 that are tried again at once", err)
			}
		}
		if len(open) > 2 {
			t.Errorf("%d are open", len(open))
		}
		for i := range byte(20) {
			if len(open) < 2 && !slices.Contains(open, i+1) && ask(i+1, retry) == nil {
				open = append(open, i+1)
			}
		}
		if len(open) != 2 {
			t.Fatalf("%d are open", len(open))
		}
		another := byte(1)
		for slices.Contains(open, another) {
			another++
		}
		busy("a third", ask(another, retry))
		if err := errors.Join(ask(open[0], cancel), ask(another, retry)); err != nil {
			t.Errorf("one has ended: %v", err)
		}
		if err := errors.Join(ask(open[1], cancel), ask(another, cancel)); err != nil {
			t.Error(err)
		}
		time.Sleep(2 * lifecycle.MinRetention)
		if n, err := p.nodes["a"].engine.PurgeFailed(t.Context(), time.Now()); err != nil || n < 20 {
			t.Errorf("%d are purged, %v", n, err)
		}
		if err := ask(100, nil); err != nil {
			t.Errorf("they are purged: %v", err)
		}
	})
}

// TestThirdParty: the source is asked first, and the destination where that refuses; the
// caller's request ends as the other does, however long that takes.
func TestThirdParty(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := copiers(t)
		content := p.file("a", "x", 100_000)
		r, err := p.copies(engine.Order{ID: lifecycle.ID{1}})
		if err != nil || r.Spec.Partner != "a" || r.Spec.Third != "b" || r.Spec.Fetch {
			t.Fatalf("%+v, %v", r.Spec, err)
		}
		end, err := p.nodes["c"].engine.Wait(t.Context(), store.RefOf(&r))
		if err != nil || end.State != lifecycle.Done || end.Size != 100_000 || end.Proof == "" || end.Verified != "third-party+blocks+root+sha256" {
			t.Errorf("%v %d %q %q, %v: %v", end.State, end.Size, end.Proof, end.Verified, end.Failure, err)
		}
		p.has("b", "y", content)

		p.allow("a")
		if _, err := p.copies(engine.Order{}); fault.KindOf(err) != fault.Permission {
			t.Errorf("neither consents: %v", err)
		}
		if r, err := p.copies(engine.Order{ID: lifecycle.ID{1}}); err != nil || r.State != lifecycle.Done {
			t.Errorf("the same again: %v, %v", r.State, err)
		}
		p.allow("b", "pull")
		r, err = p.copies(engine.Order{})
		if err != nil || r.Spec.Partner != "b" || r.Spec.Third != "a" || !r.Spec.Fetch {
			t.Fatalf("%+v, %v", r.Spec, err)
		}
		if end, err = p.nodes["c"].engine.Wait(t.Context(), store.RefOf(&r)); end.State != lifecycle.Done {
			t.Errorf("%v, %v: %v", end.State, end.Failure, err)
		}
	})
}

// TestThirdPartyWaits: while the maker's request waits, so does the caller's, without an attempt
// that counts, and for hours.
func TestThirdPartyWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := copiers(t)
		content := p.file("a", "x", 1000)
		p.stop("b")
		r, err := p.copies(engine.Order{Asked: "a"})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Hour)
		st, err := p.nodes["c"].engine.Get(t.Context(), store.RefOf(&r))
		if err != nil || st.State.Final() || st.Streak > 1 {
			t.Errorf("%v, streak %d: %v, %v", st.State, st.Streak, st.Failure, err)
		}
		p.start("b")
		if end, err := p.nodes["c"].engine.Wait(t.Context(), store.RefOf(&r)); end.State != lifecycle.Done {
			t.Errorf("%v, %v: %v", end.State, end.Failure, err)
		}
		p.has("b", "y", content)
	})
}

// TestThirdPartyCancel: the caller's cancel is the maker's, in the caller's words; one that comes too late for the maker's
// request is refused, and the caller is DONE when the maker is.
func TestThirdPartyCancel(t *testing.T) {
	for _, maker := range []string{"a", "b"} {
		synctest.Test(t, func(t *testing.T) {
			gate := &gated{open: make(chan struct{})}
			p := newGroup(t, func(n *node) {
				post := []task.Step{{Name: "gated", Task: gate, Timeout: 5 * time.Hour}}
				n.rules["push"].Sender.Post, n.rules["pull"].Receiver.Post = post, post
			}, "a", "b", "c")
			p.allow("a", "push")
			p.allow("b", "pull")
			content := p.file("a", "x", 100_000)
			c := p.nodes["c"].engine
			r, err := p.copies(engine.Order{Asked: maker})
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			for range 2 {
				if _, err := c.Cancel(t.Context(), store.RefOf(&r), ""); fault.KindOf(err) != fault.Invalid || !strings.Contains(err.Error(), "too late") || !strings.Contains(err.Error(), "at b") {
					t.Errorf("%s is past the bytes: %v", maker, err)
				}
			}
			if gate.runs.Load() != 1 {
				t.Errorf("the task of %s has run %d times", maker, gate.runs.Load())
			}
			close(gate.open)
			if end, err := c.Wait(t.Context(), store.RefOf(&r)); err != nil || end.State != lifecycle.Done {
				t.Errorf("%v, %v: %v", end.State, end.Failure, err)
			}
			p.has("b", "y", content)
			if _, err := c.Cancel(t.Context(), store.RefOf(&r), ""); fault.KindOf(err) != fault.Invalid {
				t.Error(err)
			}

			away := map[string]string{"a": "b", "b": "a"}[maker]
			p.stop(away)
			for _, why := range []string{"not wanted", "the maker is not there"} {
				if r, err = p.copies(engine.Order{Asked: maker}); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Minute)
				if why != "not wanted" {
					p.stop(maker)
				}
				end, err := c.Cancel(t.Context(), store.RefOf(&r), why)
				if err != nil || end.State != lifecycle.InError || end.Failure.Kind != fault.Canceled || end.Failure.Side != fault.Here || end.Failure.Cause != why {
					t.Errorf("%v, %+v, %v", end.State, end.Failure, err)
				}
			}
			p.start(maker)
			var made []string
			for st, err := range p.nodes[maker].engine.Find(t.Context(), store.Query{}) {
				if err != nil {
					t.Fatal(err)
				}
				made = append(made, fmt.Sprint(st.State, " ", st.Failure.Cause))
			}
			slices.Sort(made)
			if len(made) != 3 || made[0] != "DONE " || made[1] != "INERROR by c: not wanted" || strings.HasPrefix(made[2], "INERROR") {
				t.Errorf("at %s: %q", maker, made)
			}
		})
	}
}
