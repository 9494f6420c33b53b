package web

import (
	"cmp"
	"context"
	"errors"
	"io"
	"slices"
	"time"

	"github.com/pannier/pannier/engine/access"
	"github.com/pannier/pannier/spec/adminpb"
)

const (
	mostDone   = 5000             // requests that are DONE and are shown
	forgetDone = 10 * time.Minute // how long one may be shown that was purged
)

// item is a request, and what lists need of it.
type item struct {
	*adminpb.Request
	key        string
	registered int64 // ns
	group      group
	cause      string // of a failure: which group of failures it is in
}

// board is the requests of the node at one moment, registered last first; nobody looks: it does
// nothing.
type board struct {
	shared[[]item]
	admin   adminpb.AdminClient
	done    []*adminpb.Request // finished last first; this and the next guarded by shared.mu
	doneAll time.Time          // when done was read whole
}

// look is all requests.
func (b *board) look(ctx context.Context) ([]item, error) {
	return b.shared.look(func() ([]item, error) {
		who := access.CallerOf(ctx)
		who.Token, who.ID = "", "" // it is read for all: nobody is to wait for one token's turn
		ctx, stop := context.WithTimeout(access.With(ctx, who), patience)
		defer stop()
		active, err := b.active(ctx)
		if err == nil {
			err = b.finished(ctx)
		}
		if err != nil {
			return nil, err
		}
		return merged(active, b.done), nil
	})
}

func (b *board) active(ctx context.Context) (all []*adminpb.Request, err error) {
	err = list(ctx, b.admin, &adminpb.ListRequest{States: []adminpb.Request_State{
		adminpb.Request_TOSUBMIT, adminpb.Request_RUNNING, adminpb.Request_INTERRUPTED, adminpb.Request_INERROR,
	}}, func(r *adminpb.Request) bool { all = append(all, r); return true })
	return all, err
}

// finished brings done up to date. The last come first, so it ends at what is known.
func (b *board) finished(ctx context.Context) error {
	known := b.done
	if time.Since(b.doneAll) > forgetDone {
		known = nil
	}
	done, err := newlyDone(ctx, b.admin, known, mostDone)
	if err != nil {
		return err
	}
	if known == nil {
		b.doneAll = time.Now()
	}
	b.done = done
	return nil
}

// newlyDone is known with what has become DONE since before it, at most most.
func newlyDone(ctx context.Context, client adminpb.AdminClient, known []*adminpb.Request, most int) ([]*adminpb.Request, error) {
	var fresh []*adminpb.Request
	err := list(ctx, client, &adminpb.ListRequest{States: []adminpb.Request_State{adminpb.Request_DONE}, Limit: int32(most)}, func(r *adminpb.Request) bool {
		if len(known) > 0 && keyOf(r) == keyOf(known[0]) && r.GetVersion() == known[0].GetVersion() {
			return false
		}
		fresh = append(fresh, r)
		return true
	})
	if err != nil || len(fresh) == 0 {
		return known, err
	}
	if len(fresh) == most {
		known = nil
	}
	all := append(fresh, known...)
	return all[:min(len(all), most)], nil
}

// list reads a list until do does not want more.
func list(ctx context.Context, client adminpb.AdminClient, q *adminpb.ListRequest, do func(*adminpb.Request) bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := client.List(ctx, q)
	if err != nil {
		return err
	}
	for {
		r, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if !do(r) {
			return nil
		}
	}
}

// merged is both lists, each request once: what is DONE was read later.
func merged(active, done []*adminpb.Request) []item {
	all := make([]item, 0, len(active)+len(done))
	seen := make(map[string]bool, len(done))
	for _, r := range done {
		i := itemOf(r)
		if !seen[i.key] {
			seen[i.key] = true
			all = append(all, i)
		}
	}
	for _, r := range active {
		if i := itemOf(r); !seen[i.key] {
			all = append(all, i)
		}
	}
	slices.SortFunc(all, func(a, b item) int {
		return cmp.Or(cmp.Compare(b.registered, a.registered), cmp.Compare(a.key, b.key))
	})
	return all
}

func itemOf(r *adminpb.Request) item {
	i := item{Request: r, key: keyOf(r), group: groupOf(r)}
	if t := r.GetRegistered(); t != nil {
		i.registered = t.GetSeconds()*1e9 + int64(t.GetNanos())
	}
	if i.group == failed {
		i.cause = causeOf(r)
	}
	return i
}
