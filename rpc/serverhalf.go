package rpc

import (
	"context"
	"time"

	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

// open makes the server's half ready, on the road that fits both ends' wishes.
func (e *Effect) open(ctx context.Context, d *sideeffect.Descriptor, inline bool) (job, error) {
	switch {
	case e.inlined():
		return e.openRequest(d)
	case isPipe(d.Kind):
		return e.openPipe(d)
	case e.offer.direction == sideeffect.ClientToServer:
		if err := e.needSession(d); err != nil {
			return job{}, err
		}
		return e.openSink(d)
	}
	src, err := openSource(ctx, d)
	if err != nil {
		return job{}, err
	}
	must := d.Road == sideeffect.RoadInline || e.offer.road == sideeffect.RoadInline
	if inline || must {
		why := e.takeRoom(d, src)
		if why == nil {
			return e.openReply(d, src), nil
		}
		if must {
			src.Close()
			return job{}, why
		}
	}
	if err := e.needSession(d); err != nil {
		src.Close()
		return job{}, err
	}
	j, err := e.openSource(d, src)
	if err != nil {
		src.Close()
	}
	return j, err
}

// needSession checks that the call's session is the road the handler wants.
func (e *Effect) needSession(d *sideeffect.Descriptor) error {
	const op = "choose road"
	switch {
	case e.call.session == nil:
		return fault.New(op, fault.Unsupported, "the call came without a session, so only small contents inside its messages can move")
	case d.Road != sideeffect.RoadAuto && d.Road != e.call.road():
		return fault.New(op, fault.Unsupported, "the way to this client is the %v road, not %v", e.call.road(), d.Road).Advise("set Road to RoadAuto")
	}
	return nil
}

// takeRoom takes the room in the reply that the content needs; the error is why it
// cannot be there. It looks and takes under one lock, for a handler may open effects side by side.
func (e *Effect) takeRoom(d *sideeffect.Descriptor, src sideeffect.Source) error {
	const op = "send inline"
	size := src.Size()
	e.call.mu.Lock()
	defer e.call.mu.Unlock()
	switch {
	case !e.call.unary || !e.offer.inline:
		return fault.New(op, fault.Unsupported, "the client takes nothing inside this reply").Advise("set Road to RoadAuto")
	case d.Road != sideeffect.RoadAuto && d.Road != sideeffect.RoadInline:
		return fault.New(op, fault.Invalid, "the handler wants the %v road", d.Road)
	case size < 0 || size > int64(e.call.room):
		return fault.New(op, fault.Invalid, "the size is %d, and %d bytes are left in the reply", size, e.call.room)
	}
	e.call.room -= int(size)
	return nil
}

// openRequest is a sink for content that came in the request.
func (e *Effect) openRequest(d *sideeffect.Descriptor) (job, error) {
	if d.Road != sideeffect.RoadAuto && d.Road != sideeffect.RoadInline {
		return job{}, fault.New("choose road", fault.Unsupported, "the content came inside the request").Advise("set Road to RoadAuto")
	}
	if e.load == nil {
		return job{}, fault.New("read inline", fault.Protocol, "the request does not carry the content it promises")
	}
	return job{
		run:  func(ctx context.Context, _ func(sideeffect.Outcome)) ended { return storeInline(ctx, d, *e.load) },
		drop: func(error) {},
	}, nil
}

// openReply is a source whose content goes into the reply, where takeRoom has its room.
func (e *Effect) openReply(d *sideeffect.Descriptor, src sideeffect.Source) job {
	return job{
		run: func(ctx context.Context, sent func(sideeffect.Outcome)) ended {
			defer src.Close()
			return e.packReply(ctx, d, src)
		},
		drop: func(error) { src.Close() },
	}
}

// packReply runs the source up to its end. Nobody will acknowledge it: the
// remote half stays in progress, and no byte counts as acknowledged.
func (e *Effect) packReply(ctx context.Context, d *sideeffect.Descriptor, src sideeffect.Source) ended {
	end := ended{road: sideeffect.RoadInline, began: time.Now()}
	hash, err := commonHash(d.Hash, e.offer.hash)
	if err != nil {
		return end.failed(err)
	}
	plan := d.SendPlan(e.offer.limit, e.offer.policy)
	plan.Hash = hash
	p := &packer{memory: e.call.server.memory, room: int(src.Size()) + 1}
	unjudged, outcome, err := sideeffect.SendUntilEnd(ctx, p, src, plan)
	if err == nil {
		outcome, err = unjudged.Judge(sideeffect.Verdict{Bytes: p.end.Total, Hash: p.end.Hash}, nil)
	}
	end.outcome = outcome
	end = end.failed(err)
	end.outcome.Bytes, end.outcome.Verified, end.verdict = 0, "", nil
	if err == nil {
		end.remote, end.wire = sideeffect.InProgress, int64(len(p.data))
		e.packed = &cargo{
			index: e.index, data: p.data, end: p.end, root: rootOf(p.data),
			source: sourceHalf{size: src.Size(), version: src.Version(), hash: hash},
		}
	}
	return end
}

func (e *Effect) openPipe(d *sideeffect.Descriptor) (job, error) {
	if err := e.needSession(d); err != nil {
		return job{}, err
	}
	meta, err := opening{call: e.call.ask.call, index: e.index}.encode()
	if err != nil {
		return job{}, err
	}
	conn, err := e.call.session.OpenBytes(&e.life, flow.Open{Kind: streamKind, Meta: meta})
	if err != nil {
		return job{}, err
	}
	return job{
		run: func(ctx context.Context, _ func(sideeffect.Outcome)) ended {
			return exchange(ctx, conn, d, e.call.road())
		},
		drop: func(error) { conn.Close() },
	}, nil
}

// openSink opens a stream from the client's source, then the sink behind it.
// A resume point that one end finds wrong costs a second stream, from zero.
func (e *Effect) openSink(given *sideeffect.Descriptor) (job, error) {
	d := *given // with the common digest
	var err error
	if d.Hash, err = commonHash(given.Hash, e.offer.hash); err != nil {
		return job{}, err
	}
	from, err := d.ResumePoint(&e.life)
	if err != nil {
		return job{}, err
	}
	for fresh := false; ; fresh, from = true, (sideeffect.ResumePoint{}) {
		half := &sinkHalf{limit: d.Quota, policy: d.OverQuota, hash: d.Hash, compress: d.Compress, resume: from}
		o := flow.Open{Kind: streamKind, BlockSize: blockSize(&d, from), MaxBlock: maxBlock(&d), Window: d.Params.Window}
		if o.Meta, err = (opening{call: e.call.ask.call, index: e.index, sink: half, fresh: fresh}).encode(); err != nil {
			return job{}, err
		}
		bs, err := e.call.session.OpenBlocks(&e.life, o)
		if err != nil {
			return job{}, err
		}
		j, err := e.acceptSource(&d, bs, from)
		if err == nil {
			return j, nil
		}
		bs.Reset(err)
		if fresh || bs.Start() == 0 || fault.KindOf(err) != fault.Stale {
			return job{}, err
		}
	}
}

// maxBlock bounds the blocks of a transfer that is paced, which pauses after each.
func maxBlock(d *sideeffect.Descriptor) int {
	if d.Pace != nil {
		return pacedBlock
	}
	return 0
}

const pacedBlock = 256 << 10

func blockSize(d *sideeffect.Descriptor, from sideeffect.ResumePoint) int {
	if from.Offset > 0 {
		return from.BlockSize
	}
	return d.Params.BlockSize
}

// acceptSource opens the sink for what the client's source has answered. Stale:
// the resume point does not hold.
func (e *Effect) acceptSource(d *sideeffect.Descriptor, bs *flow.BlockStream, from sideeffect.ResumePoint) (job, error) {
	a, err := parseAccepting(bs.Meta(), true)
	if err != nil {
		return job{}, err
	}
	switch start := bs.Start(); {
	case start != a.source.start || start != 0 && start != from.Offset:
		return job{}, badMeta("the source starts at %d and says %d; the resume point is %d", start, a.source.start, from.Offset)
	case start == 0:
		from = sideeffect.ResumePoint{}
	case bs.BlockSize() != from.BlockSize || a.source.version != from.Version:
		return job{}, fault.New("resume", fault.Stale, "the block size or version is another now; starting from zero")
	}
	sink, err := d.OpenSink(a.source.size, from)
	if err != nil {
		return job{}, err
	}
	plan := d.ReceivePlan(a.source.size, a.source.version, bs.BlockSize())
	return job{
		run: func(ctx context.Context, _ func(sideeffect.Outcome)) ended {
			defer sink.Close()
			return receive(ctx, bs, sink, plan, e.call.road())
		},
		drop: func(err error) {
			bs.Reset(err)
			_ = sink.Abort(d.Resume)
			sink.Close()
		},
	}, nil
}

// openSource opens a stream to the client's sink. Likewise.
func (e *Effect) openSource(d *sideeffect.Descriptor, src sideeffect.Source) (job, error) {
	hash, err := commonHash(d.Hash, e.offer.hash)
	if err != nil {
		return job{}, err
	}
	if err := d.SendPlan(e.offer.limit, e.offer.policy).Check(src.Size()); err != nil {
		return job{}, err
	}
	half := &sourceHalf{size: announced(d, src), version: src.Version(), hash: hash}
	size := d.Params.BlockSize
	if size == 0 { // the client's sink may have to go on with larger blocks than suit now
		size, half.block = sideeffect.MaxBlockSize, e.call.session.BlockSize()
		if most := maxBlock(d); most > 0 {
			half.block = min(half.block, most)
		}
	}
	for fresh := false; ; fresh = true {
		o := flow.Open{Kind: streamKind, Send: true, BlockSize: size, Compress: compressionOf(d.Compress, e.offer.compress)}
		if o.Meta, err = (opening{call: e.call.ask.call, index: e.index, source: half, fresh: fresh}).encode(); err != nil {
			return job{}, err
		}
		bs, err := e.call.session.OpenBlocks(&e.life, o)
		if err != nil {
			return job{}, err
		}
		j, err := e.acceptSink(d, bs, src, half)
		if err == nil {
			return j, nil
		}
		bs.Reset(err)
		if fresh || bs.Start() == 0 || fault.KindOf(err) != fault.Stale {
			return job{}, err
		}
	}
}

// acceptSink agrees with what the client's sink has answered. Stale: its
// resume point is not about the content that the source has.
func (e *Effect) acceptSink(d *sideeffect.Descriptor, bs *flow.BlockStream, src sideeffect.Source, half *sourceHalf) (job, error) {
	a, err := parseAccepting(bs.Meta(), false)
	if err != nil {
		return job{}, err
	}
	if bs.Start() != a.sink.resume.Offset {
		return job{}, badMeta("the sink starts at %d and says %d", bs.Start(), a.sink.resume.Offset)
	}
	if wish := half.block; wish != 0 && bs.Start() == 0 && bs.BlockSize() > wish {
		return job{}, badMeta("a sink that does not go on takes blocks of %d bytes, %d were offered", bs.BlockSize(), wish)
	}
	plan := d.SendPlan(a.sink.limit, a.sink.policy)
	plan.Hash = half.hash
	if r := a.sink.resume; r.Offset > 0 {
		prefix, same, err := holds(&e.life, src, announced(d, src), r, half.hash)
		if err != nil {
			return job{}, err
		}
		if !same || bs.BlockSize() != r.BlockSize {
			return job{}, fault.New("resume", fault.Stale, "what the client has kept is not the beginning of this source; starting from zero")
		}
		plan.Start, plan.Prefix = r.Offset, prefix
	}
	return job{
		lasting: true,
		run: func(ctx context.Context, sent func(sideeffect.Outcome)) ended {
			defer src.Close()
			plan.Sent = sent
			return send(ctx, bs, src, plan, e.call.road())
		},
		drop: func(err error) {
			bs.Reset(err)
			src.Close()
		},
	}, nil
}
