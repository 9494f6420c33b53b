package sideeffect

import (
	"context"
	"errors"

	"github.com/pannier/pannier/spec/fault"
)

// ErrRewound is what Outgoing.Verdict returns, wrapped or not, when a session
// was resumed and blocks were lost: the pump calls Next again and continues at
// the offset of the block it gets.
var ErrRewound = errors.New("rewound: send again from the next block's offset")

// A Block is a piece of the transfer in a buffer of the stream.
type Block struct {
	Offset int64    // of Data[0] in the transfer
	Data   []byte   // outgoing: the room; incoming: the content
	More   bool     // outgoing: the next one follows as soon as it is read, so this one may wait for it
	Owner  Releaser // what the stream knows the block by; may be nil
}

// A Releaser takes a block's buffer, and its credit, back.
type Releaser interface{ Release() }

// Release gives the block back to the stream.
func (b Block) Release() {
	if b.Owner != nil {
		b.Owner.Release()
	}
}

// End is what a source says after its last block.
type End struct {
	Total         int64 // bytes of the whole transfer, resumed part included
	Hash          Sum   // of those bytes; zero without one
	Cut           bool  // the source had more, and stopped at a quota
	QuotaExceeded bool  // same as Cut today; kept apart for a source that fails late
}

// Verdict is what a sink answers to an End.
type Verdict struct {
	Bytes         int64 // stored
	Durable       int64 // of those, on disk
	QuotaExceeded bool
	Hash          Sum
	Err           *fault.Error // nil = success
}

// Outlet is what a source's blocks go into: a stream, or a message.
type Outlet interface {
	// Next waits for credit and returns a block with room. After a resumed
	// session its Offset may be earlier than what was sent.
	Next(ctx context.Context) (Block, error)
	// Send sends Data[:n] and consumes the block; n < len(Data) only for the
	// last one. A block that is not sent is Released.
	Send(ctx context.Context, b Block, n int) error
	// End says that everything was sent.
	End(ctx context.Context, e End) error
	Received() int64 // offset up to which the sink has written and released blocks, as last heard
	Durable() int64  // offset up to which the sink has synced
}

// Outgoing is a stream as its source uses it. rpc fits flow's block stream to
// it.
type Outgoing interface {
	Outlet
	// Verdict waits for the sink's, or returns ErrRewound.
	Verdict(ctx context.Context) (Verdict, error)
}

// Incoming is a stream as its sink uses it.
type Incoming interface {
	// Recv returns the next block in order, checked and decompressed; io.EOF
	// when the stream has ended and length and root matched. Each block is
	// Released.
	Recv(ctx context.Context) (Block, error)
	End() End                // after io.EOF
	Root() [RootSize]byte    // chain over the blocks Recv has returned
	SetDurable(offset int64) // tells the source what is on disk
}
