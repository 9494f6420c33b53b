package ftp

import (
	"context"
	"errors"
	"time"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// content is what a part has in it. By that the file is known under its name, should the reply to the rename not
// come: an older file may have the same size.
type content struct {
	size int64
	time time.Time // of the part; zero: not known
	alg  algorithm // of sum
	sum  []byte    // nil: not known
}

// publish gives a part its name. Whether the server replaces an older file is its affair;
// with replace=delete that is removed before.
// ready: it was told directly before what is to be renamed.
func (s *session) publish(ctx context.Context, c *conn, part, target string, is content, ready bool) (err error) {
	defer func() {
		if err == nil {
			s.full.Store(false)
		}
	}()
	if ready {
		_, err = c.must(ctx, "RNTO", target)
	} else {
		err = c.rename(ctx, part, target)
	}
	if err == nil {
		return nil
	}
	if c.dead.Load() { // it may have been done
		return s.published(ctx, c, part, target, is, err)
	}
	if _, gone := c.size(ctx, part); gone != nil && fault.KindOf(gone) == fault.NotFound {
		return c.vanished(target, is.size, gone)
	}
	a, err2 := c.stat(ctx, target)
	if err2 != nil {
		return err
	}
	if a.Dir {
		return c.said(fault.Exists, "RNTO", target, "the name is a directory's").Advise("remove or rename the directory, or give the file another name")
	}
	if !s.deleteFirst {
		e := c.said(fault.Exists, "RNTO", target, "the server does not replace a file by renaming: %v", err)
		return e.Advise("remove the older file, or set replace=delete, with which there is a moment without either")
	}
	if _, err := c.must(ctx, "DELE", target); err != nil {
		return err
	}
	return c.rename(ctx, part, target)
}

// published asks on another connection whether a rename was done whose reply did not come. The
// dead one is not counted any more: it may be the only one that there can be.
func (s *session) published(ctx context.Context, dead *conn, part, target string, is content, cause error) error {
	s.mu.Lock()
	s.drop(dead)
	s.mu.Unlock()
	return s.with(ctx, func(c *conn) error {
		if _, err := c.size(ctx, part); err == nil || c.dead.Load() || fault.KindOf(err) != fault.NotFound {
			return cause
		}
		if !c.holds(ctx, target, is) {
			return cause
		}
		return nil
	})
}

// holds says whether what has a name is that, and nothing else: where the server says too little of it, it is not.
func (c *conn) holds(ctx context.Context, path string, is content) bool {
	if n, err := c.size(ctx, path); err != nil || n != is.size {
		return false
	}
	if is.sum != nil {
		if err := c.compare(ctx, path, is.alg, is.sum); err == nil || fault.KindOf(err) != fault.Unsupported {
			return err == nil
		}
	}
	if is.time.IsZero() {
		return false
	}
	t, err := c.modified(ctx, path)
	return err == nil && t.Truncate(time.Second).Equal(is.time.Truncate(time.Second)) // not all say more
}

// vanished is why a part that the server has confirmed is not found any more; err is what it says to SIZE. Where the
// file may go is known, so it is neither the name nor the directory.
func (c *conn) vanished(path string, size int64, err error) error {
	reply, ok := errors.AsType[plugins.Native](err)
	if !ok || fault.KindOf(err) != fault.NotFound {
		return err
	}
	c.s.full.Store(true)
	return c.said(fault.NoSpace, "STOR", path, "the server has confirmed all %d bytes, and does not have the file any more (SIZE: %s): something there has removed it", size, fault.Shown(reply.Text)).
		Advise("raise the user's quota there, or make room, for which some servers remove files; otherwise see what removes or moves files there whose names end in .part")
}
