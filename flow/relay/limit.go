package relay

import (
	"context"
	"io"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/spec/fault"
)

// usage is how much of its limits is in use, of a relay or of a rule of the policy.
type usage struct {
	limits  Limits
	conns   atomic.Int64
	streams atomic.Int64 // of datagrams
	queued  atomic.Int64 // bytes that wait for those streams, or are being written to them
	opens   *rate.Limiter
	share   *flow.Share // of sessions
	counter counter
}

func newUsage(l Limits) *usage {
	u := &usage{limits: l, opens: rate.NewLimiter(rate.Limit(l.Opens), l.Opens), share: flow.NewShare(l.Weight)}
	if l.Opens < 0 {
		u.opens = rate.NewLimiter(rate.Inf, 0)
	}
	return u
}

// enter takes a place; leave gives it back.
func (u *usage) enter() error {
	if !u.opens.Allow() {
		return fault.New("relay", fault.Overloaded, "over %d connections a second", u.limits.Opens)
	}
	if n := u.conns.Add(1); u.limits.Conns >= 0 && n > int64(u.limits.Conns) {
		u.conns.Add(-1)
		return fault.New("relay", fault.Overloaded, "%d connections are open", u.limits.Conns)
	}
	return nil
}

func (u *usage) leave() { u.conns.Add(-1) }

// enterStream takes a place for a stream of datagrams, of which there may be as many as connections;
// leaveStream gives it back.
func (u *usage) enterStream() error {
	if n := u.streams.Add(1); u.limits.Conns >= 0 && n > int64(u.limits.Conns) {
		u.streams.Add(-1)
		return fault.New("relay", fault.Overloaded, "%d streams of datagrams are open", u.limits.Conns)
	}
	return nil
}

func (u *usage) leaveStream() { u.streams.Add(-1) }

// meter holds a direction of a connection against Bytes and Rate.
type meter struct {
	left int64 // of Bytes; negative: no limit
	rate *rate.Limiter
}

// metered reports whether connections need meters, which keep them from the
// direct way between a socket and the session's buffers.
func (l Limits) metered() bool { return l.Bytes > 0 || l.Rate > 0 }

func (l Limits) meter() *meter {
	m := &meter{left: l.Bytes}
	if l.Rate > 0 {
		m.rate = rate.NewLimiter(rate.Limit(l.Rate), int(max(l.Rate, 64<<10)))
	}
	return m
}

// take lets n bytes pass, later if they came too fast.
func (m *meter) take(ctx context.Context, n int) error {
	if m.left >= 0 {
		if m.left -= int64(n); m.left < 0 {
			return fault.New("relay", fault.QuotaExceeded, "more bytes than a connection may carry")
		}
	}
	for m.rate != nil && n > 0 { // more at a time than the burst would be an error
		piece := min(n, m.rate.Burst())
		if err := m.rate.WaitN(ctx, piece); err != nil {
			return err
		}
		n -= piece
	}
	return nil
}

// pass reports whether a datagram of n bytes may pass, which is dropped where a connection would wait. An error: there
// are more bytes than a source may send, or be sent.
func (m *meter) pass(now time.Time, n int) (bool, error) {
	switch {
	case m == nil:
		return true, nil
	case m.left >= 0 && m.left < int64(n):
		return false, fault.New("relay", fault.QuotaExceeded, "more bytes than a source of datagrams may have carried")
	case m.rate != nil && !m.rate.AllowN(now, n):
		return false, nil
	case m.left >= 0:
		m.left -= int64(n)
	}
	return true, nil
}

// meters are those of a source of datagrams, for each direction; nil where it has no limits.
func (l Limits) meters() (toPeer, fromPeer *meter) {
	if !l.metered() {
		return nil, nil
	}
	return l.meter(), l.meter()
}

// outlived is why a source that was made then has to end by now; nil: it has not.
func (l Limits) outlived(made, now time.Time) error { return l.over(now.Sub(made), 0, false) }

type meteredReader struct {
	io.Reader
	*meter
	ctx context.Context
}

func (r meteredReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if limit := r.take(r.ctx, n); limit != nil {
		return 0, limit
	}
	return n, err
}

type meteredWriter struct {
	io.Writer
	*meter
	ctx context.Context
}

func (w meteredWriter) Write(p []byte) (int, error) {
	if err := w.take(w.ctx, len(p)); err != nil {
		return 0, err
	}
	return w.Writer.Write(p)
}

// over reports why a connection has to end by now.
func (l Limits) over(life, silent time.Duration, half bool) error {
	switch {
	case l.Life > 0 && life >= l.Life:
		return fault.New("relay", fault.Deadline, "a connection lasts at most %v", l.Life)
	case l.Idle > 0 && silent >= l.Idle:
		return fault.New("relay", fault.Deadline, "nothing was sent for %v", l.Idle)
	case half && l.Half > 0 && silent >= l.Half:
		return fault.New("relay", fault.Deadline, "one direction is closed, and nothing was sent for %v", l.Half)
	}
	return nil
}
