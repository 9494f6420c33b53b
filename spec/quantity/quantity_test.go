package quantity

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/pannier/pannier/spec/fault"
)

const refused = -1

func TestParse(t *testing.T) {
	for _, c := range []struct {
		unit *Unit
		text string
		want int64
		back string // as Format shows it
	}{
		{&Size, "1", 1, "1"}, {&Size, "4096", 4096, "4KiB"}, {&Size, "64KiB", 64 << 10, "64KiB"}, {&Size, "1.5MiB", 3 << 19, "1536KiB"},
		{&Size, "8GiB", 8 << 30, "8GiB"}, {&Size, "2TiB", 2 << 40, "2TiB"}, {&Size, "7B", 7, "7"}, {&Size, "10GB", 10e9, "10GB"}, {&Size, "3kB", 3000, "3kB"},
		{&Size, "9223372036854775807", math.MaxInt64, "9223372036854775807"}, {&Size, "9007199254740993", 1<<53 + 1, "9007199254740993"},
		{&Size, "9223372036854775808", refused, ""}, {&Size, "8388608TiB", refused, ""}, {&Size, "8388607TiB", 8388607 << 40, "8388607TiB"},
		{&Size, "", refused, ""}, {&Size, "0", 0, "0"}, {&Size, "-1", refused, ""}, {&Size, "8Gb", refused, ""}, {&Size, "GiB", refused, ""},
		{&Size, "1e9", refused, ""}, {&Size, "0x10", refused, ""}, {&Size, "Inf", refused, ""}, {&Size, "NaN", refused, ""}, {&Size, "1 GiB", refused, ""},
		{&Size, "9000000TiB", refused, ""}, {&Size, "1.2.3", refused, ""}, {&Size, ".", refused, ""}, {&Size, "0.5B", refused, ""}, {&Size, "1K", refused, ""},
		{&Rate, "200MB/s", 200e6, "200MB/s"}, {&Rate, "1Gbit/s", 125e6, "1Gbit/s"}, {&Rate, "64KiB/s", 64 << 10, "64KiB/s"}, {&Rate, "0B/s", 0, "0B/s"},
		{&Rate, "200MB", refused, ""}, {&Rate, "200", refused, ""}, {&Rate, "/s", refused, ""},
		{&BitRate, "300Mbit", 300e6, "300Mbit"}, {&BitRate, "10Gbit", 10e9, "10Gbit"}, {&BitRate, "64000", 64000, "64kbit"}, {&BitRate, "bit", refused, ""},
		{&BitRate, "300MiB", refused, ""}, {&BitRate, "300mbit", refused, ""},
	} {
		v, err := c.unit.Parse(c.text)
		if c.want == refused {
			if !errors.Is(err, fault.Invalid) {
				t.Errorf("%q: %d, %v; want Invalid", c.text, v, err)
			}
			continue
		}
		if back := c.unit.Format(v); err != nil || v != c.want || back != c.back {
			t.Errorf("%q: %d, %v, shown as %q; want %d, %q", c.text, v, err, back, c.want, c.back)
		}
	}
}

func TestDuration(t *testing.T) {
	for _, c := range []struct {
		text string
		want time.Duration
		back string
	}{
		{"30s", 30 * time.Second, "30s"}, {"7d", 7 * day, "7d"}, {"1d12h", 36 * time.Hour, "36h"}, {"24h", day, "1d"}, {"0s", 0, "0s"}, {"0d", 0, "0s"},
		{"1h30m", 90 * time.Minute, "1h30m"}, {"1h0m5s", time.Hour + 5*time.Second, "1h0m5s"}, {"90m", 90 * time.Minute, "1h30m"}, {"1m0s", time.Minute, "1m"},
		{"", refused, ""}, {"7", refused, ""}, {"d", refused, ""}, {"-1s", refused, ""}, {"1d-1s", refused, ""}, {"1d+1s", refused, ""}, {"1.5d", refused, ""}, {"7 d", refused, ""},
		{"106752d", refused, ""}, {"106751d24h", refused, ""}, {"9999999999999999999d", refused, ""}, {"1h1d", refused, ""}, {"1d1d", refused, ""},
	} {
		d, err := ParseDuration(c.text)
		if c.want == refused {
			if !errors.Is(err, fault.Invalid) {
				t.Errorf("%q: %v, %v; want Invalid", c.text, d, err)
			}
			continue
		}
		if err != nil || d != c.want || FormatDuration(d) != c.back {
			t.Errorf("%q: %v, %v, shown as %q", c.text, d, err, FormatDuration(d))
		}
	}
}

// FuzzParse: what is accepted is in range, and comes back from its own text.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"1GiB", "300Mbit", "200MB/s", "7d", "1.5", "", ".", "9223372036854775807", "TiB", "1e5KiB", "1d12h", strings.Repeat("9", 400)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, u := range []*Unit{&Size, &Rate, &BitRate} {
			v, err := u.Parse(text)
			if err != nil {
				if len(err.Error()) > 400 {
					t.Fatalf("%q: %v", text, err)
				}
				continue
			}
			if again, err := u.Parse(u.Format(v)); err != nil || again != v || v < 0 {
				t.Fatalf("%q: %d, then %q: %d, %v", text, v, u.Format(v), again, err)
			}
		}
		if d, err := ParseDuration(text); err == nil {
			if again, err := ParseDuration(FormatDuration(d)); err != nil || again != d || d < 0 {
				t.Fatalf("%q: %v, then %q: %v, %v", text, d, FormatDuration(d), again, err)
			}
		}
	})
}

// TestWindowText: a window is read from its own text.
func TestWindowText(t *testing.T) {
	for text, want := range map[string]string{"08:00-18:00": "08:00-18:00", "Mon-Wed 20:00-06:00": "Mon,Tue,Wed 20:00-06:00", "Sat,Sun 00:00-24:00": "Sat,Sun 00:00-24:00", "Sat,Sun": "Sat,Sun 00:00-24:00", "Fri-Mon 09:05-17:30": "Mon,Fri,Sat,Sun 09:05-17:30"} {
		w, err := ParseWindow(text)
		if err != nil || w.String() != want {
			t.Errorf("%q: %q, %v; want %q", text, w, err, want)
		}
		if again, err := ParseWindow(w.String()); err != nil || again != w {
			t.Errorf("%q: %v, %v", w, again, err)
		}
	}
}
