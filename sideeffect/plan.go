package sideeffect

import (
	"cmp"
	"context"
	"time"

	"github.com/pannier/pannier/spec/fault"
)

// VerifiedBlocks in Result.Verified: each block's digest and the root over all.
const VerifiedBlocks = "blocks+root"

// SendPlan is what both ends have agreed on, for the source's pump.
type SendPlan struct {
	Start int64 // offset of the first block; the bytes before it are on the sink's disk
	// Hash of the whole content; the bytes before Start are read for it unless
	// Prefix, from VerifyPrefix, has them already.
	Hash        Algorithm
	Prefix      *Hasher
	Quota       int64 // this end's
	OverQuota   OverQuota
	Limit       int64 // what the sink announced; NoQuota = none
	LimitPolicy OverQuota
	AckPoint    AckPoint
	SendAhead   int // blocks to prefetch
	// Stream is what the stream itself verifies, for Result.Verified; "" =
	// "blocks+root".
	Stream   string
	Progress func(Progress)
	Ledger   Ledger                           // may be nil
	Pace     func(context.Context, int) error // may be nil
	// Sent, if not nil, is called once by the pump's goroutine when this half
	// is over: everything is handed to the stream, and the verdict is awaited.
	Sent func(Outcome)
}

// ReceivePlan is what both ends have agreed on, for the sink's pump.
type ReceivePlan struct {
	Total     int64 // bytes the source announced, -1 unknown; for Progress only
	Version   Version
	BlockSize int // of the stream; needed for Keep
	Hash      Algorithm
	Quota     int64 // this end's
	OverQuota OverQuota
	SyncEvery int64         // bytes between syncs; 0 = only at the end
	SyncAfter time.Duration // as in Params
	AckPoint  AckPoint
	Stream    string // as in SendPlan
	// Alone: the source may have no digest of its own. Then this end's is kept, and
	// Result.Verified does not say that it was compared.
	Alone    bool
	Progress func(Progress)
	Ledger   Ledger                           // may be nil
	Pace     func(context.Context, int) error // may be nil
}

// Outcome is how one half of a transfer ended.
type Outcome struct {
	Bytes         int64 // source: acknowledged; sink: stored. From the first byte of the transfer
	Durable       int64
	QuotaExceeded bool
	Digest        Sum
	ResumedFrom   int64
	Verified      string
	Blocks        int64
}

// SendPlan is the plan of this descriptor for a sink that announced limit (or
// NoQuota) and policy. Start and Prefix are left for the caller.
func (d *Descriptor) SendPlan(limit int64, policy OverQuota) SendPlan {
	return SendPlan{
		Hash: d.Hash, Quota: d.Quota, OverQuota: d.OverQuota, Limit: limit, LimitPolicy: policy,
		AckPoint: d.Params.AckPoint, SendAhead: d.Params.SendAhead, Progress: d.Progress, Ledger: d.Ledger, Pace: d.Pace,
	}
}

// ReceivePlan is the plan of this descriptor for a source that announced
// total bytes (-1 unknown) and its version.
func (d *Descriptor) ReceivePlan(total int64, v Version, blockSize int) ReceivePlan {
	return ReceivePlan{
		Total: total, Version: v, BlockSize: blockSize, Hash: d.Hash, Quota: d.Quota, OverQuota: d.OverQuota,
		SyncEvery: d.Params.syncEvery(d.Resume), SyncAfter: d.Params.SyncAfter, AckPoint: d.Params.AckPoint, Progress: d.Progress, Ledger: d.Ledger, Pace: d.Pace,
	}
}

func (p SendPlan) verifiedByStream() string    { return cmp.Or(p.Stream, VerifiedBlocks) }
func (p ReceivePlan) verifiedByStream() string { return cmp.Or(p.Stream, VerifiedBlocks) }

// Verdict is what the sink answers for this outcome and the error ReceiveAll
// returned with it.
func (o Outcome) Verdict(err error) Verdict {
	v := Verdict{Bytes: o.Bytes, Durable: o.Durable, QuotaExceeded: o.QuotaExceeded, Hash: o.Digest}
	if err != nil {
		v.Err = faultOf("store", err)
	}
	return v
}

// Fill copies the outcome of this end's half into r. Statuses, road and times
// are the caller's.
func (o Outcome) Fill(r *Result, err error) {
	r.BytesTransferred, r.QuotaExceeded, r.Digest = o.Bytes, o.QuotaExceeded, o.Digest
	r.ResumedFrom, r.Verified, r.Stats.Blocks = o.ResumedFrom, o.Verified, o.Blocks
	if err != nil {
		r.Err = faultOf("move", err)
	}
}

// faultOf is err as the one error type.
func faultOf(op string, err error) *fault.Error {
	if e, ok := err.(*fault.Error); ok {
		return e
	}
	return fault.Wrap(op, "", err).(*fault.Error)
}
