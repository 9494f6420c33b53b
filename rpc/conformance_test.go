package rpc_test

import (
	"context"
	"flag"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/rpc"
	"github.com/pannier/pannier/rpc/rpctest"
)

var fullMatrix = flag.Bool("rpctest.full", false, "conformance: all triples instead of all pairs, and on the pipe the product of what decides (with -timeout 60m)")

// connector makes pairs on a carrier. cfg tunes both ends' sessions.
func connector(name string, cfg flow.Config) rpctest.Connect {
	return func(t testing.TB, register func(*rpc.Server)) rpctest.Pair {
		t.Helper()
		pipe := carrier.NewPipe()
		sc := rpc.ServerConfig{Pipe: pipe, Flow: cfg}
		cc := rpc.ClientConfig{Pipe: pipe, Flow: cfg, HTTP2: strings.HasPrefix(name, "http2")}
		address := "tcp://127.0.0.1:0"
		switch name {
		case "pipe":
			address = "pipe:"
		case "unix":
			address = "unix://" + filepath.Join(shortDir(t), "s")
		case "tls", "http2+tls":
			ours, theirs := identity(t), identity(t)
			address = "tls://127.0.0.1:0"
			sc.Identity, sc.Pins = ours, carrier.Pins{theirs.Key()}
			cc.Identity, cc.Pins = theirs, carrier.Pins{ours.Key()}
		}
		p := rpctest.Pair{HTTP2: cc.HTTP2}
		p.Server, address = serving(t, sc, address, register)
		if name != "tcp" {
			p.Client = dialed(t, func() (*rpc.ClientConn, error) { return rpc.Dial(address, cc) })
			return p
		}
		cable := &cable{address: strings.TrimPrefix(address, "tcp://")}
		p.Client = dialed(t, func() (*rpc.ClientConn, error) { return rpc.DialOver(cable, cc) })
		p.Cut = cable.cut
		return p
	}
}

// serving makes a server that serves until the test ends.
func serving(t testing.TB, cfg rpc.ServerConfig, address string, register func(*rpc.Server)) (*rpc.Server, string) {
	t.Helper()
	s, err := rpc.NewServer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	register(s)
	if address, err = s.Listen(address); err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve() }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return s, address
}

// dialed makes a client that is closed when the test ends.
func dialed(t testing.TB, dial func() (*rpc.ClientConn, error)) *rpc.ClientConn {
	t.Helper()
	c, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return c
}

// cable dials TCP and can be cut.
type cable struct {
	address string
	mu      sync.Mutex
	conns   []net.Conn
}

func (c *cable) Single() bool { return false }

func (c *cable) Dial(ctx context.Context) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", c.address)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	c.conns = append(c.conns, conn)
	c.mu.Unlock()
	return conn, nil
}

// cut resets all connections at once.
func (c *cable) cut() {
	c.mu.Lock()
	conns := c.conns
	c.conns = nil
	c.mu.Unlock()
	for _, conn := range conns {
		_ = conn.(*net.TCPConn).SetLinger(0)
		conn.Close()
	}
}

// memoryDir is a folder in memory, if there is one.
func memoryDir(t *testing.T) string {
	dir, err := os.MkdirTemp("/dev/shm", "rpctest")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// matrixCarriers are all carriers; over http2 there is no session.
var matrixCarriers = []string{"pipe", "tcp", "tls", "unix", "http2"}

// TestConformance plays the matrix on every carrier and road.
func TestConformance(t *testing.T) {
	var calls atomic.Int64
	o := rpctest.Options{Dir: memoryDir(t), Calls: &calls, Full: *fullMatrix}
	t.Cleanup(func() { t.Logf("%d calls", calls.Load()) })
	for _, name := range matrixCarriers {
		o.Brief = name != "pipe" // what decides does not know the carrier
		t.Run(name, func(t *testing.T) { rpctest.Run(t, connector(name, flow.Config{}), o) })
	}
}

// onMatrixCarriers runs a trap or a fault on every carrier.
func onMatrixCarriers(t *testing.T, f func(*testing.T, rpctest.Connect)) {
	for _, name := range matrixCarriers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, connector(name, flow.Config{}))
		})
	}
}

func TestTrapOffset(t *testing.T)       { onMatrixCarriers(t, rpctest.TrapOffset) }
func TestTrapQuota(t *testing.T)        { onMatrixCarriers(t, rpctest.TrapQuota) }
func TestTrapEarlySuccess(t *testing.T) { onMatrixCarriers(t, rpctest.TrapEarlySuccess) }
func TestTrapTruncation(t *testing.T)   { onMatrixCarriers(t, rpctest.TrapTruncation) }
func TestTrapPoison(t *testing.T)       { onMatrixCarriers(t, rpctest.TrapPoison) }
func TestTrapRefused(t *testing.T)      { onMatrixCarriers(t, rpctest.TrapRefused) }

func TestFaultSource(t *testing.T)  { onMatrixCarriers(t, rpctest.FaultSource) }
func TestFaultDisk(t *testing.T)    { onMatrixCarriers(t, rpctest.FaultDisk) }
func TestFaultFull(t *testing.T)    { onMatrixCarriers(t, rpctest.FaultFull) }
func TestFaultPaths(t *testing.T)   { onMatrixCarriers(t, rpctest.FaultPaths) }
func TestFaultGivenUp(t *testing.T) { onMatrixCarriers(t, rpctest.FaultGivenUp) }
func TestFaultUnasked(t *testing.T) { onMatrixCarriers(t, rpctest.FaultUnasked) }
func TestFaultDrained(t *testing.T) { onMatrixCarriers(t, rpctest.FaultDrained) }
func TestFaultCrowd(t *testing.T)   { onMatrixCarriers(t, rpctest.FaultCrowd) }

// TestFaultKilled needs a session that ends with its connections.
func TestFaultKilled(t *testing.T) {
	cfg := flow.Config{ResumeTimeout: -1, Window: 128 << 10, MaxWindow: 512 << 10}
	rpctest.FaultKilled(t, connector("tcp", cfg))
}

// TestFaultCut needs one that goes on.
func TestFaultCut(t *testing.T) {
	rpctest.FaultCut(t, connector("tcp", flow.Config{MaxWindow: 512 << 10}))
}
