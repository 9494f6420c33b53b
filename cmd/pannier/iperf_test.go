package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/pannier/pannier/flow/flowtest/freeport"
)

// measured is what iperf3 says at the end of a test.
type measured struct {
	Error string `json:"error"`
	End   struct {
		Streams  []struct{} `json:"streams"`
		Received counted    `json:"sum_received"`
		Back     counted    `json:"sum_received_bidir_reverse"`
		Sum      counted    `json:"sum"`
	} `json:"end"`
}

type counted struct {
	Bytes   int64   `json:"bytes"`
	Packets int     `json:"packets"`
	Lost    float64 `json:"lost_percent"`
}

// TestRelayIperf3: the system's iperf3 measures through relays at one port: several connections
// each way and both at once, and datagrams with the connection that goes with them.
func TestRelayIperf3(t *testing.T) {
	iperf := systemProgram(t, "iperf3", "iperf3")
	port, in := freeport.Port(t, "127.0.0.1"), freeport.Port(t, "127.0.0.1")
	server := service(t, iperf, "-s", "-B", "127.0.0.1", "-p", port, "--forceflush")
	c := newConduit(t)
	c.write(relaySection("udp", "udp://127.0.0.1:"+in, "here", "udp://127.0.0.1:"+port)+relaySection("tcp", "tcp://127.0.0.1:"+in, "here", "tcp://127.0.0.1:"+port),
		fmt.Sprintf("[[relay_policy]]\npartner = \"hosta\"\ndial = [\"udp://127.0.0.1:%s\", \"tcp://127.0.0.1:%[1]s\"]\n", port))
	c.start(c.b, c.a)
	c.at(c.a, "udp")
	tests, opened := 0, int64(0)
	measure := func(flags string, connections int64) measured {
		t.Helper()
		tests++
		opened += connections
		c.until("the server has heard of the end of the last test, and is ready", func() bool { return strings.Count(server.String(), "Server listening") == tests })
		out := runs(t, append([]string{iperf, "-c", "127.0.0.1", "-p", in, "-J"}, strings.Fields(flags)...)...)
		var said measured
		if err := json.Unmarshal([]byte(out), &said); err != nil || said.Error != "" {
			t.Fatalf("%s: %v, %s", flags, err, said.Error)
		}
		return said
	}

	for _, flags := range []string{"-P 4 -n 64M", "-P 4 -n 64M -R"} {
		if e := measure(flags, 5).End; e.Received.Bytes < 16<<20 || // what is under way when the sender is done, iperf3 drops
			len(e.Streams) != 4 {
			t.Errorf("%s: %+v", flags, e)
		}
	}
	// The server tells the connection of each direction by the order in which they arrive, which is
	// not promised: they are dialled at the same time.
	both := measured{}
	for try := 0; try < 20 && (both.End.Received.Bytes == 0 || both.End.Back.Bytes == 0); try++ {
		both = measure("-t 1 --bidir", 3)
	}
	if e := both.End; e.Received.Bytes == 0 || e.Back.Bytes == 0 {
		t.Errorf("both ways at once: %+v", e)
	}
	for _, flags := range []string{"-u -b 10M -l 1200 -n 2M", "-u -b 10M -l 1200 -n 2M -R"} {
		// The kernel may lose some on a busy host; the relay says what it does.
		if e := measure(flags, 1).End; e.Sum.Packets < 1000 || e.Sum.Lost > 20 {
			t.Errorf("%s: %+v", flags, e.Sum)
		}
	}
	for _, n := range c.list(c.a).GetRelays() {
		if n.GetName() == "udp" && (n.GetCounts().GetDropped() > 0 || n.GetCounts().GetOpened() < 2) || n.GetName() == "tcp" && n.GetCounts().GetOpened() != opened {
			t.Errorf("%v", n)
		}
	}
}
