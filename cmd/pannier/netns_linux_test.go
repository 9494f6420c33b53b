package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// country is two network namespaces of the system and a wire between them.
type country struct {
	t            *testing.T
	ip           string // the program
	near, far    string // names
	nearIf       string // ends of the wire
	farIf        string
	nearIP, farP string // addresses
}

// newCountry makes one, or skips the test where the system lets nobody do so.
func newCountry(t *testing.T) *country {
	t.Helper()
	id := strconv.Itoa(os.Getpid())
	c := &country{t: t, ip: systemProgram(t, "ip", "iproute2"), near: "pannier-near-" + id, far: "pannier-far-" + id, nearIf: "pn" + id, farIf: "pf" + id, nearIP: "10.213.77.1", farP: "10.213.77.2"}
	for _, name := range []string{c.near, c.far} {
		if _, err := tries(t, c.ip, "netns", "add", name); err != nil {
			t.Skipf("network namespaces cannot be made: sessions are not tested between two; be root with CAP_SYS_ADMIN: %v", err)
		}
		t.Cleanup(func() {
			for _, pid := range strings.Fields(runsAnyway(c.ip, "netns", "pids", name)) { // what sshd has started
				if n, err := strconv.Atoi(pid); err == nil {
					_ = syscall.Kill(n, syscall.SIGKILL)
				}
			}
			if out, err := exec.Command(c.ip, "netns", "del", name).CombinedOutput(); err != nil {
				t.Errorf("the namespace %s is left: %v: %s", name, err, out)
			}
		})
	}
	runs(t, c.ip, "-n", c.near, "link", "add", c.nearIf, "type", "veth", "peer", "name", c.farIf, "netns", c.far)
	for _, end := range [][3]string{{c.near, c.nearIf, c.nearIP}, {c.far, c.farIf, c.farP}} {
		runs(t, c.ip, "-n", end[0], "addr", "add", end[2]+"/24", "dev", end[1])
		runs(t, c.ip, "-n", end[0], "link", "set", end[1], "up")
		runs(t, c.ip, "-n", end[0], "link", "set", "lo", "up")
	}
	return c
}

// runsAnyway is what a program prints, also after the test's end.
func runsAnyway(argv ...string) string {
	out, _ := exec.Command(argv[0], argv[1:]...).Output()
	return string(out)
}

// in is what a command is appended to that is to run in a namespace.
func (c *country) in(name string) []string { return []string{c.ip, "netns", "exec", name} }

// wire makes it up or down.
func (c *country) wire(state string) {
	c.t.Helper()
	runs(c.t, c.ip, "-n", c.near, "link", "set", c.nearIf, state)
}

// carried is how many bytes have come over the wire to the far end.
func (c *country) carried() int {
	c.t.Helper()
	text := runs(c.t, append(c.in(c.far), "cat", "/sys/class/net/"+c.farIf+"/statistics/rx_bytes")...)
	n, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil {
		c.t.Fatal(err)
	}
	return n
}

