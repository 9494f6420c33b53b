package relay

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/flow/wire"
	"github.com/pannier/pannier/spec/fault"
)

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
