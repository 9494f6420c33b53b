package relay

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/flow/wire"
	"github.com/pannier/pannier/spec/fault"
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

// TestFTPData: each way to announce a data connection leads to one, at either place; it is
// relayed by halves, and both ends list and record it.
func TestFTPData(t *testing.T) {
	for _, at := range places {
		for _, verb := range []string{"PASV", "EPSV", "PORT", "EPRT"} {
			t.Run(at.String()+" "+verb, func(t *testing.T) {
				k := newTalk(t, at)
				var near, far net.Conn
				var client, server string
				if verb == "PASV" || verb == "EPSV" {
					l := listenAt(t, ftpServerHost)
					near = from(t, ftpClientHost, k.passive(verb, port(l.Addr())))
					far = accept(t, l)
					client, server = near.LocalAddr().String(), l.Addr().String()
				} else {
					l := listenAt(t, ftpClientHost)
					far = from(t, ftpServerHost, k.active(verb, port(l.Addr())))
					near = accept(t, l)
					client, server = l.Addr().String(), far.LocalAddr().String()
					if host, _, _ := net.SplitHostPort(near.RemoteAddr().String()); host != ftpEntryHost {
						t.Errorf("the client sees a connection from %s", host)
					}
				}
				for hub, role := range map[*Hub]Role{k.entry: Entry, k.exit: Exit} {
					is := func(c ConnStats) bool {
						return c.From == client && c.To == "tcp://"+server && c.Role == role && c.Relay == "r"
					}
					waitFor(t, func() bool { return len(hub.Conns()) == 2 })
					if all := hub.Conns(); !slices.ContainsFunc(all, is) {
						t.Errorf("%s lists %+v", role, all)
					}
				}
				carries(t, near, far)
				for _, log := range []*records{k.entryLog, k.exitLog} {
					waitFor(t, func() bool {
						return len(log.with("msg=relayed", "from="+client, "to=tcp://"+server, "lasted=")) == 1
					})
				}
				k.commands("QUIT", "QUIT")
				k.replies("221 bye", "221 bye")
				if s := k.west.Stats()[0]; s.Opened != 2 || s.ToPeer == 0 || s.FromPeer == 0 || s.Refused != 0 {
					t.Errorf("%+v", s)
				}
				k.c.Close()
				k.s.Close()
				waitFor(t, func() bool { return k.entry.controls.count()+k.exit.controls.count() == 0 })
			})
		}
	}
}

// TestFTPReset: an error of a data connection is one at its other end.
func TestFTPReset(t *testing.T) {
	k := newTalk(t, Here)
	l := listenAt(t, ftpServerHost)
	near := from(t, ftpClientHost, k.passive("EPSV", port(l.Addr())))
	far := accept(t, l)
	say(t, near, far, "x")
	far.(*net.TCPConn).SetLinger(0)
	far.Close()
	near.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := near.Read(make([]byte, 1)); err == nil || err == io.EOF || strings.Contains(err.Error(), "timeout") {
		t.Errorf("%v; want a reset", err)
	}
	k.commands("NOOP", "NOOP")
	k.replies("200 ok", "200 ok")
}

