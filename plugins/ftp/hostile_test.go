package ftp

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/pannier/pannier/flow/flowtest/testcert"
	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/scorecard/score"
)

// third is a host that nobody has named, at the port of a fake's data connections.
type third struct {
	came atomic.Int64
	l    net.Listener
}

const thirdHost = "127.0.0.9"

func (c *third) at(t *testing.T, port int) {
	t.Helper()
	if c.l != nil {
		return
	}
	l, err := net.Listen("tcp", fmt.Sprintf("%s:%d", thirdHost, port))
	if err != nil {
		t.Error(err)
		return
	}
	c.l = l
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			c.came.Add(1)
			_, _ = io.WriteString(conn, "of somebody else")
			_ = conn.Close()
		}
	}()
}

// TestHostile is check 38, as far as servers of FTP go: what they say leads nowhere but to
// themselves, and what is not for them is not told.
func TestHostile(t *testing.T) {
	tries, leaks := 0, 0
	leak := func(format string, args ...any) {
		leaks++
		t.Errorf(format, args...)
	}
	heard := func(f *fake, what string) bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		for _, h := range f.heard {
			if strings.Contains(h, what) {
				return true
			}
		}
		return false
	}
	astray := func(c *third) func(*fakeConn, string, string) string {
		return func(conn *fakeConn, w, arg string) string {
			switch w {
			case "EPSV", "EPRT":
				return "502 no"
			case "PASV":
				port := conn.listen()
				c.at(t, port)
				return fmt.Sprintf("227 Entering (127,0,0,9,%d,%d)", port>>8, port&255)
			case "PORT":
				p := strings.Split(arg, ",")
				var hi, lo int
				_, _ = fmt.Sscan(p[4], &hi)
				_, _ = fmt.Sscan(p[5], &lo)
				conn.to = net.JoinHostPort(strings.Join(p[:4], "."), fmt.Sprint(hi<<8|lo))
				return "200 fine"
			}
			return ""
		}
	}

	// 227 names another host.
	var elsewhere third
	f := newFake(t, astray(&elsewhere))
	f.put("/f", []byte("12345"))
	tries++
	if b, err := reads(t.Context(), f.mustOpen(), "/f", 0); err != nil || string(b) != "12345" {
		t.Errorf("%q, %v", b, err)
	}
	// In a direct copy, it would lead the other server there.
	var victim third
	src, dst := newFake(t, astray(&victim)), newFake(t, astray(&victim))
	src.put("/f", []byte("12345"))
	tries++
	s, d := src.mustOpen("fxp", "any"), dst.mustOpen("fxp", "any")
	if _, err := s.Copy(t.Context(), "/f", d, "/g", plugins.CopyRequest{}); err != nil {
		t.Error(err)
	}
	for _, f := range []*fake{src, dst} {
		if heard(f, "PORT 127,0,0,9") {
			leak("a server was led to a third host")
		}
	}
	if n := elsewhere.came.Load() + victim.came.Load(); n > 0 {
		leaks += int(n)
		t.Errorf("%d connections went to a third host", n)
	}

	// A name has the rest of a command.
	for _, name := range []string{"/a\r\nDELE /f", "/a\nDELE /f", "/a\rDELE /f", "/a\x00"} {
		tries++
		_, err := f.mustOpen().Stat(t.Context(), name)
		isKind(t, err, fault.Invalid)
		_, err = f.mustOpen().Write(t.Context(), name, plugins.WriteRequest{Size: -1})
		isKind(t, err, fault.Invalid)
		isKind(t, f.mustOpen().Rename(t.Context(), "/f", name), fault.Invalid)
	}
	if heard(f, "DELE") {
		leak("a name was a command")
	}

	// An endless banner: it is given up, after what a reply may have.
	var sent atomic.Int64
	endless := newFake(t, func(c *fakeConn, w, _ string) string {
		for w == "BANNER" {
			n, err := io.WriteString(c.c, "220-"+strings.Repeat("x", 1000)+"\r\n")
			if sent.Add(int64(n)); err != nil {
				return hangUp
			}
		}
		return ""
	})
	tries++
	soon(t, func() {
		_, err := endless.open()
		isKind(t, err, fault.Protocol)
	})
	if n := sent.Load(); n > 16<<20 { // most of it in the buffers of the system
		leak("%d bytes of a banner were taken", n)
	}
	if heard(endless, "PASS") {
		leak("the password was told")
	}

	// TLS is taken away: the password is not told.
	cert := testcert.New(t, t.TempDir(), "127.0.0.1")
	for _, stripped := range []string{"500 no", "502 not here", "431 later", "200 but not so", "234 go on\r\n331 and who says so?"} {
		tries++
		f := newFake(t, on("AUTH", stripped))
		f.serves(cert.Server, false)
		for _, how := range []string{"explicit", "require"} {
			if _, err := f.open("tls", how, "ca", cert.File); err == nil {
				leak("tls=%s: logged in without TLS", how)
			}
		}
		if heard(f, "USER") || heard(f, "PASS") {
			leak("%q: the password was told", stripped)
		}
	}
	score.Report(t, float64(leaks), fmt.Sprintf("ftp: %d lies", tries))
}
