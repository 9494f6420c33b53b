package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/engine/node/nodetest"
	"github.com/pannier/pannier/flow/flowtest/freeport"
	"github.com/pannier/pannier/spec/adminpb"
)

// conduit is two nodes as processes, hosta and hostb, and an echo server of the test's.
type conduit struct {
	t        *testing.T
	a, b     *nodetest.Node
	logA     *messages
	logB     *messages
	echo     string // host:port
	fromA    string // where a reaches b, if not directly
	partners bool   // a has an address of b
}

func newConduit(t *testing.T) *conduit {
	t.Helper()
	dir, err := os.MkdirTemp("", "relay") // short: sockets are in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	c := &conduit{t: t, logA: &messages{}, logB: &messages{}, echo: echoServer(t), partners: true}
	if c.a, c.b, err = nodetest.Pair(dir, "pannier"); err != nil {
		t.Fatal(err)
	}
	c.a.Log, c.b.Log = c.logA, c.logB
	t.Cleanup(func() {
		c.a.Close()
		c.b.Close()
		if t.Failed() {
			t.Logf("hosta says\n%s\nhostb says\n%s", c.logA, c.logB)
		}
	})
	return c
}

// echoServer sends back what it gets, by halves.
func echoServer(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
				_ = c.(*net.TCPConn).CloseWrite()
			})
		}
	})
	t.Cleanup(func() { l.Close(); serving.Wait() })
	return l.Addr().String()
}

// write writes both files; %ECHO% is the echo server.
func (c *conduit) write(a, b string) {
	c.t.Helper()
	far := *c.b
	if c.fromA != "" {
		far.Address = c.fromA
	}
	if !c.partners {
		far.Address = ""
	}
	for _, n := range []struct {
		node, partner *nodetest.Node
		text          string
	}{{c.a, &far, a}, {c.b, c.a, b}} {
		if err := n.node.Write([]string{`drain = "20s"`}, nil, strings.ReplaceAll(n.text, "%ECHO%", c.echo), n.partner); err != nil {
			c.t.Fatal(err)
		}
		if n.partner.Address == "" {
			text, err := os.ReadFile(n.node.Config())
			if err == nil {
				err = os.WriteFile(n.node.Config(), bytes.Replace(text, []byte("address = \"\"\n"), nil, 1), 0o600)
			}
			if err != nil {
				c.t.Fatal(err)
			}
		}
	}
}

func (c *conduit) start(nodes ...*nodetest.Node) {
	c.t.Helper()
	for _, n := range nodes {
		if err := n.Start(c.t.Context()); err != nil {
			c.t.Fatal(err)
		}
	}
}

func (c *conduit) client(n *nodetest.Node) *admin.Client {
	c.t.Helper()
	client, err := n.Client()
	if err != nil {
		c.t.Fatal(err)
	}
	return client
}

func (c *conduit) list(n *nodetest.Node) *adminpb.ListRelaysReply {
	c.t.Helper()
	reply, err := c.client(n).ListRelays(c.t.Context(), &adminpb.ListRelaysRequest{Connections: true})
	if err != nil {
		c.t.Fatal(err)
	}
	return reply
}

// relay is one of a node's; absent: an empty one.
func (c *conduit) relay(n *nodetest.Node, name string) *adminpb.Relay {
	c.t.Helper()
	for _, r := range c.list(n).GetRelays() {
		if r.GetName() == name {
			return r
		}
	}
	return &adminpb.Relay{}
}

// until waits for something to be so.
func (c *conduit) until(what string, so func() bool) {
	c.t.Helper()
	for began := time.Now(); !so(); time.Sleep(5 * time.Millisecond) {
		if time.Since(began) > 60*time.Second {
			c.t.Fatalf("not so: %s", what)
		}
	}
}

// at is where a relay of a node's listens, as soon as it does.
func (c *conduit) at(n *nodetest.Node, name string) string {
	c.t.Helper()
	var bound []string
	c.until(name+" listens", func() bool { bound = c.relay(n, name).GetBound(); return len(bound) > 0 })
	return strings.TrimPrefix(bound[0], "tcp://")
}

func (c *conduit) dial(address string) net.Conn {
	c.t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(60 * time.Second))
	return conn
}

