package s3

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"

	"pgregory.net/rapid"
)

// asks has a server ask for so many bytes; given says whether it has them by now.
func (r *rooms) asks(t *testing.T, server string, n int64) (given func() bool, end func()) {
	ctx, cancel := context.WithCancel(t.Context())
	has, over := make(chan struct{}), make(chan struct{})
	go func() {
		give, err := r.take(ctx, server, n)
		if err == nil {
			close(has)
			<-ctx.Done()
			give()
		} else if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		close(over)
	}()
	given = func() bool {
		synctest.Wait()
		select {
		case <-has:
			return true
		default:
			return false
		}
	}
	end = func() { cancel(); <-over }
	t.Cleanup(end)
	return given, end
}

// empty: nothing is held of what everybody has given back.
func (r *rooms) empty(t *testing.T) {
	t.Helper()
	if r.common != common || r.firsts != firsts || len(r.held)+len(r.waiting) > 0 {
		t.Errorf("%d and %d are free, %d servers hold some, %d wait", r.common, r.firsts, len(r.held), len(r.waiting))
	}
}

// TestSlowServers: servers that give nothing back do not keep others from sending: of a few, each has some parts, of many, one.
func TestSlowServers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const part = 8 << 20
		r, all := newRooms(), 0
		var ends []func()
		for i := range 16 {
			has := 0
			for range everything / part {
				given, end := r.asks(t, fmt.Sprint("slow", i), part)
				ends = append(ends, end)
				if given() {
					has++
				}
			}
			all += has
			if least := max(1, 24>>(2*i)); has < least {
				t.Errorf("slow server %d has %d parts, at least it is to have %d", i, has, least)
			}
		}
		if all*part > everything {
			t.Errorf("%d parts are in memory", all)
		}
		for _, end := range ends {
			end()
		}
		r.empty(t)
	})
}

// TestLargePart: a part that needs all the memory comes to its turn though others ask all the time, who have one part each meanwhile.
func TestLargePart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRooms()
		small, end := r.asks(t, "small", 1)
		small()
		large, endLarge := r.asks(t, "large", 5<<30)
		if large() {
			t.Error("a part has all the memory, and another has some of it")
		}
		second, endSecond := r.asks(t, "small", 1)
		second()
		third, endThird := r.asks(t, "third", 1)
		if second() || !third() {
			t.Errorf("behind a large part a server has a second: %v; another its first: %v", second(), third())
		}
		if end(); !large() {
			t.Error("the large part waits for what is free")
		}
		if endLarge(); !second() {
			t.Error("what waited behind the large part waits on")
		}
		endSecond()
		endThird()
		r.empty(t)
	})
}

// TestLargePartOfAServer: nor is it passed by small parts of its own server for ever.
func TestLargePartOfAServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRooms()
		first, end := r.asks(t, "a", 1)
		first()
		large, endLarge := r.asks(t, "a", 5<<30)
		if large() {
			t.Error("a part has all the memory, and another has some of it")
		}
		second, endSecond := r.asks(t, "a", 1)
		if second() {
			t.Error("one behind it passes")
		}
		if end(); !large() {
			t.Error("the large part waits for what is free")
		}
		if endLarge(); !second() {
			t.Error("what waited behind the large part waits on")
		}
		endSecond()
		r.empty(t)
	})
}

// TestRooms: whatever is asked for and given back, in whatever order, no more is held than there is, and no server
// waits that has nothing and for which there is room.
func TestRooms(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		r := newRooms()
		var mine []*claim
		servers := map[*claim]string{}
		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			if len(mine) > 0 && rapid.Bool().Draw(rt, "give") {
				i := rapid.IntRange(0, len(mine)-1).Draw(rt, "which")
				r.give(servers[mine[i]], mine[i])
				mine = append(mine[:i], mine[i+1:]...)
			} else {
				server := fmt.Sprint(rapid.IntRange(1, 5).Draw(rt, "server"))
				c := r.claim(server, rapid.SampledFrom([]int64{1, 5 << 20, 64 << 20, 105 << 20, 525 << 20}).Draw(rt, "bytes"))
				mine, servers[c] = append(mine, c), server
			}
			var sum, first int64
			for _, c := range mine {
				select {
				case <-c.given:
					sum += c.n
					if c.first {
						first += c.n
					}
				default:
					if c.of.all == 0 && c.n <= r.firsts {
						rt.Fatalf("a server that has nothing waits for %d bytes, %d are free for it", c.n, r.firsts)
					}
				}
			}
			if r.common < 0 || r.firsts < 0 || sum-first+r.common != common || first+r.firsts != firsts {
				rt.Fatalf("%d bytes are held, %d of them of the first parts; free are %d and %d", sum, first, r.common, r.firsts)
			}
		}
	})
}