// TestFTPForeign: PORT and EPRT name the client's own address and no port of a service, or
// are refused with the reason, and the server does not get them.
func TestFTPForeign(t *testing.T) {
	k := newTalk(t, Here)
	for _, c := range []struct{ text, code string }{
		{"PORT 127,0,0,9,200,1", "500"}, {"PORT 10,0,0,1,200,1", "500"}, {"EPRT |1|127.0.0.9|5000|", "500"}, {"EPRT |2|::1|5000|", "500"},
		{"PORT 127,0,0,3,0,25", "500"}, {"EPRT |1|127.0.0.3|1023|", "500"},
		{"PORT 127,0,0,3,200", "501"}, {"PORT 127,0,0,3,200,256", "501"}, {"PORT 127,0,0,3,200,+1", "501"}, {"PORT", "501"}, {"EPRT", "501"},
		{"EPRT |1|::1|5000|", "501"}, {"EPRT |2|::ffff:127.0.0.3|5000|", "501"}, {"EPRT |1|127.0.0.3|65536|", "501"}, {"EPRT |1|127.0.0.3|5000", "501"}, {"EPRT |3|x|5000|", "501"},
		{"EPSV 2", "522"}, {"LPRT 4,4,127,0,0,3,2,200,1", "502"}, {"LPSV", "502"}, {"AUTH TLS", "534"}, {"auth ssl", "534"}, {"PBSZ 0", "502"}, {"PROT P", "502"},
		{"CCC", "502"}, {"CPSV", "502"}, {"NOOP\rPORT 1,2,3,4,5,6", "501"}, {"NO\x00OP", "501"}, {"NOOP \xff\xf1", "501"}, {"\xff\xffNOOP", "501"}, {"", "501"}, {" NOOP", "501"},
		{"STOR " + strings.Repeat("x", maxFTPLine), "501"},
	} {
		k.refuses(c.text, c.code)
	}
	k.commands("NOOP", "NOOP") // the first that the server gets
	if k.exit.Stats()[0].Opened != 1 {
		t.Errorf("%+v", k.exit.Stats())
	}
}

// TestFTPNotFTP: what is no command ends the control connection, before anything of it has
// gone to the server.
func TestFTPNotFTP(t *testing.T) {
	for _, text := range []string{"Host: x", "\x16\x03\x01", "PORT\t127,0,0,3,200,1", strings.Repeat("A", maxFTPVerb+1)} {
		k := newTalk(t, Here)
		sends(t, k.c, "GET / HTTP/1.1\r\n"+text+"\r\nPORT 127,0,0,3,200,1\r\n")
		k.s.SetReadDeadline(time.Now().Add(10 * time.Second))
		if rest, err := io.ReadAll(k.server); strings.Contains(string(rest), "PORT") || err == nil {
			t.Errorf("after %q the server gets %q, %v", text, rest, err)
		}
		if !ended(k.client) {
			t.Errorf("%q has an answer", text)
		}
		waitFor(t, func() bool { return len(k.entryLog.with("msg=relayed", "is no command of FTP")) == 1 })
	}
}

// TestFTPThief: only the client, or the server, gets the data connection, and others do not
// keep it from that.
func TestFTPThief(t *testing.T) {
	k := newTalk(t, Here)
	l := listenAt(t, ftpServerHost)
	address := k.passive("EPSV", port(l.Addr()))
	if !turnedAway(ftpStrangerHost, address) {
		t.Error("a stranger has the data connection")
	}
	carries(t, from(t, ftpClientHost, address), accept(t, l))
	if _, err := net.Dial("tcp", address); err == nil {
		t.Error("it listens for a second one")
	}
	waitFor(t, func() bool {
		return len(k.entryLog.with("not relayed", ftpStrangerHost, "data connections come from "+ftpClientHost, "permission denied")) == 1
	})

	cl := listenAt(t, ftpClientHost)
	address = k.active("PORT", port(cl.Addr()))
	if !turnedAway(ftpStrangerHost, address) {
		t.Error("a stranger is connected to the client")
	}
	far := from(t, ftpServerHost, address)
	carries(t, accept(t, cl), far)
	if s := k.entry.Stats()[0]; s.Refused != 1 {
		t.Errorf("%+v", s)
	}
}

