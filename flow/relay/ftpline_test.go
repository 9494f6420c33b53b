package relay

import (
	"bytes"
	"io"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/pannier/pannier/spec/fault"
)

func TestFTPAddresses(t *testing.T) {
	for _, at := range []string{"127.0.0.1:5000", "10.1.2.255:65535", "[2001:db8::1]:21"} {
		want := netip.MustParseAddrPort(at)
		for _, verb := range []string{"PORT", "EPRT"} {
			c, err := parseFTPCommand([]byte(strings.TrimSuffix(activeCommand(verb, want), "\r\n")))
			got, err2 := c.address()
			if err != nil || err2 != nil || got != want {
				t.Errorf("%s %s is %q, and that is %s, %v, %v", verb, at, c.text, got, err, err2)
			}
		}
	}
	for text, want := range map[string]uint16{
		"227 Entering Passive Mode (1,2,3,4,19,136).": 5000, "227 =1,2,3,4,19,136": 5000, "227 1,2,3,4,5": 0, "227 (1,2,3,4,256,1)": 0, "227 (999999,2,3,4,5,6)": 0,
		"229 Entering (|||5000|)": 5000, "229 (!!!5000!)": 5000, "229 (|||5000)": 0, "229 (||!5000|)": 0, "229 (|||99999|)": 0, "229 5000": 0,
	} {
		code := ftpPassive
		if strings.HasPrefix(text, "229") {
			code = ftpExtended
		}
		if got, ok := passivePort(code, text); got != want && ok || ok != (want != 0) {
			t.Errorf("%q: %d, %t; want %d", text, got, ok, want)
		}
	}
}

var ftpSeeds = []string{
	"PORT 127,0,0,1,4,5\r\n", "EPRT |2|::1|5000|\r\n", "EPSV ALL\r\n", "\xff\xf4\xff\xf2ABOR\r\n", "\xff\xfb\x01NOOP\n", "227 (1,2,3,4,5,6)\r\n", "229 (|||5|)\r\n",
	"211-a\r\n AUTH TLS\r\n211 b\r\n", "GET / HTTP/1.1\r\nHost: x\r\n", "NOOP\rPORT 1,2,3,4,5,6\r\n", "\xff", "EPRT \xff\r\n", "EPRT é1é127.0.0.1é5é\r\n", strings.Repeat("A", maxFTPLine) + "\r\n",
}

// FuzzFTPCommands: a line that is let through is one line, is the same when it is read
// again, and names one address.
func FuzzFTPCommands(f *testing.F) {
	for _, s := range ftpSeeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		in := io.Reader(bytes.NewReader(b))
		if len(b) < 100 {
			in = iotest.OneByteReader(in)
		}
		for lines := newFTPLines(in); ; {
			line, err := lines.next()
			if err == errLongLine {
				continue
			}
			if err != nil {
				if err != io.EOF {
					t.Fatal(err)
				}
				return
			}
			c, err := parseFTPCommand(line)
			if err != nil {
				if k := fault.KindOf(err); k != fault.Invalid && k != fault.Protocol {
					t.Errorf("%q: %v", line, err)
				}
				continue
			}
			sent := c.line()
			body, ok := strings.CutSuffix(sent, "\r\n")
			clean := func(b byte) bool { return strings.IndexByte(body, b) < 0 }
			if body = strings.TrimPrefix(body, ftpInterrupt); !ok || body == "" || !clean('\r') || !clean('\n') || !clean(0) || !clean(telnetIAC) {
				t.Errorf("%q is sent as %q", line, sent)
			}
			again, err := parseFTPCommand([]byte(strings.TrimSuffix(sent, "\r\n")))
			if err != nil || again != c {
				t.Errorf("%q is %+v, and then %+v, %v", line, c, again, err)
			}
			if c.verb != "PORT" && c.verb != "EPRT" {
				continue
			}
			if at, err := c.address(); err == nil {
				c, err = parseFTPCommand([]byte(strings.TrimSuffix(activeCommand(c.verb, at), "\r\n")))
				if same, bad := c.address(); err != nil || bad != nil || same != at {
					t.Errorf("%q is %s, and that is %s", line, at, same)
				}
			}
		}
	})
}

// FuzzFTPReplies: what a server sends is followed without a panic, and a port that is found
// is one that is found in the relay's own words, too.
func FuzzFTPReplies(f *testing.F) {
	for _, s := range ftpSeeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var r ftpReplies
		for lines := newFTPLines(bytes.NewReader(b)); ; {
			line, err := lines.next()
			if err == errLongLine {
				continue
			}
			if err != nil {
				return
			}
			code := r.next(line)
			_ = r.hidden(line)
			if code != 0 && (code < 100 || code > 599) {
				t.Errorf("%q ends reply %d", line, code)
			}
			if code != ftpPassive && code != ftpExtended {
				continue
			}
			if port, ok := passivePort(code, string(line)); ok {
				verb := map[int]string{ftpPassive: "PASV", ftpExtended: "EPSV"}[code]
				own := passiveReply(verb, netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), port))
				if again, ok := passivePort(code, own); !ok || again != port {
					t.Errorf("%q is port %d, and %q is %d", line, port, own, again)
				}
			}
		}
	})
}

// TestFTPPendingIsSmall: what is kept of a command until its reply comes is its name, and not
// the line that it came in.
func TestFTPPendingIsSmall(t *testing.T) {
	used := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	line := []byte("NOOP " + strings.Repeat("x", maxFTPLine-16))
	kept := make([]string, maxFTPPending)
	before := used()
	for i := range kept {
		c, err := parseFTPCommand(line)
		if err != nil {
			t.Fatal(err)
		}
		kept[i] = c.verb
	}
	if n := int64(used()) - int64(before); n > maxFTPPending*maxFTPLine/8 {
		t.Errorf("%d bytes are kept of %d commands", n, maxFTPPending)
	}
	runtime.KeepAlive(kept)
}
