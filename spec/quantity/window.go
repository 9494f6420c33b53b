package quantity

import (
	"fmt"
	"strings"
	"time"

	"github.com/pannier/pannier/spec/fault"
)

// Window is a time of the week, in the local time of the node: from Start until
// End on each of Days; one whose End is not after its Start ends on the next day.
type Window struct {
	Days       [7]bool       // by time.Weekday
	Start, End time.Duration // since midnight, 0 to 24 h
}

// Windows are times at which something may begin; none: always.
type Windows []Window

var dayNames = [7]string{"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"}

// ParseWindow reads "Mon-Fri 20:00-06:00", "Sat,Sun", which is all of these days, or "08:00-18:00",
// which is every day.
func ParseWindow(s string) (Window, error) {
	const op = "read window"
	bad := fault.New(op, fault.Invalid, "%q: write days, times or both, as \"Mon-Fri 20:00-06:00\" or \"Sat,Sun\"", s)
	var w Window
	fields := strings.Fields(s)
	switch len(fields) {
	case 1:
		if w.parseDays(fields[0]) {
			w.End = 24 * time.Hour
			return w, nil
		}
		for i := range w.Days {
			w.Days[i] = true
		}
	case 2:
		if !w.parseDays(fields[0]) {
			return w, bad
		}
	default:
		return w, bad
	}
	from, to, ok := strings.Cut(fields[len(fields)-1], "-")
	var okFrom, okTo bool
	w.Start, okFrom = parseClock(from)
	w.End, okTo = parseClock(to)
	if !ok || !okFrom || !okTo || w.Start == w.End || w.Start == 24*time.Hour {
		return w, bad
	}
	return w, nil
}

func (w *Window) parseDays(s string) bool {
	for _, part := range strings.Split(s, ",") {
		from, to, ranged := strings.Cut(part, "-")
		a, okA := dayOf(from)
		b, okB := a, okA
		if ranged {
			b, okB = dayOf(to)
		}
		if !okA || !okB {
			return false
		}
		for d := a; ; d = (d + 1) % 7 {
			w.Days[d] = true
			if d == b {
				break
			}
		}
	}
	return true
}

func dayOf(s string) (int, bool) {
	for i, name := range dayNames {
		if strings.EqualFold(s, name) {
			return i, true
		}
	}
	return 0, false
}

// parseClock reads "20:00"; "24:00" is the end of the day.
func parseClock(s string) (time.Duration, bool) {
	if s == "24:00" {
		return 24 * time.Hour, true
	}
	t, err := time.Parse("15:04", s)
	if err != nil {
		return 0, false
	}
	return time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute, true
}

// Next is the earliest time, not before t, at which one of the windows is open.
// It follows the clock of t's location over a change of summer time.
func (ws Windows) Next(t time.Time) time.Time {
	if len(ws) == 0 {
		return t
	}
	var best time.Time
	for day := -1; day <= 7; day++ {
		y, m, d := t.Date()
		at := func(days int, since time.Duration) time.Time {
			return time.Date(y, m, d+days, int(since.Hours()), int(since.Minutes())%60, 0, 0, t.Location())
		}
		weekday := at(day, 0).Weekday()
		for i := range ws {
			w := &ws[i]
			if !w.Days[weekday] {
				continue
			}
			end := at(day, w.End)
			if w.End <= w.Start {
				end = at(day+1, w.End)
			}
			start := at(day, w.Start)
			if !t.Before(end) {
				continue
			}
			if start.Before(t) {
				start = t
			}
			if best.IsZero() || start.Before(best) {
				best = start
			}
		}
	}
	return best
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (w *Window) UnmarshalText(b []byte) error {
	parsed, err := ParseWindow(string(b))
	*w = parsed
	return err
}

// String is the window as ParseWindow reads it, with each day named.
func (w Window) String() string {
	var days []string
	for i := range w.Days {
		if day := (i + 1) % 7; w.Days[day] { // weeks begin on Monday
			days = append(days, dayNames[day])
		}
	}
	clock := func(d time.Duration) string {
		return fmt.Sprintf("%02d:%02d", int(d.Hours()), int(d.Minutes())%60)
	}
	text := clock(w.Start) + "-" + clock(w.End)
	if len(days) == len(w.Days) {
		return text
	}
	return strings.Join(days, ",") + " " + text
}
