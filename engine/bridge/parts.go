package bridge

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"sync"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// What a driver has beside the name is called by the request. So what a process leaves that dies in
// the middle of a push is found without a note: by the next attempt, which sees to it that it goes,
// or at the end of the request. Whether anything may be there is remembered as long as this process
// lives: a request that was never sent, or left nothing, needs no login for that.

// part is what a push may have left.
type part struct {
	there bool          // something
	tidy  chan struct{} // closed when it is removed; nil: nobody does that now
}

// parts are of requests that have not ended. What is not in there was begun by an earlier process, or
// never.
type parts struct {
	mu  sync.Mutex
	all map[lifecycle.Key]part
}

// partID is the plugins.WriteRequest.ID of a request.
func partID(k lifecycle.Key) string { return PartID(noteKey(k)) }

// PartID is the plugins.WriteRequest.ID of what is sent for something that has a key.
func PartID(key []byte) string {
	sum := sha256.Sum256(key)
	return hex.EncodeToString(sum[:16])
}

// begin is called by each attempt: before the first nothing is there. It waits while what an
// earlier one has left is removed.
func (p *parts) begin(ctx context.Context, k lifecycle.Key, attempt uint32) error {
	p.mu.Lock()
	is, known := p.all[k]
	if !known && attempt <= 1 {
		p.all[k] = part{}
	}
	p.mu.Unlock()
	if is.tidy == nil {
		return nil
	}
	select {
	case <-is.tidy:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// left notes whether something may be there.
func (p *parts) left(k lifecycle.Key, there bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all[k] = part{there: there}
}

// over forgets a request: it has its file, or nothing is there any more.
func (p *parts) over(k lifecycle.Key) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.all, k)
}

// tidy tells the end of a request whether something may be there: then the caller removes it, and
// calls done.
func (p *parts) tidy(k lifecycle.Key, attempt uint32) (done func(), there bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	is, known := p.all[k]
	switch {
	case is.tidy != nil:
		return nil, false
	case known && !is.there, !known && attempt <= 1:
		delete(p.all, k)
		return nil, false
	}
	tidied := make(chan struct{})
	p.all[k] = part{tidy: tidied}
	return func() {
		p.over(k)
		close(tidied)
	}, true
}

// discard removes what a push that has no note has left at its server.
func (x *call) discard() {
	done, there := x.parts.tidy(x.ask.Key, x.ask.Call.Attempt)
	if !there {
		return
	}
	x.wg.Go(func() {
		defer done()
		ctx, cancel := context.WithTimeout(x.Line.ctx, tidyTime)
		defer cancel()
		request := plugins.WriteRequest{Size: -1, ID: partID(x.ask.Key), Again: true}
		if err := x.remove(ctx, x.partner, remote(x.ask.Target), request); err != nil {
			x.log.Warn("an unfinished file may stay at a bridge", "name", remote(x.ask.Target), "error", err)
		}
	})
}

// remove removes what that request of a driver would find, by having it begin and giving that up.
func (l *Line) remove(ctx context.Context, partner, name string, r plugins.WriteRequest) (err error) {
	if !l.o.Servers.Has(partner) {
		return nil
	}
	s, over, err := l.o.Servers.Login(ctx, partner)
	if err != nil {
		return err
	}
	defer func() { over(err) }()
	return removeAt(ctx, s, name, r)
}

// removeAt is remove in a session.
func removeAt(ctx context.Context, s plugins.Session, name string, r plugins.WriteRequest) error {
	w, ok := s.(plugins.Writer)
	if !ok || !s.Capabilities().Resume { // nothing stays where nothing can be gone on with
		return nil
	}
	staged, err := w.Write(ctx, name, r)
	switch kindOf(err) {
	case 0:
		_, err = staged.Abort(ctx, false)
	case fault.NotFound, fault.Stale, fault.Invalid:
		err = nil
	}
	return err
}
