package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/pannier/pannier/engine/node/nodetest"
	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/scorecard/disks"
)

func runDiskFull(ctx context.Context, j *job) (result, error) {
	var w note
	f, err := newFailing(ctx, j, "quota", writeCalls, syscall.EDQUOT, func(d *duo) *nodetest.Node { return d.b })
	if err != nil {
		return result{}, err
	}
	tried, hits, err := f.points(ctx, j, j.n, false)
	if err = errors.Join(err, f.close()); err != nil {
		return result{}, err
	}
	w.n, w.texts = f.n, f.texts
	full, slowest, err := fullDisks(ctx, j, max(1, j.n/10), &w)
	if err != nil {
		return result{}, err
	}
	return w.result(float64(w.n), "EDQUOT at %d writes %v; a full disk %d times, after which it took at most %.1f s to finish", tried, hits, full, slowest.Seconds()), nil
}

const (
	smallDisk = 8 * mib
	fullSlack = 128 * flow.KiB // that is left for what else lies there
)

// fullDisks has a receiver's root on a disk that others have filled, n times, and
// then not any more.
func fullDisks(ctx context.Context, j *job, n int, w *note) (done int, slowest time.Duration, err error) {
	dir := filepath.Join(j.dir, "full")
	root := filepath.Join(dir, "disk")
	if err := os.MkdirAll(root, 0o755); err != nil {
		return 0, 0, fault.Wrap("make directory", root, err)
	}
	unmount, err := disks.Small(root, smallDisk)
	if err != nil {
		return 0, 0, cannot{err}
	}
	defer func() { err = errors.Join(err, unmount()) }()
	o := duoSettings{every: failEvery, window: 256 * flow.KiB}
	o.place[1] = []string{filepath.Join(dir, "state"), filepath.Join(root, "files")}
	d, err := newDuo(ctx, dir, o)
	if err != nil {
		return 0, 0, err
	}
	for i := 0; i < n && err == nil; i++ {
		var took time.Duration
		took, err = d.full(ctx, j, i, filepath.Join(root, "ballast"), w)
		done, slowest = done+1, max(slowest, took)
	}
	return done, slowest, errors.Join(err, d.close())
}

// full is one transfer to b, whose disk is full until it has said so. It returns
// how long the transfer took from then on.
func (d *duo) full(ctx context.Context, j *job, i int, ballast string, w *note) (time.Duration, error) {
	size := []int{failSize, 768 * flow.KiB}[i%2]       // room for the larger one is reserved before the first byte
	free := j.rnd.IntN(size - fullSlack - 64*flow.KiB) // never enough for all of it
	bytes := content(j.rnd, size)
	name := fmt.Sprint("file", i)
	source, target := filepath.Join(d.a.Root, name), filepath.Join(d.b.Root, name)
	beside := filepath.Join(d.b.Root, "beside")
	err := errors.Join(os.WriteFile(source, bytes, 0o644), os.WriteFile(beside, bytes[:flow.KiB], 0o644),
		os.WriteFile(ballast, make([]byte, smallDisk-free-fullSlack), 0o644))
	if err != nil {
		return 0, fault.Wrap("fill disk", "", err)
	}
	at, id, err := d.toB(ctx, i/2, name)
	if err == nil {
		err = d.saysFull(ctx, at, id)
	}
	if err != nil {
		w.add("%d bytes with room for %d: %v", size, free, err)
		return 0, errors.Join(remove(ballast), remove(source), remove(target))
	}
	if other, err := d.submit(ctx, d.b, "push", "beside"); err != nil {
		return 0, err
	} else if err := d.finish(ctx, d.b, other); err != nil {
		w.add("another request, meanwhile: %v", err)
	}
	if err := remove(ballast); err != nil {
		return 0, err
	}
	began := time.Now()
	c, err := at.Client()
	if err != nil {
		return 0, err
	}
	r, err := c.Wait(ctx, &adminpb.WaitRequest{Ref: &adminpb.Ref{Id: id}, Timeout: durationpb.New(finishLimit)})
	if err != nil {
		return 0, err
	}
	if r.GetState() != adminpb.Request_DONE {
		w.add("there is room again, and it is %v: %s", r.GetState(), r.GetFailure().GetCause())
	} else {
		w.mustEqual("after the disk was full", target, bytes)
	}
	return time.Since(began), errors.Join(remove(source), remove(target))
}

// saysFull waits until a request waits because the disk is full.
func (d *duo) saysFull(ctx context.Context, at *nodetest.Node, id string) error {
	for end := time.Now().Add(finishLimit / 6); ; time.Sleep(5 * time.Millisecond) {
		r, err := get(ctx, at, id)
		switch {
		case err != nil:
			return err
		case r.GetState() == adminpb.Request_INTERRUPTED && r.GetFailure().GetKind() == uint32(fault.NoSpace):
			return nil
		case r.GetState() == adminpb.Request_INERROR || r.GetState() == adminpb.Request_DONE || time.Now().After(end):
			return fault.New("wait for a full disk", fault.Internal, "it is %v: %s", r.GetState(), r.GetFailure().GetCause())
		}
	}
}
