package main

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
var sizeUnits = []unit{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40}, {"B", 1}, {"", 1},
}

// rateUnits are powers of 1000, as links are sold; a bare number is bit/s.
var rateUnits = []unit{
	{"kbit", 1e3}, {"Mbit", 1e6}, {"Gbit", 1e9}, {"bit", 1}, {"", 1},
}

// parseSize reads "8GiB", "1.5MiB", "4096": bytes, at least 1.
func parseSize(text string) (int64, error) {
	return parseQuantity("size", "8GiB, 64KiB or 4096", text, sizeUnits)
}

// parseRate reads "300Mbit", "10Gbit": bits per second, at least 1.
func parseRate(text string) (int64, error) {
	return parseQuantity("rate", "300Mbit, 10Gbit or 64000", text, rateUnits)
}

func parseQuantity(what, examples, text string, units []unit) (int64, error) {
	for _, u := range units {
		number, ok := strings.CutSuffix(text, u.suffix)
		if !ok {
			continue
		}
		if strings.Trim(number, "0123456789.") != "" {
			break
		}
		v, err := strconv.ParseFloat(number, 64)
		if v *= u.factor; err != nil || v < 1 || v >= math.MaxInt64 {
			break
		}
		return int64(v), nil
	}
	return 0, fault.New("read "+what, fault.Invalid, "%.40q is not a %s; write it as %s", text, what, examples)
}

// quantity is a flag whose text is parsed by read.
type quantity struct {
	value *int64
	text  string
	kind  string
	read  func(string) (int64, error)
}

func (q *quantity) String() string { return q.text }
func (q *quantity) Type() string   { return q.kind }

func (q *quantity) Set(text string) error {
	v, err := q.read(text)
	if err == nil {
		*q.value, q.text = v, text
	}
	return err
}
