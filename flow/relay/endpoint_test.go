package relay

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/pannier/pannier/spec/fault"
)

func TestParseEndpoint(t *testing.T) {
	for _, tc := range []struct {
		text, accept, to string // as printed, or the words of the error after "!"
	}{
		{"tcp://127.0.0.1:80", "tcp://127.0.0.1:80", "tcp://127.0.0.1:80"},
		{"tcp://[::1]:80", "tcp://[::1]:80", "tcp://[::1]:80"},
		{"tcp://:8000-8002,9000", "tcp://:8000-8002,9000", "!no host"},
		{"tcp://10.0.0.1:8000-8002", "tcp://10.0.0.1:8000-8002", "!one port"},
		{"tcp://db.example:5432", "!is a name", "tcp://db.example:5432"},
		{"tcp://localhost:22", "tcp://127.0.0.1:22", "tcp://localhost:22"},
		{"tcp://10.0.0.1:{port}", "!is no port", "tcp://10.0.0.1:{port}"},
		{"tcp://10.0.0.1:0", "tcp://10.0.0.1:0", "!one port"},
		{"tcp://10.0.0.1:0,80", "!stands alone", "!one port"},
		{"udp://10.0.0.1:53", "udp://10.0.0.1:53", "udp://10.0.0.1:53"},
		{"unix:///run/s", "unix:///run/s", "unix:///run/s"},
		{`exec:["/bin/cat", "-u"]`, "!cannot be listened at", `exec:["/bin/cat","-u"]`},
		{"socks5://127.0.0.1:1080", "socks5://127.0.0.1:1080", "!clients say"},
		{"http://127.0.0.1:3128", "http://127.0.0.1:3128", "!clients say"},
		{"", "!no scheme", "!no scheme"},
		{"tcp:127.0.0.1:80", "!write tcp://", "!write tcp://"},
		{"ftp://127.0.0.1:21", "!is a destination", "ftp://127.0.0.1:21"},
		{"sftp://127.0.0.1:21", "!unknown scheme", "!unknown scheme"},
		{"tcp://::1:80", "!brackets", "!brackets"},
		{"tcp://[127.0.0.1]:80", "!brackets", "!brackets"},
		{"tcp://127.0.0.1", "!no port", "!no port"},
		{"tcp://127.0.0.1:65536", "!is no port", "!is no port"},
		{"tcp://127.0.0.1:90-80", "!is no port", "!is no port"},
		{"tcp://127.0.0.1:1-2000", "!more than 1024", "!more than 1024"},
		{"tcp://a b:80", "!no host", "!no host"},
		{"unix://run/s", "!absolute", "!absolute"},
		{"unix:///run/../s", "!absolute", "!absolute"},
		{"unix:///" + strings.Repeat("a", 110), "!absolute", "!absolute"},
		{`exec:["cat"]`, "!absolute", "!absolute"},
		{`exec:[]`, "!1 to 64 words", "!1 to 64 words"},
		{`exec:/bin/cat`, "!write exec", "!write exec"},
		{`exec:["/bin/cat","a\u0000"]`, "!NUL", "!NUL"},
		{"tcp://" + strings.Repeat("a", 5000) + ":80", "!at most 4096", "!at most 4096"},
	} {
		check := func(how string, e Endpoint, err error, want string) {
			t.Helper()
			if words, bad := strings.CutPrefix(want, "!"); bad {
				if err == nil || !strings.Contains(err.Error(), words) || fault.KindOf(err) != fault.Invalid {
					t.Errorf("%s %q: %v, want words %q", how, tc.text, err, words)
				}
				return
			}
			if err != nil || e.String() != want {
				t.Errorf("%s %q: %s, %v; want %s", how, tc.text, e, err, want)
			}
		}
		e, err := ParseAccept(tc.text)
		check("accept", e, err, tc.accept)
		e, err = ParseTo(tc.text)
		check("to", e, err, tc.to)
	}
}

func FuzzEndpoint(f *testing.F) {
	for _, s := range []string{"tcp://127.0.0.1:80", "udp://[::1]:1-9,11", `exec:["/a"]`, "unix:///a", "tcp://a:{port}"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, parse := range []func(string) (Endpoint, error){ParseAccept, ParseTo} {
			e, err := parse(s)
			if err != nil {
				continue
			}
			again, err := parse(e.String())
			if err != nil || again.String() != e.String() {
				t.Errorf("%q is %q, and that is %q, %v", s, e, again, err)
			}
		}
		_, _ = ParsePattern(s)
	})
}

