package engine

import (
	"time"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/spec/fault"
)

// Status is a request as people see it: its record, and what it does just now.
type Status struct {
	lifecycle.Record
	Live *Live // nil: no runner is on it
}

// Public is a request as those see it who may look and not operate this node: nothing that a task
// has printed is in it.
func (s Status) Public() Status {
	s.Failure, s.Warning = s.Failure.Public(), warner(s.Warning)
	if s.Live != nil {
		live := *s.Live
		live.Output = ""
		s.Live = &live
	}
	return s
}

// Live is what a runner says of itself; none of it is kept.
type Live struct {
	Doing    string    // as "pre task 1, exec", "moving bytes", "waiting for the partner"
	Since    time.Time // that it does so
	Durable  int64     // bytes that are safe at the receiver, as last heard
	Received int64     // bytes the receiver has written, as last heard; Durable <= Received
	Total    int64     // -1 unknown
	From     int64     // where this attempt began
	Rate     float64   // bytes a second of the last seconds
	Limit    string    // what holds the bytes up, as "bandwidth of the partner"; empty: nothing of ours
	Output   string    // of the last task, its end
}

// Explanation says why a request is as it is and what happens next.
type Explanation struct {
	Status
	Summary string    // what it does, in a sentence
	Cause   string    // why; may be empty
	Next    string    // what happens next, and when
	Do      []string  // what an operator can do, as command lines without the program's name
	At      time.Time // when Next is due; zero: nothing is
	Partner PartnerStatus
	// Attempts is how many without progress in a row the rule allows; 0: there is
	// no rule any more.
	Attempts int
}

// Public is as Status.Public.
func (x Explanation) Public() Explanation {
	was := cause(&x.Record)
	x.Status = x.Status.Public()
	switch {
	case x.State == lifecycle.Done:
		x.Cause = x.Warning
	case x.Cause == was:
		x.Cause = cause(&x.Record)
	}
	return x
}

// PublicEntry is an event as those see it: the texts of failures are not kept in two forms, so that its
// kind alone is told.
func PublicEntry(e store.Entry) store.Entry {
	if e.Failure.Side == fault.Here {
		e.Failure.Cause = ""
	}
	e.Warning = warner(e.Warning)
	return e
}

// PartnerStatus is how a partner is doing.
type PartnerStatus struct {
	Name      string
	Address   string
	Connected bool
	Failure   lifecycle.Failure // of the last try to reach it; zero after a success
	RetryAt   time.Time         // when it is tried again; zero: not down
	RTT       time.Duration     // 0: unknown
	Running   int               // requests
	Queued    int               // requests that wait for it
	Bridge    bool              // it is a server of another protocol
}

// Change is one change of a request, as Watch gives it.
type Change struct {
	Status
	Lost int // changes that were dropped before this one because the watcher was slow
}