// TestFTPListensNoLonger: a listener ends when nobody comes, with the next one, and with the
// control connection.
func TestFTPListensNoLonger(t *testing.T) {
	gone := func(t *testing.T, address string) {
		t.Helper()
		waitFor(t, func() bool {
			c, err := net.Dial("tcp", address)
			if err == nil {
				c.Close()
			}
			return errors.Is(err, syscall.ECONNREFUSED) // not: turned away
		})
	}
	for _, at := range places {
		k := newTalk(t, at)
		l, cl := listenAt(t, ftpServerHost), listenAt(t, ftpClientHost)
		first := k.passive("EPSV", port(l.Addr()))
		second := k.passive("EPSV", port(l.Addr()))
		gone(t, first)
		third := k.active("PORT", port(cl.Addr()))
		gone(t, second)
		fourth := k.active("PORT", port(cl.Addr()))
		gone(t, third)
		k.c.Close()
		k.s.Close()
		gone(t, fourth)
		waitFor(t, func() bool { return len(k.west.Conns()) == 0 })
	}
	short := func(w *two) { w.west.dataWait, w.east.dataWait = 10*time.Millisecond, 10*time.Millisecond }
	k := newTalk(t, Here, short)
	gone(t, k.passive("EPSV", 4000))
	gone(t, k.active("PORT", 4000))
	for _, log := range []*records{k.entryLog, k.exitLog} {
		waitFor(t, func() bool { return len(log.with("not relayed", "no data connection has come")) == 1 })
	}
}

// TestFTPRefused: a client sees the end of a data connection that the exit could not make,
// and both ends say why.
func TestFTPRefused(t *testing.T) {
	k := newTalk(t, Here)
	l := listenAt(t, ftpServerHost)
	dead := port(l.Addr())
	l.Close()
	if !turnedAway(ftpClientHost, k.passive("PASV", dead)) {
		t.Error("connected")
	}
	for _, log := range []*records{k.entryLog, k.exitLog} {
		waitFor(t, func() bool { return len(log.with("not relayed", "kind=refused")) == 1 })
	}
	k.commands("PASV", "PASV") // a service of the server's host
	k.replies("227 ok (127,0,0,2,0,22)", "425 The relay connects to no ports below 1024.")
	k.commands("PASV", "PASV")
	k.replies("227 ok", "425 The relay does not understand where the server waits.")
	k.commands("EPSV", "EPSV")
	k.replies("229 (||!4000|)", "425 The relay does not understand where the server waits.")
}

// opens is what a hostile end asks for.
func opens(t testing.TB, s *flow.Session, ask dataAsk) error {
	t.Helper()
	meta, err := wire.AppendMeta(nil, &ask)
	if err != nil {
		t.Fatal(err)
	}
	st, err := s.OpenBytes(t.Context(), flow.Open{Kind: KindData, Meta: meta})
	if err == nil {
		st.Close()
	}
	return err
}

// TestFTPHostileEntry: an entry reaches what the server has announced to it, once, for as long
// as its control connection lives and the policy has that, and nothing else.
func TestFTPHostileEntry(t *testing.T) {
	k := newTalk(t, Here)
	other := listenAt(t, ftpServerHost) // a service beside the server
	l := listenAt(t, ftpServerHost)
	f := k.exit.controls.one()
	ask := dataAsk{Relay: "r", Control: f.id, Port: port(other.Addr()), From: "x"}
	want := func(kind fault.Kind, ask dataAsk) {
		t.Helper()
		if err := opens(t, k.near, ask); fault.KindOf(err) != kind {
			t.Errorf("%+v: %v; want %v", ask, err, kind)
		}
	}
	want(fault.Permission, ask)
	k.passive("EPSV", port(l.Addr()))
	want(fault.Permission, ask)
	ask.Port = 0
	want(fault.Permission, ask)
	ask.Port = port(l.Addr())
	for _, change := range []func(*dataAsk){
		func(a *dataAsk) { a.Control++ }, func(a *dataAsk) { a.Control = 0 }, func(a *dataAsk) { a.Relay = "other" }, func(a *dataAsk) { a.Active = true },
	} {
		wrong := ask
		change(&wrong)
		want(fault.NotFound, wrong)
	}
	if err := opens(t, k.near, ask); err != nil {
		t.Error(err)
	}
	want(fault.Permission, ask) // once

	k.passive("EPSV", port(l.Addr()))
	if err := k.east.SetPolicy([]Allow{{Partner: "west", Relay: "*", Dial: []string{"tcp://" + ftpServerHost + ":*"}}}); err != nil {
		t.Fatal(err)
	}
	want(fault.Permission, ask)
	k.c.Close()
	k.s.Close()
	waitFor(t, func() bool { return k.exit.controls.one() == nil })
	want(fault.NotFound, ask)
	waitFor(t, func() bool { return len(k.exitLog.with("not relayed", "partner=west", "from=x")) == 10 })
}

