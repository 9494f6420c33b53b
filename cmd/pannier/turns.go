package main

import (
	"context"
	"io"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/spec/adminpb"
)

// How requests are doing that are too many for one call: a call watches a part of them. Where there are
// more parts than calls, they take turns.

// news is what a stream brings: a change, or its end.
type news struct {
	change *adminpb.Change
	err    error
}

const (
	mostCalls = 4               // of one command, at a time. A token has few of them
	turn      = 5 * time.Second // that a call watches a part while others wait
)

// watcher tells the changes of requests until all are final.
type watcher func(ctx context.Context, refs []*adminpb.Ref, tell func(*adminpb.Change) error) error

func watcherOf(client *admin.Client) watcher {
	return func(ctx context.Context, refs []*adminpb.Ref, tell func(*adminpb.Change) error) error {
		s, err := client.Watch(ctx, &adminpb.WatchRequest{Refs: refs})
		return each(s, err, tell)
	}
}

// changesOf brings how requests are doing until all are final, or one call fails. It ends with ctx, too.
func changesOf(ctx context.Context, watch watcher, all []*adminpb.Request) <-chan news {
	refs := make([]*adminpb.Ref, len(all))
	for i, r := range all {
		refs[i] = exactly(r)
	}
	out := make(chan news)
	say := func(n news) error {
		select {
		case out <- n:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	go func() {
		err := takeTurns(ctx, watch, slices.Collect(slices.Chunk(refs, admin.MaxRefs)), func(change *adminpb.Change) error { return say(news{change: change}) })
		if err == nil {
			err = io.EOF
		}
		_ = say(news{err: err}) // unless nobody listens any more
	}()
	return out
}

// takeTurns watches parts, mostCalls at a time, until all of them are final.
func takeTurns(ctx context.Context, watch watcher, parts [][]*adminpb.Ref, tell func(*adminpb.Change) error) error {
	calls, within := errgroup.WithContext(ctx)
	waiting := make(chan []*adminpb.Ref, len(parts))
	for _, part := range parts {
		waiting <- part
	}
	var unfinished atomic.Int64
	unfinished.Store(int64(len(parts)))
	for range min(mostCalls, len(parts)) {
		calls.Go(func() error {
			for {
				select {
				case <-within.Done():
					return context.Cause(within)
				case part, more := <-waiting:
					if !more {
						return nil
					}
					left, err := takeTurn(within, watch, part, unfinished.Load() > mostCalls, tell)
					switch {
					case err != nil:
						return err
					case len(left) > 0:
						waiting <- left
					case unfinished.Add(-1) == 0:
						close(waiting)
					}
				}
			}
		})
	}
	return calls.Wait()
}

// takeTurn watches a part until all of it are final, or, while others wait, for a turn: then left are those
// that were not seen to be final.
func takeTurn(ctx context.Context, watch watcher, part []*adminpb.Ref, others bool, tell func(*adminpb.Change) error) (left []*adminpb.Ref, err error) {
	within, cancel := ctx, context.CancelFunc(func() {})
	if others {
		within, cancel = context.WithTimeout(ctx, turn)
	}
	defer cancel()
	type key struct {
		id, requester string
		role          adminpb.Request_Role
	}
	over := map[key]bool{}
	err = watch(within, part, func(change *adminpb.Change) error {
		if r := change.GetRequest(); final(r) {
			over[key{r.GetId(), r.GetRequester(), r.GetRole()}] = true
		}
		return tell(change)
	})
	if err == nil || within.Err() == nil || ctx.Err() != nil {
		return nil, err
	}
	for _, r := range part {
		if !over[key{r.GetId(), r.GetRequester(), r.GetRole()}] {
			left = append(left, r)
		}
	}
	return left, nil
}
