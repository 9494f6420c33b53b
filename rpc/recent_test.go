package rpc

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestRecent: a call that comes again is refused while it runs and for a time
// after, whatever other callers do; then its memory is free again.
func TestRecent(t *testing.T) {
	r := newRecent(time.Minute, 2)
	mine, other := caller{peer: "mine"}, caller{peer: "other"}
	now := time.Now()
	step := func(c caller, id byte, want bool) {
		t.Helper()
		if got := r.admit(c, callID{id}, now); got != want {
			t.Fatalf("call %d of %v: %v, want %v", id, c, got, want)
		}
	}
	step(mine, 1, true)
	step(mine, 1, false)
	step(other, 1, true) // ids are one caller's
	for i := range 100 { // of others
		step(other, byte(i+2), true)
		r.end(other, callID{byte(i + 2)}, now)
	}
	now = now.Add(time.Hour)
	step(mine, 1, false) // it runs still
	r.end(mine, callID{1}, now)
	now = now.Add(59 * time.Second)
	step(mine, 1, false)
	step(mine, 2, true)
	step(mine, 3, true)
	r.end(mine, callID{2}, now)
	step(mine, 1, false)
	r.end(mine, callID{3}, now) // one more than the limit: the oldest goes
	step(mine, 1, true)
	r.end(mine, callID{1}, now)
	r.end(other, callID{1}, now)
	now = now.Add(2 * time.Minute)
	step(caller{peer: "third"}, 1, true)
	if len(r.by) != 1 {
		t.Fatalf("%d callers are remembered", len(r.by))
	}
}

// TestRecentProperty: no order of calls of many callers makes one run twice
// while it runs, or soon after, within its caller's limit.
func TestRecentProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const limit = 4
		r := newRecent(time.Minute, limit)
		type known struct {
			c  caller
			id callID
		}
		running, over := map[known]bool{}, map[caller][]ending{}
		now := time.Unix(0, 0)
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 30).Draw(t, "pause")) * time.Second)
			k := known{caller{peer: string(rune('a' + rapid.IntRange(0, 2).Draw(t, "caller")))}, callID{byte(rapid.IntRange(0, 9).Draw(t, "id"))}}
			if running[k] && rapid.Bool().Draw(t, "ends") {
				r.end(k.c, k.id, now)
				delete(running, k)
				over[k.c] = append(over[k.c], ending{k.id, now})
				over[k.c] = over[k.c][max(0, len(over[k.c])-limit):]
				continue
			}
			before := running[k]
			for _, e := range over[k.c] {
				before = before || e.id == k.id && now.Sub(e.at) <= time.Minute
			}
			if r.admit(k.c, k.id, now) == before {
				t.Fatalf("call %v came before: %v", k, before)
			}
			running[k] = running[k] || !before
		}
	})
}
