package sftpd

import (
	"bytes"
	"context"
	"io"
	"sync/atomic"
	"time"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// abortTime is how long giving up a file may take.
const abortTime = 30 * time.Second

// errGone is why a file was given up whose client is gone.
var errGone = fault.New("close", fault.Lost, "the client has gone without closing the file")

// upload is a file that a client writes. Its bytes go to the node in order; what comes
// early waits.
type upload struct {
	s      *subsystem
	w      plugins.Writer
	name   string
	whole  context.Context // of the bytes
	stop   context.CancelFunc
	staged plugins.Staged
	left   atomic.Bool // the client has gone
	at     int64       // what the node has
	kept   int64       // of these: what an earlier upload has left, and this one was told of
	least  int64       // how long the client said that the file is
	early  pieces
	err    error // why it was given up
}

func (s *subsystem) newUpload(w plugins.Writer, name string) *upload {
	u := &upload{s: s, w: w, name: name, early: pieces{budget: s.g.early}}
	u.whole, u.stop = context.WithCancel(s.g.hard)
	return u
}

// begin opens the file at the node: anew, or with plugins.ResumeKept where an earlier upload
// has ended.
func (u *upload) begin(ctx context.Context, resume []byte) error {
	enough := context.AfterFunc(ctx, u.stop) // the client is gone before it has the handle
	defer enough()
	staged, err := u.w.Write(u.whole, u.name, plugins.WriteRequest{Size: -1, Resume: resume})
	if err == nil {
		u.staged, u.at = staged, staged.Offset()
	}
	return err
}

// again begins anew what was to be gone on with: the client writes from the beginning.
func (u *upload) again() error {
	u.abort(false)
	u.kept = 0
	return u.begin(u.s.here, nil)
}

func (u *upload) hurry() {
	u.left.Store(true)
	u.stop()
}

func (u *upload) serve(r *request) message {
	switch r.typ {
	case fxWrite:
		offset, data := r.f.long(), r.f.bytes()
		if r.f.bad {
			return status(r.id, u.fail(errMalformed))
		}
		if len(r.f.b) > len(data) { // github.com/pkg/sftp sends more than it says
			data = bytes.Clone(data)
		}
		return status(r.id, u.write(offset, data))
	case fxFstat:
		return newMessage(fxAttrs, r.id, 32).attr(plugins.Attr{Size: max(u.at, u.least)}).seal()
	case fxFsetstat:
		size := r.f.size()
		if r.f.bad {
			return status(r.id, errMalformed)
		}
		return status(r.id, u.resize(size))
	case fxExtended:
		if r.ext == extGiveUp {
			return status(r.id, u.without(&r.f))
		}
		return status(r.id, u.sync())
	}
	return status(r.id, unsupported("request", "the file is open for writing"))
}

// write takes bytes. What cannot be written ends the upload, because clients do not
// always heed the answer.
func (u *upload) write(offset uint64, data []byte) error {
	switch {
	case u.err != nil:
		return u.err
	case len(data) == 0:
		return nil
	case u.left.Load():
		return errGone
	case offset == 0 && u.at > 0 && u.at == u.staged.Offset():
		if err := u.again(); err != nil {
			return u.fail(err)
		}
	case offset < uint64(u.at):
		return u.fail(unsupported("write", "the bytes from %d on were written before, up to %d, and cannot be changed: write the file in order", offset, u.at))
	case offset > uint64(u.at):
		if offset-uint64(u.at) > early {
			return u.fail(unsupported("write", "the bytes from %d to %d are missing: files have no holes here, and bytes may come %d early", u.at, offset, int64(early)))
		}
		if why := u.early.put(int64(offset), data); why != "" {
			return u.fail(unsupported("write", "%s: write the file in order", fault.Shown(why)))
		}
		return nil
	}
	if err := u.put(data); err != nil {
		return u.bad(err)
	}
	for {
		p, ok := u.early.first(u.at)
		if !ok {
			return nil
		}
		if p.at < u.at {
			return u.fail(unsupported("write", "the bytes from %d on came twice: write the file in order", p.at))
		}
		if err := u.put(p.data); err != nil {
			return u.bad(err)
		}
	}
}

// bad is what became of bytes that the node has not taken: nothing is wrong with those before
// when the client has gone.
func (u *upload) bad(err error) error {
	if u.left.Load() {
		return errGone
	}
	return u.fail(err)
}

func (u *upload) put(data []byte) error {
	n, err := u.staged.Write(data)
	u.at += int64(n)
	if err == nil && n < len(data) {
		err = io.ErrShortWrite
	}
	return fault.Wrap("write", "", err)
}

// resize takes times and rights, which are not kept, and the size that the file is going
// to have.
func (u *upload) resize(size int64) error {
	switch {
	case u.err != nil:
		return u.err
	case size < 0:
		return nil
	case size < u.at:
		return u.fail(unsupported("set attributes", "%d bytes were written, and are not cut off at %d", u.at, size))
	}
	u.least = size
	return nil
}

// sync is fsync@openssh.com.
func (u *upload) sync() error {
	if u.err != nil {
		return u.err
	}
	c, ok := u.staged.(plugins.Checkpointer)
	if !ok || len(u.early.all) > 0 {
		return unsupported("sync", "that the file is safe is said when it is closed")
	}
	_, err := c.Checkpoint(u.s.g.hard)
	return err
}

// without is a client that gives up its file, and stays.
func (u *upload) without(f *fields) error {
	keep := f.number()
	if f.bad || keep > 1 {
		return errMalformed
	}
	if u.err == nil {
		_ = u.giveUp(fault.New("close", fault.Canceled, "the client has given the file up"), keep == 1)
	}
	return nil
}

// fail gives the file up, and returns why.
func (u *upload) fail(why error) error { return u.giveUp(why, false) }

// giveUp is fail; with keep what has come in order stays, if the node keeps such.
func (u *upload) giveUp(why error, keep bool) error {
	if u.err == nil {
		u.err = why
		u.early.clear()
		u.abort(keep && u.s.g.can.Kept)
		u.stop()
	}
	return u.err
}

func (u *upload) abort(keep bool) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(u.s.g.hard), abortTime)
	defer cancel()
	if _, err := u.staged.Abort(ctx, keep); err != nil {
		u.s.g.log().Warn("a file that was given up may have left something", "error", err)
	}
}

// close is the answer to the whole upload: nil once the node has the file as its own. It
// goes on when the client is gone, as CLOSE has come.
func (u *upload) close() error {
	if u.err != nil {
		return u.err
	}
	if len(u.early.all) > 0 {
		return u.fail(fault.New("close", fault.Corrupt, "the bytes from %d to %d have not come", u.at, u.early.all[0].at))
	}
	if u.at < u.least {
		return u.fail(fault.New("close", fault.Corrupt, "%d bytes have come of %d", u.at, u.least))
	}
	if u.kept > 0 && u.at == u.kept {
		return u.giveUp(fault.New("close", fault.Corrupt, "nothing was written behind the %d bytes that an earlier upload has left, and these may not be all: write the rest, or the whole file", u.kept), true)
	}
	if _, err := u.staged.Commit(u.s.g.hard); err != nil {
		return u.fail(err)
	}
	u.stop()
	return nil
}

func (u *upload) gone() { _ = u.giveUp(errGone, true) }
