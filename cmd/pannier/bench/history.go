package bench

import (
	"context"
	"encoding/binary"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/pannier/pannier/engine/boltstore"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/relpath"
)

const (
	historySize = 1_000_000
	historyOf   = 10_000 // requests that are submitted while the partner is away
)

// history times start, transfers and submitting with and without a long history.
func (e *engineBench) history(c engineCase) (r EngineResult, err error) {
	if err := e.start(c.bytes); err != nil {
		return r, err
	}
	if err := e.files(2*c.count, c.bytes, "f"); err != nil {
		return r, err
	}
	empty, err := e.timed(c, "f")
	if err != nil {
		return r, err
	}
	if empty.Submit, err = e.submitAlone("empty"); err != nil {
		return r, err
	}
	if err := e.a.Stop(); err != nil {
		return r, err
	}
	if err := fillHistory(e.ctx, filepath.Join(e.a.State, "store.db"), e.a.Name, e.b.Name); err != nil {
		return r, err
	}
	began := time.Now()
	if err := e.a.Start(e.ctx); err != nil {
		return r, err
	}
	started := time.Since(began).Seconds()
	if r, err = e.timedTo(c, "f", c.count, ""); err != nil {
		return r, err
	}
	if r.Submit, err = e.submitAlone("long"); err != nil {
		return r, err
	}
	r.Start, r.Against, r.AgainstBy, r.SubmitBy = started, "the same with an empty store", r.PerSecond/empty.PerSecond, r.Submit/empty.Submit
	return r, nil
}

// submitAlone says how many requests the daemon takes in a second while their partner is away, and has them
// carried out after that.
func (e *engineBench) submitAlone(below string) (perSecond float64, err error) {
	if err := e.b.Stop(); err != nil {
		return 0, err
	}
	if perSecond, err = e.submitAll(historyOf, below); err != nil {
		return 0, err
	}
	if err := e.b.Start(e.ctx); err != nil {
		return 0, err
	}
	if _, err := e.at.TestPartner(e.ctx, &adminpb.TestPartnerRequest{Partner: e.b.Name}); err != nil {
		return 0, err
	}
	return perSecond, e.drained()
}

// fillHistory writes finished requests into a store that nobody has open.
func fillHistory(ctx context.Context, path, node, partner string) error {
	s, err := boltstore.Open(boltstore.Config{Path: path})
	if err != nil {
		return err
	}
	defer s.Close()
	const writers = 512
	var group sync.WaitGroup
	errs := make(chan error, writers)
	long := time.Now().Add(-48 * time.Hour)
	for w := range writers {
		group.Go(func() {
			for i := w; i < historySize; i += writers {
				if err := finished(ctx, s, node, partner, i, long.Add(time.Duration(i)*time.Millisecond)); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	group.Wait()
	select {
	case err := <-errs:
		return err
	default:
		return ctx.Err()
	}
}

// finished registers one request that has come to its end.
func finished(ctx context.Context, s *boltstore.Store, node, partner string, i int, at time.Time) error {
	name, err := relpath.Parse(fmt.Sprintf("old/%d", i))
	if err != nil {
		return err
	}
	key := lifecycle.Key{Requester: node}
	binary.BigEndian.PutUint64(key.ID[:], uint64(i)*0x9e3779b97f4a7c15)
	binary.BigEndian.PutUint64(key.ID[8:], uint64(i)+1)
	r, err := lifecycle.Register(key, lifecycle.Sender, lifecycle.Spec{Partner: partner, Rule: "bench", Source: name, Target: name, Follow: key.ID}, at)
	if err != nil {
		return err
	}
	events := []lifecycle.Event{lifecycle.Claim{Epoch: 1}}
	for p := lifecycle.Pre; p <= lifecycle.Finished; p++ {
		events = append(events, lifecycle.Advance{Epoch: 1, To: p, Rank: 4000, Size: 4000})
	}
	_, _, err = s.Register(ctx, r, append(events, lifecycle.Conclude{Epoch: 1})...)
	return err
}
