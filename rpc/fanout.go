package rpc

import (
	"context"
	"sync"

	"google.golang.org/grpc"

	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

// MaxTargets is the most targets of one Fanout.
const MaxTargets = 1024

// A Target is one server of a Fanout, after the connections of Coda's MultiRPC.
type Target struct {
	Conn grpc.ClientConnInterface
	// Descriptor is this target's side effect; nil: none. Without a Local it
	// sends the Fanout's Source.
	Descriptor *sideeffect.Descriptor
	// Omit makes the call without the side effect, which then stays NotStarted.
	Omit bool
	// Reply is the message for the reply, one for each target.
	Reply any
	// Options are for this target's call, after those of all.
	Options []grpc.CallOption
}

// A Fanout is one request to many servers at the same time.
type Fanout struct {
	Method  string // as "/package.Service/Method"
	Request any    // shared by all calls: nobody may change it
	// Source is read once for all targets whose Descriptor has no Local.
	Source sideeffect.Identity
	// Cache is how many bytes of Source are kept for targets that lag behind.
	// Default 16 MiB. Those further behind read by themselves.
	Cache int64
	// Stop, if not nil, is told each result as it comes, one at a time; true
	// cancels the calls that are still running.
	Stop func(TargetResult) bool
	// Options are for all calls.
	Options []grpc.CallOption
}

const defaultFanoutCache = 16 << 20

// TargetResult is how the call to one target went. The outputs of its side effect
// are in the target's Descriptor, those of the call in its Reply.
type TargetResult struct {
	Index int // in targets
	Err   error
}

// Call makes the calls and returns when all are over, with one result for each
// target, in order. A target that fails does not disturb the others; one that Stop
// or ctx has cut off has an error of kind fault.Canceled or status Canceled. The
// error of Call itself is about its arguments; then nothing was called. A panic of a Reader, a callback or Stop
// cancels the calls that still run, and Call panics with it, as a *sideeffect.Panic.
func (f Fanout) Call(ctx context.Context, targets []Target) ([]TargetResult, error) {
	if err := f.check(targets); err != nil {
		return nil, err
	}
	effects, held, err := f.effects(ctx, targets)
	defer func() {
		for _, h := range held {
			h.release()
		}
	}()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	results := make([]TargetResult, len(targets))
	var calls sync.WaitGroup
	var telling sync.Mutex // Stop is called by one at a time
	stopped := false
	var panicked *sideeffect.Panic // guarded by telling
	for i, t := range targets {
		calls.Go(func() {
			defer func() {
				if p := sideeffect.PanicOf(recover()); p != nil {
					telling.Lock()
					defer telling.Unlock()
					if panicked == nil {
						panicked = p
					}
					cancel(fault.New("fan out", fault.Canceled, "a call panicked"))
				}
			}()
			results[i] = TargetResult{Index: i, Err: f.one(ctx, t, effects[i])}
			telling.Lock()
			defer telling.Unlock()
			if f.Stop == nil || stopped {
				return
			}
			stopped = true // also if it panics
			if stopped = f.Stop(results[i]); stopped {
				cancel(fault.New("fan out", fault.Canceled, "enough targets have answered"))
			}
		})
	}
	calls.Wait()
	if panicked != nil {
		panic(panicked)
	}
	return results, nil
}

func (f Fanout) check(targets []Target) error {
	const op = "fan out"
	if len(targets) > MaxTargets {
		return fault.New(op, fault.Invalid, "%d targets; at most %d in one Fanout", len(targets), MaxTargets)
	}
	seen := map[*sideeffect.Descriptor]int{}
	for i, t := range targets {
		switch {
		case t.Conn == nil || t.Reply == nil:
			return fault.New(op, fault.Invalid, "target %d needs a Conn and a Reply", i)
		case t.Descriptor == nil || t.Omit:
			continue
		case t.Descriptor.Local == nil && f.Source == nil:
			return fault.New(op, fault.Invalid, "target %d has a Descriptor without Local: set it, or the Fanout's Source", i)
		}
		if j, twice := seen[t.Descriptor]; twice {
			return fault.New(op, fault.Invalid, "targets %d and %d have one Descriptor: each needs its own", j, i)
		}
		seen[t.Descriptor] = i
	}
	return nil
}

// effects are the descriptors of the calls: nil where none is wanted, a copy
// with a part in the shared source where the target has no Local.
func (f Fanout) effects(ctx context.Context, targets []Target) (effects []*sideeffect.Descriptor, held []*heldSource, err error) {
	cache := f.Cache
	if cache == 0 {
		cache = defaultFanoutCache
	}
	var shared *sideeffect.SharedIdentity
	effects = make([]*sideeffect.Descriptor, len(targets))
	for i, t := range targets {
		if t.Descriptor == nil {
			continue
		}
		t.Descriptor.Result = sideeffect.Result{}
		if t.Omit {
			continue
		}
		effects[i] = t.Descriptor
		if t.Descriptor.Local != nil {
			continue
		}
		if shared == nil {
			shared = sideeffect.Shared(f.Source, cache)
		}
		src, err := shared.OpenSource(sideeffect.SourceSpec{Offset: t.Descriptor.Offset, Opening: ctx})
		if err != nil {
			return nil, held, fault.Wrap("fan out", f.Source.String(), err)
		}
		h := &heldSource{Identity: shared, src: src}
		held = append(held, h)
		d := *t.Descriptor
		d.Local = h
		effects[i] = &d
	}
	return effects, held, nil
}

// heldSource is one target's part in the shared source, opened before the first
// call begins: so all share, however fast the first one is.
type heldSource struct {
	sideeffect.Identity
	mu  sync.Mutex
	src sideeffect.Source // nil: taken
}

// OpenSource gives the source to the call, which closes it.
func (h *heldSource) OpenSource(spec sideeffect.SourceSpec) (sideeffect.Source, error) {
	h.mu.Lock()
	src := h.src
	h.src = nil
	h.mu.Unlock()
	if src != nil {
		return src, nil
	}
	return h.Identity.OpenSource(spec)
}

// release closes a source that no call has taken, so that nobody waits for it.
func (h *heldSource) release() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.src != nil {
		h.src.Close()
		h.src = nil
	}
}

func (f Fanout) one(ctx context.Context, t Target, d *sideeffect.Descriptor) error {
	options := append(append([]grpc.CallOption(nil), f.Options...), t.Options...)
	if d != nil {
		options = append(options, With(d))
	}
	err := t.Conn.Invoke(ctx, f.Method, f.Request, t.Reply, options...)
	if d != nil && d != t.Descriptor {
		t.Descriptor.Result = d.Result
		d.Local.(*heldSource).release() // the others do not wait for a call that failed early
	}
	return err
}
