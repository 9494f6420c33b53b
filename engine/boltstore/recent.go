package boltstore

import (
	"sync"

	"github.com/pannier/pannier/engine/lifecycle"
)

// mostRecent is how many records are kept in memory, about 1 KiB each.
const mostRecent = 8192

// recent are records as they were last committed, so that one that is worked on is
// not decoded again for each of its changes. What is not there is in the
// file, or in what the log has beyond it.
//
// The committer's changes wait in dirty until their commit has succeeded, so
// that nobody reads what may not last.
type recent struct {
	mu    sync.Mutex
	known map[string]lifecycle.Record

	dirty map[string]*lifecycle.Record // the committer's alone; nil: forgotten
}

func (c *recent) init() {
	c.known, c.dirty = map[string]lifecycle.Record{}, map[string]*lifecycle.Record{}
}

// get finds a record for readers: what is committed.
func (c *recent) get(key []byte) (lifecycle.Record, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r, ok := c.known[string(key)]
	return r, ok
}

// latest finds a record for the committer: with what this commit has changed.
func (c *recent) latest(key []byte) (lifecycle.Record, bool) {
	if r, ok := c.dirty[string(key)]; ok && r != nil {
		return *r, true
	} else if ok {
		return lifecycle.Record{}, false
	}
	return c.get(key)
}

// set notes a change of this commit.
func (c *recent) set(key []byte, r *lifecycle.Record) {
	kept := *r
	c.dirty[string(key)] = &kept
}

// forget notes that this commit purges a record.
func (c *recent) forget(key []byte) { c.dirty[string(key)] = nil }

// settle ends a commit. One that has failed leaves nothing in memory: the file decides.
func (c *recent) settle(kept bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !kept {
		clear(c.known)
	}
	for key, r := range c.dirty {
		switch {
		case !kept:
		case r == nil:
			delete(c.known, key)
		default:
			if len(c.known) >= mostRecent {
				for other := range c.known { // any: those that are worked on come back
					delete(c.known, other)
					break
				}
			}
			c.known[key] = *r
		}
	}
	clear(c.dirty)
}
