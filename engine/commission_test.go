package engine_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
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
	ask.Probe = true
	if a, err := p.nodes["a"].engine.Commission(t.Context(), "c", ask); err != nil || a.Rule != "push" {
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
		ask.Known = false
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
		p.nodes["a"].engine.Wait(t.Context(), store.Ref{Key: lifecycle.Key{Requester: "a", ID: first.ID}, Role: lifecycle.Requester})
		n := 0
		for range p.nodes["a"].engine.Find(t.Context(), store.Query{}) {
			n++
		}
		if n != 2 {
			t.Errorf("%d requests", n)
		}
	})
}

// TestCommissionRoom: no more are under way for a partner than it may have open.
func TestCommissionRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newGroup(t, func(n *node) { n.open = 2 }, "a", "b", "c")
		p.allow("a", "push")
		p.stop("b")
		p.file("a", "x", 10)
		for i := byte(1); i < 4; i++ {
			_, err := p.nodes["a"].engine.Commission(t.Context(), "c", commission(t, i))
			if want := i == 3; (fault.KindOf(err) == fault.Overloaded && err != nil) != want {
				t.Errorf("number %d: %v", i, err)
			}
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
