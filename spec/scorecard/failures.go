package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/pannier/pannier/engine/node/nodetest"
	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

var syncFails = check{
	id: 7, title: "EIO from one fsync or fdatasync, each one of a transfer in turn, at either end: of a file, the attempt ends and another one finishes; of the store, the process ends and the next one finishes",
	unit: "violations", n: counts{reduced: 10, full: 1000, control: 40},
	mutant: "a sync of data that has failed is tried again",
	edits: []edit{{"sideeffect/layer_linux.go", "func (f osFile) SyncData() error {",
		"func (f osFile) SyncData() error {\n\tif mutant(\"7\") && f.control(\"fdatasync\", func(fd int) error { return unix.Fdatasync(fd) }) == nil {\n\t\treturn nil\n\t}"}},
	run: runSyncFails,
}

var diskFull = check{
	id: 8, title: "ENOSPC from a full disk, and EDQUOT from each write of a transfer in turn, files and store: it waits and says why, others go on, it finishes by itself once there is room",
	unit: "violations", n: counts{reduced: 10, full: 1000, control: 4},
	mutant: "no space is an error for good",
	edits:  []edit{{"engine/failure.go", "func retryable(k fault.Kind) bool {\n", "func retryable(k fault.Kind) bool {\n\tif k == fault.NoSpace && mutant(\"8\") {\n\t\treturn false\n\t}\n"}},
	run:    runDiskFull,
}

// A failing transfer's size and sync interval: a few calls of each kind.
const (
	failSize  = 2 * mib
	failEvery = 512 * flow.KiB
)

// failing is a node whose system calls fail at will.
type failing struct {
	duo
	note
	content []byte
	cage    *cage
	node    *nodetest.Node // in the cage
	errno   syscall.Errno

	armed int // the call that fails, counted from 1 from now on; 0: none
	count int
	hit   string // the path of the call that has failed
}

// newFailing starts two nodes, one of which is in a cage.
func newFailing(ctx context.Context, j *job, name string, calls []int, errno syscall.Errno, caged func(d *duo) *nodetest.Node) (*failing, error) {
	dir := filepath.Join(j.dir, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, fault.Wrap("make directory", dir, err)
	}
	f := &failing{errno: errno, content: content(j.rnd, failSize)}
	var err error
	if f.cage, err = newCage(dir, calls, f.decide); err != nil {
		return nil, err
	}
	d, err := newDuo(ctx, dir, duoSettings{every: failEvery, window: 256 * flow.KiB})
	if err != nil {
		return nil, errors.Join(err, f.cage.close())
	}
	f.duo, f.node = *d, caged(d)
	f.node.Kill()
	if err := f.cage.start(ctx, f.node); err != nil {
		return nil, errors.Join(err, f.close())
	}
	return f, nil
}

func (f *failing) close() error { return errors.Join(f.duo.close(), f.cage.close()) }

// decide is what becomes of one call.
func (f *failing) decide(c caged) syscall.Errno {
	if !strings.HasPrefix(c.path, f.node.Dir) {
		return 0
	}
	f.count++
	if f.count == f.armed {
		f.hit = c.path
		return f.errno
	}
	return 0
}

// arm has the n-th call from now on fail; 0: none.
func (f *failing) arm(n int) {
	f.cage.hold(func() { f.armed, f.count, f.hit = n, 0, "" })
}

// seen is how many calls there were since, and what has failed.
func (f *failing) seen() (count int, hit string) {
	f.cage.hold(func() { count, hit = f.count, f.hit })
	return count, hit
}

// transfer moves a file with the n-th call failing, and judges what comes of it.
// It returns how many calls there were, and which file the one that failed was of.
func (f *failing) transfer(ctx context.Context, n, i int, storeEnds bool) (calls int, hit string, err error) {
	const name = "file"
	source, target := filepath.Join(f.a.Root, name), filepath.Join(f.b.Root, name)
	if err := os.WriteFile(source, f.content, 0o644); err != nil {
		return 0, "", fault.Wrap("write source", source, err)
	}
	f.arm(n)
	at, id, err := f.toB(ctx, i, name)
	if err == nil || n > 0 {
		calls, hit, err = f.outcome(ctx, at, id, name, i, n, storeEnds)
	}
	if err != nil {
		return calls, hit, err
	}
	if id != "" {
		f.mustEqual(f.what(n, hit), target, f.content)
	}
	return calls, hit, errors.Join(remove(source), remove(target))
}

func (f *failing) what(n int, hit string) string {
	return fmt.Sprintf("%s, call %d, of %s: %v", f.node.Name, n, filepath.Base(hit), f.errno)
}

