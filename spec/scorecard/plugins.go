package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/pannier/pannier/engine/node/nodetest"
	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/plugins/dir"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

// Bridges, whose plugins are this program in another role.

// rolePlugin is this program as the plugin of a directory.
const rolePlugin = "plugin"

func pluginRole([]string) error {
	eat := make(chan os.Signal, 1)
	signal.Notify(eat, syscall.SIGUSR1)
	go func() {
		<-eat
		var all [][]byte
		for range 2048 {
			b := make([]byte, mib)
			for i := 0; i < len(b); i += 4096 {
				b[i] = 1
			}
			all = append(all, b)
		}
		runtime.KeepAlive(all)
	}()
	plugins.Serve(dir.Driver{})
	return nil
}

// bridged is a node with bridges to directories, each with a plugin process of its own.
type bridged struct {
	*fleet
	dirs []string
}

func newBridged(ctx context.Context, at string, bridges int, more, rule string) (*bridged, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fault.Wrap("find program", "", err)
	}
	f, err := newFleet(at, 1)
	if err != nil {
		return nil, err
	}
	b := &bridged{fleet: f}
	var text strings.Builder
	text.WriteString(pushRule("push", rule))
	for i := range bridges {
		d := filepath.Join(at, "box"+strconv.Itoa(i))
		if err := os.Mkdir(d, 0o700); err != nil {
			return b, fault.Wrap("make directory", d, err)
		}
		b.dirs = append(b.dirs, d)
		fmt.Fprintf(&text, "[[bridge]]\nname = \"box%d\"\nplugin = %s\nargs = [%q, %q]\nendpoint = %s\n%s\n", i, tomlText(self), rolePlugin, strconv.Itoa(i), tomlText("dir://"+d), more)
	}
	if err := f.write(nil, nil, text.String()); err != nil {
		return b, err
	}
	return b, f.start(ctx)
}

// plugin is the process of a bridge's plugin; 0: there is none.
func (b *bridged) plugin(i int) int {
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range all {
		pid, _ := strconv.Atoi(strings.Split(path, "/")[2])
		text, _ := os.ReadFile(path)
		args := bytes.Split(text, []byte{0})
		if len(args) > 2 && string(args[1]) == rolePlugin && string(args[2]) == strconv.Itoa(i) && parentOf(pid) == b.all[0].PID() {
			return pid
		}
	}
	return 0
}

func parentOf(pid int) int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, after, ok := strings.Cut(string(text), ") ")
	fields := strings.Fields(after)
	if err != nil || !ok || len(fields) < 2 {
		return 0
	}
	parent, _ := strconv.Atoi(fields[1])
	return parent
}

var orphans = check{
	id: 21, title: "SIGKILL of a daemon with 10 plugins: a second later no process of theirs is left, and the next daemon has its own",
	unit: "orphans", n: counts{reduced: 3, full: 50, control: 1},
	mutant: "a plugin holds its own lease",
	edits: []edit{{"plugins/host/runner.go", "		cmd.ExtraFiles = []*os.File{its}\n",
		"		cmd.ExtraFiles = []*os.File{its}\n		if mutant(\"21\") {\n			cmd.ExtraFiles = append(cmd.ExtraFiles, leaseEnd)\n		}\n"}},
	run: runOrphans,
}

func runOrphans(ctx context.Context, j *job) (result, error) {
	const number = 10
	b, err := newBridged(ctx, j.dir, number, "", "")
	if b != nil {
		defer b.close()
	}
	if err != nil {
		return result{}, err
	}
	var w note
	orphans := 0
	for round := range j.n {
		if round > 0 {
			if err := b.start(ctx); err != nil {
				return result{}, err
			}
		}
		c, err := b.all[0].Client()
		if err != nil {
			return result{}, err
		}
		var pids []string
		for i := range number {
			if _, err := c.TestPartner(ctx, &adminpb.TestPartnerRequest{Partner: "box" + strconv.Itoa(i)}); err != nil {
				return result{}, err
			}
			pid := b.plugin(i)
			if pid == 0 {
				w.add("bridge %d has no process of its own", i)
			}
			pids = append(pids, strconv.Itoa(pid))
		}
		b.all[0].Kill()
		for _, pid := range survivors(pids, time.Second) {
			orphans++
			w.add("plugin %d lives", pid)
			kill(pid)
		}
	}
	return w.result(float64(orphans), "%d kills, %d plugins each", j.n, number), nil
}

