package engine

import (
	"context"
	"errors"
	"os"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

// What a receiver keeps of the bytes between runs, when it is given up, and when it
// has its name already.

// PartialKey is the sideeffect.Descriptor.ResumeKey of a request's receiver: what
// it keeps is its alone, and another request to the same target has its own.
func PartialKey(k lifecycle.Key) string { return k.ID.String() + k.Requester }

// keptIn is what this end keeps below the rule's root.
func (x *run) keptIn(root *os.Root) sideeffect.Kept {
	return sideeffect.Kept{Layer: x.engine.cfg.Layer, Root: root, Name: x.r.Spec.Target, Key: PartialKey(x.r.Key)}
}

// withKept does something with what is kept, whoever may use the rule by now.
func (x *run) withKept(do func(sideeffect.Kept) error) error {
	book := x.engine.Book()
	rule, err := book.Rule(x.r.Spec.Rule)
	if err != nil {
		return err
	}
	root, err := rule.openRoot()
	if err != nil {
		return err
	}
	defer root.Close()
	return do(x.keptIn(root))
}

// keeps: it is a receiver that may have kept something. What is COMMITTED has its name.
func keeps(r *lifecycle.Record) bool {
	return r.Side == lifecycle.Receiver && r.Phase >= lifecycle.Ready && r.Phase < lifecycle.Committed
}

// forgone reports whether a failure of that kind gives up what has arrived, as does an
// end that has waited too long for the other. After the others an operator's retry goes on with it.
func forgone(k fault.Kind) bool {
	return k == fault.Canceled || !retryable(k) && k != fault.Internal
}

// leftover: the request has ended without its bytes, so that nothing may be kept of
// them. That is committed first; a process that died behind it has left some.
func leftover(r *lifecycle.Record) bool {
	k := r.Failure.Kind
	return r.State == lifecycle.InError && r.Rank == 0 && keeps(r) && (forgone(k) || k == fault.Deadline)
}

// discard removes what a request that has ended has kept. A sender of the same key, of a
// request to this node itself, has kept nothing.
func (x *run) discard() {
	if !keeps(&x.r) {
		return
	}
	if err := x.withKept(sideeffect.Kept.Discard); err != nil {
		x.log.Warn("the partial file stays", "error", err)
	}
}

// rewound gives up the bytes of a receiver whose request is about to fail.
func (x *run) rewound() error {
	if named, err := x.named(); err != nil || named {
		return err
	}
	if !keeps(&x.r) || x.r.Phase < lifecycle.Whole && x.r.Rank == 0 {
		return nil
	}
	return x.do(lifecycle.Rewind{Epoch: x.epoch, Size: x.r.Size})
}

// disowned takes back, of a sender that is about to fail with err, what the receiver gives up with the
// request, or has none of: nobody is shown bytes as safe that are gone. What may have its name there is not taken back.
func (x *run) disowned(err error, k fault.Kind) error {
	left, peer, r := int64(-1), x.peer, &x.r
	var ended endedError
	told := errors.As(err, &ended)
	if told {
		left, peer = ended.rank, ended.phase
	}
	switch {
	case r.Side != lifecycle.Sender || r.Spec.Third != "" || peer >= lifecycle.Committed: // or unheard
		return nil
	case r.Phase != lifecycle.Moving && !(told && r.Phase == lifecycle.Ended), left < 0 && !forgone(k):
		return nil
	}
	if left = max(left, 0); left >= r.Rank {
		return nil
	}
	return x.do(lifecycle.Rewind{Epoch: x.epoch, Rank: left, Size: r.Size})
}

// hasName tells whether a receiver in WHOLE has given the file its name, and has not
// come to write that down: no cancel is true of it then. The error is that of a node
// that goes down. What cannot be looked at has no name.
func (x *run) hasName() (has bool, _ error) {
	if x.r.Side != lifecycle.Receiver || x.r.Phase != lifecycle.Whole {
		return false, nil
	}
	w, err := sideeffect.ParseWhole(x.r.Size, x.r.Proof)
	if err == nil {
		err = x.withKept(func(k sideeffect.Kept) error {
			has, err = k.HasName(x.engine.ctx, w)
			return err
		})
	}
	if err == nil {
		return has, nil
	}
	if x.engine.ctx.Err() != nil {
		return false, context.Cause(x.engine.ctx)
	}
	x.log.Warn("cannot tell whether the file has its name", "error", err)
	return false, nil
}

// named writes down, to be committed, that the file has its name, if it has.
func (x *run) named() (bool, error) {
	has, err := x.hasName()
	if err == nil && has {
		err = x.do(lifecycle.Advance{Epoch: x.epoch, To: lifecycle.Committed})
	}
	return has, err
}

// sweep removes what processes before have left of requests that had ended. It is work.
func (e *Engine) sweep(left []store.Ref) {
	defer e.work.Done()
	for _, ref := range left {
		if e.ctx.Err() != nil {
			return
		}
		e.mu.Lock()
		x, other := e.hold(ref), e.runs[ref]
		e.mu.Unlock()
		switch {
		case x != nil:
			e.sweepOne(x)
		default: // who registers the same again has it for a moment, an operator who goes on with it longer
			e.work.Add(1)
			go func() {
				select {
				case <-other.over:
					e.sweep([]store.Ref{ref})
				case <-e.ctx.Done():
					e.work.Done()
				}
			}()
		}
	}
}

func (e *Engine) sweepOne(x *run) {
	defer e.release(x)
	if r, err := e.cfg.Store.Get(x.ctx, x.ref); err == nil {
		if x.r, x.known = r, true; leftover(&r) {
			x.begin()
			x.discard()
		}
	}
}

// refuseOwn refuses source and target of a name that only unfinished files have.
func refuseOwn(op string, s *lifecycle.Spec) error {
	if err := sideeffect.RefuseOwn(op, s.Source); err != nil {
		return err
	}
	return sideeffect.RefuseOwn(op, s.Target)
}
