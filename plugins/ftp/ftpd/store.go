package ftpd

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/pannier/pannier/plugins"
)

// abortTime is what the node has for giving up a file.
const abortTime = 10 * time.Second

// storCommand takes a file. Its reply is the node's: it is sent when Commit has returned.
func (c *client) storCommand(arg string) reply {
	rest := c.rest
	c.rest = 0
	name, bad := c.name(arg)
	w, ok := c.session.(plugins.Writer)
	switch {
	case bad != nil:
		return *bad
	case !ok || !c.can.Write:
		return say(550, "%s: files are not taken here", name)
	case name == "/":
		return say(553, "/: a directory")
	case rest > 0:
		return say(504, "A file is sent from its beginning: what came of an earlier try was not kept.")
	}
	return c.transfer("STOR", name, func(t *transfer) reply { return t.store(w) })
}

func (t *transfer) store(w plugins.Writer) reply {
	st, err := w.Write(t.ctx, t.name, plugins.WriteRequest{Size: -1})
	if err != nil {
		if t.ctx.Err() != nil {
			return *t.aborted()
		}
		return t.c.failed("STOR", t.name, err)
	}
	d, bad := t.open()
	if bad == nil {
		bad = t.receive(d, st)
	}
	if bad == nil && !t.hand() {
		bad = t.aborted()
	}
	if bad != nil {
		t.discard(st)
		return *bad
	}
	return t.commit(st)
}

// receive moves the bytes. nil: the client has said that these are all.
func (t *transfer) receive(d *data, st plugins.Staged) *reply {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	for {
		n, err := d.Read(*buf)
		if n > 0 {
			if _, werr := st.Write((*buf)[:n]); werr != nil {
				if t.ctx.Err() != nil {
					d.reset()
					return t.aborted()
				}
				d.stop() // before the transfer is over
				t.c.dropping.Go(func() { d.drop(t.c.ctx) })
				r := t.c.failed("STOR", t.name, werr)
				return &r
			}
			t.bytes.Add(int64(n))
		}
		if err == nil {
			continue
		}
		if bad := t.ended(d, err); bad != nil {
			d.reset()
			return bad
		}
		_ = d.end() // some clients wait for TLS's answer to their word of leave
		d.close()
		return nil
	}
}

// ended says what is wrong with the end of a data connection, if something is. TCP's end is
// that of a client that has been killed, too. TLS tells the one from the other; in clear, such
// a client's control connection ends as well, which is waited for.
func (t *transfer) ended(d *data, err error) *reply {
	c := t.c
	cut := c.secure != nil && errors.Is(err, io.ErrUnexpectedEOF)
	switch {
	case t.ctx.Err() != nil:
		return t.aborted()
	case err == io.EOF && c.secure != nil:
		return nil
	case err == io.EOF, cut && !c.s.close:
		settled := time.NewTimer(c.settle())
		defer settled.Stop()
		select {
		case <-settled.C:
			return nil
		case <-t.ctx.Done():
			return t.aborted()
		}
	}
	return refuse(426, "The data connection has ended badly: %s.", why(err))
}

// settle is how long a client in clear has to be there after the end of its upload. The end of a
// control connection may be lost on the way, and comes again after its other side's time to
// retransmit: on Linux that is 200 ms at least, and three to four round trips of a line that it
// does not know well.
func (c *client) settle() time.Duration {
	if c.s.settle == 0 {
		return 0
	}
	return c.s.settle + 4*roundTrip(c.raw)
}

// commit has the node take the file, however long that takes and whether the client waits for
// it or not. Only the end of the server's time to drain ends it.
func (t *transfer) commit(st plugins.Staged) reply {
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.ctx))
	defer cancel()
	defer context.AfterFunc(t.c.s.hard, cancel)()
	a, err := st.Commit(ctx)
	if err != nil {
		t.discard(st)
		return t.c.failed("STOR", t.name, err)
	}
	if a.Verified != "" {
		return say(226, "The file is taken: %d bytes, compared by %s.", t.bytes.Load(), a.Verified)
	}
	return say(226, "The file is taken: %d bytes.", t.bytes.Load())
}

// discard gives up what was written.
func (t *transfer) discard(st plugins.Staged) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.ctx), abortTime)
	defer cancel()
	if _, err := st.Abort(ctx, false); err != nil {
		t.c.log.Warn("a file that is given up may be left in part", "name", t.name, "error", err)
	}
}
