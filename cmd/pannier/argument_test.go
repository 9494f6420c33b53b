package main

import (
	"strings"
	"testing"
	"time"

	"github.com/pannier/pannier/spec/fault"
)

// noon is a time that tests can count from.
var noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.Local)

func TestTimes(t *testing.T) {
	day := func(d, h, m int) time.Time { return time.Date(2026, 3, d, h, m, 0, 0, time.Local) }
	for _, c := range []struct {
		read func(string, time.Time) (time.Time, error)
		text string
		want time.Time // zero: refused
	}{
		{past, "2h", day(4, 10, 0)}, {past, "3d", day(1, 12, 0)}, {past, "0s", noon}, {past, "1h30m", day(4, 10, 30)}, {past, "7d", noon.AddDate(0, 0, -7)}, {past, "1d12h", noon.Add(-36 * time.Hour)},
		{past, "2026-03-02", day(2, 0, 0)}, {past, "2026-03-02 07:15", day(2, 7, 15)}, {past, "2026-03-02T07:15:00Z", time.Date(2026, 3, 2, 7, 15, 0, 0, time.UTC)},
		{past, "-2h", time.Time{}}, {past, "2", time.Time{}}, {past, "", time.Time{}}, {past, "99999999999d", time.Time{}}, {past, "d", time.Time{}}, {past, "20:00", time.Time{}},
		{future, "+2h", day(4, 14, 0)}, {future, "2h", day(4, 14, 0)}, {future, "+1d", day(5, 12, 0)}, {future, "20:00", day(4, 20, 0)}, {future, "11:59", day(5, 11, 59)},
		{future, "12:00", day(5, 12, 0)}, {future, "2026-03-05 01:00", day(5, 1, 0)}, {future, "25:00", time.Time{}}, {future, "++2h", time.Time{}}, {future, "soon", time.Time{}},
	} {
		got, err := c.read(c.text, noon)
		if c.want.IsZero() {
			if fault.KindOf(err) != fault.Invalid {
				t.Errorf("%q: %v %v, want it refused", c.text, got, err)
			}
		} else if err != nil || !got.Equal(c.want) {
			t.Errorf("%q: %v %v, want %v", c.text, got, err, c.want)
		}
	}
}

// TestKeyID: the ids are API: a script that is run again after an update must mean the
// same request.
func TestKeyID(t *testing.T) {
	const whole = "0123456789abcdef0123456789abcdef"
	for _, c := range []struct{ got, want string }{
		{keyID("daily"), "034eb1900198a07e3e982d4962cfd88d"},
		{keyID(strings.ToUpper(whole)), whole},
		{keyID(whole[1:]), keyID(whole[1:])},
	} {
		if c.got != c.want || !isID(c.got) {
			t.Errorf("%s, want %s", c.got, c.want)
		}
	}
	seen := map[string]bool{}
	for _, id := range []string{keyID("a"), keyID("a", "b"), keyID("a", "b", "c"), keyID("a", "bc"), keyID("ab"), keyID(whole, "x"), keyID("")} {
		if seen[id] {
			t.Errorf("%s comes twice", id)
		}
		seen[id] = true
	}
}

func TestTarget(t *testing.T) {
	for text, want := range map[string][2]string{
		"hostb": {"hostb", ""}, "hostb:rule": {"hostb", "rule"}, "hostb:a/b:c": {"hostb", "a/b:c"}, "": {}, ":x": {}, "hostb:": {},
	} {
		partner, rest, err := target(text)
		if got := [2]string{partner, rest}; got != want || (err == nil) != (want[0] != "") {
			t.Errorf("%q: %q %v", text, got, err)
		}
	}
}

func TestAge(t *testing.T) {
	var d time.Duration
	if err := (age{&d}).Set("2d"); err != nil || d != 48*time.Hour || (age{&d}).String() != "2d" {
		t.Error(d, err)
	}
	if err := (age{&d}).Set("2"); fault.KindOf(err) != fault.Invalid || d != 48*time.Hour {
		t.Error(d, err)
	}
}
