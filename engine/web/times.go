package web

import (
	"net/http"
	"strings"
	"time"

	"github.com/pannier/pannier/spec/adminpb"
)

// The page of what a node does, and waits for, by the clock.

// timed is an expected file or a schedule, as the page shows it.
type timed struct {
	Name, Status, Word string
	What, When         string
	Lines              []string
	Problem            string
	Path               string // of what came last; empty: nothing
}

// timesPage is the page.
type timesPage struct{ Expected, Schedules timedList }

// timedList is the beginning of a list, and how many come after it.
type timedList struct {
	All  []timed
	More int
}

const (
	mostTimed = 200 // of a list
	lookTimes = 5   // seconds between two looks of a page that is open: nothing here is due by the second
)

func (p *Page) times(v *visit) error {
	m, err := p.allTimes(v)
	if err != nil {
		return err
	}
	v.page(http.StatusOK, "times", "Times", "times", m)
	return nil
}

// liveTimes follows the page.
func (p *Page) liveTimes(v *visit) error {
	looks := 0
	return v.stream(func(s *stream) error {
		if looks++; looks%lookTimes != 1 {
			return nil
		}
		m, err := p.allTimes(v)
		if err != nil {
			return err
		}
		if err := s.tell("expected", "expected", m.Expected); err != nil {
			return err
		}
		return s.tell("schedules", "schedules", m.Schedules)
	})
}

func (p *Page) allTimes(v *visit) (m timesPage, err error) {
	now := time.Now()
	expected, err := p.cfg.Admin.ListExpected(v.ctx(), &adminpb.ListExpectedRequest{})
	if err != nil && !absent(err) {
		return m, err
	}
	m.Expected = beginOf(expected.GetExpected(), func(e *adminpb.Expected) timed { return expectedOf(e, now) }) // late ones first
	schedules, err := p.cfg.Admin.ListSchedules(v.ctx(), &adminpb.ListSchedulesRequest{})
	if err != nil && !absent(err) {
		return m, err
	}
	m.Schedules = beginOf(schedules.GetSchedules(), func(s *adminpb.Schedule) timed { return scheduleOf(s, now) })
	return m, nil
}

func beginOf[T any](all []T, show func(T) timed) (l timedList) {
	shown := min(len(all), mostTimed)
	for _, one := range all[:shown] {
		l.All = append(l.All, show(one))
	}
	l.More = len(all) - shown
	return l
}

// lamps are how the states of expected files look.
var lamps = map[string]string{"late": "down", "missing": "down", "acknowledged": "idle", "came late": "idle", "in time": "up", "awaited": "idle"}

func expectedOf(e *adminpb.Expected, now time.Time) timed {
	x := timed{Name: e.GetName(), Status: lamps[e.GetState()], Word: capital(e.GetState()), What: e.GetFile() + " from " + e.GetPartner() + " by " + e.GetRule()}
	if t := e.GetNext(); t != nil {
		x.When = "due " + ago(t.AsTime(), now)
	}
	for _, f := range e.GetLate() {
		x.Lines = append(x.Lines, "was due "+ago(f.GetDue().AsTime(), now)+", "+f.GetDue().AsTime().Format(time.RFC3339))
		if len(x.Lines) == mostLate {
			break
		}
	}
	if over := e.GetOver(); len(over) > 0 {
		x.Lines = append(x.Lines, "the last: "+over[0].GetState()+", "+ago(over[0].GetAt().AsTime(), now))
		if id := over[0].GetRequest(); id != "" {
			x.Path = "/transfers/" + id
		}
	}
	return x
}

// mostLate is how many late files of one expectation are shown.
const mostLate = 3

// clockOf is whose clock counts.
func clockOf(zone string) string {
	if zone == "Local" {
		return "by this node's clock"
	}
	return zone
}

func scheduleOf(s *adminpb.Schedule, now time.Time) timed {
	last := s.GetLast()
	x := timed{
		Name: s.GetName(), Status: "idle", Word: "Waiting", Problem: s.GetTrouble(),
		What:  s.GetSource() + " by " + s.GetRule() + " with " + strings.Join(s.GetPartners(), ", "),
		Lines: []string{s.GetCron() + ", " + clockOf(s.GetZone())},
	}
	if t := s.GetNext(); t != nil {
		x.When = "next " + ago(t.AsTime(), now)
	}
	switch {
	case s.GetTrouble() != "" || last.GetOutcome() == "failed":
		x.Status, x.Word = "down", "Failed"
	case len(s.GetPending()) > 0:
		x.Status, x.Word = "up", "Running"
	case last.GetOutcome() == "made":
		x.Status, x.Word = "up", "Made"
	}
	if last != nil {
		x.Lines = append(x.Lines, "last "+ago(last.GetDue().AsTime(), now)+": "+last.GetOutcome())
		if x.Problem == "" {
			x.Problem = last.GetWhy()
		}
	}
	return x
}

// capital is a word at the beginning of a line.
func capital(s string) string {
	if s == "" {
		return ""
	}
	return strings.ToUpper(s[:1]) + s[1:]
}
