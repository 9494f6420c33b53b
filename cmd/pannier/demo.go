package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/engine/node/nodetest"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/relpath"
)

func demoCommand() *cobra.Command {
	var dir string
	var relays bool
	cmd := &cobra.Command{
		Use:   "demo [FILE]",
		Short: "Send a file between two nodes, one of which dies on the way",
		Long: `Send a file between two nodes, one of which dies on the way.

Two daemons are started in a temporary directory, with keys, configurations and
stores of their own. A request carries the file (this program itself, unless one
is given) from one to the other, with tasks before and after at both ends. In the
middle the receiving daemon is killed, started again, and the transfer finishes from
what its disk had. Then what happened is shown.

With --relay two daemons have a relay instead: a web server that one of them reaches is asked
through the other, before and after that was allowed.`,
		Example: `  pannier demo
  pannier demo big.iso
  pannier demo --relay
  # Keep the two nodes' directories, to look around in
  pannier demo --dir /tmp/demo`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if relays {
				if len(args) > 0 {
					return fault.New("read arguments", fault.Invalid, "a relay carries connections: --relay takes no file")
				}
				return demoRelay(cmd.Context(), cmd.OutOrStdout(), dir)
			}
			file, err := os.Executable()
			if err == nil && len(args) == 1 {
				file, err = filepath.Abs(args[0])
			}
			if err != nil {
				return err
			}
			return demo(cmd.Context(), cmd.OutOrStdout(), file, dir)
		},
	}
	cmd.Flags().BoolVar(&relays, "relay", false, "show a relay")
	cmd.Flags().StringVar(&dir, "dir", "", "where the nodes' files go, and stay (default: a temporary directory that is removed)")
	return cmd
}

// demoSeconds is about how long the bytes take, so that there is a middle to die in.
const demoSeconds = 4

