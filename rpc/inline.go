package rpc

import (
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

// The inline road: small contents ride inside the user's message as an unknown
// field, which protobuf implementations of any language carry along unseen.
const (
	// InlineRequestField and InlineReplyField are the field numbers. They are
	// in the range that protobuf leaves to applications; a message that has
	// such a field of its own takes another road.
	InlineRequestField = 536870001
	InlineReplyField   = 536870002

	// MaxInline is the most content bytes that one message carries, over all
	// its effects.
	MaxInline = 16 << 10

	maxInlineField = MaxInline + 4<<10 // with sizes, versions, digests
)

// cargo is the content of one effect in a message.
type cargo struct {
	index  int
	data   []byte // all of it, as one block at offset 0
	source sourceHalf
	end    sideeffect.End
	root   [sideeffect.RootSize]byte
}

// Field numbers of rpcpb.Inline and rpcpb.InlineEffect.
const (
	inlineEffects protowire.Number = 1
	effectData    protowire.Number = 2
)

// heads encodes the unknown field around the contents: what stands before each
// of them. The field is heads[0] contents[0] heads[1] contents[1] and so on.
func heads(field protowire.Number, loads []cargo) ([][]byte, error) {
	total, size, room := 0, 0, 0
	rests := make([]byte, 0, 128) // of all effects: what is not content
	ends := make([]int, len(loads))
	for i := range loads {
		before := len(rests)
		rests = loads[i].append(rests)
		ends[i] = len(rests)
		total += len(loads[i].data)
		size += protowire.SizeTag(inlineEffects) + protowire.SizeBytes(effectSize(len(rests)-before, loads[i].data))
		room = size - total
	}
	if total > MaxInline || size > maxInlineField {
		return nil, fault.New("encode inline", fault.TooLong, "%d bytes, a message carries %d", total, MaxInline)
	}
	b := protowire.AppendTag(make([]byte, 0, room+16), field, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(size))
	all, from, rest := make([][]byte, len(loads)), 0, 0
	for i, c := range loads {
		b = protowire.AppendTag(b, inlineEffects, protowire.BytesType)
		b = protowire.AppendVarint(b, uint64(effectSize(ends[i]-rest, c.data)))
		b = append(b, rests[rest:ends[i]]...)
		b = protowire.AppendTag(b, effectData, protowire.BytesType)
		b = protowire.AppendVarint(b, uint64(len(c.data)))
		all[i] = b[from:len(b):len(b)]
		from, rest = len(b), ends[i]
	}
	return all, nil
}

func effectSize(rest int, data []byte) int {
	return rest + protowire.SizeTag(effectData) + protowire.SizeBytes(len(data))
}

// append appends all fields but the content.
func (c *cargo) append(b []byte) []byte {
	b = appendUint(b, 1, uint64(c.index))
	b, mark := openMessage(b, 3)
	b = appendUint(b, 1, uint64(plusOne(c.source.size)))
	if !c.source.version.IsZero() {
		b = appendBytes(b, 2, c.source.version.Encode())
	}
	b = appendUint(b, 3, uint64(c.source.hash))
	b = closeMessage(b, mark)
	b, mark = openMessage(b, 4)
	b = appendUint(b, 1, uint64(c.end.Total))
	b = appendSum(b, 2, c.end.Hash)
	b = appendBool(b, 3, c.end.Cut || c.end.QuotaExceeded)
	b = closeMessage(b, mark)
	return appendBytes(b, 5, c.root[:])
}

// parseCargo reads the payload of the field. The data points into b.
func parseCargo(b []byte) ([]cargo, error) {
	const op = "parse inline"
	if len(b) > maxInlineField {
		return nil, fault.New(op, fault.TooLong, "%d bytes, the limit is %d", len(b), maxInlineField)
	}
	var loads []cargo
	var seen [MaxEffects]bool
	total := 0
	f := fields{rest: b}
	for f.next() {
		if f.num != inlineEffects {
			return nil, fault.New(op, fault.Protocol, "not a list of effects")
		}
		c := f.cargo()
		if f.err != nil {
			break
		}
		if seen[c.index] {
			return nil, fault.New(op, fault.Protocol, "effect %d is repeated", c.index)
		}
		seen[c.index] = true
		if total += len(c.data); total > MaxInline {
			return nil, fault.New(op, fault.TooLong, "%d bytes, a message carries %d", total, MaxInline)
		}
		loads = append(loads, c)
	}
	return loads, fault.Wrap(op, "", f.err)
}

// cargo reads the message in the present field.
func (f *fields) cargo() (c cargo) {
	in := fields{rest: f.bytes()}
	var seen [6]bool
	for in.next() {
		if in.num < 6 {
			if seen[in.num] {
				in.fail("field %d is repeated", in.num)
			}
			seen[in.num] = true
		}
		switch in.num {
		case 1:
			c.index = in.small(MaxEffects)
		case effectData:
			c.data = in.bytes()
		case 3:
			c.source = in.source()
		case 4:
			c.end = in.end()
		case 5:
			in.exactly(c.root[:])
		}
	}
	if !seen[3] || !seen[4] || !seen[5] {
		in.fail("effect %d is incomplete", c.index)
	}
	f.adopt(in)
	return c
}

// source reads the message in the present field, as far as inline content needs it.
func (f *fields) source() sourceHalf {
	s, in := sourceHalf{size: -1}, fields{rest: f.bytes()}
	for in.next() {
		switch in.num {
		case 1:
			s.size = in.size() - 1
		case 2:
			v, err := sideeffect.ParseVersion(in.bytes())
			if err != nil {
				in.fail("%v", err)
			}
			s.version = v
		case 3:
			s.hash = sideeffect.Algorithm(in.small(uint64(sideeffect.BLAKE3) + 1))
		}
	}
	f.adopt(in)
	return s
}

// end reads the message in the present field.
func (f *fields) end() (e sideeffect.End) {
	in := fields{rest: f.bytes()}
	for in.next() {
		switch in.num {
		case 1:
			e.Total = in.size()
		case 2:
			e.Hash = in.sum()
		case 3:
			e.Cut = in.bool()
			e.QuotaExceeded = e.Cut
		}
	}
	f.adopt(in)
	return e
}

// rootOf is the root of content that is one block.
func rootOf(data []byte) (root [sideeffect.RootSize]byte) {
	if len(data) == 0 {
		return root
	}
	return sideeffect.FoldRoot(root, 0, data)
}

// messageOf is m as a protobuf message, nil if it is none.
func messageOf(m any) protoreflect.Message {
	switch m := m.(type) {
	case protoadapt.MessageV2:
		return m.ProtoReflect()
	case protoadapt.MessageV1:
		return protoadapt.MessageV2Of(m).ProtoReflect()
	}
	return nil
}

// hasRoom reports whether m can carry the field: it is a protobuf message that
// does not use the number itself.
func hasRoom(m protoreflect.Message, field protowire.Number) bool {
	if m == nil || !m.IsValid() || reserved(m, field) {
		return false
	}
	_, _, found, err := cut(m.GetUnknown(), field)
	return err == nil && !found
}

// cut splits encoded fields into the payload of one and all the others. Both
// point into the message, if what is cut is its last or first field.
func cut(message []byte, field protowire.Number) (rest, payload []byte, found bool, err error) {
	const op = "read inline"
	from, to := 0, 0 // of the field
	for at := 0; at < len(message); {
		num, kind, n := protowire.ConsumeField(message[at:])
		if n < 0 {
			return nil, nil, false, fault.New(op, fault.Protocol, "unknown fields: %v", protowire.ParseError(n))
		}
		if num == field {
			if kind != protowire.BytesType || found {
				return nil, nil, false, fault.New(op, fault.Protocol, "field %d is repeated or not bytes", field)
			}
			found, from, to = true, at, at+n
		}
		at += n
	}
	if !found {
		return message, nil, false, nil
	}
	_, _, tag := protowire.ConsumeTag(message[from:to])
	payload, _ = protowire.ConsumeBytes(message[from+tag : to])
	switch {
	case to == len(message):
		rest = message[:from:from] // what is appended must not reach the payload
	case from == 0:
		rest = message[to:]
	default:
		rest = slices.Concat(message[:from], message[to:])
	}
	return rest, payload, true, nil
}
