package rpc

import (
	"google.golang.org/protobuf/proto"

	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/rpcpb"
)

// streamKind is the kind of every stream that carries a side effect: a block
// stream for files, a byte stream for pipes.
const streamKind = "effect"

// sourceHalf is what a source says of itself.
type sourceHalf struct {
	size     int64 // -1 unknown
	version  sideeffect.Version
	hash     sideeffect.Algorithm
	compress sideeffect.Compression
	start    int64 // offset of the first block; 0 <= start
	block    int   // of an opening: what it would have the blocks of; 0: as the stream says
}

// sinkHalf is what a sink says of itself.
type sinkHalf struct {
	limit    int64 // NoQuota: none
	policy   sideeffect.OverQuota
	hash     sideeffect.Algorithm
	compress sideeffect.Compression
	resume   sideeffect.ResumePoint // Offset 0: from the first byte
}

// opening is the server's first word on an effect; exactly one of source and
// sink is set, or none for a pipe.
type opening struct {
	call   callID
	index  int
	source *sourceHalf
	sink   *sinkHalf
	fresh  bool
}

func (o opening) encode() ([]byte, error) {
	return marshalMeta(&rpcpb.Open{Call: o.call[:], Index: uint32(o.index), Source: o.source.proto(), Sink: o.sink.proto(), Fresh: o.fresh})
}

func parseOpening(b []byte) (o opening, err error) {
	m := new(rpcpb.Open)
	if err := unmarshalMeta(b, m); err != nil {
		return o, err
	}
	if len(m.Call) != len(o.call) || m.Index >= MaxEffects {
		return o, badMeta("call has %d bytes, index is %d", len(m.Call), m.Index)
	}
	if m.Source != nil && m.Sink != nil {
		return o, badMeta("source and sink in one")
	}
	o.index, o.fresh = int(m.Index), m.Fresh
	copy(o.call[:], m.Call)
	if o.source, err = sourceFrom(m.Source); err != nil {
		return o, err
	}
	o.sink, err = sinkFrom(m.Sink)
	return o, err
}

// accepting is the client's answer to an opening: its half.
type accepting struct {
	source *sourceHalf
	sink   *sinkHalf
}

func (a accepting) encode() ([]byte, error) {
	return marshalMeta(&rpcpb.Accept{Source: a.source.proto(), Sink: a.sink.proto()})
}

// parseAccepting reads the answer of a peer that has to be the source or the
// sink, as wantSource says.
func parseAccepting(b []byte, wantSource bool) (a accepting, err error) {
	m := new(rpcpb.Accept)
	if err := unmarshalMeta(b, m); err != nil {
		return a, err
	}
	if (m.Source != nil) != wantSource || (m.Sink != nil) == wantSource {
		return a, badMeta("the wrong half")
	}
	if a.source, err = sourceFrom(m.Source); err != nil {
		return a, err
	}
	a.sink, err = sinkFrom(m.Sink)
	return a, err
}

func (s *sourceHalf) proto() *rpcpb.Source {
	if s == nil {
		return nil
	}
	p := &rpcpb.Source{Size: plusOne(s.size), Hash: uint32(s.hash), Compress: uint32(s.compress), Start: s.start, Block: uint32(s.block)}
	if !s.version.IsZero() {
		p.Version = s.version.Encode()
	}
	return p
}

func sourceFrom(p *rpcpb.Source) (*sourceHalf, error) {
	if p == nil {
		return nil, nil
	}
	v, err := sideeffect.ParseVersion(p.Version)
	if err != nil {
		return nil, badMeta("%v", err)
	}
	if p.Size < 0 || p.Start < 0 || p.Hash > uint32(sideeffect.BLAKE3) || p.Compress > uint32(sideeffect.CompressS2) {
		return nil, badMeta("a source of size %d, start %d, hash %d, compression %d", p.Size-1, p.Start, p.Hash, p.Compress)
	}
	if p.Block != 0 && (p.Block < sideeffect.MinBlockSize || p.Block > sideeffect.MaxBlockSize) {
		return nil, badMeta("a source with blocks of %d bytes", p.Block)
	}
	return &sourceHalf{
		size: p.Size - 1, version: v, start: p.Start, block: int(p.Block),
		hash: sideeffect.Algorithm(p.Hash), compress: sideeffect.Compression(p.Compress),
	}, nil
}

func (s *sinkHalf) proto() *rpcpb.Sink {
	if s == nil {
		return nil
	}
	p := &rpcpb.Sink{
		Limit: plusOne(s.limit), Cut: s.policy == sideeffect.Cut,
		Hash: uint32(s.hash), Compress: uint32(s.compress),
	}
	if r := s.resume; r.Offset > 0 {
		p.Resume = &rpcpb.ResumePoint{
			Version: r.Version.Encode(), BlockSize: int64(r.BlockSize),
			Offset: r.Offset, Root: r.Root[:], Hash: uint32(r.Hash),
		}
	}
	return p
}

