package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/pannier/pannier/engine/config"
	"github.com/pannier/pannier/engine/node"
	"github.com/pannier/pannier/engine/node/heap"
	"github.com/pannier/pannier/engine/node/nodetest"
	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

// Nodes as processes: for the checks that kill them, cut their power and damage
// their files, and those of what a node does with its tasks, its limits and its
// secrets. The daemon is what pannier serve runs, started by this program so that
// the mutants are in it.

// roleNode is this program as a node.
const roleNode = "node"

// envGauge names a file where a node keeps the most goroutines it has had.
const envGauge = "PANNIER_SCORE_GAUGE"

// nodeRole runs a node until SIGTERM, or until its starter has ended: [--sync
// BYTES] [--window BYTES] serve --config FILE.
func nodeRole(args []string) error {
	nodetest.Tied()
	f := flag.NewFlagSet(roleNode, flag.ContinueOnError)
	every := f.Int64("sync", 0, "bytes between durable offsets")
	window := f.Int("window", 0, "most bytes in flight of a transfer")
	if err := f.Parse(args); err != nil || f.NArg() != 3 || f.Arg(0) != "serve" {
		return fault.New("run node", fault.Invalid, "the role is started by the scorecard itself")
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	read := func() (*config.Config, error) { return config.Load(f.Arg(2)) }
	cfg, err := read()
	if err != nil {
		return err
	}
	n, err := node.Open(ctx, cfg, node.Options{Read: read, SyncEvery: *every, Flow: flow.Config{MaxWindow: *window}})
	if err != nil {
		return err
	}
	go heap.Keep(ctx) // as pannier serve does
	if at := os.Getenv(envGauge); at != "" {
		go gauge(at)
	}
	return n.Run(ctx)
}

// gauge writes the most goroutines of this process into a file, until it ends.
func gauge(at string) {
	most := 0
	for {
		if now := runtime.NumGoroutine(); now > most {
			most = now
			_ = os.WriteFile(at+".new", []byte(strconv.Itoa(most)), 0o600)
			_ = os.Rename(at+".new", at)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// fleet is daemons that are each other's partners. The first registers requests.
type fleet struct {
	all  []*nodetest.Node
	logs []*os.File
}

// newFleet makes nodes below dir that are called n0, n1 and so on; they are started
// by start.
func newFleet(dir string, n int) (*fleet, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fault.Wrap("find program", "", err)
	}
	f := &fleet{}
	for i := range n {
		d, err := nodetest.New(dir, "n"+strconv.Itoa(i), self, roleNode)
		if err != nil {
			return nil, err
		}
		log, err := os.Create(filepath.Join(d.Dir, "log"))
		if err != nil {
			return nil, fault.Wrap("make log", "", err)
		}
		d.Log = log
		f.all, f.logs = append(f.all, d), append(f.logs, log)
	}
	return f, nil
}

// write gives all of them the same settings and rules.
func (f *fleet) write(settings, partner []string, rules string) error {
	for _, n := range f.all {
		if err := n.Write(append([]string{`drain = "1s"`}, settings...), partner, rules, f.others(n)...); err != nil {
			return err
		}
	}
	return nil
}

func (f *fleet) others(n *nodetest.Node) (all []*nodetest.Node) {
	for _, o := range f.all {
		if o != n {
			all = append(all, o)
		}
	}
	return all
}

func (f *fleet) start(ctx context.Context, wrap ...string) error {
	for _, n := range f.all {
		if err := n.Start(ctx, wrap...); err != nil {
			return err
		}
	}
	return nil
}

func (f *fleet) close() {
	for i, n := range f.all {
		n.Close()
		f.logs[i].Close()
	}
}

// log is what a node has said until now.
func (f *fleet) log(i int) string {
	text, err := os.ReadFile(f.logs[i].Name())
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// pushRule is a rule by which n0 sends, with task lists as TOML lines.
func pushRule(name, more string) string {
	return fmt.Sprintf("[[rule]]\nname = %q\ndirection = \"send\"\npartners = [\"*\"]\nroot = \"%%ROOT%%\"\n%s\n", name, more)
}

// argvOf is an exec task as TOML.
func argvOf(more string, argv ...string) string {
	var quoted []string
	for _, a := range argv {
		quoted = append(quoted, tomlText(a))
	}
	return "{ task = \"exec\", argv = [" + strings.Join(quoted, ", ") + "]" + more + " }"
}

// tomlText is a text as TOML has it.
func tomlText(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		if r == '"' || r == '\\' || r < 0x20 || r == 0x7f {
			fmt.Fprintf(&b, "\\u%04x", r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String() + "\""
}

// submit registers a request at n0.
func (f *fleet) submit(ctx context.Context, to *nodetest.Node, rule, source, target, info string) (string, error) {
	c, err := f.all[0].Client()
	if err != nil {
		return "", err
	}
	r, err := c.Submit(ctx, &adminpb.SubmitRequest{Partner: to.Name, Rule: rule, Source: source, Target: target, Info: info})
	return r.GetRequest().GetId(), err
}

// ended waits until a request is final at a node.
func ended(ctx context.Context, n *nodetest.Node, id string) (*adminpb.Request, error) {
	c, err := n.Client()
	if err != nil {
		return nil, err
	}
	return c.Wait(ctx, &adminpb.WaitRequest{Ref: &adminpb.Ref{Id: id}})
}

// zeroFile is a file of n bytes below a node's root, without content.
func zeroFile(n *nodetest.Node, name string, size int64) error {
	at := filepath.Join(n.Root, name)
	if err := os.WriteFile(at, nil, 0o600); err != nil {
		return fault.Wrap("make file", name, err)
	}
	return fault.Wrap("make file", name, os.Truncate(at, size))
}

// rssOf is the memory of a process, in bytes; 0: it has ended.
func rssOf(pid int) int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	fields := strings.Fields(string(text))
	if err != nil || len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize())
}

// filesOf is how many descriptors a process has.
func filesOf(pid int) int {
	all, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return 0
	}
	return len(all)
}

// inMemoryDir is a folder in memory, for checks that do not judge the disk; where
// there is none, the job's.
func (j *job) inMemoryDir() (dir string, remove func(), err error) {
	dir, err = os.MkdirTemp(strings.TrimPrefix(inMemory, "TMPDIR="), "scorecard")
	return dir, func() { _ = os.RemoveAll(dir) }, fault.Wrap("make scratch folder", "", err)
}
