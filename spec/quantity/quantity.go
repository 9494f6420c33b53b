// Package quantity reads and writes numbers with units as people write them,
// on command lines and in configuration files: sizes, rates, durations and times of the week.
package quantity

import (
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/pannier/pannier/spec/fault"
)

// A Unit is a kind of quantity: what it is called, how it is written, and the
// suffixes of its numbers.
type Unit struct {
	Name     string // as "size"
	Examples string // as "10GB, 64KiB or 4096"
	suffixes []suffix
}

// suffix is what a number may end in. One comes after those that end in it.
type suffix struct {
	text   string
	factor float64
}

// The units there are.
var (
	// Size is bytes: KiB, MiB, GiB, TiB are powers of 1024, kB, MB, GB, TB of 1000;
	// a bare number is bytes.
	Size = Unit{"size", "10GB, 64KiB or 4096", []suffix{
		{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
		{"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"B", 1}, {"", 1},
	}}
	// Rate is bytes a second. A number without a unit is none: people mean bits as
	// often as bytes.
	Rate = Unit{"rate", "200MB/s, 64KiB/s or 1Gbit/s", []suffix{
		{"KiB/s", 1 << 10}, {"MiB/s", 1 << 20}, {"GiB/s", 1 << 30},
		{"kB/s", 1e3}, {"MB/s", 1e6}, {"GB/s", 1e9},
		{"kbit/s", 1e3 / 8}, {"Mbit/s", 1e6 / 8}, {"Gbit/s", 1e9 / 8}, {"B/s", 1},
	}}
	// BitRate is bits a second in powers of 1000, as links are sold; a bare number
	// is bit/s.
	BitRate = Unit{"rate", "300Mbit, 10Gbit or 64000", []suffix{
		{"kbit", 1e3}, {"Mbit", 1e6}, {"Gbit", 1e9}, {"bit", 1}, {"", 1},
	}}
)

// Parse reads a number with a unit, which is 0 or more. Errors are
// fault.Invalid and say how to write it.
func (u *Unit) Parse(text string) (int64, error) {
	for _, s := range u.suffixes {
		number, ok := strings.CutSuffix(text, s.text)
		if !ok {
			continue
		}
		if v, ok := multiple(number, s.factor); ok {
			return v, nil
		}
		break
	}
	return 0, u.Refuse(text)
}

// Refuse is the error for a text that is no such quantity, or one out of range.
func (u *Unit) Refuse(text string) error {
	return fault.New("read "+u.Name, fault.Invalid, "%.40q is not a %s; write it as %s", text, u.Name, u.Examples)
}

// Format is v in the largest unit that shows it exactly, as Parse reads it; "0"
// for none.
func (u *Unit) Format(v int64) string {
	if v == 0 {
		return "0" + u.suffixes[len(u.suffixes)-1].text
	}
	best := u.suffixes[len(u.suffixes)-1]
	for _, s := range u.suffixes {
		if s.factor > best.factor && v%int64(s.factor) == 0 {
			best = s
		}
	}
	return strconv.FormatInt(v/int64(best.factor), 10) + best.text
}

// multiple is number, written in decimal, times factor, which is a whole number.
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

const day = 24 * time.Hour

// ParseDuration is time.ParseDuration with days, which stand first: "7d",
// "1d12h". Nothing below 0. Errors are fault.Invalid.
func ParseDuration(text string) (time.Duration, error) {
	var days int64
	rest := text
	if number, after, ok := strings.Cut(text, "d"); ok {
		var fine bool
		if days, fine = multiple(number, 1); !fine || strings.Contains(number, ".") || days > int64(math.MaxInt64/day) {
			return 0, refuseDuration(text)
		}
		rest = after
	}
	var d time.Duration
	if rest != "" || text == "" {
		var err error
		if d, err = time.ParseDuration(rest); err != nil || d < 0 || rest[0] == '+' || rest[0] == '-' {
			return 0, refuseDuration(text)
		}
	}
	if d > math.MaxInt64-time.Duration(days)*day {
		return 0, refuseDuration(text)
	}
	return time.Duration(days)*day + d, nil
}

func refuseDuration(text string) error {
	return fault.New("read duration", fault.Invalid, "%.40q is not a duration; write it as 30s, 1h30m or 7d", text)
}

// FormatDuration is d as ParseDuration reads it, in days where those are whole,
// without units that are 0.
func FormatDuration(d time.Duration) string {
	if d > 0 && d%day == 0 {
		return strconv.FormatInt(int64(d/day), 10) + "d"
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}
