package main

import (
	"strings"
	"testing"

	"github.com/pannier/pannier/spec/fault"
)

func TestParseTarget(t *testing.T) {
	here, anywhere := plainFlags{here: true}, plainFlags{anywhere: true}
	for _, c := range []struct {
		text, address, path string
		plain               plainFlags
	}{
		{text: "example.org:a/b", address: "tls://example.org:6610", path: "a/b"},
		{text: "example.org:7000:a", address: "tls://example.org:7000", path: "a"},
		{text: "example.org:7000:7000:a", address: "tls://example.org:7000", path: "7000:a"},
		{text: "example.org:6610:", address: ""},
		{text: "example.org:7000", address: "tls://example.org:6610", path: "7000"},
		{text: "example.org:a:b", address: "tls://example.org:6610", path: "a:b"},
		{text: "example.org::a", address: "tls://example.org:6610", path: ":a"},
		{text: "[::1]:a", address: "tls://[::1]:6610", path: "a"},
		{text: "[::1]:80:a", address: "tls://[::1]:80", path: "a"},
		{text: "unix:/run/x.sock:a b", address: "unix:///run/x.sock", path: "a b"},
		{text: "unix:///run/x.sock:a", address: "unix:///run/x.sock", path: "a"}, // as serve prints them
		{text: "tls://example.org:7000:a", address: "tls://example.org:7000", path: "a"}, {text: "tls://[::1]:80:a", address: "tls://[::1]:80", path: "a"},
		{text: "tcp://127.0.0.1:7000:a", plain: here, address: "tcp://127.0.0.1:7000", path: "a"},
		{text: "tls://127.0.0.1:7000:a", plain: here}, {text: "tcp://127.0.0.1:7000:a"}, {text: "tls://unix:/x:a"},
		{text: "localhost:a", plain: here, address: "tcp://localhost:6610", path: "a"},
		{text: "[::1]:1:a", plain: here, address: "tcp://[::1]:1", path: "a"},
		{text: "127.9.9.9:a", plain: here, address: "tcp://127.9.9.9:6610", path: "a"},
		{text: "unix:/x:a", plain: here, address: "unix:///x", path: "a"},
		{text: "192.0.2.1:a", plain: here},
		{text: "0.0.0.0:a", plain: here}, {text: "[::]:a", plain: here}, {text: "127.1:a", plain: here}, {text: "[fe80::1%lo]:a", plain: here},
		{text: "192.0.2.1:a", plain: anywhere, address: "tcp://192.0.2.1:6610", path: "a"},
		{text: "192.0.2.1:a", plain: plainFlags{true, true}, address: "tcp://192.0.2.1:6610", path: "a"},
		{text: "localhost.example.org:a", plain: here},
		{text: "fifo:///run/in,/run/out:a/b", address: "fifo:///run/in,/run/out", path: "a/b"},
		{text: "fifo:///run/in,/run/out:a", plain: here, address: "plain+fifo:///run/in,/run/out", path: "a"},
		{text: "fifo:a", address: "tls://fifo:6610", path: "a"}, {text: "exec:80:a", address: "tls://exec:80", path: "a"},
		{text: "tty:///dev/ttyS0?baud=9600:a", address: "tty:///dev/ttyS0?baud=9600", path: "a"},
		{text: `exec:["ssh", "b:", "x y"]:a:b`, address: `exec:["ssh","b:","x y"]`, path: "a:b"},
		{text: `exec:["ssh"]:a`, plain: anywhere, address: `plain+exec:["ssh"]`, path: "a"},
		{text: `exec:["ssh"]:a`, plain: here}, {text: "tty:///dev/ttyS0:a", plain: here},
		{text: `exec:["ssh"]`}, {text: `exec:["ssh"`}, {text: `exec:[1]:a`}, {text: "fifo:///run/in,/run/out"}, {text: "fifo://in,out:a"},
		{text: ""}, {text: ":"}, {text: "a"}, {text: ":a"}, {text: "a:"}, {text: "[::1:a"}, {text: "[::1]a:b"}, {text: "a:99999:b"},
		{text: "a:../b"}, {text: "a:/b"}, {text: "a:b\x1b"}, {text: "unix:/x"}, {text: "unix:x:a"}, {text: "unix::a"},
	} {
		got, err := parseTarget(c.text, c.plain)
		if c.address == "" {
			if fault.KindOf(err) != fault.Invalid {
				t.Errorf("%q: %+v, %v; want an error that says invalid", c.text, got, err)
			}
			continue
		}
		if err != nil || got.address.String() != c.address || got.path.String() != c.path {
			t.Errorf("%q: %v %v, %v; want %s and %s", c.text, got.address, got.path, err, c.address, c.path)
		}
	}
}

// FuzzParseTarget: whatever is accepted names an address that stays on this
// machine if plain, and a path below the root.
func FuzzParseTarget(f *testing.F) {
	for _, s := range []string{"h:p", "h:1:p", "[::1]:2:p", "unix:/s:p", "fifo:///a,/b:p", `exec:["a"]:p`, "127.0.0.1:a/b", "h:../x", "[", "unix:", "::", "a:b:c:d"} {
		f.Add(s, true)
		f.Add(s, false)
	}
	f.Fuzz(func(t *testing.T, text string, here bool) {
		plain := plainFlags{here: here}
		got, err := parseTarget(text, plain)
		if err != nil {
			if k := fault.KindOf(err); k != fault.Invalid && k != fault.TooLong {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		if got.path.IsZero() || here && got.address.Scheme != "unix" && got.address.Scheme != "fifo" && !loopback(got.address.Host) {
			t.Fatalf("%q: %+v", text, got)
		}
		if back, err := parseTarget(back(got), plain); err != nil || back.address != got.address || back.path != got.path {
			t.Fatalf("%q: %+v, then %+v, %v", text, got, back, err)
		}
	})
}

// back writes a target with everything that may be left out.
func back(t target) string {
	if t.address.Scheme == "unix" {
		return "unix:" + t.address.Path + ":" + t.path.String()
	}
	if t.address.Single() {
		return strings.TrimPrefix(t.address.String(), "plain+") + ":" + t.path.String()
	}
	return t.address.String()[len("tls://"):] + ":" + t.path.String()
}