// TestFTPHostileExit: an exit, or a server, reaches the client's port that the client has
// named, once, and opens no listener that the client has not asked for.
func TestFTPHostileExit(t *testing.T) {
	k := newTalk(t, Here)
	cl := listenAt(t, ftpClientHost)
	f := k.entry.controls.one()
	ask := dataAsk{Relay: "r", Control: f.id, Active: true, Port: port(cl.Addr()), From: "x"}
	if err := opens(t, k.far, ask); fault.KindOf(err) != fault.Permission {
		t.Errorf("%v", err)
	}
	k.active("PORT", port(cl.Addr()))
	if err := opens(t, k.far, ask); err != nil {
		t.Error(err)
	}
	if err := opens(t, k.far, ask); fault.KindOf(err) != fault.Permission {
		t.Errorf("a second time: %v", err)
	}
	sends(t, k.s, "229 Entering Extended Passive Mode (|||4000|)\r\n")
	if !ended(k.client) {
		t.Error("the client has a reply that it did not ask for")
	}
	waitFor(t, func() bool { return len(k.exitLog.with("msg=relayed", "nobody has asked for")) == 1 })
}

// TestFTPPolicy: FTP is allowed as FTP. A pattern of tcp does not have it, as it leads to
// other ports, too; and one of ftp does not have the port without the rules of FTP.
func TestFTPPolicy(t *testing.T) {
	l := listenAt(t, ftpServerHost)
	for _, c := range [][2]string{{"tcp://127.0.0.0/8:*", "ftp"}, {"ftp://127.0.0.0/8:*", "tcp"}} {
		w := join(t, Config{}, allowAll(c[0]), true)
		w.add("tcp://"+ftpEntryHost+":0", c[1]+"://"+l.Addr().String())
		if !turnedAway(ftpClientHost, w.bound(0)) {
			t.Error("relayed")
		}
		waitFor(t, func() bool { return len(w.eastLog.with("not relayed", "permission denied")) == 1 })
	}
}

// TestFTPLines: replies of several lines, commands that do not wait for one another, the
// relay's answers between them, and telnet's bytes come whole and in order, however small
// the pieces they come in.
func TestFTPLines(t *testing.T) {
	k := newTalk(t, Here)
	bytewise := func(c net.Conn, text string) {
		for i := range len(text) {
			sends(t, c, text[i:i+1])
		}
	}
	go bytewise(k.c, "FEAT\r\nAUTH TLS\r\nSYST\nPROT P\r\nSTAT\r\nEPSV ALL\r\n\xff\xfb\x01NOOP\r\n\xff\xf4\xff\xf2ABOR\r\n")
	for _, want := range []string{"FEAT", "SYST", "STAT", "EPSV ALL", "NOOP", "\xff\xf4\xff\xf2ABOR"} {
		if got := lineOf(t, k.s, k.server); got != want {
			t.Errorf("the server gets %q; want %q", got, want)
		}
	}
	go bytewise(k.s, "211-Features:\r\n AUTH TLS\r\n EPSV\r\n PROT\r\n PBSZ\r\n211-AUTH SSL\r\n UTF8\r\n211 End\r\n"+
		"150 on its way\r\n215 UNIX\r\n213-status\r\n 213 no end\r\n227 (127,0,0,1,9,9) neither\r\n213-more\r\n213 end\r\n200 all\r\n200 ok\r\n426 aborted\r\n")
	for _, want := range []string{"211-Features:", " EPSV", " UTF8", "211 End", "534 " + ftpProtected, "150 on its way", "215 UNIX", "502 " + ftpProtected,
		"213-status", " 213 no end", "227 (127,0,0,1,9,9) neither", "213-more", "213 end", "200 all", "200 ok", "426 aborted"} {
		k.told(want)
	}
	// the mark of a Synch is outside of the line, but in its place
	raw, err := k.c.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	sends(t, k.c, "\xff\xf4\xff")
	sendUrgent(t, raw, telnetDM)
	k.commands("ABOR", "\xff\xf4\xff\xf2ABOR")
	sends(t, k.c, "ABOR\r") // or at its end
	sendUrgent(t, raw, '\n')
	if got := lineOf(t, k.s, k.server); got != "ABOR" {
		t.Errorf("the server gets %q", got)
	}
	// a command that is cut off is none
	sends(t, k.c, "DELE fi")
	k.c.(halfCloser).CloseWrite()
	if rest, err := io.ReadAll(k.server); len(rest) > 0 || err != nil {
		t.Errorf("%q, %v", rest, err)
	}
}

