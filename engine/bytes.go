package engine

import (
	"context"
	"strings"
	"time"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

// offers reports whether the first call has the bytes: for a small file it is not worth
// while to ask first. A longer one would be MOVING here without a record of that. An attempt
// before this one may have brought them, and nobody looks at the source then, which may be
// another by now, or gone.
func (x *run) offers() bool {
	if x.r.Attempt > 1 || x.r.Spec.Third != "" || !x.r.MayOffer() || x.prepare() != nil {
		return false
	}
	size := x.size()
	return size >= 0 && size <= smallFile
}

// bytes moves the content, as requester within a call, as requested end within
// the handler of one. The ledger commits on the way.
func (x *run) bytes(move lifecycle.Move) error {
	if x.r.Spec.Third != "" {
		return x.followThird()
	}
	if err := x.prepare(); err != nil {
		return err
	}
	if x.r.Role == lifecycle.Requester {
		if err := x.turns(move); err != nil {
			return err
		}
	}
	d, err := x.descriptor()
	if err != nil {
		return err
	}
	if move == lifecycle.Transfer {
		if err := x.catchUp(); err != nil {
			return err
		}
	}
	// A requested receiver shows nobody that it is MOVING before its first durable
	// bytes, or the whole, and these are committed with it. But its operator has to
	// find a new request whose bytes take a while.
	if x.r.Role == lifecycle.Requester || x.r.Side == lifecycle.Sender || x.fresh && !(comesAtOnce(x.effect.Size()) && x.engine.arrivals.note(x.rule.Root, x.r.Spec.Target.Dir(), time.Now())) {
		if err := x.commit(); err != nil {
			return err
		}
	}
	x.moving()
	over := x.carrying()
	if x.r.Role == lifecycle.Requested {
		err = x.stalls(func(ctx context.Context) error { return x.effect.Run(ctx, d, sideeffect.AwaitRemote) })
		x.effect = nil
	} else {
		err = x.stalls(func(ctx context.Context) error { return x.transfer(ctx, move, d) })
	}
	over(d, err)
	if err == nil && d.LocalStatus != sideeffect.Success {
		if move == lifecycle.Prepare {
			x.sent = sent{} // made ready for the call, and taken by nobody
			return nil      // the answer says what comes first
		}
		err = fault.New("move bytes", fault.NotStarted, "the other end has not moved them")
	}
	x.moved(d)
	x.sent.verified = d.Verified
	switch {
	case err != nil:
		return x.short(err)
	case x.r.Side == lifecycle.Receiver:
		x.peer = max(x.peer, lifecycle.Ended)
	case x.r.Role == lifecycle.Requested:
		x.peer = max(x.peer, lifecycle.Whole)
		if x.r.Phase == lifecycle.Moving {
			return x.rung(lifecycle.Ended)
		}
	}
	return nil
}

// comesAtOnce: so few bytes come with the call itself.
func comesAtOnce(size int64) bool { return size >= 0 && size <= 16<<10 }

// moved logs how far one attempt has brought the bytes, if it has come to that. What a run says
// of itself begins with what was safe before, which is no merit of this attempt.
func (x *run) moved(d *sideeffect.Descriptor) {
	if d.Stats.Started.IsZero() {
		return
	}
	x.mu.Lock()
	l := x.live
	x.mu.Unlock()
	to := l.Received
	if x.r.Side == lifecycle.Receiver || to <= l.From {
		to = d.BytesTransferred
	}
	x.log.Info("bytes have moved", "side", x.r.Side.String(), "from", d.ResumedFrom, "to", to, "durable", min(l.Durable, to), "wire", d.Stats.WireBytes, "took", d.Stats.Took().Round(time.Millisecond))
}

// transfer is the call that carries the bytes.
func (x *run) transfer(ctx context.Context, move lifecycle.Move, d *sideeffect.Descriptor) error {
	a, err := x.engine.cfg.Line.Call(ctx, x.r.Spec.Partner, x.ask(move), d)
	if err != nil && (a.Outcome == 0 || a.Outcome == Served) {
		return x.uncalled(err)
	}
	return x.hear(a) // what the other end says of the request comes before what became of the bytes
}

// short notes how far the bytes came before err, at the sender: what the receiver has told to be
// safe, and, where that is all of them, what they were compared by.
func (x *run) short(err error) error {
	x.mu.Lock()
	told := x.live.Durable
	x.mu.Unlock()
	if x.r.Side != lifecycle.Sender || x.r.Phase != lifecycle.Moving || x.r.State != lifecycle.Running {
		return err
	}
	e := lifecycle.Durable{Epoch: x.epoch, Rank: max(told, x.r.Rank)}
	if x.sent.known && told == x.sent.size {
		e.Proof, e.Verified = x.sent.proof, x.sent.verified
	}
	if e.Rank > x.r.Rank || e.Verified != "" && e.Verified != x.r.Verified {
		_ = x.do(e)
	}
	return err
}

// descriptor is this end's half.
func (x *run) descriptor() (*sideeffect.Descriptor, error) {
	d := &sideeffect.Descriptor{
		Direction: sideeffect.ClientToServer, Quota: sideeffect.NoQuota, Hash: x.rule.Digest, Compress: x.rule.Compress,
		Ledger: ledger{x}, Pace: x.pace(), Progress: x.progress,
		Params: sideeffect.Params{SyncEvery: x.engine.cfg.SyncEvery, SyncAfter: syncAfter},
	}
	if (x.r.Side == lifecycle.Sender) != (x.r.Role == lifecycle.Requester) {
		d.Direction = sideeffect.ServerToClient
	}
	name := x.r.File
	if x.r.Side == lifecycle.Receiver {
		d.Quota, d.Mode, d.Resume, d.ResumeKey = x.rule.Quota, x.mode(), true, PartialKey(x.r.Key)
		name = x.r.Spec.Target
		if err := sideeffect.MakeDirs(x.root, name.Dir()); err != nil {
			return nil, err
		}
	}
	if name.IsZero() {
		return nil, fault.New("open source", fault.NotFound, "the request has no file any more: an earlier task has deleted it")
	}
	if x.rule.Bridge != "" {
		if x.engine.cfg.Bridges == nil {
			return nil, fault.New("open source", fault.NotFound, "this node has no bridge %q", x.rule.Bridge)
		}
		bridge, dir, _ := strings.Cut(x.rule.Bridge, ":")
		d.Local = x.engine.cfg.Bridges.File(bridge, strings.TrimSuffix(dir, "/"), name)
		return d, nil
	}
	d.Local = sideeffect.File(x.root, name.String())
	if x.engine.cfg.Layer != nil {
		d.Local = sideeffect.FileOn(x.engine.cfg.Layer, x.root, name.String())
	}
	if x.r.Side == lifecycle.Sender {
		d.Local = x.engine.shared.Of(d.Local, x.engine.fans.others(x.r.Key.ID))
	}
	return d, x.expect(d)
}

// smallFile is up to how many bytes may be moved again after a crash in the moment
// a file gets its name.
const smallFile = 1 << 20

// syncAfter is how long bytes are on their way to the receiver's disk at most: what
// a crash costs on a slow line.
const syncAfter = time.Second

// ledger commits what the pump says before the other end hears of it.
type ledger struct{ x *run }

func (l ledger) Opening(from, size int64) error {
	x := l.x
	x.acts.moved = from
	if err := context.Cause(x.ctx); err != nil {
		return err
	}
	if from == x.r.Rank && (size == x.r.Size || size < 0) || x.r.Phase < lifecycle.Moving {
		return nil
	}
	rewind := lifecycle.Rewind{Epoch: x.epoch, Rank: min(from, x.r.Rank), Size: size}
	if from >= x.r.Rank {
		return x.do(rewind) // nothing is given up: it only tells the size
	}
	return x.now(rewind)
}

func (l ledger) Durable(offset int64) error {
	x := l.x
	if offset <= x.r.Rank {
		return nil
	}
	return x.now(lifecycle.Durable{Epoch: x.epoch, Rank: offset})
}

// Whole is committed before the file gets its name, so that a crash in between
// moves nothing again. A small file that replaces another may as well come again
// whole: its WHOLE is committed with what follows.
func (l ledger) Whole(w sideeffect.Whole) error {
	x := l.x
	whole := lifecycle.Advance{Epoch: x.epoch, To: lifecycle.Whole, Rank: w.Size, Proof: w.String(), Verified: w.Verified}
	if w.Size <= smallFile && x.rule.Exists == Overwrite {
		return x.do(whole)
	}
	return x.now(whole)
}

// Named is committed with what follows, whatever that is: from now on a cancel is too late.
func (l ledger) Named() error {
	return l.x.do(lifecycle.Advance{Epoch: l.x.epoch, To: lifecycle.Committed})
}

// Ended is what the record says when the receiver has said that it is WHOLE. The receiver is not
// before END, so a record that speaks of another content is put right first: nobody may come to do it later.
func (l ledger) Ended(size int64, digest sideeffect.Sum) error {
	x := l.x
	x.sent = sent{known: true, size: size}
	if !digest.IsZero() {
		x.sent.proof = digest.String()
	}
	if !x.saysOther() {
		return nil
	}
	return x.now(lifecycle.Rewind{Epoch: x.epoch, Rank: min(x.r.Rank, size), Size: size})
}

// saysOther reports whether a later run would end the record with another size, or another digest, than
// what was sent has: it is of an attempt before this one, and the receiver has lost what that had sent.
func (x *run) saysOther() bool {
	switch {
	case x.r.Phase < lifecycle.Moving: // an offer, whose size the receiver says
		return false
	case x.r.Proof != "" && x.r.Proof != x.sent.proof:
		return true
	}
	// A requester in MOVING hears the size with the next answer.
	return x.r.Size != x.sent.size && (x.r.Role == lifecycle.Requested || x.r.Phase == lifecycle.Ended)
}

// sent is what a sender has sent to the end.
type sent struct {
	known bool
	size  int64
	proof string // its digest, if it made one
	// verified is what was compared with what the receiver has; known with its verdict.
	verified string
}
