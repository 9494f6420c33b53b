package wire

import (
	"encoding/binary"
	"fmt"
)

// Limits of the pre-check. A control struct needs a depth of 3 and MaxResume
// elements; the rest is room for later versions.
const (
	maxDepth = 6    // arrays within arrays, the struct itself being the first
	maxCount = 4096 // elements of one array
)

// token is what a value on the wire can be: the five sorts the control structs
// are made of. Whatever else msgpack has (nil, floats, negative numbers, maps,
// extensions) is refused.
type token struct {
	sort sort
	n    uint64 // number: its value; boolean: 0 or 1; text, bytes: length; array: elements
}

type sort uint8

const (
	number sort = iota + 1
	boolean
	text
	bin
	array
)

func (s sort) String() string {
	return [...]string{"nothing", "number", "boolean", "text", "bytes", "array"}[s]
}

// cursor is the part of a body that was not walked yet. It allocates nothing
// unless it fails.
type cursor struct{ rest []byte }

// precheck walks a whole msgpack value before any decoder sees it. Behind it
// every declared length is backed by bytes that are present, so a decoder cannot
// allocate more than a small multiple of the body, and nesting cannot exhaust
// the goroutine's stack. Time is linear: each element costs at least one byte.
//
// msgpack/v5 needs this: it allocates what an array header declares (five bytes
// `dd ff ff ff f0` ask for gigabytes) and recurses as deep as it is told to.
func precheck(body []byte) error {
	c := cursor{body}
	if err := c.value(1); err != nil {
		return err
	}
	if len(c.rest) > 0 {
		return fmt.Errorf("%d bytes behind the value", len(c.rest))
	}
	return nil
}

func (c *cursor) value(depth int) error {
	t, err := c.next()
	if err != nil || t.sort != array {
		return err
	}
	if depth > maxDepth {
		return fmt.Errorf("nested deeper than %d", maxDepth)
	}
	for range t.n {
		if err := c.value(depth + 1); err != nil {
			return err
		}
	}
	return nil
}

// next takes one token: a whole scalar, text or bytes, or the head of an array.
func (c *cursor) next() (token, error) {
	code, err := c.uint(1)
	if err != nil {
		return token{}, err
	}
	switch {
	case code <= 0x7f: // positive fixint
		return token{number, code}, nil
	case code >= 0x90 && code <= 0x9f: // fixarray
		return c.array(code & 0x0f)
	case code >= 0xa0 && code <= 0xbf: // fixstr
		return c.skip(text, code&0x1f)
	}
	switch code {
	case 0xc2, 0xc3: // false, true
		return token{boolean, code & 1}, nil
	case 0xc4, 0xc5, 0xc6: // bin 8, 16, 32
		return c.sized(bin, 1<<(code-0xc4))
	case 0xcc, 0xcd, 0xce, 0xcf: // uint 8, 16, 32, 64
		n, err := c.uint(1 << (code - 0xcc))
		return token{number, n}, err
	case 0xd9, 0xda, 0xdb: // str 8, 16, 32
		return c.sized(text, 1<<(code-0xd9))
	case 0xdc, 0xdd: // array 16, 32
		return c.sized(array, 2<<(code-0xdc))
	}
	return token{}, fmt.Errorf("msgpack code %#02x is not used here", code)
}

// sized takes a length of the given width and what it announces.
func (c *cursor) sized(s sort, width int) (token, error) {
	n, err := c.uint(width)
	if err != nil {
		return token{}, err
	}
	if s == array {
		return c.array(n)
	}
	return c.skip(s, n)
}

func (c *cursor) array(n uint64) (token, error) {
	if n > maxCount || n > uint64(len(c.rest)) {
		return token{}, fmt.Errorf("array of %d elements with %d bytes left; at most %d", n, len(c.rest), maxCount)
	}
	return token{array, n}, nil
}

func (c *cursor) skip(s sort, n uint64) (token, error) {
	if n > uint64(len(c.rest)) {
		return token{}, fmt.Errorf("%v of %d bytes with %d left", s, n, len(c.rest))
	}
	c.rest = c.rest[n:]
	return token{s, n}, nil
}

// uint takes a big-endian number of width 1, 2, 4 or 8 bytes.
func (c *cursor) uint(width int) (uint64, error) {
	if len(c.rest) < width {
		return 0, fmt.Errorf("ends within a value")
	}
	b := c.rest[:width]
	c.rest = c.rest[width:]
	switch width {
	case 1:
		return uint64(b[0]), nil
	case 2:
		return uint64(binary.BigEndian.Uint16(b)), nil
	case 4:
		return uint64(binary.BigEndian.Uint32(b)), nil
	}
	return binary.BigEndian.Uint64(b), nil
}
