package schedule

import (
	"path"
	"reflect"
	"strings"
	"time"

	"github.com/bmatcuk/doublestar/v4"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/spec/fault"
)

// Defaults and limits of Expected.
const (
	DefaultExpire = 24 * time.Hour
	MinExpire     = time.Minute
	MaxWaited     = 100 // files of one Expected that are waited for at a time; older ones are missing
	keptOver      = 10  // that are over and remembered
)

// Expected is files that are to come to this node, each by some time.
type Expected struct {
	Name    string        // unique; 1 to lifecycle.MaxName bytes
	Times   Times         // when each is due
	At      time.Time     // or, without an expression, when the one is
	Expire  time.Duration // so long after it was due it is not waited for any more
	Early   time.Duration // so long before it is due it may come; 0: since the one before was due
	Rule    string
	Partner string
	File    string // pattern of the name below this node's root; without a slash, of its last element
}

// Check refuses, as fault.Invalid, what cannot work.
func (e *Expected) Check() error {
	bad := func(format string, args ...any) error {
		return fault.New("check expected file", fault.Invalid, format, args...)
	}
	switch {
	case e.Name == "" || len(e.Name) > lifecycle.MaxName:
		return bad("its name has %d bytes; 1 to %d are allowed", len(e.Name), lifecycle.MaxName)
	case e.Times.Cron.IsZero() == e.At.IsZero():
		return bad("expected file %q: a cron expression, or the one time at which it is due", e.Name)
	case e.Rule == "" || e.Partner == "":
		return bad("expected file %q: a rule and a partner", e.Name)
	case e.Expire < MinExpire:
		return bad("expected file %q: expire is at least %v", e.Name, MinExpire)
	case e.Early < 0:
		return bad("expected file %q: early is no negative time", e.Name)
	}
	return e.CheckFile()
}

// CheckFile refuses what is no pattern, as fault.Invalid.
func (e *Expected) CheckFile() error {
	if e.File == "" {
		return fault.New("read pattern", fault.Invalid, "which file: as \"statement-*.csv\" or \"in/**/*.xml\"")
	}
	return checkPattern(e.File)
}

// Same reports whether two mean the same.
func (e *Expected) Same(o *Expected) bool {
	a, b := *e, *o
	a.Times, b.Times = Times{}, Times{}
	return e.times() == o.times() && reflect.DeepEqual(a, b)
}

// times is what two share that are due at the same times.
func (e *Expected) times() string {
	if e.At.IsZero() {
		return e.Times.text()
	}
	return "at " + e.At.UTC().Format(time.RFC3339Nano)
}

// next is when the first is due after that time; zero: none is.
func (e *Expected) next(after time.Time) time.Time {
	switch {
	case e.At.IsZero():
		return e.Times.Next(after)
	case e.At.After(after):
		return e.At
	}
	return time.Time{}
}

// last are as of Times.Last.
func (e *Expected) last(from, until time.Time, most int) []time.Time {
	switch {
	case e.At.IsZero():
		return e.Times.Last(from, until, most)
	case e.At.After(from) && !e.At.After(until):
		return []time.Time{e.At}
	}
	return nil
}

// fits reports whether a file that has come by its rule from its partner is such a one.
func (e *Expected) fits(name string) bool {
	if !strings.Contains(e.File, "/") {
		name = path.Base(name)
	}
	return doublestar.MatchUnvalidated(e.File, name)
}

// ParseAt reads a time as "2026-12-01T18:00:00Z" or, by the clocks of a zone, "2026-12-01 18:00".
// Errors are fault.Invalid.
func ParseAt(text string, zone *time.Location) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	t, err := time.ParseInLocation("2006-01-02 15:04", text, zone)
	if err != nil {
		return t, fault.New("read time", fault.Invalid, "%.40q is no time: write \"2026-12-01 18:00\" or \"2026-12-01T18:00:00Z\"", text)
	}
	return t, nil
}