// outcome waits for the end of a request. One whose submission has failed with
// the store is submitted again.
func (f *failing) outcome(ctx context.Context, at *nodetest.Node, id, name string, i, n int, storeEnds bool) (calls int, hit string, err error) {
	ended := f.finishOr(ctx, at, id)
	calls, hit = f.seen()
	ofStore := kindOf(hit) == "store"
	f.arm(0)
	if ofStore && storeEnds {
		select {
		case <-f.node.Ended():
		case <-time.After(10 * time.Second):
			f.add("%s: the process goes on", f.what(n, hit))
		}
		if fate := f.node.Stop(); fate == nil {
			f.add("%s: the process has ended with code 0", f.what(n, hit))
		}
		if err := f.cage.start(ctx, f.node); err != nil {
			return calls, hit, err
		}
		if id == "" {
			if at, id, err = f.toB(ctx, i, name); err != nil {
				return calls, hit, err
			}
		}
		if ended = f.finish(ctx, at, id); ended != nil {
			f.add("%s: %v", f.what(n, hit), ended)
		}
		return calls, hit, nil
	}
	if ended != nil {
		f.add("%s: %v", f.what(n, hit), ended)
	}
	if hit != "" && !ofStore {
		if interrupted, err := f.interrupted(ctx, id); err != nil || !interrupted {
			f.add("%s: the attempt has gone on, %v", f.what(n, hit), err)
		}
	}
	return calls, hit, nil
}

// finishOr is finish, or returns when the node in the cage has ended.
func (f *failing) finishOr(ctx context.Context, at *nodetest.Node, id string) error {
	if id == "" {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- f.finish(ctx, at, id) }()
	select {
	case err := <-done:
		return err
	case <-f.node.Ended():
		cancel()
		<-done
		return nil
	}
}

// interrupted reports whether an attempt of a request has ended for a reason of
// the node in the cage.
func (f *failing) interrupted(ctx context.Context, id string) (bool, error) {
	c, err := f.node.Client()
	if err != nil {
		return false, err
	}
	events, err := c.Events(ctx, &adminpb.Ref{Id: id})
	if err != nil {
		return false, err
	}
	for _, e := range events.GetEvents() {
		if e.GetFailure().GetSide() == "here" {
			return true, nil
		}
	}
	return false, nil
}

// points runs a transfer for each call of the reference runs, or for some of
// them, in both directions.
func (f *failing) points(ctx context.Context, j *job, most int, storeEnds bool) (tried int, hits map[string]int, err error) {
	hits = map[string]int{}
	for i := range 2 { // push, pull
		calls, _, err := f.transfer(ctx, 0, i, storeEnds)
		if err != nil {
			return tried, hits, err
		}
		for n := range pick(j, calls, most/2) {
			_, hit, err := f.transfer(ctx, n, i, storeEnds)
			if err != nil {
				return tried, hits, fmt.Errorf("%s: %w", f.what(n, hit), err)
			}
			if hit == "" { // a run may share commits that another one has not
				continue
			}
			tried++
			hits[kindOf(hit)]++
		}
	}
	return tried, hits, nil
}

// kindOf is what a file is for.
func kindOf(path string) string {
	switch base := filepath.Base(path); {
	case strings.HasPrefix(base, "store.db"): // or its log
		return "store"
	case strings.Contains(base, ".state"):
		return "resume state"
	case strings.HasPrefix(base, "."):
		return "content"
	}
	return "directory"
}

// pick yields the numbers from 1 to n, or at most some of them, in no order.
func pick(j *job, n, most int) func(func(int) bool) {
	return func(yield func(int) bool) {
		for i, k := range j.rnd.Perm(n) {
			if i == most || !yield(k+1) {
				return
			}
		}
	}
}

func runSyncFails(ctx context.Context, j *job) (result, error) {
	var w note
	var detail []string
	tried := 0
	for i, caged := range []func(*duo) *nodetest.Node{func(d *duo) *nodetest.Node { return d.b }, func(d *duo) *nodetest.Node { return d.a }} {
		name, most := []string{"receiver", "sender"}[i], []int{j.n - j.n/4, j.n / 4}[i]
		f, err := newFailing(ctx, j, name, syncCalls, syscall.EIO, caged)
		if err != nil {
			return result{}, err
		}
		n, hits, err := f.points(ctx, j, most, true)
		if err = errors.Join(err, f.close()); err != nil {
			return result{}, err
		}
		tried += n
		w.n, w.texts = w.n+f.n, w.texts+f.texts
		detail = append(detail, fmt.Sprintf("%s: %d %v", name, n, hits))
	}
	return w.result(float64(w.n), "%d points; %s", tried, strings.Join(detail, "; ")), nil
}
