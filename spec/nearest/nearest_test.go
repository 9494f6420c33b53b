package nearest

import (
	"strings"
	"testing"
)

func TestMeant(t *testing.T) {
	table := map[string]int{"hostb": 1, "hosta": 2, "inbox": 3}
	for written, want := range map[string]string{
		"hostx": `; did you mean "hosta"?`, "hsotb": `; did you mean "hostb"?`, "InBox": `; did you mean "inbox"?`, "zzzzz": "", "": "",
	} {
		if got := MeantOf(written, table); got != want {
			t.Errorf("%q: %q, want %q", written, got, want)
		}
	}
	if got := Meant(strings.Repeat("z", 1000), []string{"hostb"}); got != "" {
		t.Errorf("of a long one: %q", got)
	}
	if got := Meant("x", nil); got != "" {
		t.Errorf("of nothing: %q", got)
	}
}

func TestDistance(t *testing.T) {
	for _, tc := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"adress", "address", 1}, {"nmae", "name", 1}, {"a", "", 1}, {"hosta", "hostb", 1}, {"send", "receive", 6}, {"abc", "ca", 3}} {
		if got := distance(tc.a, tc.b); got != tc.want {
			t.Errorf("from %q to %q: %d, want %d", tc.a, tc.b, got, tc.want)
		}
	}
}
