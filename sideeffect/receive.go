package sideeffect

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/pannier/pannier/spec/fault"
)

// maxOvershoot is how many bytes past an agreed cut a sink takes and drops. It
// covers a source that had to send before it knew the limit, as on the inline
// road; more is fault.Protocol.
const maxOvershoot = 64 << 10

// ReceiveAll is the pump of the sink's half: it writes the blocks of in to
// sink up to the quota, syncs and records as the plan says, and at the end
// compares length and digest and commits. On any error the sink is aborted:
// kept for the next run when it is a Keeper and the failure leaves its bytes
// trustworthy, otherwise undone. The caller answers Outcome.Verdict(err), and
// closes sink.
func ReceiveAll(ctx context.Context, in Incoming, sink Sink, p ReceivePlan) (Outcome, error) {
	defer interruptOn(ctx, sink)()
	r := &receiver{in: in, sink: sink, plan: p, report: reporter{call: p.Progress}}
	r.keeper, _ = sink.(Keeper)
	err := because(ctx, "receive", r.run(ctx))
	if err != nil {
		err = r.fail(err)
	}
	r.report.final(r.progress())
	return r.outcome, err
}

// receiver is the state of one ReceiveAll.
//
//	durable <= stored <= at; stored < at only after a cut at this end
type receiver struct {
	in     Incoming
	sink   Sink
	keeper Keeper // nil: not resumable
	plan   ReceivePlan

	at      int64
	stored  int64
	root    [RootSize]byte // over [0, stored)
	hasher  *Hasher        // over [0, at)
	atCut   Sum            // over [0, stored), when this end has cut
	cut     bool
	ahead   *aheadSync // a sync under way while blocks are written; nil: none
	since   time.Time  // that the first byte behind the last sync was written
	outcome Outcome
	report  reporter
}

// aheadSync is a sync that has begun, and what was true then.
type aheadSync struct {
	point  ResumePoint // zero without a keeper
	ready  <-chan struct{}
	finish func() (int64, error)
}

func (r *receiver) run(ctx context.Context) error {
	if err := r.begin(); err != nil {
		return err
	}
	for {
		b, err := r.in.Recv(ctx)
		if err == io.EOF {
			return r.finish()
		}
		if err != nil {
			return err
		}
		n := len(b.Data)
		err = r.take(b)
		b.Release()
		if err == nil && r.plan.Pace != nil {
			err = r.plan.Pace(ctx, n)
		}
		if err != nil {
			return err
		}
		if err := r.keepUp(); err != nil {
			return err
		}
		r.report.report(r.progress())
	}
}

// begin takes over what an earlier run left.
func (r *receiver) begin() (err error) {
	if r.hasher, err = NewHasher(r.plan.Hash); err != nil || r.keeper == nil {
		return err
	}
	from := r.keeper.Resumed()
	if from.Offset == 0 {
		return nil
	}
	if from.Hash != r.plan.Hash || from.Version != r.plan.Version || from.BlockSize != r.plan.BlockSize {
		return fault.New("receive", fault.Stale, "the partial file is of another transfer; start again")
	}
	if err := r.hasher.UnmarshalBinary(from.HashState); err != nil {
		return err
	}
	r.at, r.stored, r.root = from.Offset, from.Offset, from.Root
	r.outcome.ResumedFrom, r.outcome.Durable, r.outcome.Bytes = from.Offset, from.Offset, from.Offset
	return nil
}

// take stores one block. The sink comes before the digest and the root, so
// that after a failed write all three speak of the same bytes.
func (r *receiver) take(b Block) error {
	if b.Offset != r.at {
		return fault.New("receive", fault.Protocol, "block at %d, the next one is %d", b.Offset, r.at)
	}
	keep := b.Data
	if q := r.plan.Quota; q >= 0 && r.at+int64(len(keep)) > q {
		if r.plan.OverQuota == Fail {
			r.outcome.QuotaExceeded = true
			return sinkQuota("receive", r.at+int64(len(keep)), q)
		}
		keep = keep[:max(0, q-r.at)]
	}
	if err := r.store(keep); err != nil {
		return err
	}
	if len(keep) < len(b.Data) {
		if err := r.drop(b.Data[len(keep):]); err != nil {
			return err
		}
	}
	r.outcome.Blocks++
	return nil
}

