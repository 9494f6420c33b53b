package carrier

import (
	"errors"
	"strings"
	"testing"

	"github.com/pannier/pannier/spec/fault"
)

func TestParseAddress(t *testing.T) {
	for text, want := range map[string]string{
		"tcp://host:1234":     "tcp://host:1234",
		"tcp://host":          "tcp://host:6610",
		"tls://host":          "tls://host:6610",
		"tls://10.0.0.1:007":  "tls://10.0.0.1:7",
		"tls://[2001:db8::1]": "tls://[2001:db8::1]:6610",
		"tls://[::1]:1":       "tls://[::1]:1",
		"tcp://:0":            "tcp://:0",
		"unix:///run/p.sock":  "unix:///run/p.sock",
		"pipe:":               "pipe:",

		"fifo:///run/in,/run/out":       "fifo:///run/in,/run/out",
		"tls+fifo:///run/in,/run/out":   "fifo:///run/in,/run/out",
		"plain+fifo:///run/in,/run/out": "plain+fifo:///run/in,/run/out",
		"fifo:///dev/vport0p1":          "fifo:///dev/vport0p1",
		"tty:///dev/ttyS0":              "tty:///dev/ttyS0",
		"tty:///dev/ttyS0?baud=0115200": "tty:///dev/ttyS0?baud=115200",
		"stdio:":                        "stdio:",
		"plain+stdio:":                  "plain+stdio:",

		`exec:[ "ssh" , "host b", "<\u0041>" ]`: `exec:["ssh","host b","<A>"]`,
		`plain+exec:["a\nb"]`:                   `plain+exec:["a\nb"]`,
	} {
		a, err := ParseAddress(text)
		if err != nil || a.String() != want {
			t.Errorf("%q is %q, %v; want %q", text, a, err, want)
		}
	}
}

func TestParseAddressRefuses(t *testing.T) {
	for _, text := range []string{
		"", "host", "host:1234", "http://host", "tcp:host", "tcp://", "tls://host:", "tls://host:65536", "tls://host:-1",
		"tls://host:http", "tls://2001:db8::1", "tls://ho st", "tls://host/path", "tls://user@host", "tls://a\x00b",
		"unix://relative", "unix://", "unix:///", "unix:///a/../b", "unix:///a/", "unix:///a\x00b", "pipe:x", "pipe://",
		"unix:///" + strings.Repeat("x", 107),
		"fifo:", "fifo://", "fifo:///", "fifo://a,b", "fifo:///a,", "fifo:///a,b", "fifo:///a,/b,/c", "fifo:///a,/a", "fifo:///a/,/b", "fifo:/a,/b",
		"tty:", "tty:///dev/x?", "tty:///dev/x?baud=", "tty:///dev/x?baud=0", "tty:///dev/x?baud=-9", "tty:///dev/x?speed=9", "tty:///dev/x?baud=99999999",
		"stdio", "stdio:x", "stdio://", "plain+tcp://h", "tls+tcp://h", "plain+plain+stdio:", "plain+tls+stdio:", "plain+pipe:",
		"exec:", "exec:ls", "exec:[]", `exec:[""]`, `exec:["a",1]`, `exec:["a"]x`, `exec:["a\u0000"]`, `exec:null`, "exec:[\"a\xff\"]",
		`exec:["a"` + strings.Repeat(`,""`, maxArguments) + "]", `exec:["` + strings.Repeat(`\n`, 507) + `"]`,
	} {
		_, err := ParseAddress(text)
		if !errors.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "unix:///absolute/path") {
			t.Errorf("%q: %v; want an error that says what is accepted", text, err)
		}
	}
	if _, err := ParseAddress("tcp://" + strings.Repeat("x", maxAddress)); !errors.Is(err, fault.TooLong) {
		t.Errorf("long address: %v", err)
	}
}

func FuzzParseAddress(f *testing.F) {
	for _, s := range []string{"tcp://h:1", "tls://[::1]", "unix:///a/b", "pipe:", "tls://[a]:b]:1", "tcp://[%]", "tcp://h:0x1", "fifo:///a,/b", "plain+tty:///a?baud=9", `exec:["a","b c"]`, "tls+stdio:"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		a, err := ParseAddress(text)
		if err != nil {
			if k := fault.KindOf(err); k != fault.Invalid && k != fault.TooLong {
				t.Fatalf("%q: kind %v", text, k)
			}
			return
		}
		again, err := ParseAddress(a.String())
		if err != nil || again != a {
			t.Fatalf("%q is %+v, whose text is %+v, %v", text, a, again, err)
		}
	})
}

func TestParsePins(t *testing.T) {
	key := "sha256:" + strings.Repeat("0a", 32)
	pins, err := ParsePins(" "+key+"\n", strings.Replace(key, "0a", "0A", 3))
	if err != nil || len(pins) != 2 || pins[0] != key || pins[1] != key || !pins.Has(key) {
		t.Errorf("%v, %v", pins, err)
	}
	for _, bad := range []string{"", key[7:], key + "0", key[:len(key)-1], "sha1:" + key[7:], strings.Replace(key, "0a", "0g", 1), "sha256:"} {
		if _, err := ParsePins(key, bad); !errors.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if pins.Has("") || pins.Has("sha256:") || Pins(nil).Has("") {
		t.Error("the empty key is pinned")
	}
}

func FuzzParsePins(f *testing.F) {
	f.Add("sha256:" + strings.Repeat("0a", 32))
	f.Add("SHA256:" + strings.Repeat("0A", 32))
	f.Add("sha256:K")
	f.Fuzz(func(t *testing.T, text string) {
		pins, err := ParsePins(text)
		if err != nil {
			return
		}
		again, err := ParsePins(pins...)
		if err != nil || len(pins) != 1 || again[0] != pins[0] || len(pins[0]) != keyLen {
			t.Fatalf("%q: %q, then %q, %v", text, pins, again, err)
		}
	})
}
