package schedule

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/quantity"
)

func mustCron(t testing.TB, text string) Cron {
	t.Helper()
	c, err := ParseCron(text)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func mustZone(t testing.TB, name string) *time.Location {
	t.Helper()
	z, err := ParseZone(name)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// TestRefused: what is no expression is refused with words about it.
func TestRefused(t *testing.T) {
	for text, want := range map[string]string{
		"": "five fields", "* * * *": "five fields", "0 0 0 * * *": "five fields", "TZ=UTC": "five fields", "CRON_TZ=UTC 0 0 * * *": "five fields",
		"60 * * * *": `the minute is "60": write 0 to 59, several as`, "* 24 * * *": `the hour is "24": write 0 to 23`, "* * 0 * *": `the day of the month is "0": write 1 to 31`,
		"* * * 13 *": `the month is "13": write 1 to 12, or Jan to Dec`, "* * * Foo *": `the month is "Foo"`, "* * * * 8": `the day of the week is "8": write 0 to 7`, "* * * * 1-7/2": `is "1-7/2"`,
		"*-5 * * * *": "the minute", "/5 * * * *": "the minute", "1-x * * * *": "the minute", "5- * * * *": "the minute", "+5 * * * *": "the minute", "*/5/5 * * * *": "the minute", "* */0 * * *": "steps as",
		"x * * * *": "the minute", "*/0 * * * *": "the minute", "5-1 * * * *": "the minute", ",5 * * * *": "comma", "1,,2 * * * *": "comma", "* * 30 2 *": "no such day",
		"@reboot": "the names are", "@every 1h": "the names are", "0 0 */2 * Mon": "write the days out", "0 0 1 * */2": "write the days out",
		strings.Repeat("9", 500): "five fields",
	} {
		if c, err := ParseCron(text); !errors.Is(err, fault.Invalid) || !strings.Contains(err.Error(), want) || !c.IsZero() {
			t.Errorf("%q: %v", text, err)
		}
	}
	for _, name := range []string{"", "Europe/Berln", "../etc/passwd", "/etc/localtime"} {
		if _, err := ParseZone(name); !errors.Is(err, fault.Invalid) {
			t.Errorf("zone %q: %v", name, err)
		}
	}
}

// TestClocksAreSet: what becomes of times that the clocks pass over or show twice.
func TestClocksAreSet(t *testing.T) {
	for _, c := range []struct {
		zone, cron, from string
		want             []string // in UTC
	}{
		// 2026-03-29, 02:00 becomes 03:00 at 01:00 UTC.
		{"Europe/Berlin", "30 2 * * *", "2026-03-28T00:00Z", []string{"2026-03-28T01:30Z", "2026-03-29T01:00Z", "2026-03-30T00:30Z"}},
		{"Europe/Berlin", "0 2 * * *", "2026-03-28T02:00Z", []string{"2026-03-29T01:00Z", "2026-03-30T00:00Z"}},
		{"Europe/Berlin", "0 3 * * *", "2026-03-28T03:00Z", []string{"2026-03-29T01:00Z", "2026-03-30T01:00Z"}},
		{"Europe/Berlin", "0,20,40 2 * * *", "2026-03-29T00:00Z", []string{"2026-03-29T01:00Z", "2026-03-30T00:00Z", "2026-03-30T00:20Z"}},
		{"Europe/Berlin", "*/30 * * * *", "2026-03-29T00:15Z", []string{"2026-03-29T00:30Z", "2026-03-29T01:00Z", "2026-03-29T01:30Z"}},
		{"Europe/Berlin", "59 1 * * *", "2026-03-28T12:00Z", []string{"2026-03-29T00:59Z", "2026-03-29T23:59Z"}},
		// 2026-10-25, 03:00 becomes 02:00 at 01:00 UTC.
		{"Europe/Berlin", "30 2 * * *", "2026-10-24T12:00Z", []string{"2026-10-25T00:30Z", "2026-10-26T01:30Z"}},
		{"Europe/Berlin", "30 2 * * *", "2026-10-25T01:10Z", []string{"2026-10-26T01:30Z"}}, // in the second round
		{"Europe/Berlin", "0 2 * * *", "2026-10-24T12:00Z", []string{"2026-10-25T00:00Z", "2026-10-26T01:00Z"}},
		{"Europe/Berlin", "0 3 * * *", "2026-10-24T12:00Z", []string{"2026-10-25T02:00Z", "2026-10-26T02:00Z"}},
		{"Europe/Berlin", "*/30 * * * *", "2026-10-25T00:15Z", []string{"2026-10-25T00:30Z", "2026-10-25T01:00Z", "2026-10-25T01:30Z", "2026-10-25T02:00Z"}},
		{"Europe/Berlin", "*/30 2,3 * * *", "2026-10-24T23:15Z", []string{"2026-10-25T00:00Z", "2026-10-25T00:30Z", "2026-10-25T02:00Z", "2026-10-25T02:30Z"}},
		// Half an hour, 2026-04-05 02:00 becomes 01:30 at 2026-04-04 15:00 UTC.
		{"Australia/Lord_Howe", "45 1 * * *", "2026-04-04T00:00Z", []string{"2026-04-04T14:45Z", "2026-04-05T15:15Z"}},
		// Midnight that is not there: 2018-11-04 in Sao Paulo, 00:00 becomes 01:00 at 03:00 UTC.
		{"America/Sao_Paulo", "@daily", "2018-11-03T12:00Z", []string{"2018-11-04T03:00Z", "2018-11-05T02:00Z"}},
		{"America/Sao_Paulo", "0 12 * * Sun", "2018-11-03T12:00Z", []string{"2018-11-04T14:00Z"}},
		// A day that is not there: 2011-12-30 in Apia.
		{"Pacific/Apia", "0 8 30 12 *", "2011-12-01T00:00Z", []string{"2011-12-30T10:00Z", "2012-12-29T18:00Z"}},
		{"UTC", "0 0 29 2 *", "2026-01-01T00:00Z", []string{"2028-02-29T00:00Z", "2032-02-29T00:00Z"}},
		{"UTC", "0 0 * * 7", "2026-11-28T00:00Z", []string{"2026-11-29T00:00Z"}},
		{"UTC", "0 0 * * 5-7", "2026-11-26T12:00Z", []string{"2026-11-27T00:00Z", "2026-11-28T00:00Z", "2026-11-29T00:00Z", "2026-12-04T00:00Z"}},
	} {
		at, err := time.Parse("2006-01-02T15:04Z", c.from)
		if err != nil {
			t.Fatal(err)
		}
		cron := mustCron(t, c.cron)
		at = at.In(mustZone(t, c.zone))
		for _, want := range c.want {
			at = cron.Next(at)
			if got := at.UTC().Format("2006-01-02T15:04Z"); got != want {
				t.Errorf("%s %q from %s: %s, want %s", c.zone, c.cron, c.from, got, want)
				break
			}
		}
	}
}

// TestMinuteByMinute: what is due is what a walk through all minutes finds, over all
// the times of a year at which clocks are set.
func TestMinuteByMinute(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	field := func(low, high int) string {
		n := low + rnd.IntN(high-low+1)
		return []string{"*", fmt.Sprint(n), fmt.Sprintf("%d-%d", n, n+rnd.IntN(high-n+1)), fmt.Sprintf("*/%d", 1+rnd.IntN(high))}[rnd.IntN(4)]
	}
	for range 100 {
		text := field(0, 59) + " " + field(0, 23) + " * * *"
		cron := mustCron(t, text)
		hours := strings.Fields(text)[1]
		zone := mustZone(t, []string{"Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC", "America/Santiago"}[rnd.IntN(5)])
		_, change := time.Date(2026, 1, 1, 0, 0, 0, 0, zone).ZoneBounds()
		if rnd.IntN(2) == 0 && !change.IsZero() {
			_, change = change.ZoneBounds()
		}
		if change.IsZero() {
			change = time.Date(2026, 5, 5, 0, 0, 0, 0, zone)
		}
		from, until := change.Add(-30*time.Hour), change.Add(30*time.Hour)
		var want []time.Time
		shown := map[string]bool{}
		last := dial(from)
		for at := from.Add(time.Minute); !at.After(until); at = at.Add(time.Minute) {
			now := dial(at)
			due := false
			for w := last.Add(time.Minute); !w.After(now); w = w.Add(time.Minute) { // those passed over, too
				due = due || cron.spec.Next(w.Add(-1)).Equal(w)
			}
			if now.Before(last) || now.Equal(last) {
				due = cron.spec.Next(now.Add(-1)).Equal(now)
			}
			again := shown[now.Format(time.DateTime)]
			if shown[now.Format(time.DateTime)] = true; due && (!again || hours[0] == '*') {
				want = append(want, at)
			}
			last = now
		}
		var got []time.Time
		for at := cron.Next(from); !at.After(until); at = cron.Next(at) {
			got = append(got, at)
		}
		if !slices.EqualFunc(got, want, time.Time.Equal) {
			t.Fatalf("%q in %v around %v:\n%v\nwant\n%v", text, zone, change, got, want)
		}
	}
}

func mustWindows(t testing.TB, texts ...string) (ws quantity.Windows) {
	t.Helper()
	for _, s := range texts {
		w, err := quantity.ParseWindow(s)
		if err != nil {
			t.Fatal(err)
		}
		ws = append(ws, w)
	}
	return ws
}

// TestWindows: what is due outside of the windows is not due.
func TestWindows(t *testing.T) {
	times := Times{Cron: mustCron(t, "*/30 * * * *"), Zone: time.UTC, Windows: mustWindows(t, "Mon-Fri 08:00-09:00", "Sat 23:45-00:15")}
	at := time.Date(2026, 11, 27, 8, 0, 0, 0, time.UTC) // a Friday
	for _, want := range []string{"27 08:30", "29 00:00", "30 08:00", "30 08:30"} {
		if at = times.Next(at); at.Format("02 15:04") != want {
			t.Fatalf("%v, want %s", at, want)
		}
	}
	never := Times{Cron: mustCron(t, "0 3 * * *"), Windows: mustWindows(t, "08:00-09:00")}
	if at := never.Next(at); !at.IsZero() {
		t.Error("due at", at)
	}
}

// TestLast: the last of many are found without a walk through all.
func TestLast(t *testing.T) {
	times := Times{Cron: mustCron(t, "* * * * *"), Zone: time.UTC}
	until := time.Date(2026, 11, 27, 8, 0, 30, 0, time.UTC)
	for from, want := range map[time.Duration]string{10 * 365 * 24 * time.Hour: "07:58 07:59 08:00", 90 * time.Second: "08:00", 10 * time.Second: "", 30 * time.Second: ""} {
		var got []string
		for _, at := range times.Last(until.Add(-from), until, 3) {
			got = append(got, at.Format("15:04"))
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%v: %v, want %s", from, got, want)
		}
	}
}

func FuzzCron(f *testing.F) {
	for _, s := range []string{"* * * * *", "*/5 1-3 1,2 Jan Mon-Fri", "@daily", "TZ=", "0 0 31 2 *", "? ? ? ? ?", "0-59/7 0 * * 1-7"} {
		f.Add(s)
	}
	from := time.Date(2026, 3, 29, 0, 0, 0, 0, mustZone(f, "Europe/Berlin"))
	f.Fuzz(func(t *testing.T, text string) {
		c, err := ParseCron(text)
		if err != nil {
			if !errors.Is(err, fault.Invalid) || len(err.Error()) > 700 {
				t.Fatal(err)
			}
			return
		}
		at := from
		for range 10 {
			next := c.Next(at)
			if !next.After(at) {
				t.Fatalf("%q: %v after %v", text, next, at)
			}
			at = next
		}
	})
}

func BenchmarkNext(b *testing.B) {
	c, at := mustCron(b, "30 2 * * Mon-Fri"), time.Now().In(mustZone(b, "Europe/Berlin"))
	for b.Loop() {
		c.Next(at)
	}
}
