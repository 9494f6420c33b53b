package bridge

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/sideeffect"
)

// judge is the engine's ledger, and a file at a server, which say in which order they were asked.
type judge struct {
	sideeffect.Ledger
	plugins.Staged
	said string
}

func (j *judge) Judged(f func() error) error {
	j.said += "["
	defer func() { j.said += "]" }()
	return f()
}

func (j *judge) Commit(context.Context) (plugins.Attr, error) {
	j.said += "commit"
	return plugins.Attr{Name: "/x"}, nil
}

// TestVerdictTakesItsTime: the engine does not take a server that answers for others for one that stands still.
func TestVerdictTakesItsTime(t *testing.T) {
	for verdict, want := range map[bool]string{false: "commit", true: "[commit]"} {
		j := &judge{}
		p := &push{call: &call{d: &sideeffect.Descriptor{Ledger: j}}, can: plugins.Capabilities{Verdict: verdict}, staged: j}
		if a, err := p.commit(t.Context()); err != nil || a.Name != "/x" || j.said != want {
			t.Errorf("%v: %q, %v, %v", verdict, j.said, a, err)
		}
	}
}

// TestPhases: from each phase that a requester may be in when it begins an attempt, what is
// answered leads it to the end, without a mismatch and without the same call twice.
func TestPhases(t *testing.T) {
	l, err := NewLine(Options{Notes: filepath.Join(t.TempDir(), "notes")})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, side := range []lifecycle.Side{lifecycle.Sender, lifecycle.Receiver} {
		for from := lifecycle.Accepted; from <= lifecycle.Finished; from++ {
			r := lifecycle.Record{Role: lifecycle.Requester, Side: side, Phase: from, State: lifecycle.Running}
			peer, made := lifecycle.Phase(lifecycle.Unheard), map[lifecycle.Move]bool{}
			for ended := false; !ended; {
				act := lifecycle.Next(&r, peer)
				switch act.Do {
				case lifecycle.DoCall:
					if made[act.Move] {
						t.Fatalf("side %v from %v: %v is called for again in %v, the other end is in %v", side, from, act.Move, r.Phase, peer)
					}
					made[act.Move] = true
					x := &call{Line: l, ctx: t.Context(), log: l.o.Log, ask: engine.Ask{Move: act.Move, Side: side, Call: lifecycle.Call{Phase: r.Phase}}}
					a, err := x.run()
					if err != nil {
						t.Fatal(err)
					}
					peer = a.Phase
				case lifecycle.DoBytes:
					r.Phase, peer = lifecycle.Moving, lifecycle.Posted // as push answers
					if side == lifecycle.Receiver {
						r.Phase, peer = lifecycle.Committed, lifecycle.Ended // as pull does
					}
				case lifecycle.DoClimb:
					r.Phase++
				case lifecycle.DoConclude:
					ended = true
				default:
					t.Fatalf("side %v from %v: %v in %v, the other end is in %v", side, from, act.Do, r.Phase, peer)
				}
			}
		}
	}
}
