package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

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
