package main

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dustin/go-humanize"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/spec/adminpb"
)

// How often progress is shown: on a terminal, and in a log.
const (
	drawEvery = 200 * time.Millisecond
	noteEvery = 5 * time.Second
	barWidth  = 24
)

// meter shows how requests are doing. One goroutine uses it.
type meter struct {
	w        io.Writer
	terminal bool
	width    int // of a line; 0: any
	requests []*adminpb.Request
	at       map[string][]int // where a request is in requests
	shown    string
}

func newMeter(w io.Writer, all []*adminpb.Request) *meter {
	m := &meter{w: w, terminal: command.Terminal(w), width: command.Width(w), requests: all, at: map[string][]int{}}
	for i, r := range all {
		key := exactly(r).String()
		m.at[key] = append(m.at[key], i)
	}
	return m
}

// every is how often draw is to be called.
func (m *meter) every() time.Duration {
	if m.terminal {
		return drawEvery
	}
	return noteEvery
}

// note takes news of a request.
func (m *meter) note(r *adminpb.Request) {
	for _, i := range m.at[exactly(r).String()] {
		m.requests[i] = r
	}
}

// draw shows the line of now: in the place of the last one on a terminal, else as
// a line of its own if anything has changed.
func (m *meter) draw(now time.Time) {
	line := command.Printable(m.line(now, m.terminal))
	if m.terminal {
		if m.tooLong(line) {
			line = command.Printable(m.line(now, false))
		}
		if m.tooLong(line) {
			line = string([]rune(line)[:m.width-1])
		}
		fmt.Fprint(m.w, "\r\x1b[K"+line)
	} else if line != m.shown {
		fmt.Fprintln(m.w, line)
	}
	m.shown = line
}

// tooLong reports whether the terminal would break the line.
func (m *meter) tooLong(line string) bool {
	return m.width > 1 && utf8.RuneCountInString(line) >= m.width
}

// clear removes the line from a terminal.
func (m *meter) clear() {
	if m.terminal && m.shown != "" {
		fmt.Fprint(m.w, "\r\x1b[K")
	}
	m.shown = ""
}

// line is one request's, or that of all together.
func (m *meter) line(now time.Time, bar bool) string {
	if len(m.requests) == 1 {
		return requestLine(m.requests[0], now, bar)
	}
	over, failed, unknown := 0, 0, false
	var sum adminpb.Live
	for _, r := range m.requests {
		switch r.GetState() {
		case adminpb.Request_DONE:
			over++
		case adminpb.Request_INERROR:
			failed++
		}
		p := progressOf(r)
		sum.Durable, sum.Received, sum.Rate = sum.Durable+p.Durable, sum.Received+p.Received, sum.Rate+p.Rate
		sum.Total += p.Total
		unknown = unknown || p.Total < 0
	}
	if unknown {
		sum.Total = -1
	}
	line := fmt.Sprintf("%d of %d done", over, len(m.requests))
	if failed > 0 {
		line += fmt.Sprintf(", %d failed", failed)
	}
	return line + "  " + amount(&sum, bar)
}

// progressOf is what moves, or what the record says when nothing does.
func progressOf(r *adminpb.Request) *adminpb.Live {
	if l := r.GetLive(); l != nil && l.GetTotal() != 0 {
		return l
	}
	return &adminpb.Live{Durable: r.GetDurable(), Received: r.GetDurable(), Total: r.GetSize()}
}

// requestLine is how one request is doing: what is safe at the receiver and, behind
// a plus, what has arrived there but is not safe yet; what holds it up.
func requestLine(r *adminpb.Request, now time.Time, bar bool) string {
	v := view{people: true, now: now}
	parts := []string{nameOf(r), v.file(ownName(r))}
	if p := progressOf(r); r.GetLive() != nil && p.GetTotal() >= 0 || p.GetDurable() > 0 {
		parts = append(parts, amount(p, bar))
	}
	switch l := r.GetLive(); {
	case r.GetState() != adminpb.Request_RUNNING:
		parts = append(parts, waiting(v, r))
	case l.GetLimit() != "":
		parts = append(parts, "limited by "+l.GetLimit())
	case l.GetDoing() != "" && l.GetRate() == 0:
		parts = append(parts, l.GetDoing())
	case l == nil:
		parts = append(parts, r.GetStep())
	}
	return strings.Join(parts, "  ")
}

// waiting is what a request does that does not run.
func waiting(v view, r *adminpb.Request) string {
	text := r.GetState().String()
	if why := admin.Waits(r); why != "" {
		text += ", " + why
	}
	if r.GetDue() != nil && r.GetDue().AsTime().After(v.now) && !admin.Paused(r) {
		text += ", due " + v.time(r.GetDue())
	}
	if f := admin.Problem(r.GetFailure()); f != "" {
		text += ": " + f
	}
	return text
}

// amount is bytes, rate and the time that is left. 100 % appears only when
// everything is safe.
func amount(p *adminpb.Live, bar bool) string {
	text := humanize.IBytes(uint64(max(p.GetDurable(), 0)))
	if ahead := p.GetReceived() - p.GetDurable(); ahead > 0 {
		text += " (+" + humanize.IBytes(uint64(ahead)) + ")"
	}
	if p.GetTotal() >= 0 {
		text += " of " + humanize.IBytes(uint64(p.GetTotal()))
		part := 1.0
		if p.GetTotal() > 0 {
			part = float64(p.GetDurable()) / float64(p.GetTotal())
		}
		shown := int(part * 100)
		if p.GetDurable() < p.GetTotal() {
			shown = min(shown, 99)
		}
		text = fmt.Sprintf("%3d%%  %s", shown, text)
		if bar {
			text = barOf(part) + "  " + text
		}
	}
	if rate := p.GetRate(); rate > 0 {
		text += fmt.Sprintf("  %s/s", humanize.IBytes(uint64(rate)))
		if left := admin.Left(p); left > 0 {
			text += "  ETA " + span(left)
		}
	}
	return text
}

func barOf(part float64) string {
	full := max(0, min(int(part*barWidth), barWidth))
	return strings.Repeat("█", full) + strings.Repeat("░", barWidth-full)
}

// span is a duration in its two largest units, as "1m21s"; at least a second.
func span(d time.Duration) string {
	d = max(d, time.Second)
	h, m, s := int(d.Hours()), int(d.Minutes())%60, int(d.Seconds())%60
	switch {
	case h > 0:
		return fmt.Sprintf("%dh%dm", h, m)
	case m > 0:
		return fmt.Sprintf("%dm%ds", m, s)
	}
	return fmt.Sprintf("%ds", s)
}
