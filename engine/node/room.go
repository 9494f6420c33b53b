package node

import (
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/pannier/pannier/spec/fault"
)

// room is whether there is room to write requests down. The engine goes on without: it refuses
// what is new, and tries again what it has.
type room struct {
	log *slog.Logger
	now func() time.Time

	mu     sync.Mutex
	failed time.Time // when there was none last; zero: there has been since
	told   time.Time // when the log was
	more   int       // failures that it was not told of
	full   bool      // its last word is that there is none
}

const (
	fullFor  = time.Minute // after which it is not known any more that there is no room: something has to try
	fullTell = time.Minute // between lines of the log
)

// failing hears why something was not written down.
func (r *room) failing(err error) {
	if fault.KindOf(err) != fault.NoSpace {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	r.failed = now
	if !r.told.IsZero() && now.Sub(r.told) < fullTell {
		r.more++
		return
	}
	r.log.Error("there is no room to write requests down: new ones are refused until there is; make room on the file system of the state directory", "error", err, "unlogged", r.more)
	r.told, r.more, r.full = now, 0, true
}

// found hears that a new request was written down: changes of old ones may need no more room than
// there is.
func (r *room) found() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed = time.Time{}
	if r.full { // or one line follows each failure
		r.full = false
		r.log.Info("there is room again to write requests down")
	}
}

// met is the condition of /readyz.
func (r *room) met() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.failed.IsZero() && r.now().Sub(r.failed) < fullFor {
		return errors.New("there is no room to write requests down: new ones are refused; make room on the file system of the state directory")
	}
	return nil
}
