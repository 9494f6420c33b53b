package task

import (
	"cmp"
	"context"
	"encoding/json"
	"io"
	"time"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

// snapshotTask writes the record as it is to a file, for what looks at files.
type snapshotTask struct{ to Template }

func newSnapshot(t *Table) (Task, error) {
	to, err := ParseOther(cmp.Or(t.To, "{path}.json"))
	return snapshotTask{to}, err
}

// Run implements Task.
func (s snapshotTask) Run(ctx context.Context, on *On) (Result, error) {
	to, err := s.to.Path(on.Vars)
	if err != nil {
		return Result{}, err
	}
	if to == on.File {
		return Result{}, fault.New("make name", fault.Invalid, "%q is the file itself: set to to another name", to)
	}
	text, err := json.MarshalIndent(Tell(on), "", "  ")
	if err != nil {
		return Result{}, err
	}
	if err := sideeffect.MakeDirs(on.Root, to.Dir()); err != nil {
		return Result{}, err
	}
	return Result{}, Write(ctx, on, to, func(w io.Writer) error {
		_, err := w.Write(append(text, '\n'))
		return err
	})
}

// Told is a record as JSON has it: what snapshot writes and http sends.
type Told struct {
	Node       string   `json:"node"`
	ID         string   `json:"id"`
	Requester  string   `json:"requester"`
	Partner    string   `json:"partner"`
	Rule       string   `json:"rule"`
	Role       string   `json:"role"`
	Side       string   `json:"side"`
	Source     string   `json:"source"`
	Target     string   `json:"target"`
	File       string   `json:"file"` // now; "" when it is gone
	Size       int64    `json:"size"` // -1 when unknown
	Verified   string   `json:"verified"`
	Info       string   `json:"info"`
	Follow     string   `json:"follow"`
	State      string   `json:"state"`
	Phase      string   `json:"phase"`
	List       string   `json:"list"` // that the task is of
	Attempt    uint32   `json:"attempt"`
	Registered string   `json:"registered"`
	Changed    string   `json:"changed"`
	Failure    *Failure `json:"failure,omitempty"`
}

// Failure is the last thing that went wrong.
type Failure struct {
	Kind  string `json:"kind"`
	Cause string `json:"cause"`
	At    string `json:"at"`
}

// Tell is what is told of the request that a task is run for.
func Tell(on *On) Told {
	r := on.Record
	t := Told{
		Node: on.Vars["node"], ID: r.Key.ID.String(), Requester: r.Key.Requester, Partner: r.Spec.Partner, Rule: r.Spec.Rule, Role: r.Role.String(), Side: r.Side.String(),
		Source: r.Spec.Source.String(), Target: r.Spec.Target.String(), File: on.File.String(), Size: r.Size, Verified: r.Verified, Info: r.Spec.Info,
		State: r.State.String(), Phase: r.Phase.Name(r.Side), List: on.Key.List.String(), Attempt: r.Attempt, Registered: stamp(r.Registered), Changed: stamp(r.Changed),
	}
	if r.Spec.Follow != (lifecycle.ID{}) {
		t.Follow = r.Spec.Follow.String()
	}
	if r.Failing {
		t.Failure = &Failure{Kind: r.Failure.Kind.String(), Cause: r.Failure.Cause, At: stamp(r.Failure.At)}
	}
	return t
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }
