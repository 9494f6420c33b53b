// Package plugintest holds a bridge against spec/plugin.md: from a test, with Run, or
// from a command, with Verify. It writes only below a name of its own, and removes what
// it has made if the server can.
package plugintest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// Harness is what is held against the contract. Only Open is needed; checks that need
// another part which is nil are skipped, with words.
type Harness struct {
	// Open logs in, always at the same place, where nobody else writes. The session
	// should be one of package host, in process or not, because part of the contract
	// is kept there.
	Open func(ctx context.Context) (plugins.Session, error)

	Levels []string // whose checks are made; nil: all

	Sample  string // a file that is there, for servers that cannot be written to
	Content []byte // of Sample

	// Other logs in at another server with which that of Open may copy directly, in the same
	// process of the plugin: at one where nobody else writes either.
	Other func(ctx context.Context) (plugins.Session, error)

	Entries int                                 // of the longest listing; 0: 10,000
	Sparse  func(name string, size int64) error // makes a file of zeros at the server
	Large   bool                                // without Sparse: more than 4 GiB may be written

	Restart func(context.Context) error // ends the plugin in good order; the next Open is of another process, and of a host that has seen no crash
	Kill    func() error                // ends the plugin's process with SIGKILL
	Hang    func() error                // stops it with SIGSTOP
	Cut     func() error                // breaks all connections of the plugin to its server; a Skip if there are none

	Most time.Duration // of a check; 0: 2 min. What is written of more than 4 GiB has a second more for each 4 MiB
}

// more is how much longer a check may take than others.
func (h Harness) more(c check) time.Duration {
	if c.name == beyondCheck && h.Large && h.Sparse == nil {
		return time.Duration(beyond/(4<<20)) * time.Second
	}
	return 0
}

// Levels are what a check is of.
const (
	Core    = "core"    // reading
	Write   = "write"   // files, names, directories
	Resume  = "resume"  // going on
	Server  = "server"  // the server fails
	FXP     = "fxp"     // two servers that send to each other
	Robust  = "robust"  // a host that does what it should not, or not when it should
	Process = "process" // the plugin's process fails
)

// AllLevels are they, in the order in which they are made.
func AllLevels() []string { return []string{Core, Write, Resume, Server, FXP, Robust, Process} }

// Outcome is how a check went.
type Outcome string

// What comes of a check.
const (
	Passed  Outcome = "passed"
	Failed  Outcome = "failed"
	Skipped Outcome = "skipped" // the harness lacks what it needs
	Absent  Outcome = "absent"  // it is about what the capabilities do not list
)

// Result is of one check.
type Result struct {
	Level   string        `json:"level"`
	Check   string        `json:"check"`
	Outcome Outcome       `json:"outcome"`
	Why     string        `json:"why,omitempty"` // not passed
	Took    time.Duration `json:"took"`          // ns
}

// check is one promise.
type check struct {
	level, name string
	run         func(*try) error
}

// checks are those of the harness's levels.
func (h Harness) checks() []check {
	return slices.DeleteFunc(slices.Concat(core, write, server, copies, robust, process), func(c check) bool {
		return h.Levels != nil && !slices.Contains(h.Levels, c.level)
	})
}

// Run makes each check a subtest.
func Run(t *testing.T, h Harness) {
	for _, c := range h.checks() {
		t.Run(c.level+"/"+c.name, func(t *testing.T) {
			switch r := c.do(t.Context(), h); r.Outcome {
			case Failed:
				t.Error(r.Why)
			case Skipped:
				t.Skip(r.Why)
			case Absent:
				t.Log("nothing to hold: " + r.Why)
			}
		})
	}
}

// Verify does all checks, one after the other, and hands each result to report.
func Verify(ctx context.Context, h Harness, report func(Result)) {
	for _, c := range h.checks() {
		if ctx.Err() != nil {
			return
		}
		report(c.do(ctx, h))
	}
}

