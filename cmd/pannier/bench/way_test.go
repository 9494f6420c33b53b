package bench

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pannier/pannier/flow/flowtest"
	"github.com/pannier/pannier/flow/flowtest/freeport"
	"github.com/pannier/pannier/spec/fault"
)

func smallRelay(t *testing.T) (RelayConfig, *flowtest.Log) {
	self, err := Self("end")
	if err != nil {
		t.Fatal(err)
	}
	said := &flowtest.Log{}
	return RelayConfig{Runs: 1, Size: 3<<20 + 17, Calls: 20, Idle: 40, Churn: 50, Datagrams: 500, Busy: 10, Settle: 100 * time.Millisecond, Rest: 100 * time.Millisecond, Program: self, Progress: said}, said
}

// TestRelay takes every figure of every way whose program is there.
func TestRelay(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	cfg, said := smallRelay(t)
	results, err := Relay(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range Ways() {
		i := slices.IndexFunc(results, func(r RelayResult) bool { return r.Case == name })
		if w, _ := wayNamed(name); i < 0 {
			if w.missing() == "" || !strings.Contains(said.String(), name+" is left out") {
				t.Errorf("there is no %s, and nothing says why:\n%s", name, said)
			}
			continue
		}
		r, w := results[i], ways()[i]
		if r.Rate <= 0 || r.P50 <= 0 || r.P99 < r.P50 || r.Opened <= 0 || r.BusyP99 <= 0 || r.BusyRate <= 0 || r.FloodP99 <= 0 || r.Lost != 0 {
			t.Errorf("%+v", r)
		}
		if idle := w.entry != nil && !w.each && name != "bare"; idle != (r.IdleConns == cfg.Idle && r.IdleEntry > 0 && r.IdleExit > 0) {
			t.Errorf("idle: %+v", r)
		}
		if w.datagrams != (r.Datagrams > 0) || r.Dropped != 0 || r.Missing < 0 || w.transfers != (r.TransferRate > 0) || (w.exit != nil) != (r.RateBy > 0) {
			t.Errorf("%+v", r)
		}
	}
	empty(t, os.TempDir())
}

// TestRelayWithoutProgram: what the host does not have is left out, and that is said.
func TestRelayWithoutProgram(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	t.Setenv("PATH", t.TempDir())
	cfg, said := smallRelay(t)
	cfg.Cases, cfg.Figures = []string{"direct", "socat"}, []string{"ping"}
	results, err := Relay(t.Context(), cfg)
	if err != nil || len(results) != 1 || results[0].P50 <= 0 || results[0].Rate != 0 || !strings.Contains(said.String(), "socat is left out: there is no socat") {
		t.Errorf("%+v, %v\n%s", results, err, said)
	}
	cfg.Cases = []string{"socat"}
	if _, err := Relay(t.Context(), cfg); fault.KindOf(err) != fault.Unsupported {
		t.Error(err)
	}
}

func TestRelayErrors(t *testing.T) {
	for _, change := range []func(*RelayConfig){
		func(c *RelayConfig) { c.Cases = []string{"carrier-pigeon"} },
		func(c *RelayConfig) { c.Figures = []string{"beauty"} },
		func(c *RelayConfig) { c.Runs = 0 },
		func(c *RelayConfig) { c.Idle = manyConns + 1 },
		func(c *RelayConfig) { c.Calls = maxCount + 1 },
	} {
		cfg, _ := smallRelay(t)
		change(&cfg)
		if results, err := Relay(t.Context(), cfg); fault.KindOf(err) != fault.Invalid || len(results) != 0 {
			t.Errorf("%v: %v", results, err)
		}
	}
}

// TestLostConnectionsCount: connections that nobody answers, and those that end without
// their byte, are lost.
func TestLostConnectionsCount(t *testing.T) {
	gone, err := freeport.Address("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	c := &wayClient{job: Job{Addr: gone}}
	if r := c.churn(order{Count: 7, PerSecond: 1000}); r.Counts.Lost != 7 || r.Counts.Arrived != 0 {
		t.Errorf("%+v", r.Counts)
	}
	server, err := wayServer()
	if err != nil {
		t.Fatal(err)
	}
	defer server.close()
	c.job.Addr = server.addr
	if r := c.churn(order{Count: 7, PerSecond: 1000}); r.Counts.Lost != 0 || r.Counts.Arrived != 7 {
		t.Errorf("%+v", r.Counts)
	}
	if r, err := c.idle(5); err != nil || len(c.held) != 5 || r.Counts.Arrived != 5 {
		t.Errorf("%+v, %v", r, err)
	}
	c.release()
	c.job.Addr = gone
	if _, err := c.idle(5); err == nil {
		t.Error("five idle connections to nobody")
	}
}

// TestDisorderCounts: a datagram behind a later one is seen, one that is missing too.
func TestDisorderCounts(t *testing.T) {
	server, err := wayServer()
	if err != nil {
		t.Fatal(err)
	}
	defer server.close()
	c := &wayClient{job: Job{ToUDP: server.udp}}
	for range 2 { // the second begins with 1 again
		if r, err := c.datagrams(order{Count: 10, PerSecond: 50_000}); err != nil || r.Counts.Sent != 10 {
			t.Fatal(r, err)
		}
	}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		got := server.obey(order{Verb: verbDatagrams}).Counts
		if *got == (counts{Arrived: 20, Disorder: 9}) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%+v", got)
		}
	}
}

// TestMediansOfWays: a round without a figure does not count, losses add up.
func TestMediansOfWays(t *testing.T) {
	r := medianOfWays([]RelayResult{{Rate: 3, Lost: 1, IdleConns: 5}, {Lost: 2}, {Rate: 1, Missing: 4}, {Rate: 2}})
	if r.Rate != 2 || r.Lost != 3 || r.Missing != 4 || r.IdleConns != 5 {
		t.Errorf("%+v", r)
	}
	direct := RelayResult{Rate: 4, P50: 10}
	if r.P50 = 35; r.RateBy != 0 {
		t.Errorf("%+v", r)
	}
	if r.against(&direct); r.RateBy != 0.5 || r.P50More != 25 {
		t.Errorf("%+v", r)
	}
}

// TestUsageOfAll has in it what has ended.
func TestUsageOfAll(t *testing.T) {
	if program("sh") == "" {
		t.Fatal("a host without sh")
	}
	server, err := serveEach(serveWay)
	if err != nil {
		t.Fatal(err)
	}
	defer server.close()
	p, err := startProgram(t.Context(), server.addr, "sh", "-c", "sh -c 'i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done' & wait; sleep 60")
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		u, err := p.usage()
		if err != nil {
			t.Fatal(err)
		}
		if u.CPU() > 0.05 && u.RSS > 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%+v", u)
		}
	}
}
