package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// TestRelayIperf3: the system's iperf3 measures through relays at one port: several connections
// each way and both at once, and datagrams with the connection that goes with them.
func TestRelayIperf3(t *testing.T) {
	iperf := systemProgram(t, "iperf3", "iperf3")
	port, in := freePorts(t), freePorts(t)
	service(t, iperf, "-s", "-B", "127.0.0.1", "-p", port, "--forceflush").until(t, "Server listening")
	c := newConduit(t)
	c.write(relaySection("udp", "udp://127.0.0.1:"+in, "here", "udp://127.0.0.1:"+port)+relaySection("tcp", "tcp://127.0.0.1:"+in, "here", "tcp://127.0.0.1:"+port),
		fmt.Sprintf("[[relay_policy]]\npartner = \"hosta\"\ndial = [\"udp://127.0.0.1:%s\", \"tcp://127.0.0.1:%[1]s\"]\n", port))
	c.start(c.b, c.a)
	c.at(c.a, "udp")
	for _, flags := range []string{"-P 4 -n 64M", "-P 4 -n 64M -R", "-t 1 --bidir", "-u -b 10M -l 1200 -n 2M", "-u -b 10M -l 1200 -n 2M -R"} {
		out := runs(t, append([]string{iperf, "-c", "127.0.0.1", "-p", in, "-J"}, strings.Fields(flags)...)...)
		type sum struct {
			Bytes   int64   `json:"bytes"`
			Packets int     `json:"packets"`
			Lost    float64 `json:"lost_percent"`
		}
		var said struct {
			Error string `json:"error"`
			End   struct {
				Streams  []json.RawMessage `json:"streams"`
				Received sum               `json:"sum_received"`
				Back     sum               `json:"sum_received_bidir_reverse"`
				Sum      sum               `json:"sum"`
			} `json:"end"`
		}
		if err := json.Unmarshal([]byte(out), &said); err != nil || said.Error != "" {
			t.Fatalf("%s: %v, %s", flags, err, said.Error)
		}
		e := said.End
		switch {
		case strings.Contains(flags, "-u"):
			// The kernel may lose some on a busy host; the relay says what it does.
			if e.Sum.Packets < 1000 || e.Sum.Lost > 20 {
				t.Errorf("%s: %+v", flags, e.Sum)
			}
		case strings.Contains(flags, "--bidir"):
			if e.Received.Bytes == 0 || e.Back.Bytes == 0 {
				t.Errorf("%s: %+v", flags, e)
			}
		case e.Received.Bytes < 16<<20 || // what is under way when the sender is done, iperf3 drops
			len(e.Streams) != 4:
			t.Errorf("%s: %+v, %d connections", flags, e.Received, len(e.Streams))
		}
	}
	for _, n := range c.list(c.a).GetRelays() {
		if n.GetName() == "udp" && (n.GetCounts().GetDropped() > 0 || n.GetCounts().GetOpened() < 2) || n.GetName() == "tcp" && n.GetCounts().GetOpened() != 5+5+3+1+1 {
			t.Errorf("%v", n)
		}
	}
}
