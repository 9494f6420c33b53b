package schedule

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/pannier/pannier/spec/fault"
)

// Cron is a cron expression: minute, hour, day of the month, month, day of the week. The
// zero value is never due.
type Cron struct {
	text string
	spec *cron.SpecSchedule
	// hourly: its hours begin with a star, so what it says is about hours as they pass,
	// not about hours of the day.
	hourly bool
}

var fields = cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow)

// names are expressions that have a name.
var names = map[string]string{
	"@hourly": "0 * * * *", "@daily": "0 0 * * *", "@weekly": "0 0 * * 0", "@monthly": "0 0 1 * *", "@yearly": "0 0 1 1 *",
}

// ParseCron reads an expression. Errors are fault.Invalid and say what to write.
func ParseCron(text string) (Cron, error) {
	bad := func(format string, args ...any) (Cron, error) {
		return Cron{}, fault.New("read cron expression", fault.Invalid, "%.60q: %s", text, fmt.Sprintf(format, args...))
	}
	expr := text
	if text != "" && text[0] == '@' {
		if expr = names[text]; expr == "" {
			return bad("the names are @hourly, @daily, @weekly, @monthly and @yearly")
		}
	}
	five := strings.Fields(expr)
	if len(five) != 5 || strings.Contains(expr, "=") {
		return bad("write five fields, minute, hour, day of the month, month and day of the week, as \"30 6 * * Mon-Fri\"")
	}
	for i, f := range five {
		if strings.HasPrefix(f, ",") || strings.HasSuffix(f, ",") || strings.Contains(f, ",,") {
			return bad("%q has a comma without a number on each side", f)
		}
		five[i] = strings.ReplaceAll(f, "?", "*")
		if i == 4 {
			five[i] = sunday(five[i])
		}
		if p := &parts[i]; !p.takes(five[i]) {
			return bad("the %s is %q: write %s, several as 1,5, a range as 1-5, steps as */10", p.name, f, p.allowed)
		}
	}
	if isStepped(five[2]) && five[4] != "*" || isStepped(five[4]) && five[2] != "*" {
		return bad("programs differ on what a day of the month and one of the week mean together when one begins with *: write the days out, as 1,15")
	}
	s, err := fields.Parse(strings.Join(five, " "))
	if err != nil { // takes lets nothing through that it does not read
		return Cron{}, fault.New("read cron expression", fault.Internal, "%.60q: %v", text, err)
	}
	c := Cron{text: text, spec: s.(*cron.SpecSchedule), hourly: strings.HasPrefix(five[1], "*")}
	if c.Next(time.Unix(0, 0).UTC()).IsZero() {
		return bad("there is no such day in any year")
	}
	return c, nil
}

// part is what one of the five fields may have. The library's parser takes no less, and says in
// its own words what it does not take.
type part struct {
	name, allowed string
	least, most   int
	words         []string // for numbers, of which the first is least
}

var parts = [5]part{
	{"minute", "0 to 59", 0, 59, nil},
	{"hour", "0 to 23", 0, 23, nil},
	{"day of the month", "1 to 31", 1, 31, nil},
	{"month", "1 to 12, or Jan to Dec", 1, 12, []string{"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"}},
	{"day of the week", "0 to 7, where both are Sunday, or Sun to Sat", 0, 6, []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}},
}

// takes reports whether a field can be read.
func (p *part) takes(field string) bool {
	for one := range strings.SplitSeq(field, ",") {
		rng, step, stepped := strings.Cut(one, "/")
		if stepped && number(step) < 1 {
			return false
		}
		from, to, isRange := strings.Cut(rng, "-")
		if from == "*" && !isRange {
			continue
		}
		first := p.value(from)
		if first < p.least || first > p.most || isRange && (p.value(to) < first || p.value(to) > p.most) {
			return false
		}
	}
	return true
}

// value is that of a number or word; -1 for another text.
func (p *part) value(text string) int {
	if i := slices.Index(p.words, strings.ToLower(text)); i >= 0 {
		return p.least + i
	}
	return number(text)
}

// number is that of a text of few digits; -1 for another.
func number(text string) int {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return -1
	}
	return int(n)
}

func isStepped(field string) bool { return field != "*" && strings.HasPrefix(field, "*") }

// sunday is a day of the week with 0 for 7, as crontab(5) allows it.
func sunday(field string) string {
	parts := strings.Split(field, ",")
	for i, p := range parts {
		switch {
		case p == "7":
			parts[i] = "0"
		case strings.HasSuffix(p, "-7") && p != "0-7" && p != "7-7":
			parts[i] = strings.TrimSuffix(p, "7") + "6,0"
		}
	}
	return strings.Join(parts, ",")
}

func (c Cron) String() string { return c.text }

// IsZero reports whether c is never due.
func (c Cron) IsZero() bool { return c.spec == nil }

// Next is the first time after t at which c is due, by the clocks of t's location; zero
// if there is none in the next years.
//
// A time of the day that the clocks pass over, because they are put forward, is due in the moment
// they are; several such times are due once. One that comes twice, because they are put back, is due
// the first time only; but an expression whose hours begin with a star is due each time.
func (c Cron) Next(t time.Time) time.Time {
	if c.spec == nil {
		return time.Time{}
	}
	for {
		// Until end the clocks go on as they do at t. The library is only asked about
		// clocks that are never set.
		start, end := t.ZoneBounds()
		wall := dial(t)
		if !c.hourly && !start.IsZero() {
			if again := dial(start.Add(-1)).Add(1); wall.Before(again) { // what has been, comes again
				wall = again.Add(-1)
			}
		}
		next := c.spec.Next(wall)
		if next.IsZero() {
			return next
		}
		at := t.Add(next.Sub(dial(t)))
		if end.IsZero() || at.Before(end) {
			return at
		}
		// Nothing is due before they are set. Is something at once?
		before, after := dial(end.Add(-1)).Add(1), dial(end)
		if next.Before(after) || next.Equal(after) || after.Before(before) && c.hourly && c.spec.Next(after.Add(-1)).Equal(after) {
			return end
		}
		t = end
	}
}

// dial is what clocks show at t, as a time of a place where nobody sets them.
func dial(t time.Time) time.Time {
	_, offset := t.Zone()
	return t.UTC().Add(time.Duration(offset) * time.Second)
}
