package sideeffect

import (
	"context"
	"errors"
	"io"

	"github.com/pannier/pannier/spec/fault"
)

// SendAll is the pump of the source's half: it reads src into the blocks of
// out until the end or a quota, checks that src is still what was opened,
// says End, and waits for the verdict. The verdict's error is returned like
// one of its own. Neither out nor src is closed; on an error the caller resets
// the stream.
//
//	blocks --last--> check source -> END -> verdict --ok--> over
//	   ^--------------- rewound ----------------'
func SendAll(ctx context.Context, out Outgoing, src Source, p SendPlan) (Outcome, error) {
	defer interruptOn(ctx, src)()
	s := newSender(out, src, p)
	return s.over(because(ctx, "send", s.run(ctx, out)))
}

// SendUntilEnd is SendAll up to END, for content whose verdict comes another way
// than over its stream, as that of a message does. The source is not needed any
// more. Without an error Judge has to follow.
func SendUntilEnd(ctx context.Context, out Outlet, src Source, p SendPlan) (Unjudged, Outcome, error) {
	defer interruptOn(ctx, src)()
	s := newSender(out, src, p)
	err := s.begin(ctx)
	if err == nil {
		err = s.sendToEnd(ctx, false)
	}
	if err != nil {
		o, err := s.over(because(ctx, "send", err))
		return Unjudged{}, o, err
	}
	return Unjudged{s}, s.outcome, nil
}

// Unjudged is a source's half that is complete and awaits the sink's verdict.
type Unjudged struct{ s *sender }

// Judge ends the half with the sink's verdict, or with the error for which
// there is none.
func (u Unjudged) Judge(v Verdict, err error) (Outcome, error) {
	if err == nil {
		err = u.s.judge(v)
	}
	return u.s.over(err)
}

func newSender(out Outlet, src Source, p SendPlan) *sender {
	return &sender{out: out, src: src, plan: p, at: p.Start, total: src.Size(), report: reporter{call: p.Progress}}
}

// over is what the pump returns for the error it ended with.
func (s *sender) over(err error) (Outcome, error) {
	if err != nil {
		s.outcome.Bytes = max(s.acknowledged(), s.outcome.Bytes)
		s.outcome.QuotaExceeded = s.outcome.QuotaExceeded || errors.Is(err, fault.QuotaExceeded)
	}
	s.report.final(s.progress())
	return s.outcome, err
}

// sender is the state of one source's half.
//
//	Start <= at <= total (when total >= 0); hasher.Written() = the most at has been
type sender struct {
	out    Outlet
	src    Source
	plan   SendPlan
	limit  int64 // the stricter of both ends' quotas; NoQuota = none
	policy OverQuota
	sinks  bool // it is the sink's limit

	at     int64
	block  int   // bytes of a block; 0: not known yet
	ahead  int64 // prefetched up to here
	total  int64 // -1 until the end is known
	cut    bool
	told   bool // Sent was called
	hasher *Hasher

	outcome Outcome
	report  reporter
}

func (s *sender) run(ctx context.Context, out Outgoing) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	for rewound := false; ; rewound = true {
		if err := s.sendToEnd(ctx, rewound); err != nil {
			return err
		}
		v, err := out.Verdict(ctx)
		if errors.Is(err, ErrRewound) {
			continue
		}
		if err != nil {
			return err
		}
		return s.judge(v)
	}
}

// begin does what comes before the first block.
func (s *sender) begin(ctx context.Context) error {
	s.outcome.ResumedFrom = s.plan.Start
	s.chooseLimit()
	if err := s.checkSize(); err != nil {
		return err
	}
	return s.hashPrefix(ctx)
}

// sendToEnd sends what is left, and END.
func (s *sender) sendToEnd(ctx context.Context, rewound bool) error {
	if err := s.sendBlocks(ctx, rewound); err != nil {
		return err
	}
	return s.finish(ctx)
}

// chooseLimit takes the smaller quota; of equal ones Fail is the stricter.
func (s *sender) chooseLimit() {
	s.limit, s.policy = s.plan.Quota, s.plan.OverQuota
	l := s.plan.Limit
	if l >= 0 && (s.limit < 0 || l < s.limit || l == s.limit && s.plan.LimitPolicy == Fail) {
		s.limit, s.policy, s.sinks = l, s.plan.LimitPolicy, true
	}
}

// Check is the error with which SendAll would refuse a source of size bytes (-1
// unknown) before its first byte: so it can be had before a sink opens, and
// perhaps empties its target.
func (p SendPlan) Check(size int64) error {
	s := sender{plan: p}
	if s.chooseLimit(); s.limit >= 0 && size > s.limit && s.policy == Fail {
		return s.overQuota(size)
	}
	return nil
}

