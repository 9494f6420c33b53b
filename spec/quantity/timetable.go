package quantity

import (
	"slices"
	"strings"
	"time"

	"github.com/pannier/pannier/spec/fault"
)

// Timetable is a rate that depends on the time of the week: that of the first slot that
// is open. Without one there is no limit.
type Timetable []Slot

// Slot is a rate, and when it counts.
type Slot struct {
	Window *Window // nil: always
	Rate   int64   // bytes a second; 0: no limit
}

// NoLimit is how a rate is written that is none.
const NoLimit = "none"

// Always is a timetable of one rate; 0: no limit.
func Always(rate int64) Timetable {
	if rate == 0 {
		return nil
	}
	return Timetable{{Rate: rate}}
}

// ParseSlot reads "20MB/s", "Mon-Fri 08:00-18:00 5MB/s" or "22:00-06:00 none". Errors are
// fault.Invalid.
func ParseSlot(text string) (s Slot, err error) {
	fields := strings.Fields(text)
	if len(fields) == 0 {
		return s, Rate.Refuse(text)
	}
	if rate := fields[len(fields)-1]; rate != NoLimit {
		if s.Rate, err = Rate.Parse(rate); err != nil {
			return s, err
		}
		if s.Rate == 0 {
			return s, fault.New("read rate", fault.Invalid, "%q would let nothing pass: write %q for no limit", rate, NoLimit)
		}
	}
	if before := fields[:len(fields)-1]; len(before) > 0 {
		w, err := ParseWindow(strings.Join(before, " "))
		if err != nil {
			return s, err
		}
		s.Window = &w
	}
	return s, nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Slot) UnmarshalText(b []byte) (err error) {
	*s, err = ParseSlot(string(b))
	return err
}

// String is the slot as ParseSlot reads it.
func (s Slot) String() string {
	rate := NoLimit
	if s.Rate != 0 {
		rate = Rate.Format(s.Rate)
	}
	if s.Window != nil {
		return s.Window.String() + " " + rate
	}
	return rate
}

// Varies reports whether the rate is not always the same.
func (t Timetable) Varies() bool { return len(t) > 0 && t[0].Window != nil }

// At is the rate at a time, by the clocks of its location; 0: no limit.
func (t Timetable) At(at time.Time) int64 {
	for i := range t {
		if t[i].Window == nil || t[i].Window.open(at) {
			return t[i].Rate
		}
	}
	return 0
}

// Next is when the rate will be another than at that time; zero: never.
func (t Timetable) Next(at time.Time) time.Time {
	now := t.At(at)
	var edges []time.Time
	y, m, d := at.Date()
	for i := range t {
		for day := -1; day <= 8 && t[i].Window != nil; day++ {
			for _, since := range []time.Duration{t[i].Window.Start, t[i].Window.End} {
				edges = append(edges, time.Date(y, m, d+day, int(since.Hours()), int(since.Minutes())%60, 0, 0, at.Location()))
			}
		}
	}
	slices.SortFunc(edges, time.Time.Compare)
	for _, edge := range edges {
		if edge.After(at) && t.At(edge) != now {
			return edge
		}
	}
	return time.Time{}
}

// open reports whether a window is open.
func (w *Window) open(at time.Time) bool { return Windows{*w}.Next(at).Equal(at) }
