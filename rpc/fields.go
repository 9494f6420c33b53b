package rpc

import (
	"math"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/pannier/pannier/spec/fault"
)

// The ask, the answer and the inline field are protobuf messages of
// spec/rpcpb/effects.proto, written and read by hand: every small effect has all
// three, and generated code made them half of what such an effect costs. Field
// numbers below are those of that file; a test compares both ways.

// fields walks over the fields of one encoded message, in their order.
//
//	for f := (fields{rest: b}); f.next(); {
//		switch f.num { ... f.uint() ... f.bytes() ... }
//	}
//	if f.err != nil { ... }
type fields struct {
	rest []byte
	err  error // of the first thing that does not fit
	num  protowire.Number
	kind protowire.Type
	n    uint64 // of VarintType
	b    []byte // of BytesType; points into the message
}

// next reads one field. It is false at the end and after an error.
func (f *fields) next() bool {
	if f.err != nil || len(f.rest) == 0 {
		return false
	}
	num, kind, n := protowire.ConsumeTag(f.rest)
	if n < 0 {
		return f.fail("tag: %v", protowire.ParseError(n))
	}
	m := 0
	switch body := f.rest[n:]; kind {
	case protowire.VarintType:
		f.n, m = protowire.ConsumeVarint(body)
	case protowire.BytesType:
		f.b, m = protowire.ConsumeBytes(body)
	default:
		m = protowire.ConsumeFieldValue(num, kind, body)
	}
	if m < 0 {
		return f.fail("field %d: %v", num, protowire.ParseError(m))
	}
	f.num, f.kind, f.rest = num, kind, f.rest[n+m:]
	return true
}

func (f *fields) fail(format string, args ...any) bool {
	if f.err == nil {
		f.err = fault.New("parse fields", fault.Protocol, format, args...)
	}
	return false
}

// uint is the value of a number; a negative one is at least 1<<63.
func (f *fields) uint() uint64 {
	if f.kind != protowire.VarintType {
		f.fail("field %d is not a number", f.num)
		return 0
	}
	return f.n
}

// small is a number that has to be below limit.
func (f *fields) small(limit uint64) int {
	n := f.uint()
	if n >= limit {
		f.fail("field %d is %d, the limit is %d", f.num, n, limit-1)
		return 0
	}
	return int(n)
}

// size is a number that has to be 0 or more as an int64.
func (f *fields) size() int64 {
	n := f.uint()
	if n > 1<<63-1 {
		f.fail("field %d is negative", f.num)
		return 0
	}
	return int64(n)
}

func (f *fields) bool() bool { return f.uint() != 0 }

// bytes points into the message.
func (f *fields) bytes() []byte {
	if f.kind != protowire.BytesType {
		f.fail("field %d is not bytes", f.num)
		return nil
	}
	return f.b
}

// exactly copies bytes of a fixed length.
func (f *fields) exactly(dst []byte) {
	if b := f.bytes(); len(b) != len(dst) {
		f.fail("field %d has %d bytes instead of %d", f.num, len(b), len(dst))
	} else {
		copy(dst, b)
	}
}

// text is UTF-8 of at most limit bytes.
func (f *fields) text(limit int) string {
	b := f.bytes()
	if len(b) > limit || !utf8.Valid(b) {
		f.fail("field %d is not a text of at most %d bytes", f.num, limit)
		return ""
	}
	return string(b)
}

// appendUint appends a number unless it is 0, as protobuf does.
func appendUint(dst []byte, num protowire.Number, n uint64) []byte {
	if n == 0 {
		return dst
	}
	return protowire.AppendVarint(protowire.AppendTag(dst, num, protowire.VarintType), n)
}

// plusOne is how a size or limit travels: 0 is none. The largest number is none as well,
// for nothing has more bytes than that.
func plusOne(n int64) int64 {
	if n == math.MaxInt64 {
		return 0
	}
	return n + 1
}

func appendBool(dst []byte, num protowire.Number, v bool) []byte {
	if !v {
		return dst
	}
	return appendUint(dst, num, 1)
}

// appendBytes appends bytes unless there are none.
func appendBytes(dst []byte, num protowire.Number, b []byte) []byte {
	if len(b) == 0 {
		return dst
	}
	return protowire.AppendBytes(protowire.AppendTag(dst, num, protowire.BytesType), b)
}

// openMessage begins a message inside the present one; closeMessage with the
// same mark ends it. In between its fields are appended.
func openMessage(dst []byte, num protowire.Number) (_ []byte, mark int) {
	dst = append(protowire.AppendTag(dst, num, protowire.BytesType), 0)
	return dst, len(dst)
}

// closeMessage puts the length in front, for which openMessage has left one byte.
func closeMessage(dst []byte, mark int) []byte {
	n := len(dst) - mark
	if n < 1<<7 {
		dst[mark-1] = byte(n)
		return dst
	}
	more := protowire.SizeVarint(uint64(n)) - 1
	dst = append(dst, make([]byte, more)...)
	copy(dst[mark+more:], dst[mark:mark+n])
	protowire.AppendVarint(dst[:mark-1], uint64(n))
	return dst
}
