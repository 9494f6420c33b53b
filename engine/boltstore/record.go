package boltstore

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/spec/fault"
)

// Register implements store.Store.
func (s *Store) Register(ctx context.Context, r lifecycle.Record, events ...lifecycle.Event) (lifecycle.Record, bool, error) {
	if err := r.Spec.Check(r.Key); err != nil {
		return r, false, err
	}
	name, err := applied(&r, r.Registered, events)
	if err != nil {
		return r, false, err
	}
	name = strings.TrimSuffix("Register+"+name, "+")
	present, made := r, false
	err = s.write(ctx, func(c *change) error {
		key := refKey(store.RefOf(&r))
		old, err := s.latest(c, key)
		switch {
		case err == nil && old.Side == r.Side && old.Spec.Same(r.Spec):
			present = old
			return nil
		case err == nil:
			return fault.New("register", fault.Exists, "request %v is another one: choose another id, or ask for the same again", r.Key.ID)
		case fault.KindOf(err) != fault.NotFound:
			return err
		}
		made = true
		return s.put(c, key, nil, &r, name, r.Registered)
	})
	if err != nil {
		return lifecycle.Record{}, false, err
	}
	return present, made, nil
}

// Apply implements store.Store.
func (s *Store) Apply(ctx context.Context, ref store.Ref, now time.Time, events ...lifecycle.Event) (lifecycle.Record, error) {
	var r lifecycle.Record
	err := s.write(ctx, func(c *change) error {
		key := refKey(ref)
		old, err := s.latest(c, key)
		if err != nil {
			return err
		}
		r = old
		name, err := applied(&r, now, events)
		if err != nil {
			return err
		}
		return s.put(c, key, &old, &r, name, now)
	})
	if err != nil {
		return lifecycle.Record{}, err
	}
	return r, nil
}

// applied changes r by the events, and names them.
func applied(r *lifecycle.Record, now time.Time, events []lifecycle.Event) (string, error) {
	names := make([]string, 0, len(events))
	for _, e := range events {
		if err := r.Apply(e, now); err != nil {
			return "", err
		}
		names = append(names, strings.TrimPrefix(fmt.Sprintf("%T", e), "lifecycle."))
	}
	return strings.Join(names, "+"), nil
}

// latest is the record of a key within a commit.
func (s *Store) latest(c *change, key []byte) (lifecycle.Record, error) {
	if r, ok := s.cache.latest(key); ok {
		return r, nil
	}
	return get(c, key)
}

// get reads the record of a key, wherever it is.
func get(from reader, key []byte) (lifecycle.Record, error) {
	b := from.get(inActive, key)
	if b == nil {
		b = from.get(inDone, key)
	}
	if b == nil {
		return lifecycle.Record{}, fault.New("find request", fault.NotFound, "no such request")
	}
	return recordAt(key, b)
}

// recordAt decodes the record that is kept under a key, and nothing else that is
// found there.
func recordAt(key, value []byte) (lifecycle.Record, error) {
	r, err := decodeRecord(value)
	if err == nil && !bytes.Equal(key, refKey(store.RefOf(&r))) {
		err = damaged("it is another record's place")
	}
	return r, err
}

// put keeps r in place of old (nil: there was none) and notes the event.
func (s *Store) put(c *change, key []byte, old, r *lifecycle.Record, event string, now time.Time) error {
	b, err := encodeRecord(r)
	if err != nil {
		return err
	}
	if event != "Durable" { // thousands in a large transfer, and the record has the last
		e := store.Entry{Seq: r.Version + 1, At: now, Event: event, State: r.State, Phase: r.Phase, Rank: r.Rank, Attempt: r.Attempt}
		if r.Failure.At.Equal(now) {
			e.Failure = r.Failure
		}
		if old != nil && r.Warnings != old.Warnings {
			e.Warning = r.Warning
		}
		entry, err := encodeEntry(&e)
		if err != nil {
			return err
		}
		c.note(key, entry)
	}
	if old != nil && (old.State == lifecycle.Done) != (r.State == lifecycle.Done) {
		remove(c, key, old)
	}
	if r.State == lifecycle.Done {
		c.put(inEnded, endedKey(r, key), nil)
		c.put(inPartners, partnerKey(r, key), nil)
		c.put(inDone, key, b)
	} else {
		c.put(inActive, key, b)
	}
	s.cache.set(key, r)
	return nil
}

// remove takes a record out of its bucket.
func remove(c *change, key []byte, r *lifecycle.Record) {
	if r.State != lifecycle.Done {
		c.delete(inActive, key)
		return
	}
	c.delete(inEnded, endedKey(r, key))
	c.delete(inPartners, partnerKey(r, key))
	c.delete(inDone, key)
}

// count is how many entries a log has.
func count(log []byte) (n int) {
	for len(log) >= 4 {
		log = log[min(len(log), 4+int(binary.BigEndian.Uint32(log))):]
		n++
	}
	return n
}

// Get implements store.Store.
func (s *Store) Get(_ context.Context, ref store.Ref) (r lifecycle.Record, err error) {
	key := refKey(ref)
	if r, ok := s.cache.get(key); ok {
		return r, nil
	}
	err = s.peek(func(from reader) error {
		r, err = get(from, key)
		return err
	})
	return r, err
}

