package rpc

import (
	"sync"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/runtime/protoiface"
)

// The server's codec cannot be chosen for one call, so what a request's and a
// reply's field need of it is done by the message itself: an envelope is the
// user's message in everything but its encoding. Interceptors and handlers
// never see one; stats handlers of the server do, for calls with inline contents.

// opened is a request that is decoded into the user's message, but for the
// inline field. That goes into pooled memory: as an unknown field it would be
// garbage of the content's size in every call.
type opened struct {
	protoreflect.Message // the user's
	memory               *carryPool
	payload              []byte // of the field, from memory; nil: there was none
	err                  error  // of the field
}

// ProtoReflect implements proto.Message.
func (o *opened) ProtoReflect() protoreflect.Message { return o }

// Reset implements what proto.Reset asks for.
func (o *opened) Reset() { proto.Reset(o.Interface()) }

// ProtoMethods implements protoreflect.Message.
func (o *opened) ProtoMethods() *protoiface.Methods { return &openedMethods }

var openedMethods = protoiface.Methods{
	Flags: protoiface.SupportUnmarshalDiscardUnknown,
	Unmarshal: func(in protoiface.UnmarshalInput) (protoiface.UnmarshalOutput, error) {
		return in.Message.(*opened).unmarshal(in)
	},
}

// unmarshal decodes in.Buf, which is only lent.
func (o *opened) unmarshal(in protoiface.UnmarshalInput) (out protoiface.UnmarshalOutput, err error) {
	rest, payload, found, err := cut(in.Buf, InlineRequestField)
	switch {
	case err != nil:
		o.err, rest = err, in.Buf
	case found && len(payload) > maxInlineField:
		_, o.err = parseCargo(payload)
	case found:
		o.payload = append((*o.memory.Get(len(payload)))[:0], payload...)
	}
	out.Flags = protoiface.UnmarshalInitialized // it is checked here
	return out, proto.UnmarshalOptions{
		Merge: true, DiscardUnknown: in.Flags&protoiface.UnmarshalDiscardUnknown != 0, Resolver: in.Resolver, RecursionLimit: in.Depth,
	}.Unmarshal(rest, o.Interface())
}

// sealed is a reply that is encoded with the inline field behind the user's
// message, which stays as it is: it belongs to the handler and was seen by interceptors.
// It is encoded with its contents once; after that their memory is another call's.
type sealed struct {
	protoreflect.Message // the user's
	memory               *carryPool

	mu     sync.Mutex
	before [][]byte // what stands before each of loads
	loads  []cargo  // nil: they have gone
}

// seal puts contents around a message. Their memory goes back to the pool when
// the reply has been encoded.
func seal(m protoreflect.Message, loads []cargo, memory *carryPool) (*sealed, error) {
	before, err := heads(InlineReplyField, loads)
	if err != nil {
		return nil, err
	}
	return &sealed{Message: m, memory: memory, before: before, loads: loads}, nil
}

// ProtoReflect implements proto.Message.
func (s *sealed) ProtoReflect() protoreflect.Message { return s }

// ProtoMethods implements protoreflect.Message.
func (s *sealed) ProtoMethods() *protoiface.Methods { return &sealedMethods }

var sealedMethods = protoiface.Methods{
	Flags: protoiface.SupportMarshalDeterministic,
	Size: func(in protoiface.SizeInput) protoiface.SizeOutput {
		return protoiface.SizeOutput{Size: in.Message.(*sealed).size()}
	},
	Marshal: func(in protoiface.MarshalInput) (protoiface.MarshalOutput, error) {
		return in.Message.(*sealed).marshal(in)
	},
	CheckInitialized: func(in protoiface.CheckInitializedInput) (out protoiface.CheckInitializedOutput, err error) {
		return out, proto.CheckInitialized(in.Message.Interface())
	},
}

func (s *sealed) size() int {
	n := proto.Size(s.Interface())
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.loads {
		n += len(s.before[i]) + len(s.loads[i].data)
	}
	return n
}

func (s *sealed) marshal(in protoiface.MarshalInput) (out protoiface.MarshalOutput, err error) {
	out.Buf, err = proto.MarshalOptions{
		AllowPartial: true, Deterministic: in.Flags&protoiface.MarshalDeterministic != 0, UseCachedSize: in.Flags&protoiface.MarshalUseCachedSize != 0,
	}.MarshalAppend(in.Buf, s.Interface())
	if err != nil {
		return out, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, l := range s.loads {
		out.Buf = append(append(out.Buf, s.before[i]...), l.data...)
		s.memory.put(l.data)
	}
	s.loads = nil
	return out, nil
}

// reserved reports whether a message uses the field's number itself.
func reserved(m protoreflect.Message, field protowire.Number) bool {
	d := m.Descriptor()
	return d.Fields().ByNumber(field) != nil || d.ExtensionRanges().Has(field)
}
