package plugins_test

import (
	"strings"
	"testing"
	"time"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// TestOptions: an option has its default or what is given; what is wrong names the option and
// what may be there, and the first one counts.
func TestOptions(t *testing.T) {
	known := []plugins.Option{{Name: "how", Default: "a"}, {Name: "many", Default: "7"}, {Name: "long", Default: "3s"}, {Name: "file"}}
	read := func(given map[string]string) (how string, many int, long time.Duration, err error) {
		v := plugins.ReadOptions("x", known, given)
		how, many, long = v.One("how", "a", "b"), v.Number("many", 10), v.Duration("long", time.Second, time.Minute)
		return how, many, long, v.Err()
	}
	if how, many, long, err := read(nil); how != "a" || many != 7 || long != 3*time.Second || err != nil {
		t.Error(how, many, long, err)
	}
	if how, many, long, err := read(map[string]string{"how": "b", "many": "10", "long": "1m", "file": ""}); how != "b" || many != 10 || long != time.Minute || err != nil {
		t.Error(how, many, long, err)
	}
	for _, c := range []struct{ name, value, want string }{
		{"how", "c", "a, b"}, {"how", "", "a, b"}, {"many", "0", "1 to 10"}, {"many", "11", "1 to 10"}, {"many", "x", "1 to 10"},
		{"long", "999ms", "from 1s to 1m"}, {"long", "61s", "from 1s to 1m"}, {"long", "3", "30s"}, {"hwo", "a", "no such option"},
	} {
		_, _, _, err := read(map[string]string{c.name: c.value})
		if fault.KindOf(err) != fault.Invalid || !strings.Contains(err.Error(), "x option "+c.name) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s=%s: %v", c.name, c.value, err)
		}
	}
	for text, want := range map[string]bool{"4": false, "5": true, "9": true, "10": false, "": false} {
		v := plugins.ReadOptions("x", known, map[string]string{"many": text})
		if v.Between("many", 5, 9); (v.Err() == nil) != want || !want && !strings.Contains(v.Err().Error(), "a number from 5 to 9") {
			t.Errorf("many=%s: %v", text, v.Err())
		}
	}
	if _, _, _, err := read(map[string]string{"how": "c", "many": "0"}); err == nil || !strings.Contains(err.Error(), "option how") {
		t.Errorf("not the first: %v", err)
	}
}