// Events implements store.Store.
func (s *Store) Events(_ context.Context, ref store.Ref) (entries []store.Entry, err error) {
	err = s.peek(func(from reader) error {
		log := from.get(inEvents, refKey(ref))
		if log == nil {
			return fault.New("find request", fault.NotFound, "no such request")
		}
		entries, err = entriesOf(log)
		return err
	})
	return entries, err
}

// entriesOf reads the events of a request.
func entriesOf(log []byte) (entries []store.Entry, err error) {
	for len(log) > 0 {
		if len(log) < 4 || uint64(binary.BigEndian.Uint32(log)) > uint64(len(log)-4) {
			return nil, damaged("its events are cut off")
		}
		n := 4 + int(binary.BigEndian.Uint32(log))
		e, err := decodeEntry(log[4:n])
		if err != nil {
			return nil, err
		}
		entries, log = append(entries, e), log[n:]
	}
	if len(entries) < store.MaxEvents && (len(entries) == 0 || !strings.HasPrefix(entries[0].Event, "Register")) {
		return nil, damaged("its first events are gone")
	}
	return entries, nil
}

// batchSize is how many records one read transaction looks at: a long one
// keeps the pages of everything that is written meanwhile.
const batchSize = 1000

// Find implements store.Store.
func (s *Store) Find(ctx context.Context, q store.Query) iter.Seq2[lifecycle.Record, error] {
	return func(yield func(lifecycle.Record, error) bool) {
		left := q.Limit
		seen := map[store.Ref]bool{} // those that were not DONE, and may be by the time that it is their turn
		for _, read := range []func(*store.Query, []byte) (batch, error){s.active, s.ended} {
			for from := []byte(nil); ; {
				part, err := read(&q, from)
				if err == nil && q.Looked != nil && part.looked > 0 {
					err = q.Looked(part.looked)
				}
				for _, r := range part.found {
					ref := store.RefOf(&r)
					if r.State != lifecycle.Done {
						seen[ref] = true
					} else if seen[ref] {
						continue
					}
					if left--; !yield(r, nil) || left == 0 {
						return
					}
				}
				if err == nil && ctx.Err() != nil {
					err = fault.Wrap("find", "", context.Cause(ctx))
				}
				if err != nil {
					yield(lifecycle.Record{}, err)
					return
				}
				if from = part.next; from == nil {
					break
				}
			}
		}
	}
}

// batch is what one read transaction has found.
type batch struct {
	found  []lifecycle.Record
	looked int    // records it has looked at
	next   []byte // where to go on; nil: at the end
}

// active reads matching records that are not DONE, from a key on.
func (s *Store) active(q *store.Query, from []byte) (b batch, err error) {
	if len(q.States) == 1 && q.States[0] == lifecycle.Done {
		return b, nil
	}
	err = s.view(func(now view) error {
		for k, v := range now.up(inActive, from) {
			if b.looked == batchSize {
				b.next = bytes.Clone(k)
				return nil
			}
			b.looked++
			if len(q.States) > 0 {
				if s, err := stateOf(v); err != nil {
					return err
				} else if !q.Wants(s) {
					continue
				}
			}
			r, err := recordAt(k, v)
			if err != nil {
				return err
			}
			if q.Matches(&r) {
				b.found = append(b.found, r)
			}
		}
		return nil
	})
	return b, err
}

// ended does the same for DONE records, those that finished last first.
func (s *Store) ended(q *store.Query, from []byte) (b batch, err error) {
	if !q.Wants(lifecycle.Done) {
		return b, nil
	}
	err = s.view(func(now view) error {
		bucket, prefix := inEnded, []byte(nil)
		if q.Partner != "" {
			bucket, prefix = inPartners, partnerPrefix(q.Partner)
			if from == nil { // above all of this partner
				from = append(bytes.Clone(prefix), bytes.Repeat([]byte{0xff}, 9)...)
			}
		}
		for k := range now.down(bucket, from) {
			if !bytes.HasPrefix(k, prefix) {
				return nil
			}
			at := k[len(prefix):]
			if len(at) < 8 {
				return damaged("its place in time is no time")
			}
			if int64(binary.BigEndian.Uint64(at)) < nanos(q.Since) {
				return nil
			}
			if b.looked == batchSize {
				b.next = bytes.Clone(k)
				return nil
			}
			b.looked++
			v := now.get(inDone, at[8:])
			if v == nil && prefix != nil {
				continue
			}
			r, err := recordAt(at[8:], v)
			if err != nil {
				return err
			}
			if q.Matches(&r) {
				b.found = append(b.found, r)
			}
		}
		return nil
	})
	return b, err
}

// Purge implements store.Store.
func (s *Store) Purge(ctx context.Context, before time.Time, limit int) (int, error) {
	n := 0
	until := binary.BigEndian.AppendUint64(nil, uint64(nanos(before)))
	err := s.wait(ctx, &write{frees: true, do: func(c *change) error {
		n = 0
		for k := range c.over.up(inEnded, nil) {
			if n >= limit || bytes.Compare(k, until) >= 0 {
				break
			}
			if len(k) < 8 {
				return damaged("its place in time is no time")
			}
			// One that cannot be read leaves its place among its partner's, which Find passes over.
			if r, err := decodeRecord(c.get(inDone, k[8:])); err == nil {
				c.delete(inPartners, partnerKey(&r, k[8:]))
			}
			c.delete(inEnded, k)
			c.delete(inDone, k[8:])
			c.delete(inEvents, k[8:])
			s.cache.forget(k[8:])
			n++
		}
		return nil
	}})
	if err != nil {
		return 0, err
	}
	return n, nil
}