// TestFTPManyPending: a client that does not wait is served, however much it sends.
func TestFTPManyPending(t *testing.T) {
	k := newTalk(t, Here)
	const n = 3 * maxFTPPending
	var wg sync.WaitGroup
	wg.Go(func() {
		for range n {
			io.WriteString(k.c, "NOOP\r\n")
		}
		io.WriteString(k.c, "AUTH TLS\r\n")
	})
	for range maxFTPPending {
		k.server.ReadString('\n')
	}
	k.s.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if b, err := k.server.Peek(1); err == nil {
		t.Errorf("%q is read beside %d commands without a reply", b, maxFTPPending)
	}
	k.s.SetReadDeadline(time.Time{})
	for range maxFTPPending {
		io.WriteString(k.s, "200 ok\r\n")
	}
	wg.Go(func() {
		for range n - maxFTPPending {
			k.server.ReadString('\n')
			io.WriteString(k.s, "200 ok\r\n")
		}
	})
	for range n {
		k.told("200 ok")
	}
	k.told("534 " + ftpProtected)
	wg.Wait()
}

// TestFTPMany: several data connections of several control connections at once are each
// what they were announced as.
func TestFTPMany(t *testing.T) {
	k := newTalk(t, Here)
	var wg sync.WaitGroup
	for i := range 8 {
		if i > 0 {
			k = &talk{two: k.two, entry: k.entry, exit: k.exit, listener: k.listener}
			k.begin()
		}
		l := listenAt(t, ftpServerHost)
		address := k.passive([]string{"PASV", "EPSV"}[i%2], port(l.Addr()))
		wg.Go(func() {
			near := from(t, ftpClientHost, address)
			far := accept(t, l)
			go func() {
				io.Copy(far, far)
				far.(halfCloser).CloseWrite()
			}()
			roundTrip(t, near, 1<<20)
		})
	}
	wg.Wait()
}

// TestFTPLimits: data connections count as connections of the relay or the policy's entry,
// and a control connection is not idle while it has one.
func TestFTPLimits(t *testing.T) {
	l := listenAt(t, ftpServerHost)
	k := newTalk(t, Here, func(w *two) {
		if err := w.east.SetPolicy([]Allow{{Partner: "west", Relay: "*", Dial: []string{"ftp://127.0.0.2:*"}, Limits: Limits{Conns: 2, Idle: 30 * time.Minute}}}); err != nil {
			t.Fatal(err)
		}
	})
	near := from(t, ftpClientHost, k.passive("EPSV", port(l.Addr())))
	far := accept(t, l)
	if !turnedAway(ftpClientHost, k.passive("EPSV", port(l.Addr()))) {
		t.Error("over the limit")
	}
	waitFor(t, func() bool { return len(k.exitLog.with("not relayed", "2 connections are open", "overloaded")) == 1 })
	var control *conn
	for _, c := range k.exit.open() {
		if c.ftp != nil {
			control = c
		}
	}
	waitFor(t, control.ftp.busy) // the server may have been connected to before
	now := time.Now()            // what the sweeper does later
	for i := range 3 {
		if err := control.look(now.Add(time.Duration(i) * time.Hour)); err != nil {
			t.Errorf("beside a data connection: %v", err)
		}
	}
	carries(t, near, far)
	waitFor(t, func() bool { return !control.ftp.busy() })
	_ = control.look(now.Add(3 * time.Hour))
	if err := control.look(now.Add(4 * time.Hour)); fault.KindOf(err) != fault.Deadline {
		t.Errorf("alone: %v", err)
	}
}