func (r *receiver) store(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	if err := r.sink.WriteBlock(p, r.stored); err != nil {
		return err
	}
	r.hasher.Write(p)
	r.at += int64(len(p))
	r.stored = r.at
	r.outcome.Bytes = r.stored
	r.root = r.in.Root()
	return nil
}

// drop counts and hashes bytes past a cut, so that the source's digest can
// still be compared.
func (r *receiver) drop(p []byte) error {
	if !r.cut {
		r.cut, r.atCut = true, r.hasher.Sum()
		r.outcome.QuotaExceeded = true
	}
	r.at += int64(len(p))
	if r.at-r.stored > maxOvershoot {
		return fault.New("receive", fault.Protocol, "the source sends on past the agreed cut at %d bytes", r.stored)
	}
	r.hasher.Write(p)
	return nil
}

// keepUp syncs where the plan says so, beside the writing of blocks where the
// sink can: then what it makes durable is told with a later block.
func (r *receiver) keepUp() error {
	if r.ahead != nil {
		select {
		case <-r.ahead.ready:
			if err := r.settle(); err != nil {
				return err
			}
		default:
		}
	}
	every := r.plan.SyncEvery
	if every <= 0 || r.cut {
		return nil
	}
	fresh := r.stored - r.outcome.Durable
	if fresh > 0 && r.since.IsZero() {
		r.since = time.Now()
	}
	late := r.plan.SyncAfter > 0 && !r.since.IsZero() && time.Since(r.since) >= r.plan.SyncAfter
	switch sink, able := r.sink.(AheadSyncer); {
	case !able && (fresh >= every || late):
		return r.checkpoint()
	case !able, fresh < every/2 && !late: // half of it is synced while the other half is written
		return nil
	case r.ahead == nil:
		return r.beginSync(sink)
	case fresh >= every: // the disk is slower than the way: no further ahead
		return r.settle()
	}
	return nil
}

// beginSync begins a sync that blocks are written beside.
func (r *receiver) beginSync(sink AheadSyncer) (err error) {
	a := &aheadSync{}
	if r.keeper != nil {
		if a.point, err = r.pointAt(r.stored); err != nil {
			return err
		}
	}
	a.ready, a.finish = sink.BeginSync()
	r.ahead, r.since = a, time.Time{}
	return nil
}

// settle waits for the sync under way, and records and tells what it has made durable.
func (r *receiver) settle() error {
	a := r.ahead
	if a == nil {
		return nil
	}
	r.ahead = nil
	durable, err := a.finish()
	if err != nil {
		return err
	}
	if r.keeper != nil && durable == a.point.Offset && durable > 0 {
		if err := r.keeper.Keep(a.point); err != nil {
			return err
		}
	}
	return r.durable(durable)
}

// checkpoint makes what is stored durable, records it, and only then tells
// the source (F1, F2).
func (r *receiver) checkpoint() error {
	if err := r.settle(); err != nil {
		return err
	}
	durable, err := r.sink.Sync()
	if err != nil {
		return err
	}
	if r.keeper != nil && durable == r.stored && durable > 0 && !r.cut {
		if err := r.record(durable); err != nil {
			return err
		}
	}
	r.since = time.Time{}
	return r.durable(durable)
}

// durable tells how far the disk is.
func (r *receiver) durable(offset int64) error {
	if r.plan.Ledger != nil {
		if err := r.plan.Ledger.Durable(offset); err != nil {
			return err
		}
	}
	r.outcome.Durable = offset
	r.in.SetDurable(offset)
	return nil
}

func (r *receiver) record(durable int64) error {
	p, err := r.pointAt(durable)
	if err != nil {
		return err
	}
	return r.keeper.Keep(p)
}

// pointAt is the resume point of what is stored now.
func (r *receiver) pointAt(offset int64) (ResumePoint, error) {
	hashState, err := r.hasher.MarshalBinary()
	return ResumePoint{
		Version: r.plan.Version, BlockSize: r.plan.BlockSize, Offset: offset,
		Root: r.root, Hash: r.plan.Hash, HashState: hashState,
	}, err
}