var pluginDies = check{
	id: 20, title: "plugins that are killed, hang, or want 2 GiB of 256 MiB, in the middle of a file: each request goes on with the next process and ends DONE with the right content, those of another plugin see nothing of it",
	unit: "requests not recovered", n: counts{reduced: 3, full: 21},
	mutant: "a plugin that has died is not started again; its memory is not limited",
	edits: []edit{{"plugins/host/plugin.go", "		case p.now != nil && !p.now.isGone():\n", "		case p.now != nil && (!p.now.isGone() || mutant(\"20 restart\")):\n"},
		{"plugins/host/runner.go", "	if !limited {\n", "	if !limited || mutant(\"20 limit\") {\n"}},
	several: []string{"restart", "limit"},
	run:     runPluginDies,
}

func runPluginDies(ctx context.Context, j *job) (result, error) {
	const size = 24 * mib
	b, err := newBridged(ctx, j.dir, j.n+1, "memory = \"256MiB\"\nbandwidth = \"12MB/s\"", `retry = { attempts = 4, delay = "1s", factor = 1 }`)
	if b != nil {
		defer b.close()
	}
	if err != nil {
		return result{}, err
	}
	n := b.all[0]
	content := make([]byte, size)
	for i := range content {
		content[i] = byte(j.rnd.Uint32())
	}
	if err := os.WriteFile(filepath.Join(n.Root, "file"), content, 0o600); err != nil {
		return result{}, fault.Wrap("make file", "", err)
	}
	c, err := n.Client()
	if err != nil {
		return result{}, err
	}
	var w note
	before := rssOf(n.PID())
	ids := make([]string, j.n+1) // the last one's plugin is left alone
	for i := range ids {
		r, err := c.Submit(ctx, &adminpb.SubmitRequest{Partner: "box" + strconv.Itoa(i), Rule: "push", Source: "file", Target: "file"})
		if err != nil {
			return result{}, err
		}
		ids[i] = r.GetRequest().GetId()
	}
	for i := range j.n {
		if err := b.moving(ctx, n, ids[i], 1*mib); err != nil {
			return result{}, err
		}
		if pid := b.plugin(i); pid != 0 {
			_ = syscall.Kill(pid, []syscall.Signal{syscall.SIGKILL, syscall.SIGSTOP, syscall.SIGUSR1}[i%3])
		}
	}
	lost := 0
	limited, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for i, id := range ids {
		r, err := ended(limited, n, id)
		if err != nil && limited.Err() == nil {
			return result{}, err
		}
		got, _ := os.ReadFile(filepath.Join(b.dirs[i], "file"))
		if r.GetState() != adminpb.Request_DONE || !bytes.Equal(got, content) {
			lost++
			w.add("request %d is %v: %s", i, r.GetState(), r.GetFailure().GetCause())
		}
		if i < j.n && r.GetAttempt() < 2 {
			w.add("plugin %d did not end", i)
		}
		if i == j.n && r.GetAttempt() != 1 {
			w.add("the plugin that was left alone took %d attempts", r.GetAttempt())
		}
		if left, _ := filepath.Glob(filepath.Join(b.dirs[i], ".pannier-*")); len(left) > 0 && r.GetState() == adminpb.Request_DONE {
			w.add("left at the server: %v", left)
		}
	}
	growth := rssOf(n.PID()) - before
	return w.result(float64(lost), "%d plugins killed, stopped or out of memory; the daemon grew by %d MiB", j.n, growth/mib), nil
}

// moving waits until bytes of a request have moved.
func (b *bridged) moving(ctx context.Context, n *nodetest.Node, id string, least int64) error {
	c, err := n.Client()
	if err != nil {
		return err
	}
	for until := time.Now().Add(time.Minute); time.Now().Before(until); time.Sleep(20 * time.Millisecond) {
		r, err := c.Get(ctx, &adminpb.Ref{Id: id})
		if err != nil {
			return err
		}
		if r.GetLive().GetReceived() >= least || r.GetState() == adminpb.Request_DONE {
			return nil
		}
	}
	return fault.New("wait for bytes", fault.Deadline, "none of request %s have moved", id)
}
