package engine_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/enginetest"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

// A source that is overwritten between two attempts, by a file of another size or of the same: whatever is lost
// at that moment, both ends end with the size and the digest of the file that the receiver has.

// Sizes of a source: in the call, beside it, moved by a call of its own.
var replaceable = []int{10_000, 300_000, 1<<20 + 70_000}

// puts makes a file of one byte again and again at a node, in place of what is there.
func (p *pair) puts(node, name string, size int, content byte) {
	file := filepath.Join(p.nodes[node].root, name)
	err := os.WriteFile(file+".new", bytes.Repeat([]byte{content}, size), 0o644)
	if err == nil {
		err = os.Rename(file+".new", file)
	}
	if err != nil {
		p.t.Error(err)
	}
}

// agree wants that the records of both ends, and the receiver's file, are of one content.
func (p *pair) agree(a, b lifecycle.Record) {
	p.t.Helper()
	from, to, node := a, b, "b"
	if a.Side == lifecycle.Receiver {
		from, to, node = b, a, "a"
	}
	got, err := os.ReadFile(filepath.Join(p.nodes[node].root, "y"))
	if err != nil {
		p.t.Fatal(err)
	}
	whole, err := sideeffect.ParseWhole(to.Size, to.Proof)
	sum := sha256.Sum256(got)
	if err != nil || to.Size != int64(len(got)) || !bytes.Equal(whole.Digest.Bytes, sum[:]) {
		p.t.Errorf("the file has %d bytes and %x, its receiver's record says %d and %s, %v", len(got), sum, to.Size, to.Proof, err)
	}
	if from.Size != to.Size || from.Rank != to.Rank || from.Proof != "" && from.Proof != whole.Digest.String() {
		p.t.Errorf("the sender's record says %d bytes of %d and %q, the receiver's %d of %d and %q", from.Rank, from.Size, from.Proof, to.Rank, to.Size, to.Proof)
	}
}

// replacing calls test with each of the cases of a source that is overwritten, until that says that there was
// nothing left to lose.
func replacing(t *testing.T, name string, test func(t *testing.T, rule string, size, then, at int) (more bool)) {
	for _, rule := range []string{"push", "pull"} {
		for i, size := range replaceable {
			for _, then := range []int{size, size + []int{3000, -3000, 3000}[i]} {
				for at, more := 1, true; more && at < 30; at++ {
					t.Run(fmt.Sprintf("%s/%s/%d then %d/%d", rule, name, size, then, at), func(t *testing.T) {
						synctest.Test(t, func(t *testing.T) { more = test(t, rule, size, then, at) })
					})
				}
				if testing.Short() {
					break
				}
			}
		}
	}
}

// TestCrashReplaced ends one node, or both, at each commit, before and after it is kept; the source is
// overwritten before it starts again, and what had arrived may be gone by then.
func TestCrashReplaced(t *testing.T) {
	for _, victim := range []string{"a", "b", "both"} {
		for _, after := range []bool{false, true} {
			for _, gone := range []bool{false, true} {
				replacing(t, fmt.Sprintf("%s/kept=%v/gone=%v", victim, after, gone), func(t *testing.T, rule string, size, then, at int) bool {
					from, to := "a", "b"
					if rule == "pull" {
						from, to = to, from
					}
					if gone && victim == from {
						return false // as without
					}
					p := newPair(t, nil)
					v := p.nodes[strings.Replace(victim, "both", to, 1)]
					p.stop(v.name)
					v.shutAt, v.after = at, after
					p.start(v.name)
					p.puts(from, "x", size, '1')
					order := engine.Order{ID: lifecycle.ID{9}, Partner: "b", Rule: rule, Source: path(t, "x"), Target: path(t, "y")}
					ref := store.Ref{Key: lifecycle.Key{Requester: "a", ID: order.ID}, Role: lifecycle.Requester}
					crashed := p.crash(v, order, ref, victim == "both", func() {
						p.puts(from, "x", then, '2')
						if gone {
							p.loses(to, ref)
						}
					})
					p.agree(p.end(ref, lifecycle.Done))
					return crashed
				})
			}
		}
	}
}

// loses takes away what a receiver that has died has kept, if its record does not say that the file has its name.
func (p *pair) loses(node string, ref store.Ref) {
	if ref.Role = lifecycle.Requester; node == "b" {
		ref.Role = lifecycle.Requested
	}
	if r, err := p.nodes[node].store.Get(p.t.Context(), ref); err == nil && r.Phase >= lifecycle.Committed {
		return
	}
	kept, err := filepath.Glob(filepath.Join(p.nodes[node].root, ".y*"))
	for _, file := range append(kept, filepath.Join(p.nodes[node].root, "y")) {
		_ = os.Remove(file)
	}
	if err != nil {
		p.t.Error(err)
	}
}

// TestLossReplaced loses each call, answer, block and verdict, and the source is overwritten in that moment.
func TestLossReplaced(t *testing.T) {
	for place, name := range map[enginetest.Place]string{enginetest.Asking: "call", enginetest.Answering: "answer", enginetest.Block: "block", enginetest.Verdict: "verdict"} {
		replacing(t, name, func(t *testing.T, rule string, size, then, at int) bool {
			p := newPair(t, nil)
			from := map[string]string{"push": "a", "pull": "b"}[rule]
			var count atomic.Int64
			p.wire.Fault = func(where enginetest.Place, c enginetest.Call) error {
				if where != place || count.Add(1) != int64(at) {
					return nil
				}
				p.puts(from, "x", then, '2')
				return fault.Concluded("call", fault.Lost, "the connection was cut: %v", c)
			}
			p.puts(from, "x", size, '1')
			p.agree(p.end(p.submit(rule, "x", "y"), lifecycle.Done))
			return count.Load() >= int64(at)
		})
	}
}
