package engine_test

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/enginetest"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/quantity"
)

// tableOf is a timetable.
func tableOf(t testing.TB, slots ...string) (table engine.Timetable) {
	t.Helper()
	for _, text := range slots {
		s, err := quantity.ParseSlot(text)
		if err != nil {
			t.Fatal(err)
		}
		table = append(table, s)
	}
	return table
}

// rebook gives a another book.
func (p *pair) rebook(change func(b *engine.Book)) {
	p.t.Helper()
	p.rebookOf("a", change)
}

func (p *pair) rebookOf(node string, change func(b *engine.Book)) {
	p.t.Helper()
	b := p.nodes[node].engine.Book()
	b.Partners, b.Rules = maps.Clone(b.Partners), maps.Clone(b.Rules)
	for name, partner := range b.Partners {
		other := *partner
		b.Partners[name] = &other
	}
	for name, rule := range b.Rules {
		other := *rule
		b.Rules[name] = &other
	}
	change(&b)
	if err := p.nodes[node].engine.SetBook(b); err != nil {
		p.t.Fatal(err)
	}
}

// slowNodes have a clock that shows UTC: windows are as they are read here.
func slowNodes(t *testing.T, partners ...string) *pair {
	p := newGroup(t, func(n *node) { n.limits.Clock = func() time.Time { return time.Now().UTC() } }, append([]string{"a"}, partners...)...)
	p.wire.Block = fairSmall
	return p
}

// TestTimetable: a rate that changes while a transfer runs, by the clock or by a new book, is the
// transfer's from then on.
func TestTimetable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := slowNodes(t, "b")
		p.rebook(func(b *engine.Book) {
			b.Partners["b"].Bandwidth = tableOf(t, "00:00-00:10 64KiB/s", "00:10-00:11 640KiB/s", "64KiB/s")
		})
		p.hole("x", 75<<20) // a mebibyte, then 37.5 MiB in ten minutes, then 640 KiB/s
		began := time.Now()
		ref := p.send("b", "x", "x")
		time.Sleep(5 * time.Minute)
		if s, err := p.nodes["a"].engine.Get(t.Context(), ref); err != nil || s.Live == nil || s.Live.Limit != "bandwidth of the partner" {
			t.Errorf("%+v, %v", s.Live, err)
		}
		p.endWithin(ref, lifecycle.Done, time.Hour)
		if took, want := time.Since(began), 10*time.Minute+58*time.Second; took < want-4*time.Second || took > want+4*time.Second {
			t.Errorf("it took %v, want about %v", took, want)
		}
		began = time.Now()
		ref = p.send("b", "x", "y") // at 64 KiB/s
		time.Sleep(5 * time.Minute)
		p.rebook(func(b *engine.Book) { b.Partners["b"].Bandwidth = nil })
		p.endWithin(ref, lifecycle.Done, time.Second)
		if took := time.Since(began); took > 5*time.Minute+time.Second {
			t.Errorf("it took %v, and the limit was gone after 5m", took)
		}
	})
}

// TestTimetableOfNode: the rate of all transfers together may change with the time, too.
func TestTimetableOfNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newGroup(t, func(n *node) {
			n.limits.Clock = func() time.Time { return time.Now().UTC() }
			if n.name == "a" {
				n.limits.Bandwidth = tableOf(t, "00:00-00:10 64KiB/s", "640KiB/s")
			}
		}, "a", "b")
		p.wire.Block = fairSmall
		p.hole("x", 75<<20) // a mebibyte, then 37.5 MiB in ten minutes, then 640 KiB/s
		began := time.Now()
		p.endWithin(p.send("b", "x", "x"), lifecycle.Done, time.Hour)
		if took, want := time.Since(began), 10*time.Minute+58*time.Second; took < want-4*time.Second || took > want+4*time.Second {
			t.Errorf("it took %v, want about %v", took, want)
		}
	})
}

// TestPool: partners, and a rule, that name a pool share it fairly, however many transfers
// each has; and another rate holds at once.
func TestPool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := slowNodes(t, "b", "c", "d")
		pool := &engine.Pool{Name: "wan", Bandwidth: quantity.Always(fairRate)}
		p.rebook(func(b *engine.Book) {
			b.Pools = map[string]*engine.Pool{"wan": pool}
			b.Partners["b"].Pool, b.Partners["c"].Pool = "wan", "wan"
			b.Rules["push"].Pool = "wan"
		})
		var mu sync.Mutex
		got := map[string]int{}
		p.wire.Fault = func(where enginetest.Place, c enginetest.Call) error {
			if where == enginetest.Block {
				mu.Lock()
				defer mu.Unlock()
				got[c.To] += fairSmall
			}
			return nil
		}
		counted := func(d time.Duration) map[string]int {
			mu.Lock()
			clear(got)
			mu.Unlock()
			time.Sleep(d)
			mu.Lock()
			defer mu.Unlock()
			return maps.Clone(got)
		}
		p.hole("x", 96<<20)
		for partner, n := range map[string]int{"b": 1, "c": 8, "d": 3} {
			for i := range n {
				p.send(partner, "x", fmt.Sprint("x", i))
			}
		}
		near := func(got map[string]int, sum float64) {
			t.Helper()
			for _, partner := range []string{"b", "c", "d"} {
				if part := float64(got[partner]) / sum * 3; part < 0.9 || part > 1.1 {
					t.Errorf("%s has %.2f of a fair part: %v", partner, part, got)
				}
			}
		}
		time.Sleep(10 * time.Second)
		near(counted(30*time.Second), 30*fairRate)
		status := p.nodes["a"].engine.Pools()
		if len(status) != 1 || status[0].Rate != fairRate || strings.Join(status[0].Partners, ",") != "b,c" || strings.Join(status[0].Rules, ",") != "push" || status[0].Moved < 40*fairRate*9/10 || status[0].Waiting == 0 {
			t.Errorf("%+v", status)
		}
		p.rebook(func(b *engine.Book) {
			b.Pools = map[string]*engine.Pool{"wan": {Name: "wan", Bandwidth: quantity.Always(fairRate / 4)}}
		})
		time.Sleep(10 * time.Second)
		go func() { // a book that says the same gives nobody more
			for range 59 {
				time.Sleep(time.Second)
				p.rebook(func(*engine.Book) {})
			}
		}()
		near(counted(60*time.Second), 15*fairRate)
		p.rebook(func(b *engine.Book) { b.Rules["push"].Pool = "" })
		time.Sleep(10 * time.Second)
		if got := counted(30 * time.Second); float64(got["b"]+got["c"]) > 1.1*30*fairRate/4 {
			t.Errorf("%v", got)
		}
	})
}

// TestNoPool: what names a pool that is not there is refused.
func TestNoPool(t *testing.T) {
	p := newPair(t, nil)
	b := p.nodes["a"].engine.Book()
	b.Partners = map[string]*engine.Partner{"b": {Name: "b", Pool: "wan"}}
	if err := p.nodes["a"].engine.SetBook(b); !errors.Is(err, fault.Invalid) {
		t.Error(err)
	}
}
