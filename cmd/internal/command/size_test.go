package command

import (
	"errors"
	"testing"

	"github.com/pannier/pannier/spec/fault"
)

func size(v *int64) *Quantity   { return Size(v, 1) }
func offset(v *int64) *Quantity { return Size(v, 0) }

func TestQuantity(t *testing.T) {
	const refused = -1
	for _, c := range []struct {
		flag func(*int64) *Quantity
		text string
		want int64
		back string // as String shows it
	}{
		{size, "4096", 4096, "4KiB"}, {size, "8GB", 8e9, "8GB"}, {size, "0", refused, ""}, {size, "8Gb", refused, ""}, {size, "9000000TiB", refused, ""},
		{offset, "0", 0, "0"}, {offset, "-0", refused, ""}, {Rate, "300Mbit", 300e6, "300Mbit"}, {Rate, "300MiB", refused, ""}, {Rate, "0", refused, ""},
	} {
		v := int64(refused)
		q := c.flag(&v)
		err := q.Set(c.text)
		if v != c.want || (err == nil) != (c.want != refused) || q.String() != c.back {
			t.Errorf("%q: %d, %v, shown as %q; want %d, %q", c.text, v, err, q, c.want, c.back)
		}
		if err != nil && !errors.Is(err, fault.Invalid) {
			t.Errorf("%q: %v is not Invalid", c.text, err)
		}
	}
}
