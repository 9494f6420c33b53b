package relay

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/pannier/pannier/spec/fault"
)

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
