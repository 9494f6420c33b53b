package quantity

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/pannier/pannier/spec/fault"
)

func TestTimetable(t *testing.T) {
	var table Timetable
	for _, text := range []string{"Mon-Fri 08:00-18:00 5MB/s", "Fri 22:00-02:00 none", "Sun 1MB/s", "20MB/s"} {
		s, err := ParseSlot(text)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := ParseSlot(s.String()); err != nil || again.String() != s.String() {
			t.Errorf("%q: %v, %v", text, again, err)
		}
		table = append(table, s)
	}
	for at, want := range map[string]struct {
		rate int64
		next string
	}{
		"2026-11-27T07:59": {20e6, "2026-11-27T08:00"}, "2026-11-27T08:00": {5e6, "2026-11-27T18:00"}, "2026-11-27T18:00": {20e6, "2026-11-27T22:00"},
		"2026-11-27T23:00": {0, "2026-11-28T02:00"}, "2026-11-28T01:59": {0, "2026-11-28T02:00"}, "2026-11-28T02:00": {20e6, "2026-11-29T00:00"},
		"2026-11-29T12:00": {1e6, "2026-11-30T00:00"}, "2026-11-30T00:00": {20e6, "2026-11-30T08:00"},
	} {
		now, err := time.Parse("2006-01-02T15:04", at)
		if err != nil {
			t.Fatal(err)
		}
		if got := table.At(now); got != want.rate {
			t.Errorf("%s: %d", at, got)
		}
		if got := table.Next(now).Format("2006-01-02T15:04"); got != want.next {
			t.Errorf("%s: then at %s", at, got)
		}
	}
	if !table.Varies() || Always(5).Varies() || Always(0).Varies() || Always(5).At(time.Now()) != 5 || !Always(5).Next(time.Now()).IsZero() {
		t.Error("one rate varies")
	}
	for _, text := range []string{"", "5MB", "Mox 5MB/s", "08:00-18:00", "Mon-Fri 08:00 5MB/s", "0B/s", "5MB/s Mon-Fri 08:00-18:00", strings.Repeat("x", 300)} {
		if _, err := ParseSlot(text); !errors.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
