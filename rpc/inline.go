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

// encodeCargo is the unknown field with tag and length, in memory of its own:
// gRPC may still be sending it after a cancelled call has returned and the
// caller has reused its buffers.
func encodeCargo(field protowire.Number, loads []cargo) ([]byte, error) {
	m := new(rpcpb.Inline)
	total := 0
	for _, c := range loads {
		total += len(c.data)
		m.Effects = append(m.Effects, &rpcpb.InlineEffect{
			Index: uint32(c.index), Data: c.data, Source: c.source.proto(), End: endProto(c.end), Root: c.root[:],
		})
	}
	if total > MaxInline {
		return nil, fault.New("encode inline", fault.TooLong, "%d bytes, a message carries %d", total, MaxInline)
	}
	b := protowire.AppendTag(nil, field, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(proto.Size(m)))
	b, err := proto.MarshalOptions{}.MarshalAppend(b, m)
	return b, fault.Wrap("encode inline", "", err)
}

// parseCargo reads the payload of the field. The data is a copy.
func parseCargo(b []byte) ([]cargo, error) {
	const op = "parse inline"
	if len(b) > maxInlineField {
		return nil, fault.New(op, fault.TooLong, "%d bytes, the limit is %d", len(b), maxInlineField)
	}
	m := new(rpcpb.Inline)
	if err := proto.Unmarshal(b, m); err != nil {
		return nil, fault.New(op, fault.Protocol, "%v", err)
	}
	if len(m.Effects) > MaxEffects {
		return nil, fault.New(op, fault.Protocol, "%d effects; a call has at most %d", len(m.Effects), MaxEffects)
	}
	var seen [MaxEffects]bool
	total := 0
	loads := make([]cargo, 0, len(m.Effects))
	for _, e := range m.Effects {
		if e.Index >= MaxEffects || seen[e.Index] || e.Source == nil || e.End == nil || len(e.Root) != sideeffect.RootSize {
			return nil, fault.New(op, fault.Protocol, "effect %d is repeated or incomplete", e.Index)
		}
		seen[e.Index] = true
		total += len(e.Data)
		source, err := sourceFrom(e.Source)
		if err != nil {
			return nil, err
		}
		end, err := endFrom(e.End)
		if err != nil {
			return nil, err
		}
		loads = append(loads, cargo{
			index: int(e.Index), data: e.Data, source: *source, end: end, root: [sideeffect.RootSize]byte(e.Root),
		})
	}
	if total > MaxInline {
		return nil, fault.New(op, fault.TooLong, "%d bytes, a message carries %d", total, MaxInline)
	}
	return loads, nil
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

// withField is a shallow copy of m that carries one more unknown field. m, which
// belongs to the handler and was seen by interceptors, stays as it is.
func withField(m protoreflect.Message, field []byte) proto.Message {
	c := m.New()
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		c.Set(fd, v)
		return true
	})
	c.SetUnknown(append(append(protoreflect.RawFields(nil), m.GetUnknown()...), field...))
	return c.Interface()
}
