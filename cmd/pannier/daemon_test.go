package main

import (
	"context"
	"encoding/hex"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/engine/admin/admintest"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/logs"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/relpath"
)

// daemon is a real service over an engine that a script plays. Its node "here" has
// the partners "there" and "far" and these rules, with roots of their names:
//
//	out, other   send, there      in, keep   receive, all
//	closed       send, nobody
type daemon struct {
	engine *admintest.Engine
	server *admin.Server
	served chan error
}

// startDaemon gives a script a daemon and its address.
func startDaemon(env *testscript.Env) error {
	d, address, end, err := newDaemon(env.WorkDir)
	if err != nil {
		return err
	}
	env.Defer(end)
	env.Values[daemon{}] = d
	env.Setenv("PANNIER_ADMIN", address)
	env.Setenv("NOUTF8", "a\xffb")
	return nil
}

// newDaemon is a daemon with its files in a directory, its address, and what ends it.
func newDaemon(files string) (_ *daemon, address string, end func(), _ error) {
	rule := func(name string, d engine.Direction, partners ...string) *engine.Rule {
		return &engine.Rule{Name: name, Direction: d, Partners: partners, Root: filepath.Join(files, name), Quota: sideeffect.NoQuota, Digest: sideeffect.SHA256}
	}
	book := engine.Book{
		Partners: map[string]*engine.Partner{"there": {Name: "there", Address: "tls://there:6610"}, "far": {Name: "far"}},
		Rules: map[string]*engine.Rule{
			"out": rule("out", engine.Send, "there"), "other": rule("other", engine.Send, "there"), "closed": rule("closed", engine.Send),
			"in": rule("in", engine.Receive, "*"), "keep": rule("keep", engine.Receive, "*"),
		},
	}
	for _, r := range book.Rules {
		if err := os.MkdirAll(r.Root, 0o755); err != nil {
			return nil, "", nil, err
		}
	}
	d := &daemon{engine: admintest.New("here", book), served: make(chan error, 1)}
	dir, err := os.MkdirTemp("", "pn") // short, for a socket's name
	if err != nil {
		return nil, "", nil, err
	}
	address = "unix://" + filepath.Join(dir, "s")
	l, err := admin.Listen(address, admin.Access{})
	if err != nil {
		return nil, "", nil, err
	}
	d.server, err = admin.New(admin.Config{
		Engine: d.engine, Node: "here", Key: "sha256:1234", Version: "v9.9.9", Addresses: func() []string { return []string{"tls://here:6610"} },
		Lines: func(id, partner string) []logs.Line {
			return []logs.Line{{At: time.Now(), Level: slog.LevelWarn, Text: "interrupted \x1b[31m id=" + id + " partner=" + partner}}
		},
		Backup: func(w io.Writer, _ bool) error {
			_, err := io.WriteString(w, strings.Repeat("store", 50000))
			return err
		},
		Reload: func(context.Context) (admin.Reloaded, error) {
			return admin.Reloaded{Notes: []string{"rule out: other root"}, Problems: []string{"relay r does not listen"}}, nil
		},
	})
	if err != nil {
		return nil, "", nil, err
	}
	go func() { d.served <- d.server.Serve(l) }()
	return d, address, func() { d.server.Close(); <-d.served; os.RemoveAll(dir) }, nil
}

// daemonCommands play the engine:
//
//	request ID FIELD=VALUE...   makes or changes a request, whose id begins so
//	every FIELD=VALUE...        changes all requests there are
//	watched N                   waits until N are waited for
//	partner NAME FIELD=VALUE...
//	explain SUMMARY CAUSE       says the same of all requests there are
//	stop                        ends the daemon
func daemonCommands() map[string]func(*testscript.TestScript, bool, []string) {
	of := func(ts *testscript.TestScript) *daemon { return ts.Value(daemon{}).(*daemon) }
	all := commonCommands()
	maps.Copy(all, map[string]func(*testscript.TestScript, bool, []string){
		"request": func(ts *testscript.TestScript, _ bool, args []string) {
			ts.Check(of(ts).request(args[0], args[1:]))
		},
		"every": func(ts *testscript.TestScript, _ bool, args []string) {
			for _, s := range of(ts).engine.Requests() {
				ts.Check(of(ts).request(s.Key.ID.String(), args))
			}
		},
		"partner": func(ts *testscript.TestScript, _ bool, args []string) {
			p := engine.PartnerStatus{Name: args[0], Address: "tls://there:6610"}
			var reach error
			for _, a := range args[1:] {
				switch a {
				case "connected":
					p.Connected, p.RTT, p.Running, p.Queued = true, 1500*time.Microsecond, 2, 3
				case "itself":
					p.Address = "pipe:"
				case "down":
					p.Failure = lifecycle.Failure{Kind: fault.Lost, Cause: "no route", At: time.Now()}
					p.RetryAt = time.Now().Add(time.Hour)
					reach = fault.New("reach", fault.Lost, "no route to %q", p.Name)
				default:
					ts.Fatalf("partner: %s", a)
				}
			}
			of(ts).engine.SetPartner(p, reach)
		},
		"watched": func(ts *testscript.TestScript, _ bool, args []string) {
			n, err := strconv.Atoi(args[0])
			ts.Check(err)
			for began := time.Now(); of(ts).engine.Waiting() != n; time.Sleep(5 * time.Millisecond) {
				if time.Since(began) > 3*time.Minute {
					ts.Fatalf("%d are waited for, want %d", of(ts).engine.Waiting(), n)
				}
			}
		},
		"explain": func(ts *testscript.TestScript, _ bool, args []string) {
			for _, s := range of(ts).engine.Requests() {
				of(ts).engine.SetExplanation(store.RefOf(&s.Record), engine.Explanation{
					Summary: args[0], Cause: args[1], Next: "tried again", At: time.Now().Add(time.Hour), Do: []string{"retry " + s.Key.ID.String()[:8]},
					Partner: engine.PartnerStatus{Name: "there", Connected: true}, Attempts: 5,
				})
				of(ts).engine.SetEvents(store.RefOf(&s.Record), store.Entry{Seq: 1, At: time.Now(), Event: "Fail", State: s.State, Phase: s.Phase, Rank: s.Rank,
					Failure: lifecycle.Failure{Kind: fault.NoSpace, Cause: args[1]}})
			}
		},
		"told": func(ts *testscript.TestScript, _ bool, args []string) { // by the other end of each, and why it says no more
			now := time.Now()
			for _, s := range of(ts).engine.Requests() {
				of(ts).engine.SetTimeline(store.RefOf(&s.Record), engine.Timeline{Told: now, Trouble: fault.New("call partner", fault.Unsupported, "%s", args[0]), There: engine.Steps{
					Side: s.Side.Other(), State: lifecycle.Interrupted, Phase: lifecycle.Post, Reason: "retrying", Size: -1, Clock: now,
					Tasks: []engine.TaskRun{{List: lifecycle.PostList, Number: 1, Name: "exec", Began: now, Ended: now.Add(1500 * time.Millisecond), Failed: true}},
				}})
			}
		},
		"stop": func(ts *testscript.TestScript, _ bool, _ []string) { of(ts).server.Close() },
	})
	return all
}

