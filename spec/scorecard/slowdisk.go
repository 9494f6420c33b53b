package main

import (
	"context"
	"crypto/rand"
	"math"
	"sync"
	"time"

	"github.com/pannier/pannier/rpc"
)

// The slow disk's receiver.
const (
	diskRate    = 1 * mib // bytes a second
	diskPool    = 16 * mib
	diskSlack   = 64 * mib // over the pool
	diskSenders = 4
	diskContent = 256 * mib // of each sender
)

var slowDisk = check{
	id: 24, title: "disk of 1 MiB/s, four senders at the speed of memory: the receiver's memory grows by no more than its pool + 64 MiB, nothing is dropped, the disk is kept busy",
	unit: "MiB, most", n: counts{reduced: 4, full: 60, control: 3},
	mutant: "windows as large as the contents: a queue without a bound",
	run:    runSlowDisk,
}

func runSlowDisk(ctx context.Context, j *job) (result, error) {
	cfg := serveConfig{Address: "tcp://127.0.0.1:0", Disk: diskRate, Flow: flowLimits{Pool: diskPool, SessionBudget: diskPool}}
	if j.broken {
		cfg.Flow = flowLimits{Pool: math.MaxInt32, SessionBudget: 1 << 32, Window: diskContent, MaxWindow: diskContent}
	}
	s, err := startChild(ctx, roleServe, cfg)
	if err != nil {
		return result{}, err
	}
	before, err := s.load()
	if err != nil {
		return result{}, err
	}
	content := make([]byte, diskContent)
	_, _ = rand.Read(content[:mib])
	d := time.Duration(j.n) * time.Second
	sending, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	var wg sync.WaitGroup
	for range diskSenders {
		wg.Go(func() { sendUntil(sending, s.address, content) })
	}
	most := s.peak(sending) - before.rss
	wg.Wait()
	var end served
	if err := s.stop(&end); err != nil {
		return result{}, err
	}
	var w note
	rate := float64(end.Stored) / d.Seconds() / diskRate
	if most > diskPool+diskSlack {
		w.add("more than the pool of %d MiB + 64 MiB", diskPool/mib)
	}
	if rate < 0.7 || rate > 1.3 { // a block of each sender may be on its way at either end
		w.add("the disk's rate is not kept")
	}
	if end.Strange > 0 {
		w.add("%d blocks came out of order", end.Strange)
	}
	return w.result(float64(most)/mib, "pool %d MiB; %.2f MiB/s stored, %d MiB offered", diskPool/mib, rate, diskSenders*diskContent/mib), nil
}

// sendUntil offers content until ctx ends.
func sendUntil(ctx context.Context, address string, content []byte) {
	cc, err := rpc.Dial(address, rpc.ClientConfig{})
	if err != nil {
		return
	}
	defer cc.Close()
	_ = put(ctx, cc, "x", upload(content)) // cut off by ctx
}
