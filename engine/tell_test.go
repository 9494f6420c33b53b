package engine

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/sideeffect"
)

// askedWhen is a context that tells of each look whether it has ended.
type askedWhen struct {
	context.Context
	tell func()
}

func (a askedWhen) Err() error {
	err := a.Context.Err()
	a.tell()
	return err
}

// toldLate is a line that counts calls that are begun after a drain.
type toldLate struct {
	Line
	drained atomic.Bool
	late    atomic.Int64
}

func (l *toldLate) Call(context.Context, string, Ask, *sideeffect.Descriptor) (Answer, error) {
	if l.drained.Load() {
		l.late.Add(1)
	}
	return Answer{}, nil
}

// TestToldBeforeTheEnd: an operator's word in the moment a node ends is told to the other end before Drain
// returns, or not at all.
func TestToldBeforeTheEnd(t *testing.T) {
	l := &toldLate{}
	e := &Engine{cfg: Config{Line: l}, runs: map[store.Ref]*run{}, kicks: make(chan struct{}, 1)}
	e.watch.init()
	ctx, stop := context.WithCancelCause(t.Context())
	e.stop = stop
	over := make(chan struct{})
	e.ctx = askedWhen{ctx, sync.OnceFunc(func() {
		go func() {
			defer close(over)
			_ = e.Drain(t.Context())
			l.drained.Store(true)
		}()
		select {
		case <-over:
		case <-time.After(200 * time.Millisecond): // it waits for who has asked
		}
	})}
	e.tell(&run{engine: e, r: lifecycle.Record{Attempt: 1}})
	<-over
	e.work.Wait()
	if n := l.late.Load(); n > 0 {
		t.Errorf("%d calls after the end", n)
	}
}