// request sets fields of the request whose id begins with id; a new one is of out
// to there.
func (d *daemon) request(id string, changes []string) error {
	var s engine.Status
	for _, old := range d.engine.Requests() {
		if strings.HasPrefix(old.Key.ID.String(), id) {
			s = old
		}
	}
	if s.State == 0 {
		b, err := hex.DecodeString((id + strings.Repeat("0", 32))[:32])
		if err != nil {
			return err
		}
		s.Key = lifecycle.Key{Requester: "here", ID: lifecycle.ID(b)}
		s.Role, s.Side, s.State, s.Phase, s.Size, s.Epoch = lifecycle.Requester, lifecycle.Sender, lifecycle.ToSubmit, lifecycle.Accepted, -1, 1
		s.Spec = lifecycle.Spec{Partner: "there", Rule: "out", Follow: s.Key.ID}
		s.Registered, s.Changed, s.Due = time.Now(), time.Now(), time.Now()
	}
	for _, c := range changes {
		name, value, _ := strings.Cut(c, "=")
		if err := set(&s, name, value); err != nil {
			return err
		}
	}
	d.engine.Set(s)
	return nil
}

func set(s *engine.Status, name, value string) (err error) {
	number := func() (n int64) { n, err = strconv.ParseInt(value, 10, 64); return n }
	live := func() *engine.Live {
		l := &engine.Live{Total: s.Size, Doing: "moving bytes"}
		if s.Live != nil {
			*l = *s.Live
		}
		s.Live = l
		return l
	}
	switch name {
	case "state":
		for st := lifecycle.ToSubmit; st <= lifecycle.Done; st++ {
			if st.String() == value {
				s.State = st
			}
		}
		if s.Due = time.Now(); s.State.Final() {
			s.Due, s.Live = time.Time{}, nil
		}
		if s.State == lifecycle.Done {
			s.Phase, s.Rank = lifecycle.Finished, s.Size
		}
	case "file":
		s.Spec.Source, err = relpath.Parse(value)
		s.Spec.Target, s.File = s.Spec.Source, s.Spec.Source
	case "in":
		s.Spec.Rule, s.Side = "in", lifecycle.Receiver
		s.Spec.Target, err = relpath.Parse(value)
		s.Spec.Source, s.File = s.Spec.Target, s.Spec.Target
	case "size":
		s.Size = number()
	case "durable":
		s.Rank = number()
		live().Durable = s.Rank
	case "live":
		live().Durable = number()
	case "received":
		live().Received = number()
	case "rate":
		live().Rate = float64(number())
	case "limit":
		live().Limit = value
	case "proof":
		s.Proof = value
	case "partner":
		s.Spec.Partner = value
	case "cause":
		s.Failure.Cause = value
	case "warning":
		s.Warnings, s.Warning = s.Warnings+1, value
	case "kind":
		s.Failure.Kind, s.Failure.Side, s.Failure.At = fault.Kind(number()), fault.Peer, time.Now()
	case "side":
		s.Failure.Side = fault.Here
	case "phase": // a task of it is left
		for _, ph := range lifecycle.Phases() {
			if ph.Name(s.Side) == value {
				s.Phase = ph
			}
		}
		s.Spec.Tasks = [3]uint8{1, 1, 0}
	case "there": // how far the other end was when it failed
		for _, ph := range lifecycle.Phases() {
			if ph.Name(s.Side.Other()) == value {
				s.Failure.Phase = ph
			}
		}
	case "streak":
		s.Streak = uint32(number())
	case "attempt":
		s.Attempt = uint32(number())
	case "ago":
		var ago time.Duration
		ago, err = time.ParseDuration(value)
		s.Registered, s.Changed = time.Now().Add(-ago), time.Now().Add(-ago)
	default:
		return fault.New("request", fault.Invalid, "no field %q", name)
	}
	return err
}
