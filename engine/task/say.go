package task

import (
	"cmp"
	"context"
	"crypto/sha256"
	"log/slog"
	"math"
	"strings"
	"time"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/quantity"
)

// logTask writes a line into the node's log.
type logTask struct {
	text  Template
	level slog.Level
}

func newLog(t *Table) (Task, error) {
	text := t.Text
	if text == "" {
		text = "{rule}: {path}"
	}
	l := logTask{}
	var err error
	if l.text, err = ParseTemplate(text); err != nil {
		return nil, err
	}
	if t.Level != "" {
		if err := l.level.UnmarshalText([]byte(t.Level)); err != nil {
			return nil, invalid("level is %q: write debug, info, warn or error", t.Level)
		}
	}
	return l, nil
}

func (l logTask) Run(ctx context.Context, on *On) (Result, error) {
	on.Log.Log(ctx, l.level, l.text.Fill(on.Vars), "task", on.Key.String())
	return Result{}, nil
}

// transferTask sends the file on to the next partner.
type transferTask struct {
	partner, rule string
	info          Template
	wait          bool
}

func newTransfer(t *Table) (Task, error) {
	if t.Partner == "" || t.Rule == "" {
		return nil, invalid("set partner and rule, which say where the file goes on to")
	}
	info, err := ParseTemplate(t.Info)
	if t.Info == "" {
		info, err = ParseTemplate("{info}")
	}
	return transferTask{partner: t.Partner, rule: t.Rule, info: info, wait: t.Wait}, err
}

func (t transferTask) Run(ctx context.Context, on *On) (Result, error) {
	if err := NeedFile(on); err != nil {
		return Result{}, err
	}
	if on.Next == nil {
		return Result{}, fault.New("forward", fault.Unsupported, "this node forwards nothing")
	}
	id, err := on.Next.Forward(ctx, Forward{
		ID: derived(on.Key), Partner: t.partner, Rule: t.rule, File: on.File,
		Follow: on.Follow, Info: t.info.Fill(on.Vars), Hops: min(on.Hops, 254) + 1, Wait: t.wait,
	})
	return Result{Output: []byte(id.String())}, err
}

// derived is the id of the request that a task makes: the same each time it runs.
func derived(k lifecycle.TaskKey) lifecycle.ID {
	sum := sha256.Sum256([]byte(k.Key.Requester + "\x00" + k.String()))
	return lifecycle.ID(sum[:16])
}

// rescheduleTask, in an error list, makes a failed request due again.
type rescheduleTask struct {
	delay    time.Duration
	windows  quantity.Windows
	codes    []string
	attempts uint32
}

// DefaultReschedules is how often a request is made due again, unless the task says.
const DefaultReschedules = 20

func newReschedule(t *Table) (Task, error) {
	if t.Delay <= 0 {
		return nil, invalid("set delay, when to try again, as \"10m\"")
	}
	if t.Attempts < 0 || t.Attempts > math.MaxInt32 {
		return nil, invalid("attempts is %d: write how often the request is made due again, 1 or more", t.Attempts)
	}
	for _, code := range t.Codes {
		if !isKind(code) {
			return nil, invalid("codes has %q, which is no kind of failure: %s", code, kindNames())
		}
	}
	return rescheduleTask{delay: time.Duration(t.Delay), windows: t.Windows, codes: t.Codes, attempts: uint32(cmp.Or(t.Attempts, DefaultReschedules))}, nil
}

// kindNames are all kinds of failure, for people.
func kindNames() string {
	var names []string
	for _, k := range fault.Kinds() {
		names = append(names, k.String())
	}
	return strings.Join(names, ", ")
}

func isKind(name string) bool {
	for _, k := range fault.Kinds() {
		if k.String() == name {
			return true
		}
	}
	return false
}

func (r rescheduleTask) Run(_ context.Context, on *On) (Result, error) {
	if on.Key.List != lifecycle.ErrorList {
		return Result{}, fault.New("reschedule", fault.Invalid, "only a list of error tasks makes a request due again")
	}
	if len(r.codes) > 0 {
		match := false
		for _, code := range r.codes {
			match = match || code == on.Vars["error.code"]
		}
		if !match {
			return Result{}, nil
		}
	}
	if on.Delays >= r.attempts {
		return Result{}, fault.New("reschedule", fault.Refused, "the request was made due again %d times, as often as attempts says", on.Delays)
	}
	now := time.Now()
	return Result{Again: r.windows.Next(now.Add(r.delay)).Sub(now)}, nil
}