// say sends a text and wants it back.
func (c *conduit) say(conn net.Conn, text string) {
	c.t.Helper()
	_, err := io.WriteString(conn, text)
	got := make([]byte, len(text))
	if err == nil {
		_, err = io.ReadFull(conn, got)
	}
	if err != nil || string(got) != text {
		c.t.Fatalf("%q came back of %q, %v", got, text, err)
	}
}

// refused connects and is sent away, maybe before the client knows that it was let in.
func (c *conduit) refused(address string) {
	c.t.Helper()
	if got, err := talk("tcp", address, "hello"); got != "" {
		c.t.Errorf("%q came back, %v", got, err)
	}
}

func (c *conduit) reload(n *nodetest.Node) string {
	c.t.Helper()
	reply, err := c.client(n).Reload(c.t.Context(), &adminpb.ReloadRequest{})
	if err != nil {
		c.t.Fatal(err)
	}
	return strings.Join(reply.GetNotes(), "\n")
}

// logged waits for a line that has all the words.
func (c *conduit) logged(log *messages, words ...string) {
	c.t.Helper()
	c.until(fmt.Sprintf("a line with %q", words), func() bool {
		for line := range strings.Lines(log.String()) {
			all := true
			for _, w := range words {
				all = all && strings.Contains(line, w)
			}
			if all {
				return true
			}
		}
		return false
	})
}

func relaySection(name, accept, at, to string) string {
	return fmt.Sprintf("[[relay]]\nname = %q\nsession = \"hostb\"\naccept = %q\nat = %q\nto = %q\nallow = [\"hostb\"]\n", name, accept, at, to)
}

const (
	freePort = "tcp://127.0.0.1:0"
	toEcho   = "tcp://%ECHO%"

	allowEcho   = "[[relay_policy]]\npartner = \"hosta\"\ndial = [\"tcp://%ECHO%\"]\n"
	allowListen = "[[relay_policy]]\npartner = \"hosta\"\nrelay = \"back\"\nlisten = [\"tcp://127.0.0.1:*\"]\n"
)

// TestRelay: bytes go both ways through relays that either end listens for; counters
// and connections are seen while they are open, and both ends have a record afterwards. No
// transfer was ever requested: the relays had the nodes meet.
func TestRelay(t *testing.T) {
	c := newConduit(t)
	c.write(relaySection("echo", freePort, "here", toEcho)+relaySection("back", freePort, "there", toEcho), allowEcho+allowListen)
	c.start(c.b, c.a)
	for _, name := range []string{"echo", "back"} {
		conn := c.dial(c.at(c.a, name))
		big := strings.Repeat("pannier ", 1<<17)
		go io.WriteString(conn, big)
		if got := make([]byte, len(big)); true {
			if _, err := io.ReadFull(conn, got); err != nil || string(got) != big {
				t.Fatalf("%s: %v", name, err)
			}
		}
		r := c.relay(c.a, name)
		if n := r.GetCounts(); n.GetOpen() != 1 || n.GetOpened() != 1 || n.GetToPeer() != 1<<20 || n.GetFromPeer() != 1<<20 || !r.GetConnected() {
			t.Errorf("%s: %v", name, r)
		}
		for _, n := range []*nodetest.Node{c.a, c.b} {
			all := c.list(n).GetConnections()
			if len(all) != 1 || all[0].GetRelay() != name || all[0].GetToPeer() != 1<<20 {
				t.Errorf("%s: connections of %s: %v", name, n.Name, all)
			}
		}
		_ = conn.(*net.TCPConn).CloseWrite()
		if rest, err := io.ReadAll(conn); len(rest) > 0 || err != nil {
			t.Errorf("%s: %q, %v instead of the end", name, rest, err)
		}
		entry, exit := "role=entry", "role=exit"
		if name == "back" {
			entry, exit = exit, entry
		}
		c.logged(c.logA, "msg=relayed", "relay="+name, "partner=hostb", entry, "from=127.0.0.1:", "to=tcp://"+c.echo, "to_peer=1048576", "from_peer=1048576", "lasted=")
		c.logged(c.logB, "msg=relayed", "relay="+name, "partner=hosta", exit, "to_peer=1048576")
	}
	if policy := c.list(c.b).GetPolicy(); len(policy) != 2 || policy[0].GetCounts().GetOpened() != 1 || policy[1].GetCounts().GetOpened() != 1 {
		t.Errorf("policy %v", policy)
	}
}