// checkSize applies the limit before the first byte when the size is known.
func (s *sender) checkSize() error {
	switch {
	case s.plan.Start < 0 || s.total >= 0 && s.plan.Start > s.total:
		return fault.New("send", fault.Invalid, "start %d is outside the source of %d bytes", s.plan.Start, s.total)
	case s.plan.Start > 0 && !s.src.Rewindable():
		return fault.New("send", fault.Unsupported, "this source cannot be resumed")
	case s.limit < 0 || s.total < 0 || s.total <= s.limit:
		return nil
	case s.policy == Fail:
		return s.overQuota(s.total)
	}
	s.total, s.cut = max(s.limit, s.plan.Start), true
	return nil
}

func (s *sender) overQuota(size int64) error {
	s.outcome.QuotaExceeded = true
	if s.sinks {
		return adviseQuota(fault.New("send", fault.QuotaExceeded, "at least %d bytes, the receiver's quota is %d", size, s.limit), s.limit)
	}
	return ownQuota("send", size, s.limit)
}

// ownQuota is an excess of a quota that the other end was not told.
func ownQuota(op string, size, limit int64) error {
	return adviseQuota(fault.NewLocal(op, fault.QuotaExceeded, "at least %d bytes, this end's quota is %d", size, limit), limit)
}

// sinkQuota is an excess of the quota that a sink has announced.
func sinkQuota(op string, size, limit int64) error {
	return adviseQuota(fault.New(op, fault.QuotaExceeded, "at least %d bytes, this sink's quota is %d", size, limit), limit)
}

// adviseQuota says what to do about a quota; an accidental zero most of all.
func adviseQuota(e *fault.Error, limit int64) error {
	if limit == 0 {
		return e.Advise("its Quota allows no bytes: set it to a number, or to NoQuota")
	}
	return e.Advise("raise its Quota, or set its OverQuota to Cut")
}

// hashPrefix brings the hasher to Start.
func (s *sender) hashPrefix(ctx context.Context) (err error) {
	s.hasher = s.plan.Prefix
	if s.hasher != nil && s.hasher.Algorithm() == s.plan.Hash && s.hasher.Written() == s.plan.Start {
		return nil
	}
	if s.hasher, err = NewHasher(s.plan.Hash); err != nil || s.plan.Start == 0 || s.plan.Hash == None {
		return err
	}
	_, err = RootOf(ctx, &sourceReader{src: s.src}, s.plan.Start, MaxBlockSize, s.hasher)
	return err
}

// sendBlocks sends until the end. After a rewind it asks for a block even
// when everything was sent, because only the block says where to continue.
func (s *sender) sendBlocks(ctx context.Context, rewound bool) error {
	for rewound || s.total < 0 || s.at < s.total {
		rewound = false
		paid, err := s.pace(ctx)
		if err != nil {
			return err
		}
		b, err := s.out.Next(ctx)
		if err != nil {
			return err
		}
		if b.Offset > s.at || b.Offset < s.plan.Start {
			b.Release()
			return fault.New("send", fault.Internal, "the stream wants byte %d, %d..%d can be sent", b.Offset, s.plan.Start, s.at)
		}
		s.at = b.Offset
		s.prefetch(int64(len(b.Data)))
		n, err := s.fill(b)
		if err != nil || n == 0 {
			b.Release()
			if err != nil {
				return err
			}
			continue
		}
		if s.plan.Pace != nil && n > paid { // the block begins earlier than was thought
			if err := s.plan.Pace(ctx, n-paid); err != nil {
				b.Release()
				return err
			}
		}
		s.hash(b.Data[:n])
		b.More = s.plan.Pace == nil && s.src.Rewindable() && s.at+int64(n) < s.total // what cannot be rewound may be slow
		if err := s.out.Send(ctx, b, n); err != nil {
			return err
		}
		s.at += int64(n)
		s.outcome.Blocks++
		s.report.report(s.progress())
	}
	return nil
}

// pace waits until the next block may be sent, while this end has no buffer for
// it: who is held to a rate costs no memory. It returns how many bytes were allowed.
func (s *sender) pace(ctx context.Context) (int, error) {
	if s.plan.Pace == nil {
		return 0, nil
	}
	if s.block == 0 {
		b, err := s.out.Next(ctx) // only the stream knows how large its blocks are
		if err != nil {
			return 0, err
		}
		s.block = len(b.Data)
		b.Release()
	}
	n := s.block
	if s.total >= 0 {
		n = int(min(int64(n), s.total-s.at))
	}
	if n <= 0 {
		return 0, nil
	}
	return n, s.plan.Pace(ctx, n)
}

