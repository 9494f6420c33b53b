package node_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
)

const (
	limitedSize = 5 << 20
	limitedRate = 2e6     // bytes a second of what is slow
	limitedHead = 2 << 20 // more than what comes at once, whatever the rate
)

// TestLimited: two nodes over sockets, of which one has pools and timetables. Of the same bytes, those
// of a pool with a quarter of the bandwidth take longer, those of a window that is open longer than
// those of one that is shut, and none are faster than their rate, either way. What is compared runs
// at the same time, so that a busy host slows both.
func TestLimited(t *testing.T) {
	a, b := newHost(t, "a"), newHost(t, "b")
	pools, rules, pooled := "", "", ""
	for name, bandwidth := range map[string]string{"slow": `"2MB/s"`, "fast": `"8MB/s"`, "open": `["11:00-13:00 2MB/s"]`, "shut": `["14:00-15:00 2MB/s"]`} {
		for _, direction := range []string{"send", "receive"} {
			rule := fmt.Sprintf("[[rule]]\nname = \"%s-%s\"\ndirection = %q\npartners = [\"*\"]\nroot = %%q\n", name, direction, direction)
			rules += fmt.Sprintf(rule, b.dir+"/files")
			pooled += fmt.Sprintf(rule, a.dir+"/files") + fmt.Sprintf("pool = %q\n", name+"-"+direction)
			pools += fmt.Sprintf("[[pool]]\nname = \"%s-%s\"\nbandwidth = %s\n", name, direction, bandwidth)
		}
	}
	began, noon := time.Now(), time.Date(2026, 1, 7, 12, 0, 0, 0, time.UTC)
	clock := func() time.Time { return noon.Add(time.Since(began)) }
	a.o.Clock, b.o.Clock = clock, clock
	b.start(b.config(a.partner() + rules))
	a.start(a.config(b.partner() + pools + pooled))
	bytes := make([]byte, limitedSize)
	_, _ = rand.Read(bytes) // never fails
	a.write("x", string(bytes))
	b.write("x", string(bytes))

	least := time.Duration((limitedSize - limitedHead) / limitedRate * float64(time.Second))
	for limited, free := range map[string]string{"slow": "fast", "open": "shut"} {
		took := a.together(limited+"-send", free+"-send", limited+"-receive", free+"-receive")
		for _, direction := range []string{"-send", "-receive"} {
			long, short := took[limited+direction], took[free+direction]
			if long <= short*3/2 {
				t.Errorf("%s%s took %v, %s%s %v", limited, direction, long, free, direction, short)
			}
			if long < least {
				t.Errorf("%s%s took %v, and its rate allows no less than %v", limited, direction, long, least)
			}
			if free == "fast" && short < least/4 {
				t.Errorf("%s%s took %v, and its rate allows no less than %v", free, direction, short, least/4)
			}
		}
	}
}

// together has a file moved by rules at the same time, and says how long each took.
func (h *host) together(rules ...string) map[string]time.Duration {
	h.t.Helper()
	took := map[string]time.Duration{}
	var mu sync.Mutex
	var all sync.WaitGroup
	began := time.Now()
	refs := map[string]store.Ref{}
	for _, rule := range rules {
		refs[rule] = h.submit("b", rule, "x", rule)
	}
	for rule, ref := range refs {
		all.Go(func() {
			r, err := h.node.Engine().Wait(context.Background(), ref)
			mu.Lock()
			defer mu.Unlock()
			took[rule] = time.Since(began)
			if err != nil || r.State != lifecycle.Done {
				h.t.Errorf("%s: %v, %v: %+v", rule, err, r.State, r.Failure)
			}
		})
	}
	all.Wait()
	return took
}
