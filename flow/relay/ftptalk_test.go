package relay

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"
)

// Who is where in these tests, all of them on loopback.
const (
	ftpEntryHost    = "127.0.0.4"
	ftpExitHost     = "127.0.0.1" // what the system takes for 127.0.0.2
	ftpServerHost   = "127.0.0.2"
	ftpClientHost   = "127.0.0.3"
	ftpStrangerHost = "127.0.0.9"
)

// talk is a control connection of FTP, both of whose ends are the test.
type talk struct {
	*two
	entry, exit       *Hub
	entryLog, exitLog *records
	listener          net.Listener // the server's
	c, s              net.Conn
	client, server    *bufio.Reader
}

func dialFrom(host, to string) (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(host)}}
	return d.Dial("tcp", to)
}

// turnedAway reports whether a connection from an address is ended without a byte.
func turnedAway(host, to string) bool {
	c, err := dialFrom(host, to)
	if err != nil {
		return true // before the system has said that it is there
	}
	defer c.Close()
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	n, err := c.Read(make([]byte, 1))
	return n == 0 && !errors.Is(err, os.ErrDeadlineExceeded)
}

// from connects from an address.
func from(t testing.TB, host, to string) net.Conn {
	t.Helper()
	c, err := dialFrom(host, to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func listenAt(t testing.TB, host string) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// accept is the next connection, which has to come.
func accept(t testing.TB, l net.Listener) net.Conn {
	t.Helper()
	l.(*net.TCPListener).SetDeadline(time.Now().Add(10 * time.Second))
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func newTalk(t testing.TB, at Place, change ...func(*two)) *talk {
	t.Helper()
	l := listenAt(t, ftpServerHost)
	cfg := allowAll("ftp://" + l.Addr().String())
	cfg.Policy[0].Listen = []string{"tcp://" + ftpEntryHost + ":*"}
	k := &talk{two: join(t, Config{}, cfg, true), listener: l}
	k.entry, k.exit, k.entryLog, k.exitLog = k.west, k.east, k.westAudit, k.eastLog
	if at == There {
		k.entry, k.exit, k.entryLog, k.exitLog = k.east, k.west, k.eastLog, k.westAudit
	}
	for _, f := range change {
		f(k.two)
	}
	k.add("tcp://"+ftpEntryHost+":0", "ftp://"+l.Addr().String(), func(r *Relay) { r.At = at })
	k.begin()
	return k
}

func (b *ftpControls) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.all)
}

// one is the control connection, if there is only one.
func (b *ftpControls) one() (f *ftp) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, f = range b.all {
	}
	return f
}

// begin makes the control connection and says hello.
func (k *talk) begin() {
	k.t.Helper()
	k.c = from(k.t, ftpClientHost, k.bound(0))
	k.s = accept(k.t, k.listener)
	k.client, k.server = bufio.NewReader(k.c), bufio.NewReader(k.s)
	k.replies("220 hello", "220 hello")
}

func sends(t testing.TB, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
}

// lineOf reads one, without its end.
func lineOf(t testing.TB, c net.Conn, r *bufio.Reader) string {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	s, err := r.ReadString('\n')
	if err != nil {
		t.Fatalf("%q, %v", s, err)
	}
	return strings.TrimSuffix(s, "\r\n")
}

// commands has the client send a line, and the server has to get want.
func (k *talk) commands(text, want string) {
	k.t.Helper()
	sends(k.t, k.c, text+"\r\n")
	if got := lineOf(k.t, k.s, k.server); got != want {
		k.t.Fatalf("the server gets %q for %q; want %q", got, text, want)
	}
}

// replies has the server send a line, and the client has to get want.
func (k *talk) replies(text, want string) {
	k.t.Helper()
	sends(k.t, k.s, text+"\r\n")
	k.told(want)
}

func (k *talk) told(want string) {
	k.t.Helper()
	if got := lineOf(k.t, k.c, k.client); got != want {
		k.t.Fatalf("the client gets %q; want %q", got, want)
	}
}

// refuses has the client send a line that the relay answers.
func (k *talk) refuses(text, code string) {
	k.t.Helper()
	sends(k.t, k.c, text+"\r\n")
	if got := lineOf(k.t, k.c, k.client); !strings.HasPrefix(got, code+" ") {
		k.t.Errorf("%q is answered by %q; want %s", text, got, code)
	}
}

func port(a net.Addr) uint16 { return uint16(a.(*net.TCPAddr).Port) }

// passive has the server announce a port and returns the one that the client is told.
func (k *talk) passive(verb string, server uint16) string {
	k.t.Helper()
	k.commands(verb, verb)
	if verb == "PASV" { // with an address that leads nowhere
		sends(k.t, k.s, fmt.Sprintf("227 Entering Passive Mode (10,9,8,7,%d,%d).\r\n", server>>8, server&255))
	} else {
		sends(k.t, k.s, fmt.Sprintf("229 Entering Extended Passive Mode (|||%d|)\r\n", server))
	}
	reply := lineOf(k.t, k.c, k.client)
	p, ok := passivePort(map[string]int{"PASV": 227, "EPSV": 229}[verb], reply)
	if !ok || p == server || verb == "PASV" && !strings.Contains(reply, "(127,0,0,4,") {
		k.t.Fatalf("the client is told %q", reply)
	}
	return net.JoinHostPort(ftpEntryHost, fmt.Sprint(p))
}

// active has the client announce a port and returns the one that the server is told.
func (k *talk) active(verb string, client uint16) string {
	k.t.Helper()
	at := netip.AddrPortFrom(netip.MustParseAddr(ftpClientHost), client)
	sends(k.t, k.c, activeCommand(verb, at))
	c, err := parseFTPCommand([]byte(lineOf(k.t, k.s, k.server)))
	to, err2 := c.address()
	if err != nil || err2 != nil || c.verb != verb || to.Port() == client || to.Addr().String() != ftpExitHost {
		k.t.Fatalf("the server is told %q, %v, %v", c.text, err, err2)
	}
	k.replies("200 connects", "200 connects")
	return to.String()
}

// carries sends both ways through a data connection, and ends it by halves.
func carries(t testing.TB, near, far net.Conn) {
	t.Helper()
	say(t, near, far, "there")
	say(t, far, near, "and back")
	near.(halfCloser).CloseWrite()
	if !ended(far) {
		t.Error("the end of one direction did not arrive")
	}
	say(t, far, near, "still")
	far.(halfCloser).CloseWrite()
	if n, err := near.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("%d bytes, %v; want the end", n, err)
	}
}

var places = []Place{Here, There}
