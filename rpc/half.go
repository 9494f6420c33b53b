package rpc

import (
	"context"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

// ended is how one half of an effect went, before it is written into the
// descriptor by the goroutine that owns that.
type ended struct {
	local, remote sideeffect.Status
	outcome       sideeffect.Outcome
	err           error
	road          sideeffect.Road
	began         time.Time
	wire          int64
	verdict       *sideeffect.Verdict // of an inline sink
}

// fill writes the outputs of a descriptor.
func (e ended) fill(d *sideeffect.Descriptor) {
	r := sideeffect.Result{}
	e.outcome.Fill(&r, e.err)
	r.LocalStatus, r.RemoteStatus, r.Road = e.local, e.remote, e.road
	r.Stats.Started, r.Stats.Finished, r.Stats.WireBytes = e.began, time.Now(), e.wire
	if e.err != nil && fault.KindOf(e.err) == fault.QuotaExceeded {
		r.QuotaExceeded = true
	}
	d.Result = r
}

// openSource opens what d sends. More than its own quota is refused here, before
// the other end opens, and perhaps empties, its sink.
func openSource(ctx context.Context, d *sideeffect.Descriptor) (sideeffect.Source, error) {
	src, err := d.OpenSource(ctx)
	if err != nil {
		return nil, err
	}
	if n := src.Size(); d.OverQuota == sideeffect.Fail && d.Quota >= 0 && n > d.Quota {
		src.Close()
		return nil, fault.NewLocal("open source", fault.QuotaExceeded,
			"it has %d bytes, this end's quota is %d", n, d.Quota).Advise("raise Quota, use NoQuota, or set OverQuota to Cut")
	}
	return src, nil
}

// settle derives the statuses from err. sent says that this half had done all
// it had to before the other one failed.
func (e *ended) settle(sent bool) {
	e.local, e.remote = sideeffect.Success, sideeffect.Success
	if e.err == nil {
		return
	}
	e.remote = sideeffect.Failure
	if !sent || !blames(e.err, fault.Peer) {
		e.local = sideeffect.Failure
	}
}

// send runs the source's half over a block stream and ends the stream.
func send(ctx context.Context, bs *flow.BlockStream, src sideeffect.Source, p sideeffect.SendPlan, road sideeffect.Road) ended {
	e := ended{road: road, began: time.Now()}
	defer e.unlessOver(bs)
	sent, told := false, p.Sent
	p.Sent = func(o sideeffect.Outcome) {
		sent = true
		if told != nil {
			told(o)
		}
	}
	e.outcome, e.err = sideeffect.SendAll(ctx, outgoing{bs}, src, p)
	if e.err != nil {
		bs.Reset(e.err)
	}
	e.wire = bs.Stats().WireBytes
	e.settle(sent)
	return e
}

// unlessOver ends a stream whose half has panicked.
func (e *ended) unlessOver(bs *flow.BlockStream) {
	if e.local == sideeffect.NotStarted { // it has not come to settle
		bs.Reset(errPanicked())
	}
}

// receive runs the sink's half over a block stream and ends the stream with
// its verdict.
func receive(ctx context.Context, bs *flow.BlockStream, sink sideeffect.Sink, p sideeffect.ReceivePlan, road sideeffect.Road) ended {
	e := ended{road: road, began: time.Now()}
	defer e.unlessOver(bs)
	e.outcome, e.err = sideeffect.ReceiveAll(ctx, &incoming{bs: bs}, sink, p)
	if e.err != nil {
		bs.Reset(e.err)
	} else {
		e.err = finish(bs, e.outcome.Verdict(nil))
	}
	e.wire = bs.Stats().WireBytes
	e.settle(false)
	return e
}

// finish sends the verdict. What is stored stays stored when it cannot be told,
// but the source will not call it a success, so this end does not either.
func finish(bs *flow.BlockStream, v sideeffect.Verdict) error {
	b, err := proto.Marshal(verdictProto(v))
	if err == nil {
		err = bs.Finish(b)
	}
	return fault.Wrap("send verdict", "", err)
}

// storeInline is the sink's half of content that came in a message, at either end.
func storeInline(ctx context.Context, d *sideeffect.Descriptor, load cargo) ended {
	e := ended{road: sideeffect.RoadInline, began: time.Now(), wire: int64(len(load.data))}
	if ctx.Err() != nil {
		return e.failed(cause("store", ctx))
	}
	copied := *d
	var err error
	if copied.Hash, err = commonHash(d.Hash, load.source.hash); err != nil {
		return e.failed(err)
	}
	// A digest that only this end wants is made here, and verifies nothing.
	unasked := load.end.Hash.IsZero() && copied.Hash != sideeffect.None
	if unasked {
		if load.end.Hash, err = sumOf(copied.Hash, load.data); err != nil {
			return e.failed(err)
		}
	}
	in, err := newUnpacker(load)
	if err != nil {
		return e.failed(err)
	}
	if d.Quota >= 0 && int64(len(load.data)) > d.Quota && d.OverQuota == sideeffect.Fail {
		// Before the sink opens: a truncating one would lose the old content.
		return e.failed(fault.New("receive inline", fault.QuotaExceeded, "%d bytes came, this end's quota is %d", len(load.data), d.Quota).Advise("raise Quota, or set OverQuota to Cut"))
	}
	sink, err := copied.OpenSink(int64(len(load.data)), sideeffect.ResumePoint{})
	if err != nil {
		return e.failed(err)
	}
	defer sink.Close()
	e.outcome, err = sideeffect.ReceiveAll(ctx, in, sink, copied.ReceivePlan(load.source.size, load.source.version, sideeffect.MaxBlockSize))
	if unasked && err == nil {
		e.outcome.Verified = "blocks+root"
	}
	return e.failed(err)
}

// failed is e with the error, if there is one, and with the verdict that
// follows from it.
func (e ended) failed(err error) ended {
	e.err = err
	v := e.outcome.Verdict(err)
	e.verdict = &v
	e.settle(false)
	return e
}

func sumOf(a sideeffect.Algorithm, data []byte) (sideeffect.Sum, error) {
	h, err := sideeffect.NewHasher(a)
	if err != nil {
		return sideeffect.Sum{}, err
	}
	h.Write(data)
	return h.Sum(), nil
}

// exchange runs a live pipe. Its bytes are those of both ways.
func exchange(ctx context.Context, conn *flow.ByteStream, d *sideeffect.Descriptor, road sideeffect.Road) ended {
	e := ended{road: road, began: time.Now()}
	o, err := sideeffect.PipeAll(ctx, conn, d.Local, d.PipePlan())
	e.outcome = sideeffect.Outcome{Bytes: o.Out + o.In, QuotaExceeded: o.QuotaExceeded}
	e.err, e.wire = err, o.Out+o.In
	e.settle(false)
	return e
}

// commonHash is the digest both ends work with: what either wants.
func commonHash(a, b sideeffect.Algorithm) (sideeffect.Algorithm, error) {
	switch {
	case a == b || b == sideeffect.None:
		return a, nil
	case a == sideeffect.None:
		return b, nil
	}
	return 0, fault.New("agree on digest", fault.Invalid, "one end wants %v and the other %v", a, b).Advise("set the same Hash at both ends, or none at one")
}

// offered is the resume point a sink may offer for content of this version:
// zero unless its own state is about exactly that.
func offered(ctx context.Context, d *sideeffect.Descriptor, version sideeffect.Version, size int64) (sideeffect.ResumePoint, error) {
	p, err := d.ResumePoint(ctx)
	if err != nil || p.Offset <= 0 || version.IsZero() || p.Version != version || size >= 0 && p.Offset > size {
		return sideeffect.ResumePoint{}, err
	}
	return p, nil
}

// holds asks the source whether a sink's resume point is about the content it
// has: equal version, and equal root over the bytes before the offset, read
// again. If not, the transfer starts from zero; it is never spliced. Nothing
// holds behind total, which the source has announced: the sink would keep more than this end's quota.
func holds(ctx context.Context, src sideeffect.Source, total int64, p sideeffect.ResumePoint, a sideeffect.Algorithm) (*sideeffect.Hasher, bool, error) {
	if p.Offset <= 0 || src.Version().IsZero() || p.Hash != a || total >= 0 && p.Offset > total {
		return nil, false, nil
	}
	return sideeffect.VerifyPrefix(ctx, src, p, a)
}

// compressionOf is what the source does to its blocks: its own wish, or else
// the sink's.
func compressionOf(mine, theirs sideeffect.Compression) flow.Compression {
	if mine == sideeffect.CompressOff {
		mine = theirs
	}
	switch mine {
	case sideeffect.CompressAuto:
		return flow.CompressAuto
	case sideeffect.CompressZstd:
		return flow.CompressZstd
	case sideeffect.CompressS2:
		return flow.CompressS2
	}
	return flow.CompressOff
}
