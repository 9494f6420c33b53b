package rpc

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"google.golang.org/grpc/encoding"
	encproto "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"

	"github.com/pannier/pannier/spec/fault"
)

// inlineCodec is the codec of one unary call: the ordinary one, plus the
// unknown field behind the request and out of the reply. Interceptors and
// stats handlers of the client see the user's messages only.
type inlineCodec struct {
	encoding.CodecV2                 // protobuf
	field            mem.BufferSlice // of the request; nil: none
	expects          bool            // contents in the reply
	reply            []cargo
	held             mem.Buffer // what reply points into; may be nil
}

func newInlineCodec(field mem.BufferSlice, expects bool) *inlineCodec {
	return &inlineCodec{CodecV2: encoding.GetCodecV2(encproto.Name), field: field, expects: expects}
}

// free gives up this call's hold on the messages' memory. gRPC has its own on
// the field for as long as it sends, which may be longer than the call.
func (c *inlineCodec) free() {
	if c == nil {
		return
	}
	c.field.Free()
	if c.held != nil {
		c.held.Free()
	}
}

// Marshal appends the field in buffers of its own. It runs once per SendMsg;
// gRPC repeats the encoded bytes when it retries.
func (c *inlineCodec) Marshal(v any) (mem.BufferSlice, error) {
	out, err := c.CodecV2.Marshal(v)
	if err != nil || c.field == nil {
		return out, err
	}
	c.field.Ref()
	return append(out, c.field...), nil
}

// Unmarshal takes the field out of the reply, before it is copied once more,
// and decodes the rest. A field that cannot be read stays: it is not ours, or
// damaged, and fails its effects, not the call.
func (c *inlineCodec) Unmarshal(data mem.BufferSlice, v any) error {
	if !c.expects || c.held != nil {
		return c.CodecV2.Unmarshal(data, v)
	}
	whole := data.MaterializeToBuffer(mem.DefaultBufferPool())
	raw := whole.ReadOnlyData()
	rest, payload, found, err := cut(raw, InlineReplyField)
	if err == nil && found {
		c.reply, err = parseCargo(payload)
	}
	if err != nil || !found {
		rest = raw
	}
	if err := c.CodecV2.Unmarshal(mem.BufferSlice{mem.SliceBuffer(rest)}, v); err != nil || len(c.reply) == 0 {
		c.reply = nil
		whole.Free()
		return err
	}
	c.held = whole
	return nil
}

// replied is the content of an effect that came in the reply.
func (c *inlineCodec) replied(index int) (cargo, bool) {
	if c == nil {
		return cargo{}, false
	}
	i := slices.IndexFunc(c.reply, func(l cargo) bool { return l.index == index })
	if i < 0 {
		return cargo{}, false
	}
	return c.reply[i], true
}

// strayOption is the codec that a call option of With brings along. A
// ClientConn of this package takes the option out; any other connection fails
// with it instead of making the call without its side effect.
type strayOption struct{ encoding.CodecV2 }

var errStray = errors.New("rpc.With works only on connections made by rpc.Dial: this call would have run without its side effect")

func (strayOption) Marshal(any) (mem.BufferSlice, error) { return nil, errStray }
func (strayOption) Unmarshal(mem.BufferSlice, any) error { return errStray }
func (strayOption) Name() string                         { return encproto.Name }

// rawName is the content-subtype of Effects/Carry.
const rawName = "pannier-raw"

// Sizes of memory for messages. Those of a carried session never exceed the larger; writes
// up to the smaller do not occupy a large buffer. Thousands of calls may wait with a content
// of a few KiB each: up to carryLeast memory is as large as the content, and not kept.
const (
	carryLeast = 8 << 10
	carrySmall = 32 << 10
	carryLarge = 264 << 10 // a block of the default size with its headers, in one message
)

// rawCodec moves bytes without protobuf: a copied []byte out, because gRPC
// sends after SendMsg has returned; a *mem.BufferSlice in.
type rawCodec struct{ pool *carryPool }

// The codec has to be known to gRPC under its name before any server runs:
// there is no way to give one to a single method, and registering later is a
// data race. This is the only init of the package.
func init() { encoding.RegisterCodecV2(rawCodec{pool: newCarryPool()}) }

func (rawCodec) Name() string { return rawName }

func (c rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	p, ok := v.([]byte)
	if !ok {
		return nil, fmt.Errorf("pannier-raw: cannot encode a %T", v)
	}
	return mem.BufferSlice{mem.Copy(p, c.pool)}, nil
}

func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	p, ok := v.(*mem.BufferSlice)
	if !ok {
		return fmt.Errorf("pannier-raw: cannot decode into a %T", v)
	}
	if n := data.Len(); n > carryLarge {
		return fault.New("carry", fault.TooLong, "a message of %d bytes, the limit is %d", n, carryLarge)
	}
	data.Ref()
	*p = data
	return nil
}

// carryPool keeps buffers of two sizes and, unlike gRPC's, does not clear
// them: their content is overwritten before they are used.
type carryPool struct{ small, large sync.Pool }

func newCarryPool() *carryPool {
	return &carryPool{
		small: sync.Pool{New: func() any { b := make([]byte, carrySmall); return &b }},
		large: sync.Pool{New: func() any { b := make([]byte, carryLarge); return &b }},
	}
}

// Get implements mem.BufferPool for n <= carryLarge.
func (p *carryPool) Get(n int) *[]byte {
	if n <= carryLeast {
		b := make([]byte, n)
		return &b
	}
	pool := &p.small
	if n > carrySmall {
		pool = &p.large
	}
	b := pool.Get().(*[]byte)
	*b = (*b)[:n]
	return b
}

// put gives back memory that Get has handed out, unless there is none.
func (p *carryPool) put(b []byte) {
	if cap(b) >= carrySmall {
		p.Put(&b)
	}
}

// Put implements mem.BufferPool.
func (p *carryPool) Put(b *[]byte) {
	*b = (*b)[:cap(*b)]
	switch cap(*b) {
	case carrySmall:
		p.small.Put(b)
	case carryLarge:
		p.large.Put(b)
	}
}
