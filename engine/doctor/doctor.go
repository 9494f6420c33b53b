// Package doctor looks at a host and a node's configuration, and says what is wrong
// before it hurts. It changes nothing: files that it writes to try a directory are removed
// at once. spec/doctor.md has the table of checks.
package doctor

import (
	"context"
	"fmt"
	"time"

	"github.com/pannier/pannier/engine/config"
	"github.com/pannier/pannier/plugins/host"
)

// Outcome is how a check ended.
type Outcome string

// The outcomes.
const (
	OK      Outcome = "ok"
	Warn    Outcome = "warn"    // somebody should look
	Fail    Outcome = "fail"    // something the configuration asks for does not work
	Skipped Outcome = "skipped" // it could not be looked at; the text says why
)

// Finding is what one check says of one thing.
type Finding struct {
	Outcome Outcome `json:"outcome"`
	Check   string  `json:"check"`
	Subject string  `json:"subject"`      // what was looked at; empty: the host
	Text    string  `json:"text"`         // what it means
	Do      string  `json:"do,omitempty"` // what helps
}

// Host is what is looked at.
type Host struct {
	Config   *config.Config
	Warnings []string // of the configuration's text
	Daemon   *Daemon  // nil: none answers
	// Plugin is how the plugin of a bridge is run.
	Plugin func(config.Bridge) (host.Config, error)
	Now    func() time.Time
	// Patience is how long one partner or plugin is waited for; default 10 s.
	Patience time.Duration
}

// Daemon is the node's, which runs.
type Daemon struct {
	PID      int // 0: unknown
	Version  string
	Key      string
	Draining bool
	// Hints is of which changes the kernel does not tell, and why, by the names of folders of which it does not.
	Hints map[string]string
	// Stays is why files could not be moved or removed, by the names of folders of which they stay.
	Stays map[string]string
	// Unwritable is why it cannot write the root of a rule, by the names of rules whose root it cannot.
	Unwritable map[string]string
	// Down is why listeners serve nobody, by the addresses of those that do not.
	Down map[string]string
	// Check compares its records with its disk, and says how many errors and warnings there are.
	Check func(context.Context) (problems, warnings int64, err error)
}

// Checks are the names of all checks, in the order of their findings.
func Checks() (names []string) {
	for _, c := range checks {
		names = append(names, c.name)
	}
	return names
}

var checks = []struct {
	name string
	look func(*exam)
}{
	{"daemon", (*exam).daemon},
	{"config", (*exam).config},
	{"user", (*exam).user},
	{"clock", (*exam).clock},
	{"state", (*exam).state},
	{"disk", (*exam).disk},
	{"root", (*exam).roots},
	{"folder", (*exam).folders},
	{"secret", (*exam).secrets},
	{"limit", (*exam).limits},
	{"address", (*exam).addresses},
	{"certificate", (*exam).certificate},
	{"token", (*exam).tokens},
	{"store", (*exam).store},
	{"plugin", (*exam).plugins},
	{"partner", (*exam).partners},
}

// Look makes all checks, one after the other, and tells each finding in the order of the
// checks and, within one, of the subjects.
func Look(ctx context.Context, h Host, tell func(Finding)) {
	for _, c := range checks {
		if ctx.Err() != nil {
			return
		}
		c.look(&exam{Host: h, ctx: ctx, check: c.name, tell: tell})
	}
}

// exam is one check as it is made.
type exam struct {
	Host
	ctx   context.Context
	check string
	tell  func(Finding)
}

func (e *exam) ok(subject, format string, args ...any) { e.say(OK, subject, "", format, args...) }

func (e *exam) warn(subject, do, format string, args ...any) {
	e.say(Warn, subject, do, format, args...)
}

func (e *exam) fail(subject, do, format string, args ...any) {
	e.say(Fail, subject, do, format, args...)
}

func (e *exam) skip(subject, format string, args ...any) {
	e.say(Skipped, subject, "", format, args...)
}

func (e *exam) say(o Outcome, subject, do, format string, args ...any) {
	e.tell(Finding{Outcome: o, Check: e.check, Subject: subject, Text: fmt.Sprintf(format, args...), Do: do})
}

// daemon says whether one runs.
func (e *exam) daemon() {
	d := e.Daemon
	switch {
	case d == nil:
		e.ok("", "none answers at %s: the host is looked at without one", e.Config.Node.Admin)
	case d.Draining:
		e.warn("", "wait until it has ended, and start it again", "process %d is draining: it takes nothing new", d.PID)
	default:
		e.ok("", "process %d, version %s, answers at %s", d.PID, d.Version, e.Config.Node.Admin)
	}
}

// config is what the text of the configuration has that may be meant otherwise.
func (e *exam) config() {
	for _, w := range e.Warnings {
		e.warn("", "", "%s", w)
	}
	if len(e.Warnings) == 0 {
		e.ok("", "its text is as it should be")
	}
}
