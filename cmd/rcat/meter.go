package main

import (
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/sideeffect"
)

const (
	drawEvery = 200 * time.Millisecond
	barWidth  = 30
)

// meter shows progress on a terminal. Its goroutine, which starts with the meter
// and ends with close, draws; the pump that reports never waits for it.
type meter struct {
	w      io.Writer
	now    func() time.Time
	newest atomic.Pointer[sideeffect.Progress]
	stop   chan struct{}
	wg     sync.WaitGroup
}

// startMeter makes a meter; on anything but a terminal it shows nothing.
func startMeter(w io.Writer, now func() time.Time) *meter {
	m := &meter{w: w, now: now, stop: make(chan struct{})}
	if command.Terminal(w) {
		m.wg.Go(m.draw)
	}
	return m
}

// note takes a report; it is a Descriptor.Progress.
func (m *meter) note(p sideeffect.Progress) { m.newest.Store(&p) }

// close removes the line and waits for the goroutine.
func (m *meter) close() {
	close(m.stop)
	m.wg.Wait()
}

// draw reckons the rate from the first report on: what an earlier run has moved
// says nothing about this one's.
func (m *meter) draw() {
	const clear = "\r\x1b[K"
	var first *sideeffect.Progress
	var began time.Time
	tick := time.NewTicker(drawEvery)
	defer tick.Stop()
	for {
		select {
		case <-m.stop:
			fmt.Fprint(m.w, clear)
			return
		case <-tick.C:
			p := m.newest.Load()
			if p == nil {
				continue
			}
			if first == nil {
				first, began = p, m.now()
			}
			fmt.Fprint(m.w, clear+progressLine(*p, p.Received-first.Received, m.now().Sub(began)))
		}
	}
}

// progressLine counts what the receiving end has taken and checked, and so what
// nothing but its disk can still lose. "100%" appears only when it has
// acknowledged everything, which after an upload means that it is on disk.
func progressLine(p sideeffect.Progress, moved int64, took time.Duration) string {
	done := humanize.IBytes(uint64(p.Received))
	speed := rate(moved, took.Seconds())
	if p.Total <= 0 {
		return fmt.Sprintf("%10s  %12s", done, speed)
	}
	part := float64(p.Received) / float64(p.Total)
	percent := int(part * 100)
	storing := ""
	if p.Acknowledged < p.Total {
		percent = min(percent, 99)
		if p.Moved == p.Total {
			storing = "  storing"
		}
	}
	bar := make([]rune, barWidth)
	for i := range bar {
		bar[i] = '░'
		if float64(i) < part*barWidth {
			bar[i] = '█'
		}
	}
	return fmt.Sprintf("%s  %3d%%  %10s  %12s%s", string(bar), percent, done, speed, storing)
}
