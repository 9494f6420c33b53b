// Package sideeffect is what a transfer is at one end: a descriptor, the bytes
// it names, and the pump that moves them.
//
// # What a service needs
//
// A Descriptor for each end of each transfer, and for its Local one of File (by
// name, below an os.Root), FD (an open file), Memory, Buffer, Reader, Writer, Duplex
// (a live pipe), Handle or Inode; Shared lets several transfers read one source once.
// The zero value of each field is the careful choice: Replace is atomic,
// OverQuota fails, success means durable. Only Direction, Local and Quota have to be set:
// the zero Quota allows no bytes.
//
// # What it stands on
//
// The rest is for packages that move the bytes, as rpc does. This one knows
// nothing of networks: pumps (SendAll, ReceiveAll, PipeAll) move blocks from a
// Source over two small interfaces (Outgoing, Incoming) to a Sink.
//
// After the side effect descriptor of Coda's RPC2/SFTP.
package sideeffect

import (
	"context"

	"github.com/pannier/pannier/spec/fault"
)

// NoQuota as a Quota or limit means: any number of bytes.
const NoQuota int64 = -1

// MaxKindName is the most bytes the name of a kind may have.
const MaxKindName = 32

// Direction says which way the bytes go, seen from the call.
type Direction uint8

const (
	ClientToServer Direction = 1
	ServerToClient Direction = 2
)

// OverQuota says what happens when there are more bytes than the quota.
type OverQuota uint8

const (
	Fail OverQuota = iota // the effect fails; the sink keeps nothing
	Cut                   // exactly quota bytes move; success with Result.QuotaExceeded
)

// Mode says how a sink changes what its Local names.
type Mode uint8

const (
	Replace   Mode = iota // a temporary in the same directory, then an atomic rename over the name
	CreateNew             // like Replace, but fails with fault.Exists when the name is taken
	Truncate              // empties the existing file in place, or creates it; not atomic
	Append                // adds at the end of the existing or new file; undone on failure
	AtOffset              // writes at Offset in the existing or new file, without truncating; not atomic
)

// Road is the way the bytes take. RoadAuto lets the rpc package choose.
type Road uint8

const (
	RoadAuto    Road = iota
	RoadInline       // inside the request or reply message
	RoadSession      // a block stream of the session the call came over
	RoadStream       // a gRPC stream on the same channel, for HTTP/2 proxies
)

// Compression says whether blocks may be compressed on the wire. Quotas,
// offsets and digests always count decompressed bytes.
type Compression uint8

const (
	CompressOff  Compression = iota
	CompressAuto             // by sampling; skipped where it does not pay
	CompressZstd
	CompressS2
)

// Status is the state of one half of an effect.
type Status uint8

const (
	NotStarted Status = iota
	InProgress
	Success // of the sink's half: stored, verified and, with AckDurable, on disk
	Failure
)

// Await says which half a handler waits for.
type Await uint8

const (
	AwaitLocal  Await = iota // this half is over
	AwaitRemote              // the peer's half is over too and its verdict is in
)

// A Descriptor describes one transfer to one end. Each end has its own, and
// it never travels. The fields above Result are inputs and must not be changed
// while the effect runs; Result holds the outputs and may be read only when
// the effect is over. A Descriptor describes one run at a time.
type Descriptor struct {
	Direction Direction
	Local     Identity // what is read (at the source) or written (at the sink)

	// Offset is the position in Local, in bytes, where reading or writing
	// begins. The two ends' offsets are independent. A sink with Offset > 0
	// needs Mode AtOffset. Offset 0 never implies truncation.
	Offset int64
	// Quota is the most bytes to move, counted after decompression; NoQuota =
	// no limit. The zero value allows zero bytes.
	Quota     int64
	OverQuota OverQuota
	Mode      Mode      // sinks only
	Kind      string    // "" = "file"; see Kinds
	Hash      Algorithm // compared over the whole content; one end naming it is enough, two that differ fail
	Compress  Compression
	Road      Road // the wish; which one was taken is in Result.Road
	Resume    bool // keep what was stored durably, and continue from there next time; sinks need Replace or CreateNew
	// ResumeKey is whose the kept bytes are: only runs of the same key and Local go on
	// with them, and beside those of another. "": whoever resumes a transfer to this
	// Local. Set it where those who send do not all trust one another. It stays here.
	ResumeKey string
	Optional  bool // the call may succeed though the effect did not run
	Params    Params

	// Progress, if not nil, is called by the pump's goroutine at most every
	// ProgressEvery, and once at the end. It must not block.
	Progress func(Progress)

	// Ledger, if not nil, is told each durable step before the peer is.
	Ledger Ledger
	// Pace, if not nil, is called before each block of n bytes is sent (source) or
	// the next one is taken (sink), and may wait: that is how a rate is limited.
	Pace func(ctx context.Context, n int) error

	Result
}

// Validate reports the first input that cannot work as a *fault.Error of kind
// fault.Invalid whose text says what to change. What depends on which half
// this end is (Mode, Offset of a sink) is checked by OpenSource and OpenSink.
func (d *Descriptor) Validate() error {
	switch {
	case d.Direction != ClientToServer && d.Direction != ServerToClient:
		return invalid("direction is %d: set Direction to ClientToServer or ServerToClient", d.Direction)
	case d.Local == nil:
		return invalid("no local identity: set Local, for example to File(root, name)")
	case d.Offset < 0:
		return invalid("offset is %d: set Offset to 0 or more", d.Offset)
	case d.Quota < NoQuota:
		return invalid("quota is %d: set Quota to a number of bytes, or to NoQuota", d.Quota)
	case d.OverQuota > Cut:
		return invalid("over-quota policy is %d: set OverQuota to Fail or Cut", d.OverQuota)
	case d.Mode > AtOffset:
		return invalid("mode is %d: set Mode to Replace, CreateNew, Truncate, Append or AtOffset", d.Mode)
	case len(d.Kind) > MaxKindName:
		return invalid("kind has %d bytes: use a name of at most %d bytes", len(d.Kind), MaxKindName)
	case d.Hash > BLAKE3:
		return invalid("hash is %d: set Hash to None, SHA256, SHA512 or BLAKE3", d.Hash)
	case d.Compress > CompressS2:
		return invalid("compression is %d: set Compress to CompressOff, CompressAuto, CompressZstd or CompressS2", d.Compress)
	case d.Road > RoadStream:
		return invalid("road is %d: set Road to RoadAuto, RoadInline, RoadSession or RoadStream", d.Road)
	case d.Resume && d.Mode != Replace && d.Mode != CreateNew:
		return invalid("resume with mode %v: set Mode to Replace or CreateNew, or Resume to false", d.Mode)
	}
	return d.Params.Validate()
}

func invalid(format string, args ...any) error {
	return fault.NewLocal("check descriptor", fault.Invalid, format, args...)
}

func (d Direction) String() string {
	return name(uint8(d), "no direction", "client to server", "server to client")
}
func (o OverQuota) String() string { return name(uint8(o), "fail", "cut") }
func (m Mode) String() string {
	return name(uint8(m), "replace", "create", "truncate", "append", "at offset")
}
func (r Road) String() string        { return name(uint8(r), "auto", "inline", "session", "stream") }
func (c Compression) String() string { return name(uint8(c), "off", "auto", "zstd", "s2") }
func (a Await) String() string       { return name(uint8(a), "local", "remote") }
func (s Status) String() string {
	return name(uint8(s), "not started", "in progress", "success", "failure")
}

// name is the i-th of names, or "unknown".
func name(i uint8, names ...string) string {
	if int(i) < len(names) {
		return names[i]
	}
	return "unknown"
}
