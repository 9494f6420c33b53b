package rpc

import (
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/rpcpb"
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

// Field numbers of rpcpb.Inline and rpcpb.InlineEffect. The content is written
// and read by hand, so that it is copied once and not once more by protobuf.
const (
	inlineEffects protowire.Number = 1
	effectData    protowire.Number = 2
)

// cargoRoom is more than any field needs beyond its content.
const cargoRoom = MaxInline + 4<<10

// appendCargo appends the unknown field with tag and length to dst, which needs
// no more than cargoRoom bytes.
func appendCargo(dst []byte, field protowire.Number, loads []cargo) ([]byte, error) {
	total, size := 0, 0
	rests := make([][]byte, len(loads)) // what of each effect is not content
	for i, c := range loads {
		total += len(c.data)
		var err error
		if rests[i], err = proto.Marshal(&rpcpb.InlineEffect{
			Index: uint32(c.index), Source: c.source.proto(), End: endProto(c.end), Root: c.root[:],
		}); err != nil {
			return dst, fault.Wrap("encode inline", "", err)
		}
		size += protowire.SizeTag(inlineEffects) + protowire.SizeBytes(effectSize(rests[i], c.data))
	}
	if total > MaxInline || size > maxInlineField {
		return dst, fault.New("encode inline", fault.TooLong, "%d bytes, a message carries %d", total, MaxInline)
	}
	dst = protowire.AppendTag(dst, field, protowire.BytesType)
	dst = protowire.AppendVarint(dst, uint64(size))
	for i, c := range loads {
		dst = protowire.AppendTag(dst, inlineEffects, protowire.BytesType)
		dst = protowire.AppendVarint(dst, uint64(effectSize(rests[i], c.data)))
		dst = append(dst, rests[i]...)
		dst = protowire.AppendTag(dst, effectData, protowire.BytesType)
		dst = protowire.AppendBytes(dst, c.data)
	}
	return dst, nil
}

func effectSize(rest, data []byte) int {
	return len(rest) + protowire.SizeTag(effectData) + protowire.SizeBytes(len(data))
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
	for len(b) > 0 {
		num, t, n := protowire.ConsumeTag(b)
		if n < 0 || num != inlineEffects || t != protowire.BytesType {
			return nil, fault.New(op, fault.Protocol, "not a list of effects")
		}
		body, m := protowire.ConsumeBytes(b[n:])
		if m < 0 {
			return nil, fault.New(op, fault.Protocol, "effect: %v", protowire.ParseError(m))
		}
		b = b[n+m:]
		c, err := parseEffect(body)
		if err != nil {
			return nil, err
		}
		if c.index >= MaxEffects || seen[c.index] {
			return nil, fault.New(op, fault.Protocol, "effect %d is repeated or over the limit of %d", c.index, MaxEffects)
		}
		seen[c.index] = true
		if total += len(c.data); total > MaxInline {
			return nil, fault.New(op, fault.TooLong, "%d bytes, a message carries %d", total, MaxInline)
		}
		loads = append(loads, c)
	}
	return loads, nil
}

// parseEffect reads one effect. The data points into b.
func parseEffect(b []byte) (c cargo, err error) {
	const op = "parse inline"
	rest := make([]byte, 0, 128)
	for len(b) > 0 {
		num, t, tag := protowire.ConsumeTag(b)
		n := protowire.ConsumeFieldValue(num, t, b[max(tag, 0):])
		switch {
		case tag < 0 || n < 0:
			return c, fault.New(op, fault.Protocol, "effect: %v", protowire.ParseError(min(tag, n)))
		case num != effectData:
			rest = append(rest, b[:tag+n]...)
		case t != protowire.BytesType || c.data != nil:
			return c, fault.New(op, fault.Protocol, "content is repeated or not bytes")
		default:
			c.data, _ = protowire.ConsumeBytes(b[tag:])
		}
		b = b[tag+n:]
	}
	var m rpcpb.InlineEffect
	if err := proto.Unmarshal(rest, &m); err != nil {
		return c, fault.New(op, fault.Protocol, "%v", err)
	}
	if m.Source == nil || m.End == nil || len(m.Root) != sideeffect.RootSize {
		return c, fault.New(op, fault.Protocol, "effect %d is incomplete", m.Index)
	}
	source, err := sourceFrom(m.Source)
	if err != nil {
		return c, err
	}
	c.index, c.source, c.root = int(min(m.Index, MaxEffects)), *source, [sideeffect.RootSize]byte(m.Root)
	c.end, err = endFrom(m.End)
	return c, err
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
	if m == nil || !m.IsValid() || m.Descriptor().Fields().ByNumber(field) != nil || m.Descriptor().ExtensionRanges().Has(field) {
		return false
	}
	_, _, found, err := cut(m.GetUnknown(), field)
	return err == nil && !found
}

// takeField removes the field from m's unknown fields and returns its payload.
func takeField(m protoreflect.Message, field protowire.Number) (payload []byte, found bool, err error) {
	if m == nil || len(m.GetUnknown()) == 0 {
		return nil, false, nil
	}
	rest, payload, found, err := cut(m.GetUnknown(), field)
	if err != nil || !found {
		return nil, false, err
	}
	m.SetUnknown(rest)
	return payload, true, nil
}

// cut splits encoded fields into the payload of one and all the others.
func cut(unknown protoreflect.RawFields, field protowire.Number) (rest protoreflect.RawFields, payload []byte, found bool, err error) {
	const op = "read inline"
	for b := unknown; len(b) > 0; {
		num, _, n := protowire.ConsumeField(b)
		if n < 0 {
			return nil, nil, false, fault.New(op, fault.Protocol, "unknown fields: %v", protowire.ParseError(n))
		}
		if num != field {
			rest, b = append(rest, b[:n]...), b[n:]
			continue
		}
		_, t, tagLen := protowire.ConsumeTag(b)
		if t != protowire.BytesType || found {
			return nil, nil, false, fault.New(op, fault.Protocol, "field %d is repeated or not bytes", field)
		}
		found = true
		payload, _ = protowire.ConsumeBytes(b[tagLen:n])
		b = b[n:]
	}
	return rest, payload, found, nil
}

// withCargo is a shallow copy of m that carries one more unknown field. m, which
// belongs to the handler and was seen by interceptors, stays as it is.
func withCargo(m protoreflect.Message, loads []cargo) (proto.Message, error) {
	room := len(m.GetUnknown()) + 512
	for _, c := range loads {
		room += len(c.data) + 256
	}
	unknown, err := appendCargo(append(make([]byte, 0, room), m.GetUnknown()...), InlineReplyField, loads)
	if err != nil {
		return nil, err
	}
	c := m.New()
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		c.Set(fd, v)
		return true
	})
	c.SetUnknown(unknown)
	return c.Interface(), nil
}
