package admin

import (
	"context"
	"errors"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

// MaxRefs is how many requests one call may watch by their ids.
const MaxRefs = 1000

func (s *Server) Watch(in *adminpb.WatchRequest, out grpc.ServerStreamingServer[adminpb.Change]) error {
	q, err := queryOf(in.GetQuery())
	if err != nil {
		return err
	}
	leave, err := s.hold(out.Context(), "watch", mostWatches)
	if err != nil {
		return err
	}
	defer leave()
	q.Limit, q.Looked = 0, s.looked(out.Context())
	if len(in.GetRefs()) == 0 {
		changes := s.cfg.Engine.Watch(out.Context(), q)
		if err := out.SendHeader(nil); err != nil { // what changes after it is told
			return err
		}
		for c, err := range changes {
			if err != nil {
				return err
			}
			if err := out.Send(changeOf(out.Context(), &c)); err != nil {
				return err
			}
		}
		return fault.Wrap("watch", "", context.Cause(out.Context()))
	}
	refs, err := s.resolveAll(out.Context(), in.GetRefs())
	if err != nil {
		return err
	}
	return s.watchThese(out, q, refs)
}

func (s *Server) resolveAll(ctx context.Context, all []*adminpb.Ref) (map[store.Ref]bool, error) {
	if len(all) > MaxRefs {
		return nil, fault.New("watch", fault.TooLong, "%d requests; at most %d at a time", len(all), MaxRefs)
	}
	refs := make(map[store.Ref]bool, len(all))
	for _, r := range all {
		ref, err := s.resolve(ctx, r)
		if err != nil {
			return nil, err
		}
		refs[ref] = true
	}
	return refs, nil
}

// watchThese tells the changes of some requests until all are final. The engine's
// Watch says nothing of what was final before it began, so each is waited for,
// too; what both say is told once.
func (s *Server) watchThese(out grpc.ServerStreamingServer[adminpb.Change], q store.Query, refs map[store.Ref]bool) error {
	ctx, cancel := context.WithCancel(out.Context())
	defer cancel()
	feed := &feed{ctx: ctx, changes: make(chan engine.Change), broken: make(chan struct{})}
	feed.Go(func() error {
		for c, err := range s.cfg.Engine.Watch(ctx, q) {
			if err != nil {
				return err
			}
			if refs[store.RefOf(&c.Record)] && !feed.say(c) {
				break
			}
		}
		return nil
	})
	for ref := range refs {
		feed.Go(func() error {
			r, err := s.cfg.Engine.Wait(ctx, ref)
			if err == nil {
				feed.say(engine.Change{Status: engine.Status{Record: r}})
			}
			return err
		})
	}
	err := feed.tell(out, len(refs))
	cancel()
	feed.Wait()
	return err
}

// feed brings what several goroutines see to the one that sends. They end when
// ctx does.
type feed struct {
	sync.WaitGroup
	ctx     context.Context
	changes chan engine.Change
	once    sync.Once
	failed  error // the first of them; read when broken is closed
	broken  chan struct{}
}

// Go runs do; its error ends tell.
func (f *feed) Go(do func() error) {
	f.WaitGroup.Go(func() {
		if err := do(); err != nil && f.ctx.Err() == nil {
			f.once.Do(func() { f.failed = err; close(f.broken) })
		}
	})
}

// say brings a change to tell; false when nobody wants it any more.
func (f *feed) say(c engine.Change) bool {
	select {
	case f.changes <- c:
		return true
	case <-f.ctx.Done():
		return false
	}
}

// tell sends until left requests are final.
func (f *feed) tell(out grpc.ServerStreamingServer[adminpb.Change], left int) error {
	over := map[store.Ref]uint64{} // final requests: the version that was told
	for left > 0 {
		select {
		case <-f.ctx.Done():
			return fault.Wrap("watch", "", context.Cause(f.ctx))
		case <-f.broken:
			return f.failed
		case c := <-f.changes:
			ref := store.RefOf(&c.Record)
			if told, was := over[ref]; was && told >= c.Version {
				continue
			} else if c.State.Final() {
				over[ref] = c.Version
				if !was {
					left--
				}
			}
			if err := out.Send(changeOf(out.Context(), &c)); err != nil {
				return err
			}
		}
	}
	return nil
}

func changeOf(ctx context.Context, c *engine.Change) *adminpb.Change {
	return &adminpb.Change{Request: shownRequest(ctx, c.Status), Lost: int32(c.Lost)}
}

func (s *Server) Wait(ctx context.Context, in *adminpb.WaitRequest) (*adminpb.Request, error) {
	ref, err := s.resolve(ctx, in.GetRef())
	if err != nil {
		return nil, err
	}
	waiting, leave, err := s.waiting(ctx, in.GetTimeout())
	if err != nil {
		return nil, err
	}
	defer leave()
	return s.await(ctx, ref, waiting)
}

// waiting is a context of a caller who waits for a request, until limit, if there is one, is over,
// and what to call when it has waited.
func (s *Server) waiting(ctx context.Context, limit *durationpb.Duration) (context.Context, func(), error) {
	if limit != nil && (limit.CheckValid() != nil || limit.AsDuration() < 0) {
		return nil, nil, fault.New("wait", fault.Invalid, "a timeout of %s", limit.AsDuration())
	}
	leave, err := s.hold(ctx, "wait", mostWaits)
	if err != nil || limit == nil {
		return ctx, leave, err
	}
	limited, cancel := context.WithTimeout(ctx, max(limit.AsDuration(), time.Nanosecond))
	return limited, func() { cancel(); leave() }, nil
}

// await is the request when it is final, or when waiting is over.
func (s *Server) await(ctx context.Context, ref store.Ref, waiting context.Context) (*adminpb.Request, error) {
	r, err := s.cfg.Engine.Wait(waiting, ref)
	if err != nil && errors.Is(waiting.Err(), context.DeadlineExceeded) && ctx.Err() == nil {
		return s.Get(ctx, &adminpb.Ref{Id: ref.Key.ID.String(), Requester: ref.Key.Requester, Role: adminpb.Request_Role(ref.Role)})
	}
	return shownRecord(ctx, r, err)
}
