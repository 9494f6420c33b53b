package engine

import (
	"context"
	"slices"
	"sync"
	"time"
)

// share is a rate that partners share: whoever has had the least of those who
// wait is next, however many transfers each has. A partner's own transfers take turns,
// because each of them waits with one block at a time.
type share struct {
	rate, burst float64 // bytes a second, bytes

	mu    sync.Mutex
	left  float64   // bytes that may go at once; less than none: some have gone ahead
	at    time.Time // of left
	lines map[string]*shareLine
	waits int     // those in them
	floor float64 // what the line that was next last had had: who comes begins there
	timer *time.Timer
}

// shareLine is those of a partner who wait. It stays when nobody does: who comes
// again has had what it has had.
type shareLine struct {
	had   float64 // bytes
	takes []*take
}

// take is one who waits.
type take struct {
	bytes float64
	ready chan struct{} // closed when it may go
}

// newShare is a rate in bytes a second; nil: none.
func newShare(bytes int64) *share {
	if bytes <= 0 {
		return nil
	}
	burst := float64(max(bytes/8, leastBurst))
	return &share{rate: float64(bytes), burst: burst, left: burst, at: time.Now(), lines: map[string]*shareLine{}}
}

// wait returns when n bytes of the partner's may go, or ctx has ended. It calls
// waits if that is not at once.
func (s *share) wait(ctx context.Context, partner string, n int, waits func()) error {
	s.mu.Lock()
	s.fill()
	if s.waits == 0 && s.left > 0 {
		s.left -= float64(n)
		s.mu.Unlock()
		return nil
	}
	l := s.lines[partner]
	if l == nil {
		l = &shareLine{}
		s.lines[partner] = l
	}
	if len(l.takes) == 0 {
		l.had = max(l.had, s.floor)
	}
	t := &take{bytes: float64(n), ready: make(chan struct{})}
	l.takes = append(l.takes, t)
	s.waits++
	s.arm()
	s.mu.Unlock()
	waits()
	select {
	case <-t.ready:
		return nil
	case <-ctx.Done():
		s.leave(partner, t)
		return context.Cause(ctx)
	}
}

// leave takes back what has not gone.
func (s *share) leave(partner string, t *take) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.lines[partner]
	if i := slices.Index(l.takes, t); i >= 0 {
		l.takes = slices.Delete(l.takes, i, i+1)
		s.waits--
		return
	}
	s.left += t.bytes // it was let go just now
}

func (s *share) fill() {
	now := time.Now()
	s.left = min(s.burst, s.left+s.rate*now.Sub(s.at).Seconds())
	s.at = now
}

// arm has serve called when the next may go. s.mu is held.
func (s *share) arm() {
	if s.timer != nil || s.waits == 0 {
		return
	}
	wait := time.Duration(max(0, -s.left)/s.rate*float64(time.Second)) + time.Microsecond
	s.timer = time.AfterFunc(wait, s.serve)
}

// serve lets go whoever may.
func (s *share) serve() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.timer = nil
	s.fill()
	for s.waits > 0 && s.left > 0 {
		l := s.next()
		t := l.takes[0]
		s.floor = l.had
		l.had += t.bytes
		s.left -= t.bytes
		close(t.ready)
		l.takes = l.takes[1:]
		s.waits--
	}
	s.arm()
}

// next is the line, of those who wait, that has had the least.
func (s *share) next() (next *shareLine) {
	for _, l := range s.lines {
		if len(l.takes) > 0 && (next == nil || l.had < next.had) {
			next = l
		}
	}
	return next
}
