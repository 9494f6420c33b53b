package main

import (
	"math"
	"slices"
	"strings"

	"github.com/dustin/go-humanize"

	"github.com/pannier/pannier/spec/fault"
)

// choice is a flag whose values have names: the i-th name is the value i.
type choice[T ~uint8] struct {
	value *T
	names []string
}

func (c choice[T]) String() string { return c.names[*c.value] }
func (c choice[T]) Type() string   { return strings.Join(c.names, "|") }

func (c choice[T]) Set(text string) error {
	i := slices.Index(c.names, text)
	if i < 0 {
		return fault.New("read choice", fault.Invalid, "it is one of %s", strings.Join(c.names, ", "))
	}
	*c.value = T(i)
	return nil
}

// byteCount is a flag of a number of bytes, as 4096, 64KiB or 1.5GiB; less than
// zero means that it is not given.
type byteCount struct{ value *int64 }

func (b byteCount) Type() string { return "bytes" }

func (b byteCount) String() string {
	if *b.value < 0 {
		return ""
	}
	return humanize.Comma(*b.value)
}

func (b byteCount) Set(text string) error {
	v, err := humanize.ParseBytes(text)
	if err != nil || v > math.MaxInt64 {
		return fault.New("read size", fault.Invalid, "%.40q is not a number of bytes; write it as 4096, 64KiB or 1.5GiB", text)
	}
	*b.value = int64(v)
	return nil
}
