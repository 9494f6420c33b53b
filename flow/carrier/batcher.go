package carrier

import "net"

// batcher sits between crypto/tls and a TCP connection. crypto/tls makes one
// system call per record of 16 KiB in each direction; batcher gathers the
// records of one Write, and reads as much as there is.
//
// One goroutine reads at a time (crypto/tls sees to that). turn is held by
// whoever writes; it is a channel and not a mutex because it is held across I/O.
type batcher struct {
	halfCloser
	on bool // set by enable, before the connection is shared

	turn   chan struct{} // one token
	held   int           // Writes under way: gather
	out    []byte        // gathered; len(out) <= gatherSize
	failed error         // of an earlier write: what was gathered is lost, so nothing may follow

	in       []byte // read and not yet given away: in[from:to]
	from, to int
}

const (
	gatherSize = 260 << 10 // a block of 256 KiB, its header and the overhead of its 17 records
	readSize   = 128 << 10
)

func newBatcher(c halfCloser) *batcher {
	return &batcher{halfCloser: c, turn: make(chan struct{}, 1)}
}

// enable begins batching. Not before: handshakes need no buffers, and those
// that fail should not have had any.
func (b *batcher) enable() { b.on = true }

func (b *batcher) hold() {
	if !b.on {
		return
	}
	b.turn <- struct{}{}
	b.held++
	<-b.turn
}

// release ends a hold and writes what was gathered.
func (b *batcher) release() error {
	if !b.on {
		return nil
	}
	b.turn <- struct{}{}
	defer func() { <-b.turn }()
	b.held--
	return b.flush()
}

func (b *batcher) Write(p []byte) (int, error) {
	b.turn <- struct{}{}
	defer func() { <-b.turn }()
	if b.failed != nil {
		return 0, b.failed
	}
	if b.held == 0 {
		return b.halfCloser.Write(p)
	}
	if len(b.out)+len(p) > gatherSize {
		if err := b.flush(); err != nil {
			return 0, err
		}
	}
	if b.out == nil {
		b.out = make([]byte, 0, gatherSize)
	}
	b.out = append(b.out, p...)
	return len(p), nil
}

// flush needs the turn.
func (b *batcher) flush() error {
	if b.failed != nil || len(b.out) == 0 {
		return b.failed
	}
	_, b.failed = b.halfCloser.Write(b.out)
	b.out = b.out[:0]
	return b.failed
}

func (b *batcher) Read(p []byte) (int, error) {
	if b.from == b.to {
		if !b.on || len(p) >= readSize {
			return b.halfCloser.Read(p)
		}
		if err := b.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, b.in[b.from:b.to])
	b.from += n
	return n, nil
}

func (b *batcher) fill() error {
	if b.in == nil {
		b.in = make([]byte, readSize)
	}
	n, err := b.halfCloser.Read(b.in)
	b.from, b.to = 0, n
	if n > 0 {
		return nil
	}
	return err
}

var _ net.Conn = (*batcher)(nil)