// TestRelayTwoHosts: two hosts, as far as the network is concerned, whose nodes have a session
// over "ssh HOST pannier stdio". Relays of both ends and a file are under way when the wire is cut:
// connections end at both ends, with the reason in both records, and who connects meanwhile is
// sent away; listeners stay. When the wire is back, so is all of it, and the file arrives.
func TestRelayTwoHosts(t *testing.T) {
	w := newCountry(t)
	const port = "22"
	s := newSSHServerAt(t, w.farP, port, w.in(w.far)...)
	self, err := exec.LookPath("pannier")
	if err != nil {
		t.Fatal(err)
	}
	c := newConduit(t)
	over, err := json.Marshal(append(append([]string{}, s.client...), "-oConnectTimeout=5", "-p"+port, w.farP, self+" --config "+c.b.Config()+" stdio"))
	if err != nil {
		t.Fatal(err)
	}
	c.fromA = "exec:" + string(over)
	here, there := filepath.Join(c.a.Dir, "in"), filepath.Join(c.b.Dir, "in") // whose paths are in both namespaces
	cat, toSSH := `exec:["/bin/cat"]`, "tcp://"+w.farP+":"+port
	rule := "[[rule]]\nname = \"push\"\ndirection = \"send\"\npartners = [\"*\"]\nroot = \"%ROOT%\"\nretry = { attempts = 100, delay = \"1s\", factor = 1 }\n"
	c.write(relaySection("cat", "unix://"+here, "here", cat)+relaySection("back", "unix://"+there, "there", cat)+relaySection("ssh", "tcp://127.0.0.1:2200", "here", toSSH)+rule,
		fmt.Sprintf("[[relay_policy]]\npartner = \"hosta\"\ndial = ['%s', %q]\nlisten = [\"unix://%s\"]\n", cat, toSSH, there)+rule)
	text, err := os.ReadFile(c.a.Config())
	if err == nil { // so that the file is under way for a while
		err = os.WriteFile(c.a.Config(), []byte(strings.Replace(string(text), "drain =", "bandwidth = \"4MB/s\"\ndrain =", 1)), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{c.b.Start(t.Context(), w.in(w.far)...), c.a.Start(t.Context(), w.in(w.near)...)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	dial := func(path string) net.Conn {
		t.Helper()
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		_ = conn.SetDeadline(time.Now().Add(90 * time.Second))
		return conn
	}
	listens := func() bool { return len(c.relay(c.a, "back").GetBound()) > 0 }
	c.until("hostb listens", listens)
	work := func(when string) (conns []net.Conn) {
		t.Helper()
		for _, path := range []string{here, there} {
			conns = append(conns, dial(path))
			c.say(conns[len(conns)-1], strings.Repeat("pannier ", 1<<15))
		}
		said := strings.Repeat(when+" ", 1<<17)
		argv := append(append(w.in(w.near), s.client...), "-p2200", "127.0.0.1", "cat")
		cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
		cmd.Stdin = strings.NewReader(said)
		if out, err := cmd.Output(); err != nil || string(out) != said {
			t.Errorf("%s, ssh over a relay over ssh: %d of %d bytes, %v", when, len(out), len(said), err)
		}
		return conns
	}
	conns := work("before")
	const size = 20 << 20
	digest := put(t, filepath.Join(c.a.Root, "big"), size)
	before := w.carried()
	sent := make(chan error, 1)
	go func() {
		out, err := exec.Command(self, "--config", c.a.Config(), "send", "--wait", filepath.Join(c.a.Root, "big"), "hostb:push").CombinedOutput()
		if err != nil {
			err = fmt.Errorf("%w: %s", err, out)
		}
		sent <- err
	}()
	c.until("bytes of the file are on the way", func() bool { return w.carried()-before > 2<<20 })
	w.wire("down")
	for _, conn := range conns {
		if rest, err := io.ReadAll(conn); len(rest) > 0 {
			t.Errorf("%q came of nowhere, %v", rest, err)
		}
	}
	for _, relay := range []string{"cat", "back"} {
		for _, log := range []*messages{c.logA, c.logB} {
			c.logged(log, "msg=relayed", "relay="+relay, "kind=", "cause=")
		}
	}
	c.logged(c.logB, "session lost its connections", "peer not answering")
	c.logged(c.logA, "relays have no session with partner", "partner=hostb", "Network is unreachable")
	late := dial(here) // the listener is there
	if rest, err := io.ReadAll(late); len(rest) > 0 {
		t.Errorf("%q came of nowhere, %v", rest, err)
	}
	c.logged(c.logA, "not relayed", "relay=cat", "there is no session with hostb", "Network is unreachable")
	select {
	case err := <-sent:
		t.Fatalf("the file is through, or given up: %v", err)
	default:
	}
	w.wire("up")
	c.until("hostb listens again", listens)
	work("after")
	if err := <-sent; err != nil {
		t.Error(err)
	}
	got, err := os.ReadFile(filepath.Join(c.b.Root, "big"))
	if err != nil || sha256.Sum256(got) != digest {
		t.Errorf("the file is another one, %d bytes, %v", len(got), err)
	}
}