// finish compares and commits. Nothing has the target's name before.
func (r *receiver) finish() error {
	if a := r.ahead; a != nil { // what it would record is about to have its name
		r.ahead = nil
		if _, err := a.finish(); err != nil {
			return err
		}
	}
	end := r.in.End()
	if end.Total != r.at {
		return fault.New("receive", fault.Corrupt, "%d bytes arrived, the source sent %d", r.at, end.Total)
	}
	exceeded := end.Cut || end.QuotaExceeded
	if q := r.plan.Quota; exceeded && r.plan.OverQuota == Fail && q >= 0 && r.at >= q {
		r.outcome.QuotaExceeded = true
		return sinkQuota("receive", r.at+1, q)
	}
	r.outcome.QuotaExceeded = r.outcome.QuotaExceeded || exceeded
	digest := r.hasher.Sum()
	compared := r.plan.Hash != None && !(r.plan.Alone && end.Hash.IsZero())
	if compared && !digest.Equal(end.Hash) {
		return fault.New("receive", fault.Corrupt, "the content's digest is %q, the source's %q", digest, end.Hash)
	}
	verified := r.plan.verifiedByStream()
	if compared {
		verified += "+" + r.plan.Hash.String()
	}
	if err := r.seal(digest, verified); err != nil {
		return err
	}
	if err := r.sink.Commit(); err != nil {
		return err
	}
	if r.plan.Ledger != nil {
		if err := r.plan.Ledger.Named(); err != nil {
			return err
		}
	}
	if r.plan.AckPoint == AckDurable {
		r.outcome.Durable = r.stored
	}
	r.outcome.Digest = digest
	if r.cut {
		r.outcome.Digest = r.atCut
	}
	r.outcome.Verified = verified
	return nil
}

// seal has the whole written down, when somebody wants to, before it gets its name.
func (r *receiver) seal(digest Sum, verified string) error {
	if r.plan.Ledger == nil {
		return nil
	}
	if _, err := r.sink.Sync(); err != nil {
		return err
	}
	if r.cut {
		digest = r.atCut
	}
	return r.plan.Ledger.Whole(Whole{Size: r.stored, BlockSize: r.plan.BlockSize, Root: r.root, Digest: digest, Verified: verified})
}

// fail ends the sink's use after err.
func (r *receiver) fail(err error) error {
	r.outcome.QuotaExceeded = r.outcome.QuotaExceeded || errors.Is(err, fault.QuotaExceeded)
	if a := r.ahead; a != nil { // the sink is not ended under it
		r.ahead = nil
		_, _ = a.finish()
	}
	keep := r.keeper != nil && trusted(err)
	if keep && r.stored > r.outcome.Durable {
		// Best effort: without it the next run starts further back.
		_ = r.checkpoint()
	}
	if abortErr := r.sink.Abort(keep); abortErr != nil {
		return fault.Wrap("receive", "", errors.Join(err, abortErr))
	}
	return err
}

// OneBlock marks an error of Incoming.Recv as being about the block that was due alone: each
// before it was what the source sent, so the next run need not begin with them.
func OneBlock(err error) error { return oneBlock{err} }

type oneBlock struct{ error }

func (o oneBlock) Unwrap() error { return o.error }

// trusted tells whether bytes stored before a failure may be part of a later
// success. What has ended the whole session, as that a peer that was restarted
// does not know it, says nothing of them, but for damage and nonsense.
func trusted(err error) bool {
	if errors.As(err, new(oneBlock)) {
		return true
	}
	k := fault.KindOf(err)
	var e *fault.Error
	if errors.As(err, &e) && e.Session {
		return k != fault.Corrupt && k != fault.Protocol
	}
	switch k {
	case fault.Lost, fault.DeadPeer, fault.Canceled, fault.Deadline, fault.NoSpace, fault.IO,
		fault.Draining, fault.Overloaded, fault.Internal:
		return true
	}
	return false
}

func (r *receiver) progress() Progress {
	return Progress{Moved: r.stored, Received: r.stored, Acknowledged: r.stored, Durable: r.outcome.Durable, Total: r.plan.Total}
}
