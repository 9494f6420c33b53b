package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/pannier/pannier/spec/fault"
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		read func(string) (int64, error)
		text string
		want int64 // 0: refused
	}{
		{parseSize, "1", 1}, {parseSize, "4096", 4096}, {parseSize, "64KiB", 64 << 10}, {parseSize, "1.5MiB", 3 << 19},
		{parseSize, "8GiB", 8 << 30}, {parseSize, "2TiB", 2 << 40}, {parseSize, "7B", 7},
		{parseSize, "", 0}, {parseSize, "0", 0}, {parseSize, "-1", 0}, {parseSize, "8GB", 0}, {parseSize, "GiB", 0},
		{parseSize, "1e9", 0}, {parseSize, "0x10", 0}, {parseSize, "Inf", 0}, {parseSize, "NaN", 0}, {parseSize, "1 GiB", 0},
		{parseSize, "9000000TiB", 0}, {parseSize, "1.2.3", 0}, {parseSize, "0.5B", 0},
		{parseRate, "300Mbit", 300e6}, {parseRate, "10Gbit", 10e9}, {parseRate, "56kbit", 56e3}, {parseRate, "64000", 64000},
		{parseRate, "9bit", 9}, {parseRate, "300MiB", 0}, {parseRate, "300mbit", 0}, {parseRate, "bit", 0},
	} {
		got, err := c.read(c.text)
		if got != c.want || (err == nil) != (c.want != 0) {
			t.Errorf("%q: %d, %v, want %d", c.text, got, err, c.want)
		}
		if err != nil && !errors.Is(err, fault.Invalid) {
			t.Errorf("%q: %v is not Invalid", c.text, err)
		}
	}
}

func FuzzQuantity(f *testing.F) {
	for _, s := range []string{"1GiB", "300Mbit", "1.5", "", ".", "9223372036854775807", "TiB", "1e5KiB", strings.Repeat("9", 400)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, read := range []func(string) (int64, error){parseSize, parseRate} {
			v, err := read(text)
			if (err == nil) != (v >= 1) || err != nil && len(err.Error()) > 400 {
				t.Fatalf("%q: %d, %v", text, v, err)
			}
		}
	})
}
