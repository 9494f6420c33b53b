package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pannier/pannier/flow/flowtest/freeport"
)

// TestRelayDNS: the system's dig asks the system's dnsmasq over a relay of datagrams and one of
// connections at the same port: small answers, large ones whole in a datagram, and those that
// have to be asked for again by TCP; hundreds of questions, none of which is lost.
func TestRelayDNS(t *testing.T) {
	dnsmasq, dig := systemProgram(t, "dnsmasq", "dnsmasq-base"), systemProgram(t, "dig", "bind9-dnsutils")
	port, in := freeport.Port(t, "127.0.0.1"), freeport.Port(t, "127.0.0.1")
	argv := []string{dnsmasq, "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--log-facility=-", "--pid-file=", "--bind-interfaces",
		"--listen-address=127.0.0.1", "--port=" + port, "--edns-packet-max=4096", "--host-record=small.test,192.0.2.77"}
	if os.Getuid() == 0 {
		argv = append(argv, "--user=root")
	}
	var long []string
	for i := range 10 {
		long = append(long, fmt.Sprintf("%d%s", i, strings.Repeat("x", 200)))
		argv = append(argv, "--txt-record=big.test,"+long[i])
	}
	for i := range 300 {
		argv = append(argv, fmt.Sprintf("--host-record=h%d.test,192.0.2.%d", i, i%250))
	}
	service(t, argv...)
	listens(t, "127.0.0.1:"+port)
	c := newConduit(t)
	c.write(relaySection("udp", "udp://127.0.0.1:"+in, "here", "udp://127.0.0.1:"+port)+relaySection("tcp", "tcp://127.0.0.1:"+in, "here", "tcp://127.0.0.1:"+port),
		fmt.Sprintf("[[relay_policy]]\npartner = \"hosta\"\ndial = [\"udp://127.0.0.1:%s\", \"tcp://127.0.0.1:%[1]s\"]\n", port))
	c.start(c.b, c.a)
	c.at(c.a, "udp")
	ask := func(args ...string) string {
		t.Helper()
		return runs(t, append([]string{dig, "@127.0.0.1", "-p", in, "+tries=3", "+time=10"}, args...)...)
	}
	opened := func(name string) int64 { return c.relay(c.a, name).GetCounts().GetOpened() }
	if got := ask("+short", "small.test"); got != "192.0.2.77\n" {
		t.Errorf("a small answer: %q", got)
	}
	if got := ask("none.test"); !strings.Contains(got, "status: ") || strings.Contains(got, "NOERROR") {
		t.Errorf("a name that is none: %s", got)
	}
	has := func(what, got string) {
		t.Helper()
		for _, text := range long {
			if !strings.Contains(got, text) {
				t.Errorf("%s lacks %.2s...: %s", what, text, got)
				return
			}
		}
	}
	has("a large answer in one datagram", ask("+bufsize=4096", "+ignore", "big.test", "TXT"))
	if n := opened("tcp"); n > 0 {
		t.Errorf("%d questions by TCP", n)
	}
	got := ask("+bufsize=512", "big.test", "TXT")
	has("a large answer by TCP", got)
	if n := opened("tcp"); !strings.Contains(got, "retrying in TCP mode") || n != 1 {
		t.Errorf("%d questions by TCP: %s", n, got)
	}
	has("an answer by TCP alone", ask("+tcp", "big.test", "TXT"))
	var list strings.Builder
	for i := range 300 {
		fmt.Fprintf(&list, "h%d.test\n", i)
	}
	batch := filepath.Join(t.TempDir(), "questions")
	if err := os.WriteFile(batch, []byte(list.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	lines := strings.Fields(ask("+short", "-f", batch))
	for i := range 300 {
		if len(lines) != 300 || lines[i] != fmt.Sprintf("192.0.2.%d", i%250) {
			t.Fatalf("%d answers: %q", len(lines), lines)
		}
	}
	if n := c.relay(c.a, "udp").GetCounts(); n.GetDropped() > 0 || n.GetOpened() < 250 { // a few come from a port that an earlier one had
		t.Errorf("%v", n)
	}
}
