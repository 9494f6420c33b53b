package wire

import (
	"fmt"
	"reflect"
)

// fits walks one value that passed the pre-check and reports where it is not
// what v needs: as many elements as the struct has fields, numbers within their
// width, byte arrays of exactly their length, text where text belongs. v is
// only looked at for its types.
//
// msgpack/v5 checks none of that: it cuts 257 to 1 for a uint8, fills a
// [16]byte from 3 bytes, reads a struct from an empty array or a map, text from
// bytes, and -1 as a very large number.
func (c *cursor) fits(v reflect.Value) error {
	t, err := c.next()
	if err != nil {
		return err
	}
	switch v.Kind() {
	case reflect.Bool:
		return t.be(boolean)
	case reflect.String:
		return t.be(text)
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		if t.sort == number && v.OverflowUint(t.n) {
			return fmt.Errorf("%d is over %d bits", t.n, v.Type().Bits())
		}
		return t.be(number)
	case reflect.Array:
		return t.beSized(bin, v.Len())
	case reflect.Struct:
		return c.fitsStruct(t, v)
	case reflect.Slice:
		return c.fitsSlice(t, v)
	}
	panic("wire: no msgpack form for " + v.Type().String())
}

func (c *cursor) fitsStruct(t token, v reflect.Value) error {
	if err := t.beSized(array, v.NumField()); err != nil {
		return err
	}
	for i := range v.NumField() {
		if err := c.fits(v.Field(i)); err != nil {
			return fmt.Errorf("%s: %w", v.Type().Field(i).Name, err)
		}
	}
	return nil
}

func (c *cursor) fitsSlice(t token, v reflect.Value) error {
	elem := v.Type().Elem()
	if elem.Kind() == reflect.Uint8 {
		return t.be(bin)
	}
	if err := t.be(array); err != nil {
		return err
	}
	zero := reflect.Zero(elem)
	for range t.n {
		if err := c.fits(zero); err != nil {
			return err
		}
	}
	return nil
}

func (t token) be(s sort) error {
	if t.sort != s {
		return fmt.Errorf("%v instead of %v", t.sort, s)
	}
	return nil
}

func (t token) beSized(s sort, n int) error {
	if t.sort == s && t.n != uint64(n) {
		return fmt.Errorf("%v of %d instead of %d", s, t.n, n)
	}
	return t.be(s)
}
