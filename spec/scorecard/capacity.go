package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/pannier/pannier/engine/node/nodetest"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

// Of the transfers: two blocks each, of which all come to the first before one
// comes to the second, at a rate that leaves time to begin them all.
const (
	capacitySize    = 384 << 10
	capacityRate    = "20MB/s"
	capacitySession = 4000 // transfers of one partner, one session, at most
	capacityBase    = 96 * mib
	capacityEach    = 40 << 10 // bytes of memory of a transfer
	// Open files: where the system allows fewer, there are fewer transfers.
	capacityFiles, capacityFilesEach = 1000, 3
)

var capacity = check{
	id: 26, title: "many slow transfers at a time, 4,000 a session: memory of each daemon <= 96 MiB + 40 KiB a transfer (487 MiB for 10,000), at most 4 goroutines a transfer; no limit stops them, one less or one more",
	unit: "MiB, the larger daemon", n: counts{reduced: 300, full: 10_000, control: 150},
	mutant: "each transfer has a buffer of its own, of a block",
	edits:  []edit{{"engine/bytes.go", "	x.moving()\n	over := x.carrying()", "	x.moving()\n	if mutant(\"26\") {\n		own := make([]byte, 1<<20)\n		for i := range own {\n			own[i] = 1\n		}\n		defer func() { own[0] = 0 }()\n	}\n	over := x.carrying()"}},
	run:    runCapacity,
}

func runCapacity(ctx context.Context, j *job) (result, error) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return result{}, fault.Wrap("read limit of open files", "", err)
	}
	j.n = min(j.n, int(limit.Max-capacityFiles)/capacityFilesEach)
	dir, remove, err := j.inMemoryDir()
	if err != nil {
		return result{}, err
	}
	defer remove()
	f, err := newFleet(dir, 2+(j.n-1)/capacitySession)
	if err != nil {
		return result{}, err
	}
	defer f.close()
	for _, n := range f.all {
		n.Env = append(n.Env, envGauge+"="+filepath.Join(n.Dir, "gauge"))
	}
	all, places := strconv.Itoa(j.n+1), strconv.Itoa(2*j.n) // one partner has three quarters of the places
	err = f.write([]string{"concurrent = " + all, "serving = " + places, "bandwidth = \"" + capacityRate + "\"", "log = \"warn\""}, []string{"concurrent = " + all}, pushRule("push", ""))
	if err == nil {
		err = f.start(ctx)
	}
	if err == nil {
		err = zeroFile(f.all[0], "file", capacitySize)
	}
	if err != nil {
		return result{}, err
	}
	var w note
	begun := time.Now()
	ids, err := f.many(ctx, j.n)
	if err != nil {
		return result{}, err
	}
	done := make(chan struct{})
	var watching sync.WaitGroup
	rss, files := make([]int64, len(f.all)), 0
	atOnce := 0
	watching.Go(func() {
		for {
			for i, n := range f.all {
				rss[i] = max(rss[i], rssOf(n.PID()))
				files = max(files, filesOf(n.PID()))
			}
			atOnce = max(atOnce, runningAt(ctx, f.all[0]))
			select {
			case <-done:
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	})
	for _, id := range ids {
		r, err := ended(ctx, f.all[0], id)
		if err != nil || r.GetState() != adminpb.Request_DONE {
			w.add("%v %s %v", r.GetState(), r.GetFailure().GetCause(), err)
			break
		}
	}
	close(done)
	watching.Wait()
	took := time.Since(begun)
	goroutines := 0.0
	for i, n := range f.all {
		text, _ := os.ReadFile(filepath.Join(n.Dir, "gauge"))
		g, _ := strconv.Atoi(strings.TrimSpace(string(text)))
		of := atOnce
		if i > 0 {
			of = min(j.n, capacitySession)
		}
		goroutines = max(goroutines, float64(g)/float64(max(of, 1)))
	}
	most := slices.Max(rss)
	if allowed := int64(capacityBase + j.n*capacityEach); most > allowed {
		w.add("%d MiB, allowed are %d", most/mib, allowed/mib)
	}
	if goroutines > 4 {
		w.add("%.1f goroutines a transfer", goroutines)
	}
	if atOnce < j.n*9/10 {
		w.add("only %d of %d ran at a time", atOnce, j.n)
	}
	limits, err := goTest("./engine", "TestLimits")(ctx, j)
	if err != nil {
		return result{}, err
	}
	if !limits.pass {
		w.add("limits: %s", limits.detail)
	}
	return w.result(float64(most)/mib, "the sender has %d MiB, a receiver %d; %d at a time in %d sessions, %.1f goroutines and %.1f files each, all done in %.0f s; %s", rss[0]/mib, slices.Max(rss[1:])/mib, atOnce, len(f.all)-1, goroutines, float64(files)/float64(max(atOnce, 1)), took.Seconds(), limits.detail), nil
}

// many registers n requests for all partners in turn.
func (f *fleet) many(ctx context.Context, n int) (ids []string, err error) {
	ids = make([]string, n)
	slots := make(chan struct{}, 64)
	var all sync.WaitGroup
	var mu sync.Mutex
	for i := range n {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			id, e := f.submit(ctx, f.all[1+i%(len(f.all)-1)], "push", "file", fmt.Sprintf("d%d/%d", i%100, i), "")
			mu.Lock()
			defer mu.Unlock()
			ids[i], err = id, errors.Join(err, e)
		})
	}
	all.Wait()
	return ids, err
}

// runningAt is how many requests run at a node with all partners.
func runningAt(ctx context.Context, n *nodetest.Node) (all int) {
	c, err := n.Client()
	if err != nil {
		return 0
	}
	r, err := c.ListPartners(ctx, &adminpb.ListPartnersRequest{})
	if err != nil {
		return 0
	}
	for _, p := range r.GetPartners() {
		all += int(p.GetRunning())
	}
	return all
}
