package sideeffect

import (
	"context"
	"io"
	"slices"
	"sync"

	"github.com/pannier/pannier/spec/fault"
)

// link is a stream in memory: blocks of a fixed size, given in order, once. It
// can lose blocks and rewind, break off, and damage.
//
//	received <= next; a block past a lost one is dropped
type link struct {
	block    int
	lose     map[int]bool // sends that are lost; the sender is rewound at its next call
	breakAt  int64        // offset at which both ends get Lost; -1 never
	lostEnd  bool         // the first END is lost too
	next     int64
	sends    int
	offsets  []int64 // of every block sent
	released int
	open     int // blocks handed to the sink and not released

	mu       sync.Mutex
	received int64
	lost     bool
	durable  int64
	rootSeen [RootSize]byte

	blocks  chan Block
	ends    chan End
	end     End
	verdict chan Verdict
	dead    chan struct{}
	once    sync.Once
	cause   error
}

func newLink(start int64, root [RootSize]byte, block int) *link {
	return &link{block: block, breakAt: -1, next: start, received: start, durable: start, rootSeen: root,
		blocks: make(chan Block, 4), ends: make(chan End, 1), verdict: make(chan Verdict, 1), dead: make(chan struct{})}
}

// kill ends both halves with err.
func (l *link) kill(err error) {
	l.once.Do(func() { l.cause = err; close(l.dead) })
}

func (l *link) over(ctx context.Context) error {
	select {
	case <-l.dead:
		return l.cause
	default:
		return ctx.Err()
	}
}

func (l *link) Next(ctx context.Context) (Block, error) {
	l.mu.Lock()
	if l.lost {
		l.lost, l.next = false, l.received
	}
	l.mu.Unlock()
	if err := l.over(ctx); err != nil {
		return Block{}, err
	}
	return Block{Offset: l.next, Data: make([]byte, l.block), Owner: outBlock{l}}, nil
}

type outBlock struct{ l *link }

func (o outBlock) Release() { o.l.released++ }

func (l *link) Send(ctx context.Context, b Block, n int) error {
	l.sends++
	l.offsets = append(l.offsets, b.Offset)
	l.next = b.Offset + int64(n)
	if l.breakAt >= 0 && l.next > l.breakAt {
		l.kill(fault.New("send", fault.Lost, "the link was cut"))
		return l.cause
	}
	l.mu.Lock()
	if l.lose[l.sends] {
		l.lost = true
	}
	deliver := !l.lost && b.Offset == l.received
	if deliver {
		l.received += int64(n)
	}
	l.mu.Unlock()
	if !deliver {
		return nil
	}
	select {
	case l.blocks <- Block{Offset: b.Offset, Data: slices.Clone(b.Data[:n]), Owner: inBlock{l}}:
		return nil
	case <-l.dead:
		return l.cause
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *link) End(ctx context.Context, e End) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lostEnd {
		l.lost, l.lostEnd = true, false
	}
	if !l.lost {
		l.ends <- e
		close(l.blocks)
	}
	return l.over(ctx)
}

func (l *link) Verdict(ctx context.Context) (Verdict, error) {
	l.mu.Lock()
	lost := l.lost
	l.mu.Unlock()
	if lost {
		return Verdict{}, fault.Wrap("await verdict", "", ErrRewound)
	}
	select {
	case v := <-l.verdict:
		return v, nil
	case <-l.dead:
		return Verdict{}, l.cause
	case <-ctx.Done():
		return Verdict{}, ctx.Err()
	}
}

func (l *link) Received() int64 { l.mu.Lock(); defer l.mu.Unlock(); return l.received }
func (l *link) Durable() int64  { l.mu.Lock(); defer l.mu.Unlock(); return l.durable }

// inEnd is the sink's end of a link.
type inEnd struct{ *link }

type inBlock struct{ l *link }

func (b inBlock) Release() { b.l.mu.Lock(); b.l.open--; b.l.mu.Unlock() }

func (l inEnd) Recv(ctx context.Context) (Block, error) {
	select { // what was received before the link died is delivered
	case b, ok := <-l.blocks:
		return l.deliver(b, ok)
	default:
	}
	select {
	case b, ok := <-l.blocks:
		return l.deliver(b, ok)
	case <-l.dead:
		return Block{}, l.cause
	case <-ctx.Done():
		return Block{}, ctx.Err()
	}
}

func (l inEnd) deliver(b Block, ok bool) (Block, error) {
	if !ok {
		l.end = <-l.ends
		return Block{}, io.EOF
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rootSeen = FoldRoot(l.rootSeen, b.Offset, b.Data)
	l.open++
	return b, nil
}

func (l inEnd) End() End             { return l.end }
func (l inEnd) Root() [RootSize]byte { l.mu.Lock(); defer l.mu.Unlock(); return l.rootSeen }
func (l inEnd) SetDurable(off int64) { l.mu.Lock(); defer l.mu.Unlock(); l.durable = off }

// ran is how both halves of a transfer ended.
type ran struct {
	sent, stored      Outcome
	sendErr, storeErr error
}

// run moves src to sink over l, and closes both, like the rpc package does.
func run(ctx context.Context, l *link, src Source, sp SendPlan, sink Sink, rp ReceivePlan) ran {
	var r ran
	var both sync.WaitGroup
	both.Go(func() {
		r.sent, r.sendErr = SendAll(ctx, l, src, sp)
		if r.sendErr != nil {
			l.kill(fault.FromPeer("receive", fault.KindOf(r.sendErr), "the source failed"))
		}
	})
	r.stored, r.storeErr = ReceiveAll(ctx, inEnd{l}, sink, rp)
	l.verdict <- r.stored.Verdict(r.storeErr)
	if r.storeErr != nil {
		l.kill(fault.FromPeer("store", fault.KindOf(r.storeErr), r.storeErr.Error()))
	}
	both.Wait()
	sink.Close()
	src.Close()
	return r
}
