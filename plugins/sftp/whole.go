package sftp

import (
	"context"
	"errors"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// Servers that give a file its name when it is whole, as package sftpd: it is written under its
// name, what was begun is found by a mark, and the reply to CLOSE is the verdict of what lies
// behind. A handle that is not to be published must not be closed before it was given up.

// beginWhole opens the file at such a server.
func (st *staged) beginWhole(ctx context.Context, w plugins.WriteRequest) (err error) {
	for range 2 {
		if st.handle, err = st.c.handle(ctx, ask(fxExtended, extWhole, st.path, st.token.ID), &call{op: extWhole, path: st.path}); err != nil {
			return err
		}
		a, err := st.c.fstat(ctx, st.handle, st.path)
		if err != nil {
			st.leave(ctx, true)
			return err
		}
		st.offset = a.size
		if (w.Resume != nil || st.offset == 0) && (st.size < 0 || st.offset <= st.size) {
			break
		}
		st.leave(ctx, false) // it is of another file, or not to be gone on with
	}
	st.sent, st.settled = st.offset, st.offset
	return nil
}

// leave gives up the file that is open. With keep its bytes stay, for who has the mark.
func (st *staged) leave(ctx context.Context, keep bool) {
	h := st.handle
	st.handle = ""
	left := make(chan struct{})
	go func() { // it is to be done, whether or not somebody waits
		defer close(left)
		st.c.giveUp(h, st.path, keep)
	}()
	select {
	case <-left:
	case <-ctx.Done():
	}
}

// giveUp gives up a file, and closes its handle. One that cannot be given up is not closed, since
// that would publish it: the connection's end gives it up.
func (c *conn) giveUp(handle, path string, keep bool) {
	how := uint32(0)
	if keep {
		how = 1
	}
	if err := c.simple(context.Background(), extGiveUp, ask(fxExtended, extGiveUp, handle).number(how), path); err == nil {
		c.close(handle, path)
	} else if !c.dead() {
		c.kill(err)
	}
}

// commitWhole has the server publish the file.
func (st *staged) commitWhole(ctx context.Context) (a plugins.Attr, err error) {
	if a, err = st.whole(ctx); err != nil && st.handle != "" {
		st.leave(context.WithoutCancel(ctx), true)
	}
	return a, err
}

func (st *staged) whole(ctx context.Context) (a plugins.Attr, err error) {
	c := st.c
	if err := st.drain(ctx); err != nil {
		return a, err
	}
	if st.size >= 0 && st.sent != st.size {
		return a, c.said(fault.Corrupt, "WRITE", st.path, "%d bytes were written of a file of %d", st.sent, st.size)
	}
	found, err := c.fstat(ctx, st.handle, st.path)
	if err != nil {
		return a, err
	}
	if found.size != st.sent {
		return a, c.said(fault.Corrupt, "WRITE", st.path, "the server has confirmed %d bytes, and says that it has %d", st.sent, found.size)
	}
	h := st.handle
	st.handle = ""
	if _, err := c.do(ctx, fxStatus, ask(fxClose, h), &call{op: "CLOSE", path: st.path, lasting: true}); err != nil {
		return a, verdict(err)
	}
	return plugins.Attr{Name: st.named(), Size: st.sent, Verified: "size"}, nil
}

// verdict is an error of what lies behind the server: one that it does not ask to try again is not
// of its disk.
func verdict(err error) error {
	if e, ok := errors.AsType[*fault.Error](err); ok && e.Kind == fault.IO && is(err, codeFailure) {
		e.Kind, e.Advice = fault.Refused, "what the server says is of what lies behind it: its operator can look the file up there"
	}
	return err
}

// discardWhole removes what such a server has kept under a mark.
func (st *staged) discardWhole(ctx context.Context) error {
	return st.s.with(ctx, func(c *conn) error {
		other := &staged{s: st.s, c: c, path: st.path, token: st.token}
		h, err := c.handle(ctx, ask(fxExtended, extWhole, st.path, st.token.ID), &call{op: extWhole, path: st.path})
		if err != nil {
			return err
		}
		other.handle = h
		other.leave(ctx, false)
		return ctx.Err()
	})
}
