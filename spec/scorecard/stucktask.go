package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

// A stuck task ignores what it can, has a child and a grandchild that do too, says
// so many bytes, and stays.
const stuckScript = `trap '' TERM INT HUP
( trap '' TERM INT HUP; ( trap '' TERM INT HUP; while :; do sleep 1000; done ) & echo $! >>"$0/pids"; while :; do sleep 1000; done ) & echo $! >>"$0/pids"
echo $$ >>"$0/pids"
head -c "$1" /dev/zero
while :; do sleep 1000; done`

const (
	stuckLimit  = 3 * time.Second // the task's
	stuckGrace  = 2 * time.Second // after which all of it is gone
	stuckGrowth = 64 * mib        // of the daemon
)

var stuckTask = check{
	id: 19, title: "tasks that never end, have children and grandchildren, ignore signals and write 1 GiB: at its limit all of it is gone, the request is an operator's after one run, the daemon does not grow",
	unit: "processes left", n: counts{reduced: 2, full: 20},
	mutant: "the command is killed, not its group",
	edits: []edit{
		{"engine/task/exec.go", "return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }", "return syscall.Kill(groupOr(cmd.Process.Pid), syscall.SIGKILL) }"},
		{"engine/task/exec_linux.go", "_ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL)\n", "_ = unix.Kill(groupOr(cmd.Process.Pid), unix.SIGKILL)\n"},
		{"engine/task/exec.go", "// environment is what", "// groupOr is the group of a process, or the process.\nfunc groupOr(pid int) int {\n	if mutant(\"19\") {\n		return pid\n	}\n	return -pid\n}\n\n// environment is what"},
	},
	run: runStuckTask,
}

func runStuckTask(ctx context.Context, j *job) (result, error) {
	said := int64(64 * mib)
	if j.full {
		said = 1 << 30
	}
	f, err := newFleet(j.dir, 2)
	if err != nil {
		return result{}, err
	}
	defer f.close()
	task := argvOf(fmt.Sprintf(", timeout = \"%v\"", stuckLimit), "/bin/sh", "-c", stuckScript, j.dir, strconv.FormatInt(said, 10))
	if err := f.write(nil, nil, pushRule("push", "receiver = { post = ["+task+"] }")); err != nil {
		return result{}, err
	}
	if err := f.start(ctx); err != nil {
		return result{}, err
	}
	if err := zeroFile(f.all[0], "file", 1000); err != nil {
		return result{}, err
	}
	before := rssOf(f.all[1].PID())
	var w note
	done := make(chan struct{})
	var watching sync.WaitGroup
	var most int64
	watching.Go(func() {
		for {
			most = max(most, rssOf(f.all[1].PID())-before)
			select {
			case <-done:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	})
	var longest time.Duration
	for i := 0; i < j.n && err == nil; i += 2 { // two at a time
		var ids []string
		for k := range min(2, j.n-i) {
			id, submitErr := f.submit(ctx, f.all[1], "push", "file", fmt.Sprint(i, k), "")
			if err = submitErr; err == nil {
				ids = append(ids, id)
			}
		}
		for _, id := range ids {
			took, endErr := f.endOfStuck(ctx, id, &w)
			if err = endErr; err != nil {
				break
			}
			longest = max(longest, took)
		}
	}
	close(done)
	watching.Wait()
	if err != nil {
		return result{}, err
	}
	pids, _ := os.ReadFile(filepath.Join(j.dir, "pids"))
	all := strings.Fields(string(pids))
	left := survivors(all, 5*time.Second)
	for _, pid := range left { // they are ours
		w.add("process %d lives", pid)
		kill(pid)
	}
	if len(all) != 3*j.n {
		w.add("%d processes of %d were begun: a task ran again, or did not", len(all), 3*j.n)
	}
	if most > stuckGrowth {
		w.add("the daemon grew by %d MiB", most/mib)
	}
	if j.full && longest > stuckGrace {
		w.add("%v after the limit something of a task was left", longest.Round(time.Millisecond))
	}
	return w.result(float64(len(left)), "%d tasks with %d processes, %d MiB said by each; over %v after the limit at the latest; the daemon grew by %d MiB", j.n, len(all), said/mib, longest.Round(time.Millisecond), most/mib), nil
}

// endOfStuck waits for the end of a request, and returns how long after its task's
// limit that came.
func (f *fleet) endOfStuck(ctx context.Context, id string, w *note) (time.Duration, error) {
	r, err := ended(ctx, f.all[0], id)
	if err != nil {
		return 0, err
	}
	far, err := ended(ctx, f.all[1], id)
	if err != nil {
		return 0, err
	}
	for _, r := range []*adminpb.Request{r, far} {
		if r.GetState() != adminpb.Request_INERROR || r.GetFailure().GetKind() != uint32(fault.Deadline) {
			w.add("%v: %s", r.GetState(), r.GetFailure().GetCause())
		}
	}
	c, err := f.all[1].Client()
	if err != nil {
		return 0, err
	}
	events, err := c.Events(ctx, &adminpb.Ref{Id: id})
	if err != nil {
		return 0, err
	}
	var began, over time.Time
	for _, e := range events.GetEvents() {
		if strings.Contains(e.GetEvent(), "BeginTask") {
			began = e.GetAt().AsTime()
		}
		if strings.Contains(e.GetEvent(), "Fail") {
			over = e.GetAt().AsTime()
		}
	}
	return over.Sub(began) - stuckLimit, nil
}

// survivors are the processes that still live after at most that time.
func survivors(pids []string, wait time.Duration) (left []int) {
	for until := time.Now().Add(wait); ; time.Sleep(50 * time.Millisecond) {
		left = nil
		for _, p := range pids {
			if pid, err := strconv.Atoi(p); err == nil && alive(pid) {
				left = append(left, pid)
			}
		}
		if len(left) == 0 || time.Now().After(until) {
			return left
		}
	}
}

// alive reports whether a process is there and no zombie.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, after, _ := strings.Cut(string(stat), ") ")
	return err == nil && !strings.HasPrefix(after, "Z")
}
