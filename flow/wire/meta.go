package wire

import (
	"bytes"
	"reflect"

	"github.com/pannier/pannier/spec/fault"
)

// AppendMeta appends v, a struct or a pointer to one, as control structs are written: a msgpack array of
// its fields in order. Fields are unsigned numbers, booleans, text, bytes, and
// structs and lists of these. It is for what users of flow put into Meta.
func AppendMeta(dst []byte, v any) ([]byte, error) {
	buf := bytes.NewBuffer(dst)
	if err := encode(buf, v); err != nil {
		return dst, fault.New("encode meta", fault.Internal, "%w", err)
	}
	if n := buf.Len() - len(dst); n > MaxMeta {
		return dst, fault.New("encode meta", fault.TooLong, "%d bytes; at most %d", n, MaxMeta)
	}
	return buf.Bytes(), nil
}

// DecodeMeta reads what AppendMeta wrote into v, a pointer to a struct, in the
// order in which Decode does it: bounds of the bytes, types of the fields, the
// decoder. Limits of the fields are the caller's. Errors are Protocol and of this
// one stream: flow has carried the bytes as they were sent.
func DecodeMeta(body []byte, v any) error {
	p := reflect.ValueOf(v)
	if p.Kind() != reflect.Pointer || p.IsNil() || p.Elem().Kind() != reflect.Struct {
		return fault.New("decode meta", fault.Invalid, "%T is not a pointer to a struct", v)
	}
	if len(body) > MaxMeta {
		return fault.New("decode meta", fault.Protocol, "%d bytes; at most %d", len(body), MaxMeta)
	}
	if err := decode(body, p.Elem()); err != nil {
		return fault.New("decode meta", fault.Protocol, "%w", err)
	}
	return nil
}