// demo is the whole of it. dir empty: a temporary one.
func demo(ctx context.Context, out io.Writer, file, dir string) (err error) {
	fi, err := os.Stat(file)
	if err != nil {
		return fault.Wrap("look at file", file, err)
	}
	if !fi.Mode().IsRegular() {
		return fault.New("look at file", fault.Invalid, "%s is not a regular file", file)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if dir == "" {
		if dir, err = os.MkdirTemp("", "pannier-demo-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	d := &demonstration{ctx: ctx, out: out, name: filepath.Base(file), size: fi.Size()}
	if d.a, d.b, err = nodetest.Pair(dir, self); err != nil {
		return err
	}
	defer d.a.Close()
	defer d.b.Close()
	return d.run(file)
}

// demonstration is the two nodes and what they carry.
type demonstration struct {
	ctx    context.Context
	out    io.Writer
	a, b   *nodetest.Node
	name   string
	size   int64
	digest sideeffect.Sum

	began    time.Time
	id       string
	received int64 // by b's word, when it was killed
	killed   time.Time
	back     time.Time
	durable  int64 // on b's disk, as its store had it after the kill
}

const demoRules = `
[[rule]]
name = "demo"
direction = "send"
partners = ["*"]
root = "%ROOT%"
digest = "sha256"
retry = { delay = "1s" }
`

const demoSender = demoRules + `
pre  = [ { task = "check", min_size = 1 }, { task = "log", text = "about to send {path}, {size} bytes" } ]
post = [ { task = "move", to = "sent/{name}" } ]
`

const demoReceiver = demoRules + `
pre  = [ { task = "log", text = "{requester} sends {name}" } ]
post = [ { task = "check", digest = "%DIGEST%" }, { task = "copy", to = "archive/{date}/{name}" } ]
`

func (d *demonstration) run(file string) error {
	if err := d.prepare(file); err != nil {
		return err
	}
	for _, n := range []*nodetest.Node{d.b, d.a} {
		if err := n.Start(d.ctx); err != nil {
			return err
		}
	}
	d.began = time.Now()
	d.say("two daemons: %s and %s, joined by TLS with pinned keys", d.a.Name, d.b.Name)
	at, err := d.a.Client()
	if err != nil {
		return err
	}
	if err := d.submit(at); err != nil {
		return err
	}
	if err := d.killInTheMiddle(at); err != nil {
		return err
	}
	end, err := at.Wait(d.ctx, &adminpb.WaitRequest{Ref: &adminpb.Ref{Id: d.id}})
	if err != nil {
		return err
	}
	if end.State != adminpb.Request_DONE {
		return fault.New("carry out the request", fault.Internal, "it is %v: %s", end.State, end.Failure.GetCause())
	}
	d.say("done at both ends")
	return d.report(end)
}

// prepare gives the sender the file and both nodes their configurations.
func (d *demonstration) prepare(file string) error {
	if _, err := relpath.Parse(d.name); err != nil {
		return fault.Wrap("name file", d.name, err)
	}
	in, err := os.Open(file)
	if err != nil {
		return fault.Wrap("open file", file, err)
	}
	defer in.Close()
	copied, err := os.Create(filepath.Join(d.a.Root, d.name))
	if err != nil {
		return err
	}
	h, err := sideeffect.NewHasher(sideeffect.SHA256)
	if err != nil {
		return err
	}
	n, err := io.Copy(io.MultiWriter(copied, h), in)
	if err = errors.Join(err, copied.Close()); err != nil {
		return fault.Wrap("copy file", file, err)
	}
	d.size, d.digest = n, h.Sum()
	settings := []string{`log = "error"`, fmt.Sprintf("bandwidth = %q", fmt.Sprintf("%dB/s", max(n/demoSeconds, 1)))}
	rules := strings.ReplaceAll(demoReceiver, "%DIGEST%", d.digest.String())
	return errors.Join(d.a.Write(settings, nil, demoSender, d.b), d.b.Write([]string{`log = "error"`}, nil, rules, d.a))
}

func (d *demonstration) submit(at *admin.Client) error {
	reply, err := at.Submit(d.ctx, &adminpb.SubmitRequest{Partner: d.b.Name, Rule: "demo", Source: d.name, Info: "a demonstration"})
	if err != nil {
		return err
	}
	d.id = reply.Request.Id
	d.say("request %s: %s, %s, from %s to %s; registered, and durable from here on", d.id[:8], d.name, humanize.IBytes(uint64(d.size)), d.a.Name, d.b.Name)
	return nil
}

// killInTheMiddle kills the receiver when more than half has come, and starts it
// again.
func (d *demonstration) killInTheMiddle(at *admin.Client) error {
	for {
		r, err := at.Get(d.ctx, &adminpb.Ref{Id: d.id})
		if err != nil {
			return err
		}
		if r.State == adminpb.Request_DONE || r.State == adminpb.Request_INERROR {
			d.say("it was over before anybody could be killed: try a larger file")
			return nil
		}
		if got := r.Live.GetReceived(); got > d.size/2 {
			d.received = got
			break
		}
		if err := d.pause(20 * time.Millisecond); err != nil {
			return err
		}
	}
	d.b.Kill()
	d.killed = time.Now()
	d.say("%s KILLED (-9): it had received %s", d.b.Name, humanize.IBytes(uint64(d.received)))
	if err := d.pause(500 * time.Millisecond); err != nil {
		return err
	}
	if err := d.b.Start(d.ctx); err != nil {
		return err
	}
	d.back = time.Now()
	client, err := d.b.Client()
	if err != nil {
		return err
	}
	r, err := client.Get(d.ctx, &adminpb.Ref{Id: d.id})
	if err != nil {
		return err
	}
	d.durable = r.Durable
	d.say("%s is back: its store says that %s are on its disk; it waits for %s to call", d.b.Name, humanize.IBytes(uint64(d.durable)), d.a.Name)
	return nil
}

func (d *demonstration) pause(t time.Duration) error {
	select {
	case <-time.After(t):
		return nil
	case <-d.ctx.Done():
		return context.Cause(d.ctx)
	}
}

// say prints a line of what happens, with the time since the beginning.
func (d *demonstration) say(format string, args ...any) {
	fmt.Fprintf(d.out, "%7.3fs  %s\n", time.Since(d.began).Seconds(), fmt.Sprintf(format, args...))
}

// step is one line of the timeline.
type step struct {
	at   time.Time
	node string
	what *adminpb.Event
}

// report shows the steps of both ends, and the figures.
func (d *demonstration) report(end *adminpb.Request) error {
	var steps []step
	for _, n := range []*nodetest.Node{d.a, d.b} {
		client, err := n.Client()
		if err != nil {
			return err
		}
		reply, err := client.Events(d.ctx, &adminpb.Ref{Id: d.id})
		if err != nil {
			return err
		}
		for _, e := range reply.Events {
			steps = append(steps, step{e.At.AsTime(), n.Name, e})
		}
	}
	slices.SortStableFunc(steps, func(x, y step) int { return x.at.Compare(y.at) })
	rows := make([][]string, 0, len(steps))
	for _, s := range steps {
		rows = append(rows, []string{fmt.Sprintf("%.3fs", s.at.Sub(d.began).Seconds()), s.node, s.what.Phase, s.what.State.String(),
			humanize.IBytes(uint64(s.what.Durable)), s.what.Event, s.what.Failure.GetName()})
	}
	fmt.Fprintf(d.out, "\nWhat both stores have of it, one line for each commit:\n\n")
	if err := (command.Table{Header: []string{"AT", "NODE", "PHASE", "STATE", "DURABLE", "EVENTS", "FAILURE"}, Rows: rows}).Write(d.out); err != nil {
		return err
	}
	return d.figures(end)
}

func (d *demonstration) figures(end *adminpb.Request) error {
	archived, err := filepath.Glob(filepath.Join(d.b.Root, "archive", "*", d.name))
	if err != nil || len(archived) != 1 {
		return fault.New("look for the copy", fault.NotFound, "the receiver's archive has %d files of that name", len(archived))
	}
	f, err := os.Open(archived[0])
	if err != nil {
		return err
	}
	defer f.Close()
	h, err := sideeffect.NewHasher(sideeffect.SHA256)
	if err != nil {
		return err
	}
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	if !h.Sum().Equal(d.digest) {
		return fault.New("compare digests", fault.Corrupt, "%s has %v, sent was %v", archived[0], h.Sum(), d.digest)
	}
	took := end.Changed.AsTime().Sub(end.Registered.AsTime())
	fmt.Fprintf(d.out, "\nsent      %v\nreceived  %v, equal\n", d.digest, h.Sum())
	if !d.killed.IsZero() {
		fmt.Fprintf(d.out, "killed    after %s of %s; %s were durable and were not sent again, %s were\n", humanize.IBytes(uint64(d.received)),
			humanize.IBytes(uint64(d.size)), humanize.IBytes(uint64(d.durable)), humanize.IBytes(uint64(max(d.received-d.durable, 0))))
	}
	fmt.Fprintf(d.out, "took      %.1f s in %d attempts, at most %s/s by configuration (a bandwidth that leaves time to kill somebody)\n",
		took.Seconds(), end.Attempt, humanize.IBytes(uint64(d.size/demoSeconds)))
	return nil
}
