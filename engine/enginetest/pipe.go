package enginetest

import (
	"context"
	"io"
	"sync"

	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

// pipe is a stream of blocks in memory, one at a time: sideeffect.Outgoing at one
// end, sideeffect.Incoming at the other.
type pipe struct {
	block   int
	fault   func(off int64) error
	blocks  chan sideeffect.Block
	ended   chan struct{}
	verdict chan sideeffect.Verdict
	dead    chan struct{}

	mu       sync.Mutex
	cause    error
	end      sideeffect.End
	next     int64 // sender's
	root     [sideeffect.RootSize]byte
	received int64
	durable  int64
}

func newPipe(block int, fault func(int64) error) *pipe {
	return &pipe{block: block, fault: fault, blocks: make(chan sideeffect.Block), ended: make(chan struct{}), verdict: make(chan sideeffect.Verdict, 1), dead: make(chan struct{})}
}

// intake is the end of the sink.
type intake struct{ *pipe }

// End implements sideeffect.Incoming.
func (i intake) End() sideeffect.End {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.end
}

// start is the resume point.
func (p *pipe) start(off int64, root [sideeffect.RootSize]byte) { p.next, p.root = off, root }

// fail breaks the stream for both ends.
func (p *pipe) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cause == nil {
		p.cause = err
		close(p.dead)
	}
}

func (p *pipe) broken() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cause
}

// judge hands the sink's verdict over, as a peer would learn it.
func (p *pipe) judge(v sideeffect.Verdict) {
	if v.Err != nil {
		v.Err = fault.FromPeer("store", v.Err.Kind, fault.Text(v.Err))
	}
	p.verdict <- v
}

func (p *pipe) Next(ctx context.Context) (sideeffect.Block, error) {
	return sideeffect.Block{Offset: p.next, Data: make([]byte, p.block)}, p.broken()
}

func (p *pipe) Send(ctx context.Context, b sideeffect.Block, n int) error {
	if err := p.fault(b.Offset); err != nil {
		p.fail(err)
		return err
	}
	b.Data = b.Data[:n]
	select {
	case p.blocks <- b:
		p.next += int64(n)
		return nil
	case <-p.dead:
		return p.broken()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (p *pipe) End(_ context.Context, e sideeffect.End) error {
	if err := p.fault(-1); err != nil {
		p.fail(err)
		return err
	}
	p.mu.Lock()
	p.end = e
	p.mu.Unlock()
	close(p.ended)
	return nil
}

func (p *pipe) Verdict(ctx context.Context) (sideeffect.Verdict, error) {
	select {
	case v := <-p.verdict:
		return v, nil
	case <-ctx.Done():
		return sideeffect.Verdict{}, context.Cause(ctx)
	}
}

func (p *pipe) Recv(ctx context.Context) (sideeffect.Block, error) {
	select {
	case b := <-p.blocks:
		p.mu.Lock()
		p.root = sideeffect.FoldRoot(p.root, b.Offset, b.Data)
		p.received = b.Offset + int64(len(b.Data))
		p.mu.Unlock()
		return b, nil
	case <-p.ended:
		return sideeffect.Block{}, io.EOF
	case <-p.dead:
		return sideeffect.Block{}, p.broken()
	case <-ctx.Done():
		return sideeffect.Block{}, context.Cause(ctx)
	}
}

func (p *pipe) Received() int64 { p.mu.Lock(); defer p.mu.Unlock(); return p.received }
func (p *pipe) Durable() int64  { p.mu.Lock(); defer p.mu.Unlock(); return p.durable }
func (p *pipe) SetDurable(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.durable = n
}
func (p *pipe) Root() [sideeffect.RootSize]byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.root
}
