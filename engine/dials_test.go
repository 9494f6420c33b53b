package engine_test

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/enginetest"
	"github.com/pannier/pannier/spec/fault"
)

// TestDialsAreSpread: hundreds of partners that go away at the same moment, as those behind one link do, are tried at
// times that are spread over all of the back-off, and found again so: no second has a large share of them.
func TestDialsAreSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const partners, most = 300, 300 / 10
		var mu sync.Mutex
		away, tried, found := true, map[int64]int{}, map[int64]int{}
		p := newPair(t, nil)
		p.stop("a")
		p.wire.Fault = func(where enginetest.Place, _ enginetest.Call) error {
			if where != enginetest.Dialling {
				return nil
			}
			mu.Lock()
			defer mu.Unlock()
			if !away {
				found[time.Now().Unix()]++
				return nil
			}
			tried[time.Now().Unix()]++
			return fault.Concluded("call", fault.Lost, "nobody answers")
		}
		p.start("a")
		a, b := p.nodes["a"].engine, p.nodes["b"].engine
		book := a.Book()
		book.Partners = map[string]*engine.Partner{}
		for i := range partners {
			name := fmt.Sprint("partner", i)
			book.Partners[name] = &engine.Partner{Name: name, Address: "wire:" + name}
			p.wire.Join(name, b) // which answers for all
		}
		if err := a.SetBook(book); err != nil {
			t.Fatal(err)
		}
		for name := range book.Partners {
			if _, _, err := a.Submit(t.Context(), engine.Order{Partner: name, Rule: "push", Source: path(t, "x")}); err != nil {
				t.Fatal(err)
			}
		}
		spread := func(what string, in map[int64]int, least int) {
			t.Helper()
			mu.Lock()
			defer mu.Unlock()
			total := 0
			for second, n := range in {
				if total += n; n > most {
					t.Errorf("%s: %d of %d in one second (%d)", what, n, partners, second)
				}
			}
			if total < least {
				t.Errorf("%s: %d in all, want %d at the least", what, total, least)
			}
			clear(in)
		}
		time.Sleep(5 * time.Minute) // the first tries are close together, and become rarer
		mu.Lock()
		clear(tried)
		mu.Unlock()
		time.Sleep(10 * time.Minute)
		spread("tried", tried, partners*10/3)
		mu.Lock()
		away = false
		mu.Unlock()
		time.Sleep(5 * time.Minute)
		spread("found", found, partners)
		for _, s := range a.Partners() {
			if !s.Connected {
				t.Errorf("%s is not found again: %v", s.Name, s.Failure)
			}
		}
	})
}