// skip is what the harness lacks for a check.
type skip string

func (s skip) Error() string { return string(s) }

// Skip is what a function of a Harness returns that cannot do its part here: the check is skipped.
func Skip(why string) error { return skip(why) }

// absent is what the capabilities do not list.
type absent string

func (a absent) Error() string { return string(a) }

// do makes a check with a session and a place of its own.
func (c check) do(ctx context.Context, h Harness) (r Result) {
	r = Result{Level: c.level, Check: c.name, Outcome: Passed}
	began := time.Now()
	most := h.Most
	if most == 0 {
		most = 2 * time.Minute
	}
	if h.Entries == 0 {
		h.Entries = 10000
	}
	most += h.more(c)
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	t := &try{ctx: ctx, h: h}
	done := make(chan error, 1)
	go func() { done <- t.whole(c) }()
	var err error
	select {
	case err = <-done:
	case <-time.After(most + most/4):
		err = fmt.Errorf("it hangs: not over %v after its time has run out", most/4)
	}
	r.Took = time.Since(began)
	if err != nil {
		r.Outcome, r.Why = Failed, err.Error()
	}
	if s, ok := errors.AsType[skip](err); ok {
		r.Outcome, r.Why = Skipped, string(s)
	}
	if a, ok := errors.AsType[absent](err); ok {
		r.Outcome, r.Why = Absent, string(a)
	}
	return r
}

// try is one run of a check.
type try struct {
	ctx  context.Context
	h    Harness
	s    plugins.Session
	can  plugins.Capabilities
	base string   // begins the names of what it makes
	made []string // to be removed, last first
}

// whole is the run from the login to the tidying up.
func (t *try) whole(c check) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v\n%s", v, debug.Stack())
		}
	}()
	if c.level == Process && t.h.Restart != nil { // who has killed it often is not let start it again
		if err := t.h.Restart(t.ctx); err != nil {
			return fmt.Errorf("restart: %w", err)
		}
	}
	if err := t.login(); err != nil {
		return fmt.Errorf("open: %w", err)
	}
	t.base = "/pannier-" + strings.ToLower(rand.Text()[:8]) + "-"
	if m, ok := t.s.(plugins.Maker); ok && t.can.Mkdir {
		dir := strings.TrimSuffix(t.base, "-")
		if err := m.Mkdir(t.ctx, dir); err != nil {
			return fmt.Errorf("make a directory for the check: %w", err)
		}
		t.made = append(t.made, dir)
		t.base = dir + "/"
	}
	err = c.run(t)
	t.tidy()
	return err
}

// login opens a session, in place of that before.
func (t *try) login() (err error) {
	s, err := t.h.Open(t.ctx)
	if err != nil {
		return err
	}
	t.s = s
	t.can = t.s.Capabilities()
	return nil
}

// tidy removes what was made, as far as it can be.
func (t *try) tidy() {
	if r, ok := t.s.(plugins.Remover); ok && t.can.Remove {
		for i := len(t.made) - 1; i >= 0; i-- {
			_ = r.Remove(t.ctx, t.made[i])
		}
	}
	_ = t.s.Close()
}

// name is one for a file of this check, removed at its end.
func (t *try) name(n string) string {
	t.made = append(t.made, t.base+n)
	return t.base + n
}

// want is nil if err is of one of the kinds.
func want(what string, err error, kinds ...fault.Kind) error {
	for _, k := range kinds {
		if errors.Is(err, k) {
			return nil
		}
	}
	if err == nil {
		return fmt.Errorf("%s succeeds, it has to fail as %v", what, kinds)
	}
	return fmt.Errorf("%s has to fail as %v and fails with: %w", what, kinds, err)
}

// retried are the kinds of what may go better later.
var retried = []fault.Kind{fault.Lost, fault.DeadPeer, fault.Deadline, fault.Overloaded, fault.Draining, fault.IO}
