package rpc_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/flow/flowtest"
	"github.com/pannier/pannier/rpc"
	"github.com/pannier/pannier/rpc/rpctest"
)

// onePipes are the carriers of one pipe outside of the process; all with keys.
var onePipes = []string{"fifo", "exec", "stdio", "tty"}

// killRelays ends the children that have a file in the folder, by their ids.
func killRelays(dir string) {
	files, _ := os.ReadDir(dir)
	for _, f := range files {
		if pid, err := strconv.Atoi(f.Name()); err == nil && os.Remove(filepath.Join(dir, f.Name())) == nil {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

// onePipe makes pairs over one pipe.
func onePipe(name string, cfg flow.Config) rpctest.Connect {
	return func(t testing.TB, register func(*rpc.Server)) rpctest.Pair {
		t.Helper()
		ours, theirs, dir := identity(t), identity(t), t.TempDir()
		sc := rpc.ServerConfig{Identity: ours, Pins: carrier.Pins{theirs.Key()}, Flow: cfg}
		near, far, cut := "", "", func() { killRelays(dir) }
		switch name {
		case "exec":
			far = "tls://127.0.0.1:0"
		case "fifo":
			a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
			for _, path := range []string{a, b} {
				if err := unix.Mkfifo(path, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			near, far = "fifo://"+a+","+b, "fifo://"+b+","+a
		case "tty":
			m, err := flowtest.NewNullModem()
			if err != nil {
				t.Skip("SKIPPED: no pseudo-terminals here: ", err)
			}
			t.Cleanup(func() { _ = m.Close() })
			near, far = "tty://"+m.Near, "tty://"+m.Far
		case "stdio":
			return overStdio(t, sc, theirs, register)
		}
		var p rpctest.Pair
		p.Server, far = serving(t, sc, far, register)
		if name == "exec" {
			near = carrier.ExecAddress("env", relayEnv+"="+strings.TrimPrefix(far, "tls://")+" "+dir, os.Args[0])
		}
		d, err := carrier.NewDialer(near, carrier.Options{Identity: theirs, Pins: carrier.Pins{ours.Key()}})
		if err != nil {
			t.Fatal(err)
		}
		keeping := &cutter{Dialer: d}
		p.Cut = cut
		if name != "exec" {
			p.Cut = keeping.cut
		}
		p.Client = dialed(t, func() (*rpc.ClientConn, error) { return rpc.DialOver(keeping, rpc.ClientConfig{Flow: cfg}) })
		return p
	}
}

func (c *cutter) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.conns {
		if conn != nil {
			_ = conn.Close()
		}
	}
	c.conns = nil
}

// overStdio joins what both ends call stdin and stdout by a socket pair.
func overStdio(t testing.TB, sc rpc.ServerConfig, theirs *carrier.Identity, register func(*rpc.Server)) rpctest.Pair {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2][2]*os.File
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "socket pair")
		ends[i] = [2]*os.File{f, f}
	}
	server, err := rpc.NewServer(sc)
	if err != nil {
		t.Fatal(err)
	}
	register(server)
	l, err := carrier.Listen("stdio:", carrier.Options{Identity: sc.Identity, Pins: sc.Pins, Stdio: ends[1]})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- l.Serve(server.ServeConn, nil) }()
	t.Cleanup(func() {
		_ = l.Close()
		server.Stop()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	d, err := carrier.NewDialer("stdio:", carrier.Options{Identity: theirs, Pins: carrier.Pins{sc.Identity.Key()}, Stdio: ends[0]})
	if err != nil {
		t.Fatal(err)
	}
	cc := dialed(t, func() (*rpc.ClientConn, error) { return rpc.DialOver(d, rpc.ClientConfig{Flow: sc.Flow}) })
	if _, err := cc.Connect(t.Context()); err != nil { // who gives up while connecting has used up the only connection
		t.Fatal(err)
	}
	return rpctest.Pair{Server: server, Client: cc}
}

// TestConformanceOnePipe plays the matrix where one pipe is all there is.
func TestConformanceOnePipe(t *testing.T) {
	var calls atomic.Int64
	o := rpctest.Options{Dir: memoryDir(t), Calls: &calls, Full: *fullMatrix, Brief: true}
	t.Cleanup(func() { t.Logf("%d calls", calls.Load()) })
	for _, name := range onePipes {
		o.NoLarge = name == "tty" && !*fullMatrix
		t.Run(name, func(t *testing.T) { rpctest.Run(t, onePipe(name, flow.Config{}), o) })
	}
}

// onOnePipes runs a trap or a fault on every carrier of one pipe.
func onOnePipes(t *testing.T, f func(*testing.T, rpctest.Connect)) {
	for _, name := range onePipes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, onePipe(name, flow.Config{}))
		})
	}
}

func TestOnePipePoison(t *testing.T)  { onOnePipes(t, rpctest.TrapPoison) }
func TestOnePipeGivenUp(t *testing.T) { onOnePipes(t, rpctest.FaultGivenUp) }
func TestOnePipeDrained(t *testing.T) { onOnePipes(t, rpctest.FaultDrained) }
func TestOnePipeCrowd(t *testing.T)   { onOnePipes(t, rpctest.FaultCrowd) }

// TestOnePipeKilled and TestOnePipeCut lose the pipe in the middle of transfers, and dial it
// again: over exec by killing the command, by its id.
func TestOnePipeKilled(t *testing.T) {
	for _, name := range []string{"fifo", "exec"} {
		cfg := flow.Config{ResumeTimeout: -1, Window: 128 << 10, MaxWindow: 512 << 10}
		t.Run(name, func(t *testing.T) { t.Parallel(); rpctest.FaultKilled(t, onePipe(name, cfg)) })
	}
}

func TestOnePipeCut(t *testing.T) {
	for _, name := range []string{"fifo", "exec"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rpctest.FaultCut(t, onePipe(name, flow.Config{MaxWindow: 512 << 10}))
		})
	}
}
