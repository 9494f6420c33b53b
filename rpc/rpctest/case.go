package rpctest

import (
	"fmt"

	"github.com/pannier/pannier/sideeffect"
)

// SourceKind is what bytes are read from.
type SourceKind uint8

const (
	FromFile   SourceKind = iota
	FromFD                // a file that is open already
	FromHandle            // a file by its handle; needs a privilege
	FromMemory
	FromBuffer
	FromReader // that says its size
	FromStream // a reader that does not
	sourceKinds
)

// SinkKind is what bytes are written to.
type SinkKind uint8

const (
	ToFile   SinkKind = iota
	ToFD              // a file that is open already
	ToHandle          // a file by its handle; needs a privilege
	ToExact           // memory of exactly the bytes that move
	ToSmall           // memory that is one byte too small
	ToLarge           // memory with ten bytes to spare
	ToBuffer
	ToWriter
	sinkKinds
)

// Before is what the sink holds before the call.
type Before uint8

const (
	Nothing Before = iota
	Short          // 100 bytes
	Long           // more than moves
	befores
)

// Position is a place relative to what is there.
type Position uint8

const (
	AtStart Position = iota
	Inside           // source: in the middle; sink: at byte 7
	AtEnd            // sources only
	Beyond           // source: one byte after the end; sink: ten
	positions
)

// Quota is a limit relative to the bytes that the source has from its offset.
type Quota uint8

const (
	Unlimited Quota = iota
	Least           // a quarter of them
	Less            // half of them
	Equal
	More // one more
	quotas
)

// HashAt says which end asks for the digest.
type HashAt uint8

const (
	AtBoth HashAt = iota
	AtSource
	AtSink
	hashAts
)

// A Case is one call of the matrix.
type Case struct {
	Road      sideeffect.Road // the client's wish
	Direction sideeffect.Direction
	Source    SourceKind
	Sink      SinkKind
	Mode      sideeffect.Mode
	Before    Before
	Size      int // of what the source reads, in bytes

	SourceOffset, SinkOffset Position
	SourceQuota, SinkQuota   Quota
	SourceOver, SinkOver     sideeffect.OverQuota

	Hash     sideeffect.Algorithm
	HashAt   HashAt
	Compress sideeffect.Compression
	Random   bool // content that does not compress
	Await    sideeffect.Await
	Swallow  bool // the handler answers OK although its effect failed
}

// Sizes that change the road, the number of blocks, or nothing.
var (
	smallSizes = [...]int{0, 1, 10, 235, 1310, 14235, 16<<10 - 1, 16 << 10, 16<<10 + 1, 64<<10 - 1, 64 << 10, 64<<10 + 1}
	largeSizes = [...]int{1 << 20, 20 << 20} // more than the largest window of a session
	briefSizes = [...]int{1 << 20, 5 << 20}
)

// dimensions are the numbers of values of a row's columns.
func dimensions() []int {
	return []int{
		2, int(sourceKinds), int(sinkKinds), 5, int(befores), len(smallSizes),
		int(positions), 3, int(quotas), int(quotas), 2, 2,
		4, int(hashAts), 4, 2, 2, 2,
	}
}

// caseOf is the case that a row of indices stands for.
func caseOf(road sideeffect.Road, r []int) Case {
	c := Case{
		Road: road, Direction: sideeffect.Direction(1 + r[0]), Source: SourceKind(r[1]), Sink: SinkKind(r[2]),
		Mode: sideeffect.Mode(r[3]), Before: Before(r[4]), Size: smallSizes[r[5]],
		SourceOffset: Position(r[6]), SinkOffset: [...]Position{AtStart, Inside, Beyond}[r[7]],
		SourceQuota: Quota(r[8]), SinkQuota: Quota(r[9]),
		SourceOver: sideeffect.OverQuota(r[10]), SinkOver: sideeffect.OverQuota(r[11]),
		Hash: sideeffect.Algorithm(r[12]), HashAt: HashAt(r[13]), Compress: sideeffect.Compression(r[14]),
		Random: r[15] == 1, Await: sideeffect.Await(r[16]), Swallow: r[17] == 1,
	}
	return c.settled()
}

// settled takes out what would contradict itself: nobody acknowledges a reply,
// so what has to go inside one is not awaited.
func (c Case) settled() Case {
	if c.Road == sideeffect.RoadInline && c.Direction == sideeffect.ServerToClient {
		c.Await = sideeffect.AwaitLocal
	}
	return c
}

// clientSends reports whether the client is the source.
func (c Case) clientSends() bool { return c.Direction == sideeffect.ClientToServer }

func (c Case) String() string {
	return fmt.Sprintf("%v, %v, %v+%v of %d (quota %v %v) to %v %v+%v over %v (quota %v %v), %v at %v, compress %v, random %v, await %v, swallow %v",
		c.Road, c.Direction, c.Source, c.SourceOffset, c.Size, c.SourceQuota, c.SourceOver,
		c.Sink, c.Mode, c.SinkOffset, c.Before, c.SinkQuota, c.SinkOver,
		c.Hash, c.HashAt, c.Compress, c.Random, c.Await, c.Swallow)
}

func (s SourceKind) String() string {
	return [...]string{"file", "fd", "handle", "memory", "buffer", "sized reader", "reader"}[s]
}

func (s SinkKind) String() string {
	return [...]string{"file", "fd", "handle", "exact memory", "small memory", "large memory", "buffer", "writer"}[s]
}

func (b Before) String() string   { return [...]string{"nothing", "short", "long"}[b] }
func (p Position) String() string { return [...]string{"start", "inside", "end", "beyond"}[p] }
func (q Quota) String() string    { return [...]string{"none", "least", "less", "equal", "more"}[q] }
func (h HashAt) String() string   { return [...]string{"both", "source", "sink"}[h] }
