package schedule

import (
	"reflect"
	"strings"
	"time"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/spec/fault"
)

// Missed is what becomes of runs whose time was while the node did not run.
type Missed uint8

const (
	Skip Missed = 0 // they are not made
	Once Missed = 1 // one run takes the place of all
	All  Missed = 2 // each is made, but no more than Schedule.Most
)

func (m Missed) String() string { return [...]string{"skip", "once", "all"}[min(m, All)] }

// Overlap is what becomes of a run while requests of the run before are open.
type Overlap uint8

const (
	Allow Overlap = 0 // it is made
	Wait  Overlap = 1 // it is not: they are waited for, and the time passes
)

func (o Overlap) String() string { return [...]string{"allow", "skip"}[min(o, Wait)] }

// Defaults and limits of Schedule.
const (
	DefaultMost  = 24
	MaxMost      = 1000
	DefaultGrace = 5 * time.Minute
	MinGrace     = time.Minute // a process that is killed is back by then
	MaxFiles     = 10_000      // of one run
)

// Schedule is requests that are made at times. Names and paths are below the rule's roots.
type Schedule struct {
	Name     string // unique; 1 to lifecycle.MaxName bytes
	Times    Times
	Missed   Missed
	Most     int           // runs that All makes up for
	Grace    time.Duration // a run that is no later than that is not missed
	Overlap  Overlap
	Rule     string
	Send     bool     // the rule's direction
	Root     string   // the rule's, an absolute directory; empty: at a bridge
	Partners []string // each gets a request for each file
	Source   string   // name, or of Send pattern, with variables
	Target   string   // name, with variables; empty: as source
	Priority int8     // 0: the rule's
	Info     string   // of the requests; empty: "schedule NAME"
}

// Direction is the rule's.
func (s *Schedule) Direction() engine.Direction {
	if s.Send {
		return engine.Send
	}
	return engine.Receive
}

// Check refuses, as fault.Invalid, what cannot work. It does not look at the disk.
func (s *Schedule) Check() error {
	bad := func(format string, args ...any) error {
		return fault.New("check schedule", fault.Invalid, format, args...)
	}
	switch {
	case s.Name == "" || len(s.Name) > lifecycle.MaxName:
		return bad("its name has %d bytes; 1 to %d are allowed", len(s.Name), lifecycle.MaxName)
	case s.Times.Cron.IsZero():
		return bad("schedule %q: no cron expression", s.Name)
	case s.Rule == "" || len(s.Partners) == 0:
		return bad("schedule %q: a rule, and partners of it", s.Name)
	case s.Most < 1 || s.Most > MaxMost || s.Grace < MinGrace:
		return bad("schedule %q: most is 1 to %d, grace at least %v", s.Name, MaxMost, MinGrace)
	case len(s.Info) > lifecycle.MaxInfo:
		return bad("schedule %q: info has %d bytes; at most %d are allowed", s.Name, len(s.Info), lifecycle.MaxInfo)
	}
	if err := s.CheckSource(); err != nil {
		return err
	}
	return s.CheckTarget()
}

// CheckSource refuses what is neither a name nor a pattern, as fault.Invalid.
func (s *Schedule) CheckSource() error {
	if s.Source == "" {
		return fault.New("read source", fault.Invalid, "which file; with %s", variables(false))
	}
	text, err := expand(s.Source, values(time.Unix(0, 0), ""), false)
	if err != nil {
		return err
	}
	switch isPattern := hasMeta(text); {
	case isPattern && !s.Send:
		return fault.New("read source", fault.Invalid, "%q is a pattern, and a rule of direction receive gets one file: write its name", s.Source)
	case isPattern && s.Root == "":
		return fault.New("read source", fault.Invalid, "%q is a pattern, and the rule's files are at a bridge: write a name", s.Source)
	case isPattern:
		return checkPattern(text)
	}
	_, err = parse(text)
	return err
}

// CheckTarget refuses what is no name, as fault.Invalid.
func (s *Schedule) CheckTarget() error {
	if s.Target == "" {
		return nil
	}
	text, err := expand(s.Target, values(time.Unix(0, 0), "d/a.b"), true)
	if err != nil {
		return err
	}
	if _, err := parse(text); err != nil {
		return err
	}
	source, _ := expand(s.Source, values(time.Unix(0, 0), ""), false) // CheckSource has its errors
	if hasMeta(source) && !strings.Contains(s.Target, "{path}") && !strings.Contains(s.Target, "{name}") && !strings.Contains(s.Target, "{stem}") {
		return fault.New("read target", fault.Invalid, "%q is one name for all files of the pattern: use {path}, {name} or {stem}", s.Target)
	}
	return nil
}

// info is the Info of its requests.
func (s *Schedule) info() string {
	if s.Info != "" {
		return s.Info
	}
	return "schedule " + s.Name
}

// Same reports whether two mean the same.
func (s *Schedule) Same(o *Schedule) bool {
	a, b := *s, *o
	a.Times, b.Times = Times{}, Times{} // a zone that was loaded twice is two
	return s.Times.text() == o.Times.text() && reflect.DeepEqual(a, b)
}
