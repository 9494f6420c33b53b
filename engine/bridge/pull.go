package bridge

import (
	"bytes"
	"context"
	"hash"
	"io"
	"log/slog"
	"slices"
	"time"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

// blockSize is how much goes from one end to the other at once, bytes.
const blockSize = 256 << 10

// What was compared when no digest could be.
const (
	bySize = "size" // the numbers of bytes
	byEnd  = "end"  // nothing: the server has said that these were all
)

// pull has the requester's half take a file from the server. What an earlier run has
// stored counts if the server says that the file is still the same.
func (x *call) pull() (engine.Answer, error) {
	began := time.Now()
	src, err := (&file{x.o.Servers, x.partner, remote(x.ask.Source)}).open(x.ctx)
	if err != nil {
		return engine.Answer{}, err
	}
	defer src.Close()
	defer context.AfterFunc(x.ctx, src.Interrupt)()
	point, err := x.d.ResumePoint(x.ctx)
	if err != nil {
		return engine.Answer{}, err
	}
	if !src.Rewindable() || src.Version().IsZero() || point.Version != src.Version() || point.BlockSize != blockSize || point.Offset > src.Size() {
		point = sideeffect.ResumePoint{}
	}
	sink, err := x.d.OpenSink(src.Size(), point)
	if err != nil {
		return engine.Answer{}, err
	}
	defer sink.Close()
	plan := x.d.ReceivePlan(src.Size(), src.Version(), blockSize)
	plan.Alone, plan.Stream = true, byEnd
	if src.Size() >= 0 {
		plan.Stream = bySize
	}
	in := &intake{src: src, at: point.Offset, root: point.Root, hash: x.d.Hash, log: x.log, data: make([]byte, blockSize)}
	in.begin()
	if plan.Ledger != nil {
		plan.Ledger = ledger{plan.Ledger, in}
	}
	o, err := sideeffect.ReceiveAll(x.ctx, in, sink, plan)
	o.Verified += in.compared
	x.fill(o, began, err)
	if err != nil {
		return engine.Answer{}, err
	}
	return served(lifecycle.Ended, 0, o.Bytes), nil
}

// fill says in the requester's descriptor how its half ended, which was the only one.
func (x *call) fill(o sideeffect.Outcome, began time.Time, err error) {
	o.Fill(&x.d.Result, err)
	status := sideeffect.Success
	if err != nil {
		status = sideeffect.Failure
	}
	x.d.LocalStatus, x.d.RemoteStatus = status, status
	x.d.Stats.Started, x.d.Stats.Finished = began, time.Now()
}

// intake is sideeffect.Incoming from a source.
type intake struct {
	src  *remoteSource
	at   int64
	root [sideeffect.RootSize]byte
	hash sideeffect.Algorithm
	log  *slog.Logger
	// Where the server computes no digests of hash, but others: the best of them. Of a file that is
	// gone on with there is none, since its beginning was read before.
	other    string
	sum      hash.Hash // nil: there is no other
	compared string    // "+" and other, when both ends have the same
	data     []byte
	over     bool
	end      sideeffect.End
}

// begin finds what the server and this end can both compute.
func (i *intake) begin() {
	can := i.src.s.Capabilities().Checksums
	if _, ok := i.src.s.(plugins.Checksummer); !ok || i.at > 0 || slices.Contains(can, i.hash.String()) {
		return
	}
	i.other = plugins.BestChecksum(can)
	i.sum = plugins.NewChecksum(i.other)
}

// compare holds the other digest against the server's.
func (i *intake) compare() error {
	if i.sum == nil {
		return nil
	}
	sum, err := Checksum(i.src.ctx, i.src.s, i.src.name, i.other)
	switch {
	case err != nil && i.src.ctx.Err() != nil:
		return AsEnd(i.src.server, err)
	case err != nil: // nobody has asked for it, and all bytes are here
		if trusted(kindOf(err)) {
			i.src.err = err // of the session
		}
		i.log.Warn("the server has not said what it has: the file is compared without it", "name", i.src.name, "digest", i.other, "error", err)
		return nil
	case sum == nil: // it computes none of this file
		return nil
	}
	if is := i.sum.Sum(nil); !bytes.Equal(sum, is) {
		return AsEnd(i.src.server, fault.New("compare", fault.Corrupt, "the server says that the file has %s %x, and what came has %x", i.other, sum, is))
	}
	i.compared = "+" + i.other
	return nil
}

// ledger has the request say what was compared beside what the receiver compares.
type ledger struct {
	sideeffect.Ledger
	in *intake
}

// Whole implements sideeffect.Ledger.
func (l ledger) Whole(w sideeffect.Whole) error {
	w.Verified += l.in.compared
	return l.Ledger.Whole(w)
}

// Recv implements sideeffect.Incoming.
func (i *intake) Recv(context.Context) (sideeffect.Block, error) {
	if i.over || i.at == i.src.Size() {
		return sideeffect.Block{}, i.ended()
	}
	room := i.data
	if size := i.src.Size(); size >= 0 {
		room = room[:min(int64(len(room)), size-i.at)]
	}
	n, err := i.src.ReadBlock(room, i.at)
	switch {
	case err != nil && err != io.EOF:
		return sideeffect.Block{}, err
	case err == io.EOF:
		i.over = true
	}
	if n == 0 {
		return sideeffect.Block{}, i.ended()
	}
	b := sideeffect.Block{Offset: i.at, Data: room[:n]}
	i.root = sideeffect.FoldRoot(i.root, b.Offset, b.Data)
	i.at += int64(n)
	if i.sum != nil {
		_, _ = i.sum.Write(b.Data)
	}
	return b, nil
}

// ended is io.EOF when the file is still the one that was opened. Its digest is asked for
// if the server computes such.
func (i *intake) ended() error {
	if err := i.src.Check(); err != nil {
		return err
	}
	i.end = sideeffect.End{Total: i.at}
	if sum, err := Checksum(i.src.ctx, i.src.s, i.src.name, i.hash.String()); err != nil {
		return AsEnd(i.src.server, err)
	} else if sum != nil {
		i.end.Hash = sideeffect.Sum{Algorithm: i.hash, Bytes: sum}
	}
	if err := i.compare(); err != nil {
		return err
	}
	return io.EOF
}

// Checksum is what the server says of the whole file; nil if it does not.
func Checksum(ctx context.Context, s plugins.Session, name, algorithm string) ([]byte, error) {
	c, ok := s.(plugins.Checksummer)
	if !ok || !slices.Contains(s.Capabilities().Checksums, algorithm) {
		return nil, nil
	}
	sum, err := c.Checksum(ctx, name, algorithm, -1)
	if kindOf(err) == fault.Unsupported {
		return nil, nil
	}
	return sum, err
}

// ChecksumOfTaken is Checksum of a file that the server has said to have taken. Whoever waits for files
// there may have fetched it meanwhile, and not all users may look: then nothing is said of it, either.
func ChecksumOfTaken(ctx context.Context, s plugins.Session, name, algorithm string) ([]byte, error) {
	sum, err := Checksum(ctx, s, name, algorithm)
	if k := kindOf(err); k == fault.NotFound || mayNotLook(k) {
		return nil, nil
	}
	return sum, err
}

func (i *intake) End() sideeffect.End             { return i.end }
func (i *intake) Root() [sideeffect.RootSize]byte { return i.root }
func (i *intake) SetDurable(int64)                {}