// TestRelayRefused: both ends have the reason, whether it is the policy's or the
// destination's, and relay test finds the same.
func TestRelayRefused(t *testing.T) {
	c := newConduit(t)
	closed := freeport.For(t, "127.0.0.1")
	c.write(relaySection("fine", freePort, "here", toEcho)+relaySection("forbidden", freePort, "here", "tcp://127.0.0.1:1")+
		relaySection("closed", freePort, "here", "tcp://"+closed)+relaySection("back", freePort, "there", toEcho),
		strings.Replace(allowEcho, "%ECHO%", closed+"\", \"tcp://%ECHO%", 1))
	c.start(c.b, c.a)
	for name, kind := range map[string]string{"forbidden": "permission denied", "closed": "refused"} {
		c.refused(c.at(c.a, name))
		c.logged(c.logA, `msg="not relayed"`, "relay="+name, "role=entry", kind)
		c.logged(c.logB, `msg="not relayed"`, "relay="+name, "role=exit", kind)
	}
	c.logged(c.logA, "relay=back", "partner does not listen", "permission denied")
	c.logged(c.logB, "relay=back", "not relayed", "does not listen")
	for name, want := range map[string]string{
		"fine": `session+ listener+ consent+ destination+`, "forbidden": `session+ listener+ consent-permission denied`,
		"closed": `session+ listener+ consent+ destination-refused`, "back": `session+ consent-permission denied`,
	} {
		reply, err := c.client(c.a).TestRelay(t.Context(), &adminpb.TestRelayRequest{Name: name})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, s := range reply.GetSteps() {
			if f := s.GetFailure(); f != nil {
				got = append(got, s.GetStep()+"-"+f.GetName())
			} else {
				got = append(got, s.GetStep()+"+")
			}
		}
		if all := strings.Join(got, " "); all != want {
			t.Errorf("%s: %s, want %s: %v", name, all, want, reply.GetSteps())
		}
	}
}

// TestRelayReload: what the file adds begins, what it has no more ends, and what is as it
// was goes on untouched, listener and all; open connections go on in any case.
func TestRelayReload(t *testing.T) {
	c := newConduit(t)
	port := func() string { return "tcp://" + freeport.For(t, "127.0.0.1") }
	gone, moves, moved := port(), port(), port()
	kept := relaySection("kept", freePort, "here", toEcho)
	c.write(kept+relaySection("gone", gone, "here", toEcho)+relaySection("moves", moves, "here", toEcho), allowEcho)
	c.start(c.b, c.a)
	keptAt := c.at(c.a, "kept")
	conns := map[string]net.Conn{}
	for name, at := range map[string]string{"kept": keptAt, "gone": gone[6:], "moves": moves[6:]} {
		conns[name] = c.dial(at)
		c.say(conns[name], "hello "+name)
	}
	c.write(kept+relaySection("new", freePort, "here", toEcho)+relaySection("moves", moved, "here", toEcho), allowEcho)
	notes := c.reload(c.a)
	for _, want := range []string{"relay new is new", "relay gone is gone", "relay moves has changed"} {
		if !strings.Contains(notes, want) {
			t.Errorf("notes are %q, without %q", notes, want)
		}
	}
	for name, conn := range conns {
		c.say(conn, "still here, "+name)
	}
	for _, at := range []string{gone, moves} {
		if conn, err := net.Dial("tcp", at[6:]); err == nil {
			conn.Close()
			t.Errorf("%s is still listened at", at)
		}
	}
	for _, at := range []string{keptAt, c.at(c.a, "new"), moved[6:]} {
		c.say(c.dial(at), "hello again")
	}
	if r := c.relay(c.a, "kept"); r.GetCounts().GetOpened() != 2 || c.at(c.a, "kept") != keptAt {
		t.Errorf("the relay that is as it was: %v", r)
	}
	// the other end's consent is taken back, then the file has a mistake
	c.write(kept, "")
	c.reload(c.b)
	c.refused(keptAt)
	c.say(conns["kept"], "let in before")
	c.write(kept+"[[relay]]\nname = 7\n", "")
	if _, err := c.client(c.a).Reload(t.Context(), &adminpb.ReloadRequest{}); err == nil || !strings.Contains(err.Error(), "this is a whole number; write a text") {
		t.Errorf("%v", err)
	}
	c.say(conns["kept"], "and still")
}

