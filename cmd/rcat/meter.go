package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dustin/go-humanize"
	"golang.org/x/term"

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
	began  time.Time
	newest atomic.Pointer[sideeffect.Progress]
	stop   chan struct{}
	wg     sync.WaitGroup
}

// startMeter makes a meter; on anything but a terminal it shows nothing.
func startMeter(w io.Writer, now func() time.Time) *meter {
	m := &meter{w: w, began: now(), stop: make(chan struct{})}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		m.wg.Go(func() { m.draw(now) })
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

func (m *meter) draw(now func() time.Time) {
	const clear = "\r\x1b[K"
	tick := time.NewTicker(drawEvery)
	defer tick.Stop()
	for {
		select {
		case <-m.stop:
			fmt.Fprint(m.w, clear)
			return
		case <-tick.C:
			if p := m.newest.Load(); p != nil {
				fmt.Fprint(m.w, clear+progressLine(*p, now().Sub(m.began)))
			}
		}
	}
}

// progressLine counts what the receiving end has acknowledged, so it never runs
// ahead of what would survive; "100%" appears only when all has arrived.
func progressLine(p sideeffect.Progress, took time.Duration) string {
	done := humanize.IBytes(uint64(p.Acknowledged))
	speed := rate(p.Acknowledged, took.Seconds())
	if p.Total <= 0 {
		return fmt.Sprintf("%10s  %12s", done, speed)
	}
	part := float64(p.Acknowledged) / float64(p.Total)
	bar := make([]rune, barWidth)
	for i := range bar {
		bar[i] = '░'
		if float64(i) < part*barWidth {
			bar[i] = '█'
		}
	}
	return fmt.Sprintf("%s  %3d%%  %10s  %12s", string(bar), int(part*100), done, speed)
}