// prefetch keeps SendAhead blocks behind the present one on their way from disk.
func (s *sender) prefetch(block int64) {
	p, ok := s.src.(Prefetcher)
	if !ok || s.plan.SendAhead == 0 {
		return
	}
	from, to := max(s.ahead, s.at+block), s.at+block*int64(1+s.plan.SendAhead)
	if to-from >= block {
		p.Prefetch(from, to-from)
		s.ahead = to
	}
}

// fill reads the block's bytes and learns the end. It never returns a byte past
// the limit, but asks for one to know that there is one.
func (s *sender) fill(b Block) (int, error) {
	room := b.Data
	if s.total >= 0 {
		room = room[:min(int64(len(room)), s.total-s.at)]
	}
	left := int64(len(room))
	if s.limit >= 0 && s.total < 0 && left > s.limit-s.at {
		left = s.limit - s.at
		room = room[:left+1]
	}
	if len(room) == 0 {
		return 0, nil
	}
	n, err := s.src.ReadBlock(room, s.at)
	switch {
	case int64(n) > left:
		if s.policy == Fail {
			return 0, s.overQuota(s.limit + 1)
		}
		s.total, s.cut = s.limit, true
		return int(left), nil
	case err != nil && err != io.EOF:
		return 0, err
	case err == io.EOF && s.total < 0:
		s.total = s.at + int64(n)
	case n < len(room) && err == io.EOF:
		return 0, fault.New("send", fault.SourceChanged, "the source ended after %d of %d bytes", s.at+int64(n), s.total)
	case n < len(room):
		return 0, fault.New("send", fault.Internal, "the source gave %d of %d bytes and no reason", n, len(room))
	}
	return n, nil
}

// hash feeds what was not hashed before a rewind.
func (s *sender) hash(p []byte) {
	if s.plan.Hash == None {
		return
	}
	if seen := s.hasher.Written() - s.at; seen < int64(len(p)) {
		s.hasher.Write(p[seen:])
	}
}

// finish ends this half.
func (s *sender) finish(ctx context.Context) error {
	if err := s.src.Check(); err != nil {
		return err
	}
	s.outcome.Digest = s.hasher.Sum()
	s.outcome.QuotaExceeded = s.cut
	if s.plan.Ledger != nil {
		if err := s.plan.Ledger.Ended(s.total, s.outcome.Digest); err != nil {
			return err
		}
	}
	end := End{Total: s.total, Hash: s.outcome.Digest, Cut: s.cut, QuotaExceeded: s.cut}
	if err := s.out.End(ctx, end); err != nil {
		return err
	}
	if s.plan.Sent != nil && !s.told {
		s.told = true
		s.plan.Sent(s.outcome)
	}
	return nil
}

// judge compares the sink's verdict with what was sent.
func (s *sender) judge(v Verdict) error {
	o := &s.outcome
	o.Bytes, o.Durable = min(v.Bytes, s.total), min(v.Durable, s.total)
	o.QuotaExceeded = o.QuotaExceeded || v.QuotaExceeded
	switch {
	case v.Err != nil:
		return v.Err
	case v.Bytes > s.total, v.Bytes < s.total && !v.QuotaExceeded:
		return fault.New("send", fault.Corrupt, "the sink stored %d of %d bytes", v.Bytes, s.total)
	}
	verified := s.plan.verifiedByStream()
	switch {
	case s.plan.Hash == None:
	case v.Bytes < s.total: // cut by the sink: its digest is of what it kept
		o.Digest = v.Hash
	case !v.Hash.Equal(o.Digest):
		return fault.New("send", fault.Corrupt, "the sink's digest is %q, sent was %q", v.Hash, o.Digest)
	default:
		verified += "+" + s.plan.Hash.String()
	}
	o.Verified = verified
	return nil
}

// acknowledged is what the sink has acknowledged, as the ack point says.
func (s *sender) acknowledged() int64 {
	a := s.out.Durable()
	if s.plan.AckPoint != AckDurable {
		a = s.out.Received()
	}
	return min(max(a, s.plan.Start, s.outcome.Bytes), max(s.at, s.total))
}

func (s *sender) progress() Progress {
	moved := max(s.at, s.plan.Start)
	durable := min(max(s.out.Durable(), s.plan.Start, s.outcome.Durable), moved)
	acknowledged := max(min(s.acknowledged(), moved), durable)
	received := max(min(s.out.Received(), moved), acknowledged)
	return Progress{Moved: moved, Received: received, Acknowledged: acknowledged, Durable: durable, Total: s.total}
}

// sourceReader is a source from its first byte as an io.Reader.
type sourceReader struct {
	src Source
	at  int64
}

func (r *sourceReader) Read(p []byte) (int, error) {
	n, err := r.src.ReadBlock(p, r.at)
	r.at += int64(n)
	if n > 0 && err == io.EOF {
		err = nil
	}
	return n, err
}