// TestRelayChange: what operators add lasts until they remove it, whatever the file says
// meanwhile; what they remove of the file's comes back with it.
func TestRelayChange(t *testing.T) {
	c := newConduit(t)
	c.write(relaySection("filed", freePort, "here", toEcho), allowEcho)
	c.start(c.b, c.a)
	client := c.client(c.a)
	add := &adminpb.Relay{Name: "added", Session: "hostb", Accept: []string{freePort}, To: "tcp://" + c.echo}
	r, err := client.AddRelay(t.Context(), add)
	if err != nil || len(r.GetBound()) != 1 || !r.GetAdded() {
		t.Fatalf("%v, %v", r, err)
	}
	if _, err := client.AddRelay(t.Context(), add); err == nil || !strings.Contains(err.Error(), "already") {
		t.Errorf("twice: %v", err)
	}
	if _, err := client.AddRelay(t.Context(), &adminpb.Relay{Name: "x", Session: "hostx", Accept: []string{freePort}, To: "tcp://x:1"}); err == nil || !strings.Contains(err.Error(), `no partner is called "hostx"`) {
		t.Errorf("no partner: %v", err)
	}
	conn := c.dial(strings.TrimPrefix(r.GetBound()[0], "tcp://"))
	c.say(conn, "hello")
	if reply, err := client.RemoveRelay(t.Context(), &adminpb.RemoveRelayRequest{Name: "filed"}); err != nil || reply.GetAdded() {
		t.Errorf("%v, %v", reply, err)
	}
	if c.relay(c.a, "filed").GetName() != "" {
		t.Error("it is still there")
	}
	c.reload(c.a)
	c.at(c.a, "filed")
	if r := c.relay(c.a, "added"); len(r.GetBound()) != 1 {
		t.Errorf("%v", r)
	}
	if reply, err := client.RemoveRelay(t.Context(), &adminpb.RemoveRelayRequest{Name: "added"}); err != nil || !reply.GetAdded() {
		t.Errorf("%v, %v", reply, err)
	}
	c.say(conn, "still here")
}

// TestRelaySessionLost: connections end with the session, the listener stays, and who
// comes while the session is away waits for it: after its connections were cut, and after the
// partner's process was killed and started again.
func TestRelaySessionLost(t *testing.T) {
	c := newConduit(t)
	road := newRoad(t, strings.TrimPrefix(c.b.Address, "tls://"))
	c.fromA = "tls://" + road.address
	c.write(relaySection("echo", freePort, "here", toEcho)+relaySection("back", freePort, "there", toEcho), allowEcho+allowListen)
	c.start(c.b, c.a)
	at := c.at(c.a, "echo")
	for _, how := range []string{"cut", "kill"} {
		c.at(c.a, "back")
		conn := c.dial(at)
		c.say(conn, "hello")
		if how == "cut" {
			road.cut()
		} else {
			c.b.Kill()
		}
		if rest, err := io.ReadAll(conn); err == nil {
			t.Errorf("%s: the connection ended in order, %q", how, rest)
		}
		c.logged(c.logA, "msg=relayed", "relay=echo", "kind=\"connection lost\"")
		again := c.dial(at)
		if how == "kill" {
			time.Sleep(200 * time.Millisecond) // it is waiting
			c.start(c.b)
		}
		c.say(again, "hello again")
		if got := c.at(c.a, "echo"); got != at {
			t.Errorf("%s: it listens at %s, not %s", how, got, at)
		}
		c.say(c.dial(c.at(c.a, "back")), "and from there")
	}
}

