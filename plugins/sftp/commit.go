package sftp

import (
	"context"
	"encoding"
	"math"
	"time"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// patience is how much longer than usual a server may do something with so many bytes.
func patience(size int64) time.Duration { return time.Duration(size/(20<<20)) * time.Second }

// Commit ends the file, compares and names it.
func (st *staged) Commit(ctx context.Context) (plugins.Attr, error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if !st.over {
		st.over = true
		st.attr, st.result = st.commit(ctx)
	}
	return st.attr, st.result
}

func (st *staged) commit(ctx context.Context) (a plugins.Attr, err error) {
	c := st.c
	defer st.release()
	if st.err != nil {
		return a, st.err
	}
	if st.direct {
		return st.commitWhole(ctx)
	}
	if err := st.drain(ctx); err != nil {
		return a, err
	}
	if st.size >= 0 && st.sent != st.size {
		return a, c.said(fault.Corrupt, "WRITE", st.path, "%d bytes were written of a file of %d", st.sent, st.size)
	}
	if err := st.timed(ctx); err != nil {
		return a, err
	}
	if err := st.sync(ctx); err != nil {
		return a, err
	}
	if err := st.ended(ctx); err != nil {
		return a, err
	}
	found, err := c.stat(ctx, st.part)
	if is(err, codeNoFile) { // proftpd, of a user's quota
		return a, c.vanished(st.path, st.sent)
	}
	if err != nil {
		return a, err
	}
	if found.size != st.sent {
		_ = c.simple(ctx, "REMOVE", ask(fxRemove, st.part), st.part)
		return a, c.said(fault.Corrupt, "WRITE", st.path, "the server has confirmed %d bytes, and says that it has %d", st.sent, found.size).Advise("write again; if it happens again, the server cuts files off")
	}
	verified := "size"
	if st.sum != nil {
		compared, err := c.compare(ctx, st.part, st.alg, st.sum.Sum(nil), st.sent)
		if fault.KindOf(err) == fault.Corrupt {
			_ = c.simple(ctx, "REMOVE", ask(fxRemove, st.part), st.part)
		}
		if err != nil {
			return a, err
		}
		if compared {
			verified = st.alg.name
		}
	}
	if err := st.s.publish(ctx, c, st.part, st.path, found); err != nil {
		return a, err
	}
	return plugins.Attr{Name: st.named(), Size: st.sent, Modified: found.modified, Verified: verified}, nil
}

// vanished is why a part that the server has confirmed is not there any more.
func (c *conn) vanished(path string, size int64) error {
	c.noRoom.Store(true)
	return c.said(fault.NoSpace, "CLOSE", path, "the server has confirmed all %d bytes, and then removed the file, as some do when there is no room for it", size).
		Advise("raise the user's quota there, or make room; otherwise see what removes files whose names end in .part")
}

// timed gives the file its time, as far as the protocol can say it: seconds in 32 bits. That the
// server does not take it is no failure of the file.
func (st *staged) timed(ctx context.Context) error {
	t := st.time.Unix()
	if !st.s.caps.Times || st.time.IsZero() || t < 0 || t > math.MaxUint32 {
		return nil
	}
	err := st.c.simple(ctx, "FSETSTAT", ask(fxFsetstat, st.handle).number(hasTimes).number(uint32(time.Now().Unix())).number(uint32(t)), st.part)
	if err != nil && (st.c.dead() || ctx.Err() != nil) {
		return err
	}
	return nil
}

// sync has the bytes on the server's disk, where it offers that.
func (st *staged) sync(ctx context.Context) error {
	if !st.c.has(extSync) {
		return nil
	}
	return st.fsync(ctx, st.handle, st.sent)
}

func (st *staged) fsync(ctx context.Context, handle string, size int64) error {
	_, err := st.c.do(ctx, fxStatus, ask(fxExtended, extSync, handle), &call{op: extSync, path: st.part, slow: patience(size)})
	if is(err, codeUnsupported) { // by the file's file system
		return nil
	}
	return st.c.full(ctx, "WRITE", err, st.part)
}

// ended closes the handle: some servers write then.
func (st *staged) ended(ctx context.Context) error {
	h := st.handle
	st.handle = ""
	_, err := st.c.do(ctx, fxStatus, ask(fxClose, h), &call{op: "CLOSE", path: st.part, slow: patience(st.sent)})
	return st.c.full(ctx, "WRITE", err, st.part)
}

// named is the path below the base, as the caller has it.
func (st *staged) named() string {
	if st.s.base == "/" {
		return st.path
	}
	return st.path[len(st.s.base):]
}

// release gives the connection back. st.mu is held.
func (st *staged) release() {
	if st.closed {
		return
	}
	st.closed = true
	for len(st.flight) > 0 && st.flight[0].finished() && st.settle(context.Background()) == nil { // what was confirmed before the connection broke counts
		continue
	}
	for _, k := range st.flight {
		st.c.leave(&k.call)
	}
	st.flight = nil
	switch {
	case st.handle == "":
	case st.direct:
		ctx, cancel := context.WithTimeout(context.Background(), st.s.timeout)
		st.leave(ctx, true)
		cancel()
	default:
		st.c.close(st.handle, st.part)
	}
	st.s.give(st.c)
}

// publish gives a part its name.
func (s *session) publish(ctx context.Context, c *conn, part, target string, had attributes) error {
	err := c.rename(ctx, part, target, target)
	if err == nil {
		return nil
	}
	if c.dead() { // it may have been done
		return s.published(ctx, part, target, had, err)
	}
	if _, gone := c.stat(ctx, part); is(gone, codeNoFile) {
		return c.vanished(target, had.size)
	}
	a, there := c.stat(ctx, target)
	if there != nil {
		return err
	}
	if a.dir() {
		return c.isDirectory(target)
	}
	if !s.deleteFirst || c.has(extRename) {
		return err
	}
	if err := c.simple(ctx, "REMOVE", ask(fxRemove, target), target); err != nil {
		return err
	}
	return c.rename(ctx, part, target, target)
}

// published asks on another connection whether a rename was done whose reply did not come: renaming changes neither size nor
// time, and by its size alone an older file may be taken for this one. A connection that was idle may
// have gone with the first, and nobody may have noticed: then the next is asked.
func (s *session) published(ctx context.Context, part, target string, had attributes, cause error) error {
	for range 8 {
		gone := false
		err := s.with(ctx, func(c *conn) error {
			_, err := c.stat(ctx, part)
			if is(err, codeNoFile) {
				var a attributes
				if a, err = c.stat(ctx, target); err == nil && a.size == had.size && !a.modified.IsZero() && a.modified.Equal(had.modified) {
					return nil
				}
			}
			gone = err != nil && c.dead()
			return cause
		})
		if !gone {
			return err
		}
	}
	return cause
}

// Abort ends a file that has no name yet.
func (st *staged) Abort(ctx context.Context, keep bool) ([]byte, error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.over && st.result == nil && st.attr.Name != "" {
		return nil, fault.New("sftp abort", fault.Invalid, "the file is committed")
	}
	if st.kept != nil || st.gone {
		return st.kept, nil
	}
	if keep && !st.closed && st.err == nil && !st.over {
		if st.drain(ctx) == nil && !st.direct {
			_ = st.sync(ctx)
		}
	}
	if !keep && st.direct && st.handle != "" && !st.closed {
		st.leave(ctx, false)
		st.gone = !st.c.dead()
	}
	st.over = true
	if st.result == nil {
		st.result = fault.New("sftp commit", fault.Canceled, "the file was aborted")
	}
	st.release()
	if keep {
		st.kept = st.keep().bytes()
		return st.kept, nil
	}
	if st.gone {
		return nil, nil
	}
	if err := st.discard(ctx); err != nil {
		return nil, err
	}
	st.gone = true
	return nil, nil
}

// keep is what a later Write goes on from: what the server has confirmed. If the connection is
// lost, that may be because the server's host has failed, with all that was in its memory: then it
// is what was on disk, at a server that says so.
func (st *staged) keep() token {
	st.acks.Lock()
	defer st.acks.Unlock()
	if st.c.has(extSync) && !st.direct && st.c.dead() && !st.c.retired.Load() {
		if st.synced != nil {
			return *st.synced
		}
		return token{ID: st.token.ID}
	}
	return st.now()
}

// now is how much the server has confirmed. st.acks is held.
func (st *staged) now() token {
	t := token{ID: st.token.ID, At: st.settled}
	if m, ok := st.sum.(encoding.BinaryMarshaler); ok {
		if state, err := m.MarshalBinary(); err == nil {
			t.Algorithm, t.State = st.alg.name, state
		}
	}
	return t
}

// Checkpoint implements plugins.Checkpointer: what the server has confirmed by now, once it is on
// its disk.
func (st *staged) Checkpoint(ctx context.Context) ([]byte, error) {
	st.acks.Lock()
	now := st.now()
	st.acks.Unlock()
	st.mu.Lock()
	handle, over := st.handle, st.over
	st.mu.Unlock()
	if st.direct || over || !st.c.has(extSync) || now.At == st.offset { // or nothing is new
		return st.keep().bytes(), nil
	}
	switch err := st.fsync(ctx, handle, now.At); {
	case err != nil && (st.c.dead() || ctx.Err() != nil):
		return nil, err
	case err != nil: // nothing more than before
		return nil, nil
	}
	st.acks.Lock()
	st.synced = &now
	st.acks.Unlock()
	return now.bytes(), nil
}

// discard removes what the server has, if it has anything.
func (st *staged) discard(ctx context.Context) error {
	if st.direct {
		return st.discardWhole(ctx)
	}
	return st.s.discard(ctx, st.part)
}

// discard removes a part, which need not be there.
func (s *session) discard(ctx context.Context, part string) error {
	return s.with(ctx, func(c *conn) error {
		err := c.simple(ctx, "REMOVE", ask(fxRemove, part), part)
		if is(err, codeNoFile) {
			return nil
		}
		return err
	})
}
