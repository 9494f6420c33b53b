package flowtest

import (
	"container/heap"
	"time"
)

// event is something that happens at a time on the link.
type event struct {
	t   time.Duration
	seq uint64
	do  func(t time.Duration)
}

type eventHeap []event

func (h eventHeap) Len() int { return len(h) }
func (h eventHeap) Less(i, j int) bool {
	return h[i].t < h[j].t || h[i].t == h[j].t && h[i].seq < h[j].seq
}
func (h eventHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *eventHeap) Push(x any)   { *h = append(*h, x.(event)) }
func (h *eventHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	old[len(old)-1] = event{}
	*h = old[:len(old)-1]
	return last
}

// at makes do happen at link time t. The next advance sees to it.
func (l *Link) at(t time.Duration, do func(t time.Duration)) {
	l.eventSeq++
	heap.Push(&l.events, event{t: t, seq: l.eventSeq, do: do})
}

// now is the time on the link.
func (l *Link) now() time.Duration {
	if l.stalled {
		return l.clock.since - l.clock.lost
	}
	return time.Since(l.start) - l.clock.lost
}

// advance lets everything happen that is due, each at its own time however
// late this is called, so that a slow timer does not slow the link. It returns now.
func (l *Link) advance() time.Duration {
	now := l.now()
	if l.stalled || l.closed {
		return now
	}
	for len(l.events) > 0 && l.events[0].t <= now {
		e := heap.Pop(&l.events).(event)
		e.do(e.t)
		if l.stalled || l.closed {
			return now
		}
	}
	l.setTimer(now)
	return now
}

func (l *Link) setTimer(now time.Duration) {
	if len(l.events) == 0 {
		return
	}
	due := max(l.events[0].t, now+tick)
	if l.timerAt != 0 && l.timerAt <= due {
		return
	}
	l.timerAt = due
	if l.timer == nil {
		l.timer = time.AfterFunc(due-now, l.onTimer)
		return
	}
	l.timer.Reset(due - now)
}

func (l *Link) onTimer() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.timerAt = 0
	l.advance()
}
