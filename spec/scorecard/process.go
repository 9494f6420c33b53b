package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/rpc"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

// roleServe is this program as a server in a process of its own, so that its
// memory and processor time are its own.
const roleServe = "serve"

// serveConfig is what the parent wants served, as JSON on the command line.
type serveConfig struct {
	Address  string
	Identity string   // folder
	Pins     []string // of clients
	Disk     float64  // bytes a second that the one disk of all sinks takes; 0 = any
	Flow     flowLimits
}

// flowLimits are the bounds of a receiver's memory, 0 = default.
type flowLimits struct{ Pool, SessionBudget, Window, MaxWindow int }

func (f flowLimits) config() flow.Config {
	c := flow.Config{SessionBudget: f.SessionBudget, Window: f.Window, MaxWindow: f.MaxWindow}
	if f.Pool > 0 {
		c.Pool = flow.NewPool(f.Pool)
	}
	return c
}

// served is what the server says at its end.
type served struct {
	Stored  int64 // bytes that sinks took
	Strange int64 // blocks that came out of order
}

// serveRole serves until its input ends. It prints its address first, served
// last.
func serveRole(args []string) error {
	var cfg serveConfig
	if len(args) != 1 || json.Unmarshal([]byte(args[0]), &cfg) != nil {
		return fault.New("serve", fault.Invalid, "the role is started by the scorecard itself")
	}
	sc := rpc.ServerConfig{Pins: cfg.Pins, Flow: cfg.Flow.config()}
	if cfg.Identity != "" {
		id, err := carrier.LoadOrCreateIdentity(cfg.Identity)
		if err != nil {
			return err
		}
		sc.Identity = id
	}
	d := &disk{rate: cfg.Disk}
	r, err := serving(sc, cfg.Address, func(ctx context.Context, _ string) error {
		se, err := rpc.SideEffect(ctx)
		if err != nil {
			return err
		}
		e := &sideeffect.Descriptor{
			Direction: se.Direction(), Quota: sideeffect.NoQuota,
			Local: watched{sideeffect.Writer(io.Discard), d.take},
		}
		return se.Run(ctx, e, sideeffect.AwaitRemote)
	})
	if err != nil {
		return err
	}
	fmt.Println(r.address)
	_, _ = io.Copy(io.Discard, os.Stdin)
	out := served{Stored: d.stored.Load(), Strange: d.strange.Load()}
	r.stop()
	return json.NewEncoder(os.Stdout).Encode(out)
}

// disk is one slow disk under all sinks.
type disk struct {
	rate            float64
	stored, strange atomic.Int64
	busy            atomic.Int64 // until when, unix ns
}

// take waits as long as the disk needs.
func (d *disk) take(end, _ int64, n int) error {
	if end < 0 {
		d.strange.Add(1)
	}
	if d.rate > 0 {
		need := int64(float64(n) / d.rate * 1e9)
		for {
			now, until := time.Now().UnixNano(), d.busy.Load()
			if d.busy.CompareAndSwap(until, max(now, until)+need) {
				time.Sleep(time.Duration(max(now, until) + need - now))
				break
			}
		}
	}
	d.stored.Add(int64(n))
	return nil
}

// watched is an identity whose sink's writes are seen by before: where the
// write ought to begin (negative: it does not), where it begins, and its length.
type watched struct {
	sideeffect.Identity
	before func(expected, off int64, n int) error
}

// OpenSink implements sideeffect.Identity.
func (w watched) OpenSink(spec sideeffect.SinkSpec) (sideeffect.Sink, error) {
	s, err := w.Identity.OpenSink(spec)
	if err != nil {
		return nil, err
	}
	return &watchedSink{Sink: s, before: w.before}, nil
}

type watchedSink struct {
	sideeffect.Sink
	before func(expected, off int64, n int) error
	at     int64
}

// WriteBlock implements sideeffect.Sink.
func (s *watchedSink) WriteBlock(p []byte, off int64) error {
	expected := s.at
	if off != expected {
		expected = -1
	}
	if err := s.before(expected, off, len(p)); err != nil {
		return err
	}
	s.at = off + int64(len(p))
	return s.Sink.WriteBlock(p, off)
}

// child is the parent's hold on a process of its own.
type child struct {
	address string // the first line it says
	cmd     *exec.Cmd
	in      io.Closer
	out     *bufio.Reader
	said    bytes.Buffer
}

// startChild starts this program in a role and waits for the first line it says.
func startChild(ctx context.Context, role string, cfg any) (*child, error) {
	op := "start " + role
	self, err := os.Executable()
	if err != nil {
		return nil, fault.Wrap(op, "", err)
	}
	text, err := json.Marshal(cfg)
	if err != nil {
		return nil, fault.Wrap(op, "", err)
	}
	s := &child{cmd: exec.CommandContext(ctx, self, role, string(text))}
	s.cmd.Stderr = &s.said
	in, err1 := s.cmd.StdinPipe()
	out, err2 := s.cmd.StdoutPipe()
	if err1 != nil || err2 != nil {
		return nil, fault.New(op, fault.IO, "no pipes")
	}
	if err := s.cmd.Start(); err != nil {
		return nil, fault.Wrap(op, "", err)
	}
	s.in, s.out = in, bufio.NewReader(out)
	line, err := s.out.ReadString('\n')
	if err != nil {
		_ = s.cmd.Wait()
		return nil, fault.New(op, fault.Lost, "it has ended: %s", s.said.String())
	}
	s.address = strings.TrimSpace(line)
	return s, nil
}

// stop ends the process and reads what it says at its end; one that died before
// says so.
func (s *child) stop(last any) error {
	_ = s.in.Close()
	kill := time.AfterFunc(10*time.Second, func() { _ = s.cmd.Process.Kill() })
	defer kill.Stop()
	line, _ := s.out.ReadBytes('\n')
	if err := s.cmd.Wait(); err != nil {
		return fault.New("end process", fault.Lost, "%v: %.2000s", err, s.said.String())
	}
	return fault.Wrap("end process", "", json.Unmarshal(line, last))
}

// load is what a process uses.
type load struct {
	rss int64         // bytes now
	cpu time.Duration // since it began
}

// clockTick is USER_HZ, which Linux shows times in.
const clockTick = 10 * time.Millisecond

// load reads what the process uses.
func (s *child) load() (l load, err error) {
	dir := fmt.Sprintf("/proc/%d/", s.cmd.Process.Pid)
	statm, err := os.ReadFile(dir + "statm")
	if err != nil {
		return l, fault.Wrap("read load", "", err)
	}
	stat, err := os.ReadFile(dir + "stat")
	if err != nil {
		return l, fault.Wrap("read load", "", err)
	}
	pages := strings.Fields(string(statm))
	_, after, _ := strings.Cut(string(stat), ") ")
	times := strings.Fields(after)
	if len(pages) < 2 || len(times) < 13 {
		return l, fault.New("read load", fault.Unsupported, "%s is not as expected", dir)
	}
	resident, _ := strconv.ParseInt(pages[1], 10, 64)
	user, _ := strconv.ParseInt(times[11], 10, 64)
	system, _ := strconv.ParseInt(times[12], 10, 64)
	return load{rss: resident * int64(os.Getpagesize()), cpu: time.Duration(user+system) * clockTick}, nil
}

// peak watches the process's memory until ctx ends and returns the most it had.
func (s *child) peak(ctx context.Context) int64 {
	var most int64
	for tick := time.NewTicker(50 * time.Millisecond); ; {
		if l, err := s.load(); err == nil {
			most = max(most, l.rss)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			tick.Stop()
			return most
		}
	}
}

const mib = 1 << 20
