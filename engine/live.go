package engine

import (
	"fmt"
	"time"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/sideeffect"
)

// doing says what the run is at, for who looks at it.
func (x *run) doing(format string, args ...any) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.live.Doing, x.live.Since, x.live.Limit = fmt.Sprintf(format, args...), time.Now(), ""
}

// moving is doing for bytes.
func (x *run) moving() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.rose = time.Now()
	x.live = Live{Doing: "moving bytes", Since: x.rose, Durable: x.r.Rank, Received: x.r.Rank, Total: x.r.Size, From: x.r.Rank, Output: x.live.Output}
}

// rateWindow is over how long a rate is smoothed.
const rateWindow = 3 * time.Second

// progress is the pump's.
func (x *run) progress(p sideeffect.Progress) {
	now := time.Now()
	x.mu.Lock()
	l := &x.live
	if p.Received > l.Received || p.Durable > l.Durable {
		x.rose = now
	}
	if since := now.Sub(x.seen); x.seen.IsZero() || since > 0 {
		if !x.seen.IsZero() && p.Received > l.Received {
			fresh := float64(p.Received-l.Received) / since.Seconds()
			weight := min(1, since.Seconds()/rateWindow.Seconds())
			if l.Rate == 0 {
				weight = 1
			}
			l.Rate += (fresh - l.Rate) * weight
		}
		x.seen = now
	}
	l.Durable, l.Received, l.Total = max(l.Durable, p.Durable), max(l.Received, p.Received), p.Total
	if x.r.Side == lifecycle.Sender {
		l.Durable = max(l.Durable, min(p.Durable, l.Received))
	}
	received := l.Received
	x.mu.Unlock()
	x.came(received)
	if x.engine.watch.wanted() {
		x.engine.watch.publish(Status{Record: x.r, Live: x.report()})
	}
}

func (x *run) output(b []byte) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.live.Output = shown(b)
}

// report is a copy of what the run says of itself.
func (x *run) report() *Live {
	x.mu.Lock()
	defer x.mu.Unlock()
	l := x.live
	return &l
}
