package schedule

import (
	"time"
	_ "time/tzdata" // hosts without zones, as in containers, have them, too

	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/quantity"
)

// Times are when something is due: when the expression says so and a window is open.
type Times struct {
	Cron    Cron
	Zone    *time.Location   // whose clocks count; nil: the node's
	Windows quantity.Windows // none: always
}

// mostSteps is how many times of an expression may lie between two open windows.
const mostSteps = 5 * 366 * 24

// Next is the first time after that one at which it is due; zero if there is none in the
// next years.
func (t *Times) Next(after time.Time) time.Time {
	after = after.In(t.zone())
	for range mostSteps {
		at := t.Cron.Next(after)
		if at.IsZero() {
			break
		}
		open := t.Windows.Next(at)
		if open.Equal(at) {
			return at
		}
		if after = open.Add(-1); after.Before(at) { // a window opens where the clocks pass over its time
			after = at
		}
	}
	return time.Time{}
}

func (t *Times) zone() *time.Location {
	if t.Zone == nil {
		return time.Local
	}
	return t.Zone
}

// ZoneName is whose clocks count; "Local": the node's.
func (t *Times) ZoneName() string { return t.zone().String() }

// Last are the last times, most at the most and the oldest first, that are after from and
// not after until. It looks at about as many as it returns.
func (t *Times) Last(from, until time.Time, most int) []time.Time {
	for span := time.Minute; ; span *= 2 {
		begin := until.Add(-span)
		if span > until.Sub(from) || span <= 0 {
			begin = from
		}
		var all []time.Time
		for at := t.Next(begin); !at.IsZero() && !at.After(until); at = t.Next(at) {
			all = append(all, at)
		}
		if len(all) >= most || begin.Equal(from) {
			return all[max(0, len(all)-most):]
		}
	}
}

// text is what two Times share that are due at the same times.
func (t *Times) text() string {
	s := t.Cron.String() + "|" + t.ZoneName()
	for i := range t.Windows {
		s += "|" + t.Windows[i].String()
	}
	return s
}

// ParseZone reads the name of a time zone, as "Europe/Berlin". Errors are fault.Invalid.
func ParseZone(name string) (*time.Location, error) {
	z, err := time.LoadLocation(name)
	if err != nil || name == "" {
		return nil, fault.New("read time zone", fault.Invalid, "%.60q is no time zone: write one of the IANA database, as \"Europe/Berlin\" or \"UTC\"", name)
	}
	return z, nil
}