// TestRelayResume: with resume neither end of a connection notices that the session
// has lost its connections, again and again, in the middle of what is said.
func TestRelayResume(t *testing.T) {
	c := newConduit(t)
	road := newRoad(t, strings.TrimPrefix(c.b.Address, "tls://"))
	c.fromA = "tls://" + road.address
	resume := func(name, at string) string { return relaySection(name, freePort, at, toEcho) + "resume = true\n" }
	c.write(resume("echo", "here")+resume("back", "there"), allowEcho+allowListen)
	c.start(c.b, c.a)
	one, two := c.dial(c.at(c.a, "echo")), c.dial(c.at(c.a, "back"))
	for i := range 5 {
		c.say(one, "one")
		c.say(two, "two")
		cut := time.AfterFunc(time.Duration(i)*time.Millisecond, road.cut)
		c.say(one, strings.Repeat("one ", 1<<17))
		c.say(two, strings.Repeat("two ", 1<<17))
		cut.Stop()
		// A call finds the connection of calls gone, and takes a session of its own.
		if _, err := c.client(c.a).TestPartner(t.Context(), &adminpb.TestPartnerRequest{Partner: "hostb"}); err != nil {
			t.Error(err)
		}
	}
	c.b.Kill() // and with its daemon a connection ends: the next one knows no such session
	c.start(c.b)
	for _, conn := range []net.Conn{one, two} {
		if rest, err := io.ReadAll(conn); len(rest) > 0 || conn == one && err == nil {
			t.Errorf("after the kill: %q, %v", rest, err)
		}
	}
}

// road carries connections to an address, until they are cut.
type road struct {
	address string
	mu      sync.Mutex
	conns   []net.Conn
}

func newRoad(t *testing.T, to string) *road {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &road{address: l.Addr().String()}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", to)
			if err != nil {
				near.Close()
				continue
			}
			r.mu.Lock()
			r.conns = append(r.conns, near, far)
			r.mu.Unlock()
			all.Go(func() { _, _ = io.Copy(near, far); near.Close() })
			all.Go(func() { _, _ = io.Copy(far, near); far.Close() })
		}
	})
	t.Cleanup(func() { l.Close(); r.cut(); all.Wait() })
	return r
}

func (r *road) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.conns {
		c.Close()
	}
	r.conns = nil
}

// TestRelayOverTheOthersCall: a node that cannot call its partner relays over the session that
// the partner has made, because that has a relay for which this one is to listen.
func TestRelayOverTheOthersCall(t *testing.T) {
	c := newConduit(t)
	c.partners = false
	fromB := strings.ReplaceAll(relaySection("back", freePort, "there", toEcho), "hostb", "hosta")
	c.write(relaySection("echo", freePort, "here", toEcho)+strings.ReplaceAll(allowListen, "hosta", "hostb"), allowEcho+fromB)
	c.start(c.a, c.b)
	c.say(c.dial(c.at(c.b, "back")), "hello")
	c.say(c.dial(c.at(c.a, "echo")), "hello")
}