func TestPattern(t *testing.T) {
	for _, tc := range []struct {
		pattern, to, address string
		want                 bool
	}{
		{"tcp://10.0.0.0/8:80", "tcp://10.1.2.3:80", "10.1.2.3", true},
		{"tcp://10.0.0.0/8:80", "tcp://db:80", "10.1.2.3", true},
		{"tcp://10.0.0.0/8:80", "tcp://db:80", "11.1.2.3", false},
		{"tcp://[fd00::/8]:*", "tcp://[fd01::1]:9", "fd01::1", true},
		{"tcp://[fd00::/8]:*", "tcp://[fd00:ec2::254]:80", "fd00:ec2::254", false},
		{"tcp://[fd00:ec2::254]:80", "tcp://[fd00:ec2::254]:80", "fd00:ec2::254", true},
		{"tcp://*:80,443", "tcp://x:443", "10.0.0.1", true},
		{"tcp://*:80,443", "tcp://x:444", "10.0.0.1", false},
		{"tcp://*:*", "tcp://x:65535", "127.0.0.1", false},
		{"tcp://*:*", "udp://x:53", "10.0.0.1", false},
		{"udp://*:53", "udp://x:53", "10.0.0.1", true},
		{"tcp://*.example.com:*", "tcp://A.Example.Com.:1", "10.0.0.1", true},
		{"tcp://*.example.com:*", "tcp://example.com:1", "10.0.0.1", false},
		{"tcp://*.example.com:*", "tcp://badexample.com:1", "10.0.0.1", false},
		{"tcp://127.0.0.1:*", "tcp://127.0.0.2:1", "127.0.0.2", false},
		{"tcp://127.0.0.1:*", "tcp://localhost:1", "127.0.0.1", true},
		{"tcp://127.0.0.1:*", "tcp://[::ffff:127.0.0.1]:1", "::ffff:127.0.0.1", true},
		{"tcp://0.0.0.0/0:*", "tcp://127.0.0.1:1", "127.0.0.1", false},
		{"tcp://169.254.0.0/16:*", "tcp://169.254.169.254:80", "169.254.169.254", true},
		{"unix:///run/app/*", "unix:///run/app/s", "", true},
		{"unix:///run/app/*", "unix:///run/app/sub/s", "", false},
	} {
		p, err := ParsePattern(tc.pattern)
		if err != nil {
			t.Fatal(err)
		}
		to := mustTo(t, tc.to)
		got := p.may(to)
		if got && tc.address != "" {
			got = p.has(to.Host, netip.MustParseAddr(tc.address))
		}
		if got != tc.want {
			t.Errorf("%s has %s at %s: %v", tc.pattern, tc.to, tc.address, got)
		}
	}
	for _, bad := range []string{"tcp://a*:80", "tcp://*x:80", "tcp://:80", "socks5://*:1", "tcp://*:x", "nothing",
		"tcp://localhost:22", "tcp://a.localhost:22", "tcp://10.0.0.1/8:80", "unix:///run/*/x"} {
		if _, err := ParsePattern(bad); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// TestRelayIsChecked: what makes no sense is said before anything listens.
func TestRelayIsChecked(t *testing.T) {
	h, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	tcp, udp, unix, socks := mustAccept(t, "tcp://127.0.0.1:0"), mustAccept(t, "udp://127.0.0.1:0"), mustAccept(t, "unix:///nowhere/s"), mustAccept(t, "socks5://127.0.0.1:0")
	for words, r := range map[string]Relay{
		"a name has":         {Name: "a b", Partner: "p", Accept: tcp, To: mustTo(t, "tcp://x:1")},
		"over whose session": {Name: "a", Accept: tcp, To: mustTo(t, "tcp://x:1")},
		"1100 ports":         {Name: "a", Partner: "p", Accept: mustAccept(t, "tcp://127.0.0.1:1-600", "tcp://127.0.0.2:1-500"), To: mustTo(t, "tcp://x:1")},
		"cannot share":       {Name: "a", Partner: "p", Accept: append(tcp, udp...), To: mustTo(t, "tcp://x:1")},
		"nothing says where": {Name: "a", Partner: "p", Accept: tcp},
		"has no meaning":     {Name: "a", Partner: "p", Accept: unix, To: mustTo(t, "tcp://x:{port}")},
		"would say which":    {Name: "a", Partner: "p", Accept: tcp, At: There, To: mustTo(t, "tcp://10.0.0.5:{port}")},
		"not of one sort":    {Name: "a", Partner: "p", Accept: udp, To: mustTo(t, "tcp://x:1")},
		"accepted here":      {Name: "a", Partner: "p", Accept: socks, At: There},
		"listen":             {Name: "a", Partner: "p", Accept: unix, To: mustTo(t, "tcp://x:1")},
	} {
		if err := h.Add(r); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%v, want %q", err, words)
		}
	}
	if len(h.Stats()) > 0 {
		t.Errorf("%+v", h.Stats())
	}
	good := Relay{Name: "a", Partner: "p", Accept: tcp, To: mustTo(t, "tcp://x:1")}
	if err := h.Add(good); err != nil {
		t.Fatal(err)
	}
	if err := h.Add(good); fault.KindOf(err) != fault.Exists {
		t.Error(err)
	}
}
