package command

import (
	"errors"
	"math"
	"strings"
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
		{size, "1", 1, "1"}, {size, "4096", 4096, "4KiB"}, {size, "64KiB", 64 << 10, "64KiB"}, {size, "1.5MiB", 3 << 19, "1536KiB"},
		{size, "8GiB", 8 << 30, "8GiB"}, {size, "2TiB", 2 << 40, "2TiB"}, {size, "7B", 7, "7"},
		{size, "9223372036854775807", math.MaxInt64, "9223372036854775807"}, {size, "9007199254740993", 1<<53 + 1, "9007199254740993"},
		{size, "9223372036854775808", refused, ""}, {size, "8388608TiB", refused, ""}, {size, "8388607TiB", 8388607 << 40, "8388607TiB"},
		{size, "", refused, ""}, {size, "0", refused, ""}, {size, "-1", refused, ""}, {size, "8GB", refused, ""}, {size, "GiB", refused, ""},
		{size, "1e9", refused, ""}, {size, "0x10", refused, ""}, {size, "Inf", refused, ""}, {size, "NaN", refused, ""}, {size, "1 GiB", refused, ""},
		{size, "9000000TiB", refused, ""}, {size, "1.2.3", refused, ""}, {size, ".", refused, ""}, {size, "0.5B", refused, ""}, {size, "1K", refused, ""},
		{offset, "0", 0, "0"}, {offset, "0KiB", 0, "0"}, {offset, "0.1", refused, ""}, {offset, "-0", refused, ""},
		{Rate, "300Mbit", 300e6, "300Mbit"}, {Rate, "10Gbit", 10e9, "10Gbit"}, {Rate, "56kbit", 56e3, "56kbit"}, {Rate, "64000", 64000, "64kbit"},
		{Rate, "9bit", 9, "9"}, {Rate, "300MiB", refused, ""}, {Rate, "300mbit", refused, ""}, {Rate, "bit", refused, ""}, {Rate, "0", refused, ""},
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

// FuzzQuantity: what is accepted is in range, and comes back from its own text.
func FuzzQuantity(f *testing.F) {
	for _, s := range []string{"1GiB", "300Mbit", "1.5", "", ".", "9223372036854775807", "TiB", "1e5KiB", strings.Repeat("9", 400)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, flag := range []func(*int64) *Quantity{size, offset, Rate} {
			v := int64(-1)
			q := flag(&v)
			if err := q.Set(text); err != nil {
				if v != -1 || len(err.Error()) > 400 {
					t.Fatalf("%q: %d, %v", text, v, err)
				}
				continue
			}
			was := v
			if err := q.Set(q.String()); err != nil || v != was || v < q.least {
				t.Fatalf("%q: %d, then %q: %d, %v", text, was, q, v, err)
			}
		}
	})
}