// TestFTPIPv6: each end has its own family; the client's commands and replies are in the
// client's.
func TestFTPIPv6(t *testing.T) {
	six, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skipf("no IPv6 here: FTP between families is not tested: %v", err)
	}
	defer six.Close()
	k := &talk{two: join(t, Config{}, allowAll("ftp://[::1]:*"), true), listener: six}
	k.add("tcp://"+ftpEntryHost+":0", "ftp://"+six.Addr().String())
	k.begin()
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	k.commands("PASV", "EPSV")
	sends(t, k.s, fmt.Sprintf("229 ok (|||%d|)\r\n", port(l.Addr())))
	reply := lineOf(t, k.c, k.client)
	p, ok := passivePort(ftpPassive, reply)
	if !ok || !strings.HasPrefix(reply, "227 ") {
		t.Fatal(reply)
	}
	carries(t, from(t, ftpClientHost, fmt.Sprintf("%s:%d", ftpEntryHost, p)), accept(t, l))
	cl := listenAt(t, ftpClientHost)
	sends(t, k.c, activeCommand("PORT", netip.MustParseAddrPort(cl.Addr().String())))
	c, err := parseFTPCommand([]byte(lineOf(t, k.s, k.server)))
	at, err2 := c.address()
	if err != nil || err2 != nil || c.verb != "EPRT" || !at.Addr().Is6() {
		t.Fatalf("%q, %v, %v", c.text, err, err2)
	}
	far, err := net.Dial("tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	carries(t, accept(t, cl), far)
}

// TestFTPActiveOrder: that a transfer is complete is not said to a client that has not been
// connected to for it.
func TestFTPActiveOrder(t *testing.T) {
	dialling, proceed := make(chan struct{}), make(chan struct{})
	var slow Network
	slow.DialFrom = func(ctx context.Context, network string, _ netip.Addr, address string) (net.Conn, error) {
		close(dialling)
		<-proceed
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	l := listenAt(t, ftpServerHost)
	k := &talk{two: join(t, Config{Network: slow}, allowAll("ftp://"+l.Addr().String()), true), listener: l}
	k.add("tcp://"+ftpEntryHost+":0", "ftp://"+l.Addr().String())
	k.begin()
	cl := listenAt(t, ftpClientHost)
	address := k.active("PORT", port(cl.Addr()))
	k.commands("RETR x", "RETR x")
	far := from(t, ftpServerHost, address)
	k.replies("150 here it comes", "150 here it comes")
	sends(t, far, "all of it")
	far.Close()
	sends(t, k.s, "226-it is\r\n226 complete\r\n")
	<-dialling
	k.c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if b, err := k.client.Peek(1); err == nil {
		t.Errorf("%q comes before the connection", b)
	}
	close(proceed)
	near := accept(t, cl)
	k.told("226-it is")
	k.told("226 complete")
	if got, err := io.ReadAll(near); err != nil || string(got) != "all of it" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestFTPDrain: a control connection that goes on while the node goes away has its data
// connections.
func TestFTPDrain(t *testing.T) {
	k := newTalk(t, Here)
	ctx, cancel := context.WithCancel(t.Context())
	var drains sync.WaitGroup
	for _, h := range []*Hub{k.entry, k.exit} {
		drains.Go(func() { _ = h.Drain(ctx) })
		waitFor(t, func() bool { h.mu.Lock(); defer h.mu.Unlock(); return h.draining })
	}
	l := listenAt(t, ftpServerHost)
	near := from(t, ftpClientHost, k.passive("EPSV", port(l.Addr())))
	say(t, near, accept(t, l), "to the server")
	cancel()
	drains.Wait()
}
