package engine

import (
	"context"
	"slices"
	"sync"
	"time"
)

// share is a rate that partners share: whoever has had the least of those who
// wait is next, however many transfers each has. A partner's own transfers take turns,
// because each of them waits with one block at a time. The rate may be another at another
// time of the week: whoever comes, or is let go, looks.
type share struct {
	clock func() time.Time // the date, which a timetable goes by

	mu    sync.Mutex
	table Timetable
	rate  float64   // bytes a second, just now; 0: no limit
	burst float64   // bytes
	from  time.Time // the rate is as the table says from this date
	until time.Time // until this one
	moved int64     // bytes that have gone since the process began
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

// leastBurst is how many bytes may go at once at least, so that no block is too large.
const leastBurst = 1 << 20

// newShare is a rate by a timetable; nil: none.
func newShare(table Timetable, clock func() time.Time) *share {
	if len(table) == 0 {
		return nil
	}
	s := &share{table: table, clock: clock, at: time.Now(), lines: map[string]*shareLine{}}
	s.fill()
	s.left = s.burst
	return s
}

// steady is the rate, if it is the same at any time; 0: it is not, or there is none.
func (s *share) steady() int64 {
	if s == nil {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.table.Varies() {
		return 0
	}
	return s.table.At(s.clock())
}

// set makes the rate that of another timetable, for those who wait, too. nil: whoever waits
// may go.
func (s *share) set(table Timetable) {
	s.mu.Lock()
	s.fill() // what has come until now came by the old one
	s.table, s.until = table, time.Time{}
	s.mu.Unlock()
	s.serve()
}

// look takes the rate from the table. s.mu is held.
func (s *share) look() {
	date := s.clock()
	if !date.Before(s.from) && date.Before(s.until) {
		return
	}
	s.from, s.until = date, date.Add(time.Hour)
	if s.table.Varies() { // windows begin and end at minutes
		s.from = date.Truncate(time.Minute)
		s.until = s.from.Add(time.Minute)
	}
	rate := s.table.At(date)
	s.rate, s.burst = float64(rate), float64(max(rate/8, leastBurst))
}

// wait returns when n bytes of the partner's may go, or ctx has ended. It calls
// waits if that is not at once.
func (s *share) wait(ctx context.Context, partner string, n int, waits func()) error {
	s.mu.Lock()
	s.fill()
	s.moved += int64(n)
	if s.waits == 0 && (s.left > 0 || s.rate == 0) {
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
		s.moved -= int64(t.bytes)
		return
	}
	s.moved -= int64(t.bytes)
	s.left += t.bytes // it was let go just now
}

func (s *share) fill() {
	now := time.Now()
	s.left += s.rate * now.Sub(s.at).Seconds()
	s.at = now
	if s.look(); s.rate == 0 || s.left > s.burst {
		s.left = s.burst
	}
}

// arm has serve called when the next may go. s.mu is held.
func (s *share) arm() {
	if s.timer != nil || s.waits == 0 {
		return
	}
	wait := time.Microsecond
	if s.rate > 0 {
		wait += time.Duration(min(max(0, -s.left)/s.rate, time.Hour.Seconds()) * float64(time.Second))
	}
	if s.table.Varies() {
		wait = min(wait, max(min(s.until.Sub(s.clock()), time.Minute), 0)+time.Microsecond)
	}
	s.timer = time.AfterFunc(wait, s.serve)
}

// serve lets go whoever may.
func (s *share) serve() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.timer != nil {
		s.timer.Stop()
	}
	s.timer = nil
	s.fill()
	for s.waits > 0 && (s.left > 0 || s.rate == 0) {
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
