// Package nodetest runs nodes as processes of their own, with identities, keys
// and configurations made in a directory of the caller's: for benchmarks, the
// demonstration, and tests that kill nodes. It ends only what it has started, and
// that ends with it if its program calls Tied.
package nodetest

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/flow/flowtest/freeport"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

// Node is a node that is, or can be, a process.
type Node struct {
	Name    string
	Dir     string   // all that belongs to it
	State   string   // its state directory: Dir/state unless it was set before Write
	Root    string   // of its rules: Dir/files unless it was set before Write
	Address string   // where it listens, as "tls://127.0.0.1:40001"
	Key     string   // its pinned key
	Program []string // the command that "serve --config FILE" is appended to; it calls Tied
	Env     []string // added to the process's
	Log     io.Writer

	process *exec.Cmd
	ended   chan struct{} // closed when the process has ended
	fate    error         // then
	last    *tail         // of what it has said
	client  *admin.Client
}

// New makes a node's directories and identity below dir, and picks a free port of
// the loopback device.
func New(dir, name string, program ...string) (*Node, error) {
	n := &Node{Name: name, Dir: filepath.Join(dir, name), Program: program, Log: io.Discard}
	n.State, n.Root = filepath.Join(n.Dir, "state"), filepath.Join(n.Dir, "files")
	if err := n.Identify(); err != nil {
		return nil, err
	}
	at, err := freeport.Address("127.0.0.1")
	n.Address = "tls://" + at
	return n, err
}

// Identify makes the directories and the identity where they are missing.
func (n *Node) Identify() error {
	for dir, mode := range map[string]os.FileMode{n.State: 0o700, n.Root: 0o755} {
		if err := os.MkdirAll(dir, mode); err != nil {
			return err
		}
	}
	id, err := carrier.LoadOrCreateIdentity(n.State)
	if err != nil {
		return err
	}
	n.Key = id.Key()
	return nil
}

// Config is the path of the configuration.
func (n *Node) Config() string { return filepath.Join(n.Dir, "pannier.toml") }

// Admin is the address of the admin socket.
func (n *Node) Admin() string { return "unix://" + filepath.Join(n.Dir, "admin.sock") }

// Write writes the configuration: node settings, a line each, without name,
// state, listen and admin; the others as partners; and rules as they are given,
// in which %ROOT% is the node's root.
func (n *Node) Write(settings []string, partnerSettings []string, rules string, partners ...*Node) error {
	var b strings.Builder
	fmt.Fprintf(&b, "[node]\nname = %q\nstate = %q\nlisten = [%q]\nadmin = %q\n", n.Name, n.State, n.Address, n.Admin())
	for _, s := range settings {
		fmt.Fprintln(&b, s)
	}
	for _, p := range partners {
		fmt.Fprintf(&b, "\n[[partner]]\nname = %q\naddress = %q\nkey = %q\n", p.Name, p.Address, p.Key)
		for _, s := range partnerSettings {
			fmt.Fprintln(&b, s)
		}
	}
	b.WriteString("\n" + strings.ReplaceAll(rules, "%ROOT%", n.Root))
	return os.WriteFile(n.Config(), []byte(b.String()), 0o644)
}

// Start starts the process and waits until it answers. wrap, if not empty, is a
// command that the process's is appended to, as strace and its flags.
func (n *Node) Start(ctx context.Context, wrap ...string) error {
	argv := append(append([]string{}, wrap...), n.Program...)
	argv = append(argv, "serve", "--config", n.Config())
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), n.Env...)
	last := &tail{}
	n.last = last
	cmd.Stdout = io.MultiWriter(n.Log, last)
	cmd.Stderr = cmd.Stdout
	cmd.WaitDelay = time.Second
	letGo, err := Tie(cmd)
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		letGo()
		return fault.Wrap("start node", n.Name, err)
	}
	n.process, n.ended = cmd, make(chan struct{})
	go func(ended chan struct{}) {
		n.fate = cmd.Wait()
		letGo()
		close(ended)
	}(n.ended)
	return n.Await(ctx)
}

// Await waits until the node answers on its admin socket, or has ended.
func (n *Node) Await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		c, err := n.Client()
		if err != nil {
			return err
		}
		if _, err = c.NodeInfo(ctx, &adminpb.NodeInfoRequest{}); err == nil {
			return nil
		}
		select {
		case <-n.ended:
			return fault.New("start node", fault.Internal, "%s has ended, %v: %s", n.Name, n.fate, n.last)
		case <-ctx.Done():
			return fault.Wrap("await node", n.Name, err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// Client talks to the node. It is made once, and good over restarts.
func (n *Node) Client() (*admin.Client, error) {
	if n.client == nil {
		c, err := admin.Dial(n.Admin())
		if err != nil {
			return nil, err
		}
		n.client = c
	}
	return n.client, nil
}

// PID is the process's id; 0 without one.
func (n *Node) PID() int {
	if n.process == nil {
		return 0
	}
	return n.process.Process.Pid
}

// Ended is closed when the process has ended; nil without one.
func (n *Node) Ended() <-chan struct{} { return n.ended }

// Kill ends the process at once, with what it has started, and waits.
func (n *Node) Kill() { n.signal(syscall.SIGKILL) }

// Stop ends the process in order, and returns how it ended.
func (n *Node) Stop() error {
	if n.process == nil {
		return nil
	}
	n.signal(syscall.SIGTERM)
	return n.fate
}

func (n *Node) signal(s syscall.Signal) {
	if n.process == nil {
		return
	}
	signalGroup(n.process.Process.Pid, s)
	<-n.ended
	n.process = nil
}

// Close kills the process, if there is one, and closes the client.
func (n *Node) Close() {
	n.Kill()
	if n.client != nil {
		n.client.Close()
		n.client = nil
	}
}

// Pair is two nodes that are each other's partners.
func Pair(dir string, program ...string) (a, b *Node, err error) {
	if a, err = New(dir, "hosta", program...); err == nil {
		b, err = New(dir, "hostb", program...)
	}
	return a, b, err
}
