package engine_test

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/engine/enginetest"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/spec/scorecard/score"
)

// TestLimits is a part of check 26: one request less than a limit, as many, one
// more, and many more, are all carried out, and never more at a time than allowed.
func TestLimits(t *testing.T) {
	tried := 0
	for _, kind := range []string{"node.concurrent", "partner.concurrent", "node.serving"} {
		for _, limit := range []int{1, 2, 7} {
			for _, requests := range []int{limit - 1, limit, limit + 1, 5 * limit} {
				tried++
				t.Run(fmt.Sprintf("%s %d, %d requests", kind, limit, requests), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { limitCase(t, kind, limit, requests) })
				})
			}
		}
	}
	score.Report(t, float64(tried), fmt.Sprintf("%d cases of limits and requests", tried))
}

func limitCase(t *testing.T, kind string, limit, requests int) {
	p := newGroup(t, func(n *node) {
		switch {
		case kind == "node.concurrent":
			n.limits.Concurrent = limit
		case kind == "partner.concurrent":
			n.concurrent = limit
		case n.name == "b":
			n.limits.Serving = limit
		}
	}, "a", "b")
	p.wire.Fault = func(where enginetest.Place, _ enginetest.Call) error {
		if where == enginetest.Answering {
			time.Sleep(time.Second) // so that they meet
		}
		return nil
	}
	p.file("a", "x", 1000)
	var refs []store.Ref
	for i := range requests {
		refs = append(refs, p.submit("push", "x", fmt.Sprint("y", i)))
	}
	stop := make(chan struct{})
	most := 0
	go func() {
		for ; ; time.Sleep(100 * time.Millisecond) {
			now := 0
			for _, s := range p.nodes["a"].engine.Partners() {
				now += s.Running
			}
			most = max(most, now)
			select {
			case <-stop:
				close(stop)
				return
			default:
			}
		}
	}()
	for _, ref := range refs {
		p.endWithin(ref, lifecycle.Done, time.Hour)
	}
	stop <- struct{}{}
	<-stop
	if kind != "node.serving" && most > limit || most < min(limit, requests) {
		t.Errorf("%d at a time, the limit is %d", most, limit)
	}
}

// TestWaitersAreCheap: somebody waits for each of many requests.
func TestWaitersAreCheap(t *testing.T) {
	const waiters, each = 200, 24 << 10 // bytes; 9 KiB, and 17 with the race detector, most of it a stack with the record
	p := newPair(t, nil)
	p.stop("b")
	p.file("a", "x", 1)
	ref := p.submit("push", "x", "y")
	ctx, cancel := context.WithCancel(t.Context())
	heap := func() (m runtime.MemStats) {
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m
	}
	before := heap()
	var all sync.WaitGroup
	for range waiters {
		all.Go(func() { _, _ = p.nodes["a"].engine.Wait(ctx, ref) })
	}
	for runtime.NumGoroutine() < waiters {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(100 * time.Millisecond) // they have read the record
	after := heap()
	cancel()
	all.Wait()
	if grown := int64(after.HeapAlloc+after.StackInuse) - int64(before.HeapAlloc+before.StackInuse); grown > waiters*each {
		t.Errorf("%d waiters have %d bytes each", waiters, grown/waiters)
	}
}
