package wire

import (
	"bytes"
	"errors"
	"reflect"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/pannier/pannier/spec/fault"
)

// Message is one of the control structs of this package, or a pointer to one.
// The set is closed.
type Message interface {
	// Check reports the first field that is over its limit, as Protocol.
	Check() error
	// frame is the type of the frame it travels in.
	frame() Type
}

// AppendControl appends the whole frame that carries v, which must be what
// frames of type t carry, on the given stream (0 for session frames), to be
// sealed by whoever writes it. What it writes, ParseHeader and Decode accept; if they would not, it returns dst
// unchanged and an error of kind Invalid, which names the field and is about
// this one frame: no peer is to blame. It keeps nothing of v.
func AppendControl(dst []byte, t Type, stream uint32, v Message) ([]byte, error) {
	op := "encode " + t.String()
	if v.frame() != t {
		return dst, fault.New(op, fault.Invalid, "%T travels in %v", v, v.frame())
	}
	if err := v.Check(); err != nil {
		return dst, fault.New(op, fault.Invalid, "%w", errors.Unwrap(err))
	}
	buf := bytes.NewBuffer(appendHeader(dst, Header{}))
	if err := encode(buf, v); err != nil {
		return dst, fault.New(op, fault.Internal, "%w", err)
	}
	out := buf.Bytes()
	h := Header{Type: t, Stream: stream, Length: uint32(len(out) - len(dst) - HeaderSize)}
	if err := h.check(); err != nil {
		return dst, fault.New(op, fault.Invalid, "%w", errors.Unwrap(err))
	}
	h.Put(out[len(dst):])
	return out, nil
}

// encode writes v as an array of its fields in order: numbers in their shortest
// form, nil slices as empty ones, so that a value has one encoding.
func encode(buf *bytes.Buffer, v any) error {
	from := reflect.Indirect(reflect.ValueOf(v))
	to := reflect.New(from.Type()).Elem() // addressable, and the caller's slices stay untouched
	to.Set(from)
	for i := range to.NumField() {
		if f := to.Field(i); f.Kind() == reflect.Slice && f.IsNil() {
			f.Set(reflect.MakeSlice(f.Type(), 0, 0))
		}
	}
	enc := msgpack.GetEncoder()
	defer msgpack.PutEncoder(enc)
	enc.Reset(buf)
	enc.UseArrayEncodedStructs(true)
	enc.UseCompactInts(true)
	return enc.EncodeValue(to)
}

// Decode reads the body of a control frame into v, a pointer to the struct that
// frames of its type carry. Nothing of v's former content and nothing of body is
// kept; empty slices become nil. After an error v's content means nothing. Every error is Protocol and ends the session,
// except Invalid for a v that is not a pointer.
//
// The order matters: bounds of the bytes (precheck), types of the fields (fits),
// the decoder, limits of the fields (Check). The decoder sees nothing that the
// first two did not accept, so it allocates little more than the body has bytes.
func Decode(body []byte, v Message) error {
	p := reflect.ValueOf(v)
	if p.Kind() != reflect.Pointer || p.IsNil() {
		return fault.New("decode control frame", fault.Invalid, "%T is not a pointer to a control struct", v)
	}
	t := v.frame()
	if limit := int(t.rule().max); len(body) > limit {
		return broken("decode "+t.String(), "%d bytes; at most %d", len(body), limit)
	}
	if err := decode(body, p.Elem()); err != nil {
		return broken("decode "+t.String(), "%w", err)
	}
	return v.Check()
}

func decode(body []byte, to reflect.Value) error {
	if err := precheck(body); err != nil {
		return err
	}
	c := cursor{body}
	if err := c.fits(to); err != nil {
		return err
	}
	to.SetZero()
	// Not msgpack.Unmarshal: it starts goroutines that never end as soon as a
	// field is a pointer.
	dec := msgpack.GetDecoder()
	defer msgpack.PutDecoder(dec)
	dec.Reset(bytes.NewReader(body))
	if err := dec.DecodeValue(to); err != nil {
		return err
	}
	for i := range to.NumField() {
		if f := to.Field(i); f.Kind() == reflect.Slice && f.Len() == 0 {
			f.SetZero()
		}
	}
	return nil
}
