package command

import (
	"math"
	"strconv"
	"strings"

	"github.com/pannier/pannier/spec/fault"
)

// unit is what a number on the command line may end in.
type unit struct {
	suffix string
	factor float64
}

// sizeUnits are powers of 1024, longest suffix first; a bare number is bytes.
// "GB" is refused because people mean either by it.
var sizeUnits = []unit{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40}, {"B", 1}, {"", 1},
}

// rateUnits are powers of 1000, as links are sold; a bare number is bit/s.
var rateUnits = []unit{
	{"kbit", 1e3}, {"Mbit", 1e6}, {"Gbit", 1e9}, {"bit", 1}, {"", 1},
}

// A Quantity is a flag of a number with a unit, for pflag's Var.
type Quantity struct {
	value          *int64
	least          int64
	what, examples string
	units          []unit
}

// Size is a flag of a number of bytes, as "8GiB", "1.5MiB" or "4096". A value
// below least is refused; one that *value has before parsing means not given.
func Size(value *int64, least int64) *Quantity {
	return &Quantity{value, least, "size", "8GiB, 64KiB or 4096", sizeUnits}
}

// Rate is a flag of bits per second, as "300Mbit" or "10Gbit", at least 1.
func Rate(value *int64) *Quantity {
	return &Quantity{value, 1, "rate", "300Mbit, 10Gbit or 64000", rateUnits}
}

// Type is the placeholder in help texts.
func (q *Quantity) Type() string { return q.what }

// String is the value in the largest unit that shows it exactly; "" for one that
// cannot be given.
func (q *Quantity) String() string {
	if q.value == nil || *q.value < q.least {
		return ""
	}
	if *q.value == 0 {
		return "0"
	}
	best := unit{factor: 1}
	for _, u := range q.units {
		if u.factor > best.factor && *q.value%int64(u.factor) == 0 {
			best = u
		}
	}
	return strconv.FormatInt(*q.value/int64(best.factor), 10) + best.suffix
}

// Set parses text.
func (q *Quantity) Set(text string) error {
	for _, u := range q.units {
		number, ok := strings.CutSuffix(text, u.suffix)
		if !ok {
			continue
		}
		v, ok := multiple(number, u.factor)
		if !ok || v < q.least {
			break
		}
		*q.value = v
		return nil
	}
	return fault.New("read "+q.what, fault.Invalid, "%.40q is not a %s; write it as %s", text, q.what, q.examples)
}

// multiple is number, written in decimal, times factor.
func multiple(number string, factor float64) (int64, bool) {
	if number == "" || strings.Trim(number, "0123456789.") != "" {
		return 0, false
	}
	if n, err := strconv.ParseInt(number, 10, 64); err == nil { // exact, other than a float
		return n * int64(factor), n <= math.MaxInt64/int64(factor)
	}
	v, err := strconv.ParseFloat(number, 64)
	v *= factor
	return int64(v), err == nil && v < math.MaxInt64 && (v >= 1 || v == 0)
}
