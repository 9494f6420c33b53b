package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pannier/pannier/engine/boltstore"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/relpath"
)

// Of the two stores that are compared: the young one has had so many requests, the old
// one all that the check is about. Both keep the same number.
const (
	retentionYoung  = 20_000
	retentionKept   = 10_000
	retentionWorse  = 1.5             // times the young one's
	retentionUp     = 2 * time.Second // to open, or as long as the young one, where that takes longer
	retentionBatch  = 1000            // requests that are timed at one of them, before it is the other's turn
	retentionRounds = 40
)

var retention = check{
	id: 28, title: "as many short requests in one store, of which the last 10,000 are kept: its size and the p99 of a commit at most 1.5 times those after 20,000, measured by turns; open again within 2 s",
	unit: "times the size", n: counts{reduced: 60_000, full: 1_000_000, control: 60_000},
	mutant: "nothing is purged",
	edits:  []edit{{"engine/boltstore/record.go", "func (s *Store) Purge(ctx context.Context, before time.Time, limit int) (int, error) {\n", "func (s *Store) Purge(ctx context.Context, before time.Time, limit int) (int, error) {\n	if mutant(\"28\") {\n		return 0, nil\n	}\n"}},
	run:    runRetention,
}

func runRetention(ctx context.Context, j *job) (result, error) {
	dir, remove, err := j.inMemoryDir()
	if err != nil {
		return result{}, err
	}
	defer remove()
	old, young := &passage{path: filepath.Join(dir, "old")}, &passage{path: filepath.Join(dir, "young")}
	for p, n := range map[*passage]int64{old: int64(j.n), young: retentionYoung} {
		if err := p.open(); err != nil {
			return result{}, err
		}
		defer func() { _ = p.s.Close() }()
		if err := p.through(ctx, n, nil); err != nil {
			return result{}, err
		}
	}
	for range retentionRounds {
		for _, p := range []*passage{old, young} {
			if err := p.through(ctx, retentionBatch, &p.took); err != nil {
				return result{}, err
			}
		}
	}
	for _, p := range []*passage{old, young} {
		if err := p.again(); err != nil {
			return result{}, err
		}
	}
	var w note
	size, slow := float64(old.size)/float64(young.size), float64(old.p99())/float64(young.p99())
	if size > retentionWorse {
		w.add("the store has grown")
	}
	if slow > retentionWorse {
		w.add("commits take longer")
	}
	if old.up > max(retentionUp, young.up) {
		w.add("it takes too long to open")
	}
	for _, p := range []*passage{old, young} {
		if p.kept != retentionKept {
			w.add("%d are kept in %s", p.kept, filepath.Base(p.path))
		}
	}
	return w.result(size, "%.1f and %.1f MiB; p99 of a commit %v and %v; open again in %v and %v",
		float64(old.size)/mib, float64(young.size)/mib, old.p99(), young.p99(), old.up.Round(time.Millisecond), young.up.Round(time.Millisecond)), nil
}

// passage is a store that requests pass through: registered, carried out, ended, kept for
// a while and purged.
type passage struct {
	path string
	s    *boltstore.Store
	from int64           // requests so far
	took []time.Duration // of commits
	up   time.Duration
	size int64
	kept int
}

func (p *passage) open() (err error) {
	p.s, err = boltstore.Open(boltstore.Config{Path: p.path})
	return err
}

// again closes the store and opens it, and looks at what is in it.
func (p *passage) again() error {
	if err := p.s.Close(); err != nil {
		return err
	}
	began := time.Now()
	if err := p.open(); err != nil {
		return err
	}
	p.up = time.Since(began)
	files, err := filepath.Glob(p.path + "*")
	if err != nil {
		return fault.Wrap("list store", p.path, err)
	}
	for _, f := range files {
		fi, err := os.Stat(f)
		if err != nil {
			return fault.Wrap("measure store", f, err)
		}
		p.size += fi.Size()
	}
	for _, err := range p.s.Find(context.Background(), store.Query{}) {
		if err != nil {
			return err
		}
		p.kept++
	}
	return nil
}

func (p *passage) p99() time.Duration {
	slices.Sort(p.took)
	return p.took[len(p.took)*99/100]
}

// through takes n more requests through, many at a time, and purges what is not to be kept
// any more. How long each commit took is added to took.
func (p *passage) through(ctx context.Context, n int64, took *[]time.Duration) error {
	epoch, err := p.s.NewEpoch(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var (
		all  sync.WaitGroup
		mu   sync.Mutex
		last = p.from + n
		at   atomic.Int64
	)
	at.Store(p.from)
	for range 64 {
		all.Go(func() {
			var mine []time.Duration
			for ctx.Err() == nil {
				i := at.Add(1) - 1
				if i >= last {
					break
				}
				if err := p.one(ctx, i, epoch, &mine); err != nil {
					cancel(err)
				}
			}
			if took != nil {
				mu.Lock()
				*took = append(*took, mine...)
				mu.Unlock()
			}
		})
	}
	all.Wait()
	if err := context.Cause(ctx); err != nil {
		return err
	}
	p.from = last
	return p.purge(ctx, last)
}

// retentionTime is when request i was made, and ended.
func retentionTime(i int64) time.Time {
	return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).Add(time.Duration(i) * time.Second)
}

func (p *passage) one(ctx context.Context, i int64, epoch uint64, took *[]time.Duration) error {
	name, err := relpath.Parse(fmt.Sprintf("in/%d.dat", i))
	if err != nil {
		return err
	}
	k := lifecycle.Key{Requester: "hosta"}
	binary.BigEndian.PutUint64(k.ID[:], uint64(i))
	r, err := lifecycle.Register(k, lifecycle.Sender, lifecycle.Spec{Partner: "hostb", Rule: "push", Source: name, Target: name}, retentionTime(i))
	if err != nil {
		return err
	}
	events := []lifecycle.Event{lifecycle.Claim{Epoch: epoch}}
	for phase := lifecycle.Pre; phase <= lifecycle.Finished; phase++ {
		events = append(events, lifecycle.Advance{Epoch: epoch, To: phase, Rank: 4096})
	}
	timed := func(do func() error) {
		if err == nil {
			began := time.Now()
			err = do()
			*took = append(*took, time.Since(began))
		}
	}
	timed(func() error { _, _, err := p.s.Register(ctx, r); return err })
	timed(func() error { _, err := p.s.Apply(ctx, store.RefOf(&r), retentionTime(i), events...); return err })
	timed(func() error {
		_, err := p.s.Apply(ctx, store.RefOf(&r), retentionTime(i), lifecycle.Conclude{Epoch: epoch})
		return err
	})
	if err == nil && i%512 == 0 {
		err = p.purge(ctx, i)
	}
	return err
}

func (p *passage) purge(ctx context.Context, upto int64) error {
	for {
		if n, err := p.s.Purge(ctx, retentionTime(upto-retentionKept), 512); err != nil || n == 0 {
			return err
		}
	}
}
