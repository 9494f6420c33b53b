package wire

import "github.com/pannier/pannier/spec/fault"

// Limits of the fields of control structs, in bytes or elements.
const (
	MaxName     = 256      // Name
	MaxFeatures = 32       // Features
	MaxFeature  = 64       // one of them
	MaxKind     = 64       // Open.Kind
	MaxMeta     = 32 << 10 // Meta, Trailer, Body
	MaxText     = fault.MaxText
	MaxResume   = 1 << 11 // Resume.Streams
)

// Purpose is what a connection of a session is for.
type Purpose uint8

const (
	Control Purpose = 1 // control frames; makes the session
	Bulk    Purpose = 2 // BLOCK frames and their PIPEACK
	RPC     Purpose = 3 // handed to gRPC whole after the handshake
)

func (p Purpose) String() string {
	if p > RPC {
		p = 0
	}
	return [...]string{"unknown", "control", "bulk", "rpc"}[p]
}

// Hello opens a connection. On the first one of a session Session and Token are
// those the connector makes up; further connections repeat them. The fields
// travel as a msgpack array in this order, as those of all structs here.
type Hello struct {
	MinVersion uint16   // 1 <= MinVersion <= MaxVersion
	MaxVersion uint16   //
	Purpose    Purpose  // of this connection
	Session    [16]byte // random
	Token      [16]byte // random and secret: proves that a later connection is of the same peer
	Epoch      uint32   // counts the session's reconnections
	Node       [16]byte // random per process
	Name       string   // as the node calls itself, not proven; at most MaxName
	Features   []string // at most MaxFeatures of MaxFeature bytes each
	MaxFrame   uint32   // largest BLOCK payload it takes, bytes
	Window     uint64   // initial credit of streams opened towards it, bytes
	MaxStreams uint32   // how many the peer may have open
	Single     bool     // the carrier has this one connection and no more
}

// HelloAck answers Hello with the same fields of the other side, or refuses it:
// then Kind is not 0 and only Kind and Text count.
type HelloAck struct {
	Version    uint16 // MinVersion <= Version <= MaxVersion of the Hello
	Session    [16]byte
	Token      [16]byte
	Node       [16]byte
	Epoch      uint32
	Name       string
	Features   []string
	MaxFrame   uint32
	Window     uint64
	MaxStreams uint32
	Kind       uint16 // a fault.Kind: refused; 0: welcome
	Text       string // for logs; at most MaxText
}

// Open asks for a stream.
type Open struct {
	Kind      string // what the stream is for, 1..MaxKind bytes
	Blocks    bool   // true: a block stream; false: a byte stream
	Send      bool   // block stream: the opener sends
	BlockSize uint32 // bytes, at most MaxFrame; 0: the other side decides
	Start     uint64 // offset of the first byte, at most MaxOffset
	Window    uint64 // credit the opener grants, bytes
	Class     uint8  // a Class
	Resume    bool   // byte stream: it outlives its connections
	Meta      []byte // the application's; at most MaxMeta
}

// Accept answers Open.
type Accept struct {
	BlockSize uint32   // bytes, at most MaxFrame
	Start     uint64   // at most MaxOffset
	Window    uint64   // credit the acceptor grants, bytes
	Root      [16]byte // digest of the prefix below Start
	Meta      []byte   // at most MaxMeta
}

// End says that all blocks were sent.
type End struct {
	Total   uint64   // length of the stream, at most MaxOffset
	Root    [16]byte // digest over all of it
	Trailer []byte   // the application's; at most MaxMeta
}

// Verdict answers End once the receiver has done what it promised.
type Verdict struct {
	Body []byte // the application's; at most MaxMeta
}

// Reset ends one stream at once, in both directions.
type Reset struct {
	Kind uint16 // a fault.Kind
	Text string // at most MaxText
}

// GoAway announces that streams above Last are not served any more.
type GoAway struct {
	Last uint32 // highest stream that will be
	Kind uint16 // a fault.Kind; 0: an orderly end
	Text string // at most MaxText
}

// Close is the last frame of a session.
type Close struct {
	Kind uint16 // a fault.Kind; 0: an orderly end
	Text string // at most MaxText
}

// Resume is the first frame of a new epoch: what of each stream that goes on arrived.
// MaxControl is reached before MaxResume when every number takes its most bytes:
// 1985 streams always fit, and AppendControl refuses more if they do not.
type Resume struct {
	Epoch   uint32
	Streams []ResumeStream // at most MaxResume
}

// ResumeStream is what one end has of one stream.
type ResumeStream struct {
	ID       uint32 // not 0
	Received uint64 // at most MaxOffset; of a byte stream its end counts as one more
	Durable  uint64 // block stream: at most MaxOffset
	Window   uint64 // granted up to here, at most MaxOffset
}

func (Hello) frame() Type    { return TypeHello }
func (HelloAck) frame() Type { return TypeHelloAck }
func (Open) frame() Type     { return TypeOpen }
func (Accept) frame() Type   { return TypeAccept }
func (End) frame() Type      { return TypeEnd }
func (Verdict) frame() Type  { return TypeVerdict }
func (Reset) frame() Type    { return TypeReset }
func (GoAway) frame() Type   { return TypeGoAway }
func (Close) frame() Type    { return TypeClose }
func (Resume) frame() Type   { return TypeResume }