func sinkFrom(p *rpcpb.Sink) (*sinkHalf, error) {
	if p == nil {
		return nil, nil
	}
	if p.Limit < 0 || p.Hash > uint32(sideeffect.BLAKE3) || p.Compress > uint32(sideeffect.CompressS2) {
		return nil, badMeta("a sink of limit %d, hash %d, compression %d", p.Limit-1, p.Hash, p.Compress)
	}
	s := &sinkHalf{limit: p.Limit - 1, hash: sideeffect.Algorithm(p.Hash), compress: sideeffect.Compression(p.Compress)}
	if p.Cut {
		s.policy = sideeffect.Cut
	}
	if r := p.Resume; r != nil {
		v, err := sideeffect.ParseVersion(r.Version)
		if err != nil {
			return nil, badMeta("%v", err)
		}
		if len(r.Root) != sideeffect.RootSize || r.Offset < 0 || r.Hash > uint32(sideeffect.BLAKE3) ||
			r.BlockSize < sideeffect.MinBlockSize || r.BlockSize > sideeffect.MaxBlockSize {
			return nil, badMeta("a resume point at %d with blocks of %d bytes and a root of %d bytes", r.Offset, r.BlockSize, len(r.Root))
		}
		s.resume = sideeffect.ResumePoint{
			Version: v, BlockSize: int(r.BlockSize), Offset: r.Offset,
			Root: [sideeffect.RootSize]byte(r.Root), Hash: sideeffect.Algorithm(r.Hash),
		}
	}
	return s, nil
}

func endProto(e sideeffect.End) *rpcpb.End {
	return &rpcpb.End{Total: e.Total, Hash: sumProto(e.Hash), Cut: e.Cut || e.QuotaExceeded}
}

func endFrom(p *rpcpb.End) (sideeffect.End, error) {
	hash, err := sumFrom(p.GetHash())
	if err != nil || p.GetTotal() < 0 {
		return sideeffect.End{}, badMeta("an end of total %d", p.GetTotal())
	}
	return sideeffect.End{Total: p.GetTotal(), Hash: hash, Cut: p.GetCut(), QuotaExceeded: p.GetCut()}, nil
}

func parseEnd(b []byte) (sideeffect.End, error) {
	m := new(rpcpb.End)
	if err := unmarshalMeta(b, m); err != nil {
		return sideeffect.End{}, err
	}
	return endFrom(m)
}

func verdictProto(v sideeffect.Verdict) *rpcpb.Verdict {
	p := &rpcpb.Verdict{Bytes: v.Bytes, Durable: v.Durable, QuotaExceeded: v.QuotaExceeded, Hash: sumProto(v.Hash)}
	if v.Err != nil {
		p.Fault = faultProto(v.Err, -1)
	}
	return p
}

func verdictFrom(p *rpcpb.Verdict) (sideeffect.Verdict, error) {
	hash, err := sumFrom(p.GetHash())
	if err != nil || p.GetBytes() < 0 || p.GetDurable() < 0 {
		return sideeffect.Verdict{}, badMeta("a verdict on %d bytes, %d durable", p.GetBytes(), p.GetDurable())
	}
	return sideeffect.Verdict{
		Bytes: p.GetBytes(), Durable: p.GetDurable(), QuotaExceeded: p.GetQuotaExceeded(),
		Hash: hash, Err: faultFrom("store", p.GetFault()),
	}, nil
}

func parseVerdict(b []byte) (sideeffect.Verdict, error) {
	m := new(rpcpb.Verdict)
	if err := unmarshalMeta(b, m); err != nil {
		return sideeffect.Verdict{}, err
	}
	return verdictFrom(m)
}

func sumProto(s sideeffect.Sum) *rpcpb.Sum {
	if s.IsZero() {
		return nil
	}
	return &rpcpb.Sum{Algorithm: uint32(s.Algorithm), Value: s.Bytes}
}

func sumFrom(p *rpcpb.Sum) (sideeffect.Sum, error) {
	if p == nil {
		return sideeffect.Sum{}, nil
	}
	a := sideeffect.Algorithm(p.Algorithm)
	if p.Algorithm == 0 || p.Algorithm > uint32(sideeffect.BLAKE3) || len(p.Value) != a.Size() {
		return sideeffect.Sum{}, badMeta("a digest of algorithm %d with %d bytes", p.Algorithm, len(p.Value))
	}
	return sideeffect.Sum{Algorithm: a, Bytes: p.Value}, nil
}

func marshalMeta(m proto.Message) ([]byte, error) {
	b, err := proto.Marshal(m)
	if err == nil && len(b) > maxMeta {
		err = fault.New("encode meta", fault.TooLong, "%d bytes, the limit is %d", len(b), maxMeta)
	}
	return b, fault.Wrap("encode meta", "", err)
}

func unmarshalMeta(b []byte, m proto.Message) error {
	if len(b) > maxMeta {
		return fault.New("parse meta", fault.TooLong, "%d bytes, the limit is %d", len(b), maxMeta)
	}
	if err := proto.Unmarshal(b, m); err != nil {
		return badMeta("%v", err)
	}
	return nil
}

func badMeta(format string, args ...any) error {
	return fault.New("parse meta", fault.Protocol, format, args...)
}
