package engine

import (
	"fmt"
	"slices"
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

// What a run does while its own end sends or takes bytes, and what comes then at a sender: the
// partner's tasks, and the file's name.
const (
	movingBytes = "moving bytes"
	allSent     = "waiting for the partner's answer: all bytes are sent"
)

// moving is doing for bytes.
func (x *run) moving() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.rose = time.Now()
	x.meter = meter{}
	x.meter.read(x.rose, x.r.Rank)
	x.live = Live{Doing: movingBytes, Since: x.rose, Durable: x.r.Rank, Received: x.r.Rank, Total: x.r.Size, From: x.r.Rank, Output: x.live.Output}
}

// A rate is that of the last rateWindow, and unknown before rateLeast.
const (
	rateWindow = 3 * time.Second
	rateLeast  = 200 * time.Millisecond
	rateStep   = 100 * time.Millisecond // between two readings that are kept
)

// meter is how many bytes there were when: the readings of rateWindow, and the last before it.
type meter struct{ readings []reading }

type reading struct {
	at    time.Time
	bytes int64
}

// read takes a reading.
func (m *meter) read(now time.Time, bytes int64) {
	if n := len(m.readings); n > 0 && now.Sub(m.readings[n-1].at) < rateStep {
		return
	}
	m.readings = append(m.readings, reading{now, bytes})
	old := 0
	for old+1 < len(m.readings) && now.Sub(m.readings[old+1].at) >= rateWindow {
		old++
	}
	m.readings = slices.Delete(m.readings, 0, old)
}

// rate is how many bytes a second there were of late, up to so many now; 0: nobody knows.
func (m *meter) rate(now time.Time, bytes int64) float64 {
	if len(m.readings) == 0 {
		return 0
	}
	from := m.readings[0]
	for _, r := range m.readings[1:] {
		if now.Sub(r.at) < rateWindow {
			break
		}
		from = r
	}
	if took := now.Sub(from.at); took >= rateLeast {
		return float64(max(bytes-from.bytes, 0)) / took.Seconds()
	}
	return 0
}

// progress is the pump's.
func (x *run) progress(p sideeffect.Progress) {
	now := time.Now()
	x.mu.Lock()
	l := &x.live
	if p.Received > l.Received || p.Durable > l.Durable {
		x.rose = now
	}
	l.Durable, l.Received, l.Total = max(l.Durable, p.Durable), max(l.Received, p.Received), p.Total
	if x.r.Side == lifecycle.Sender {
		l.Durable = max(l.Durable, min(p.Durable, l.Received))
		was, is := movingBytes, allSent
		if p.Total < 0 || p.Moved < p.Total { // a lost connection may have taken it back
			was, is = is, was
		}
		if l.Doing == was {
			l.Doing, l.Since = is, now
		}
	}
	received := l.Received
	x.meter.read(now, received)
	x.mu.Unlock()
	x.came(received)
	if x.engine.watch.wanted() {
		x.tell()
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
	l.Rate = x.meter.rate(time.Now(), l.Received)
	if !x.holding && time.Since(x.letGo) > rateWindow {
		l.Limit = "" // by now it is something else
	}
	if l.Limit == "" && l.Doing == movingBytes && x.most > 0 && l.Rate > 0.9*float64(x.most) {
		l.Limit = bandwidthOf + x.least // the other end has held it to that
	}
	return &l
}