// TestRelayOverFIFO: two nodes that only a pair of FIFOs joins relay both ways at once.
func TestRelayOverFIFO(t *testing.T) {
	c := newConduit(t)
	there, back := filepath.Join(c.a.Dir, "there"), filepath.Join(c.a.Dir, "back")
	for _, name := range []string{there, back} {
		if err := syscall.Mkfifo(name, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c.b.Address, c.fromA = "fifo://"+there+","+back, "fifo://"+back+","+there
	c.write(relaySection("echo", freePort, "here", toEcho)+relaySection("back", freePort, "there", toEcho), allowEcho+allowListen)
	c.start(c.b, c.a)
	one, two := c.dial(c.at(c.a, "echo")), c.dial(c.at(c.a, "back"))
	for range 3 {
		c.say(one, strings.Repeat("one ", 1<<15))
		c.say(two, strings.Repeat("two ", 1<<15))
	}
}

// TestRelayToItself: a node is its own partner, also for relays.
func TestRelayToItself(t *testing.T) {
	c := newConduit(t)
	self := func(text string) string { return strings.ReplaceAll(text, "hostb", "hosta") }
	c.write(self(relaySection("echo", freePort, "here", toEcho)+relaySection("back", freePort, "there", toEcho))+allowEcho+allowListen, "")
	c.start(c.a)
	for _, name := range []string{"echo", "back"} {
		c.say(c.dial(c.at(c.a, name)), "hello")
	}
}

// TestRelayDrain: a node that is told to end listens no more and lets connections end.
func TestRelayDrain(t *testing.T) {
	c := newConduit(t)
	c.write(relaySection("echo", freePort, "here", toEcho), allowEcho)
	c.start(c.b, c.a)
	at := c.at(c.a, "echo")
	conn := c.dial(at)
	c.say(conn, "hello")
	ended := make(chan error, 1)
	go func() { ended <- c.a.Stop() }()
	c.logged(c.logA, "draining")
	c.until("nothing listens", func() bool {
		more, err := net.Dial("tcp", at)
		if err == nil {
			more.Close()
		}
		return err != nil
	})
	c.say(conn, "still here")
	conn.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestRelayLeftSocket: the socket that a killed node has left does not keep the next from
// listening there.
func TestRelayLeftSocket(t *testing.T) {
	c := newConduit(t)
	path := filepath.Join(c.a.Dir, "in")
	c.write(relaySection("echo", "unix://"+path, "here", toEcho), allowEcho)
	c.start(c.b, c.a)
	c.a.Kill()
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("the killed node has left nothing: %v", err)
	}
	c.start(c.a)
	if got, err := talk("unix", path, "hello"); got != "hello" {
		t.Errorf("%q came back, %v", got, err)
	}
}

// TestRelayUDP: datagrams of one source come back to it, whole and in order.
func TestRelayUDP(t *testing.T) {
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for b := make([]byte, 1<<16); ; {
			n, from, err := server.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = server.WriteTo(b[:n], from)
		}
	})
	defer func() { server.Close(); serving.Wait() }()
	c := newConduit(t)
	to := "udp://" + server.LocalAddr().String()
	c.write(relaySection("dns", "udp://127.0.0.1:0", "here", to), fmt.Sprintf("[[relay_policy]]\npartner = \"hosta\"\ndial = [%q]\n", to))
	c.start(c.b, c.a)
	conn, err := net.Dial("udp", strings.TrimPrefix(c.at(c.a, "dns"), "udp://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(60 * time.Second))
	for _, size := range []int{1, 1400, 9000} {
		sent, got := bytes.Repeat([]byte{byte(size)}, size), make([]byte, 1<<16)
		if _, err := conn.Write(sent); err != nil {
			t.Fatal(err)
		}
		if n, err := conn.Read(got); err != nil || !bytes.Equal(got[:n], sent) {
			t.Errorf("%d bytes: %d came back, %v", size, n, err)
		}
	}
	if n := c.relay(c.a, "dns").GetCounts(); n.GetOpen() != 1 || n.GetDatagrams() != 3 || n.GetDropped() != 0 {
		t.Errorf("%v", n)
	}
}

// TestRelayPortTaken: a relay that cannot listen does not keep the node from running; it
// says why, and listens when it can.
func TestRelayPortTaken(t *testing.T) {
	c := newConduit(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c.write(relaySection("echo", "tcp://"+l.Addr().String(), "here", toEcho), allowEcho)
	c.start(c.b, c.a)
	if r := c.relay(c.a, "echo"); len(r.GetBound()) > 0 || !regexp.MustCompile("address already in use").MatchString(r.GetTrouble()) {
		t.Errorf("%v", r)
	}
	l.Close()
	c.say(c.dial(c.at(c.a, "echo")), "hello")
}

// TestRelayManyConnections: thousands of connections go over one session, if the limits
// of both files say so.
func TestRelayManyConnections(t *testing.T) {
	const n = 4500 // a session had 4096 streams once
	c := newConduit(t)
	limits := fmt.Sprintf("\n[%%s.limits]\nconns = %d\nopens = %d\n", n, n)
	c.write(relaySection("many", freePort, "here", "tcp://%ECHO%")+fmt.Sprintf(limits, "relay"),
		"[[relay_policy]]\npartner = \"hosta\"\ndial = [\"tcp://%ECHO%\"]\n"+fmt.Sprintf(limits, "relay_policy"))
	c.start(c.b, c.a)
	at := c.at(c.a, "many")
	conns := make([]net.Conn, n)
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for i := worker; i < n; i += 8 {
				conn, err := net.Dial("tcp", at)
				if err != nil {
					t.Errorf("connection %d: %v", i, err)
					return
				}
				conns[i] = conn
				_ = conn.SetDeadline(time.Now().Add(60 * time.Second))
				if _, err = conn.Write([]byte("x")); err == nil {
					_, err = io.ReadFull(conn, make([]byte, 1))
				}
				if err != nil {
					t.Errorf("connection %d: %v", i, err)
					return
				}
			}
		})
	}
	wg.Wait()
	if open := c.relay(c.a, "many").GetCounts().GetOpen(); open != n {
		t.Errorf("%d connections are open, want %d", open, n)
	}
	for _, conn := range conns {
		if conn != nil {
			conn.Close()
		}
	}
}
