package ftpd

import (
	"io"
	"strconv"

	"github.com/pannier/pannier/spec/fault"
)

func (c *client) restCommand(arg string) reply {
	n, err := strconv.ParseInt(arg, 10, 64)
	if err != nil || n < 0 {
		return say(501, "REST has a number of bytes.")
	}
	if n > 0 && !c.can.Offsets {
		return say(504, "Files are read from their beginning here.")
	}
	c.rest = n
	return say(350, "RETR begins at %d.", n)
}

// retrCommand sends a file. Its end is said only when the node has confirmed it.
func (c *client) retrCommand(arg string) reply {
	rest := c.rest
	c.rest = 0
	name, bad := c.name(arg)
	if bad != nil {
		return *bad
	}
	return c.transfer("RETR", name, func(t *transfer) reply { return t.retrieve(rest) })
}

func (t *transfer) retrieve(rest int64) reply {
	r, err := t.c.session.Read(t.ctx, t.name, rest)
	if err != nil {
		if t.ctx.Err() != nil {
			return *t.aborted()
		}
		return t.c.failed("RETR", t.name, err)
	}
	d, bad := t.open()
	if bad != nil {
		_ = r.Close()
		return *bad
	}
	if bad = t.send(d, r); bad != nil {
		d.reset()
		return *bad
	}
	defer d.close()
	return say(226, "These were all: %d bytes.", t.bytes.Load())
}

// send moves the bytes, and closes r.
func (t *transfer) send(d *data, r io.ReadCloser) *reply {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	for {
		n, err := r.Read(*buf)
		if n > 0 {
			if _, werr := d.Write((*buf)[:n]); werr != nil {
				_ = r.Close()
				return t.unsent(werr)
			}
			t.bytes.Add(int64(n))
		}
		if err == nil {
			continue
		}
		closed := r.Close()
		if err == io.EOF {
			err = closed
		}
		switch {
		case t.ctx.Err() != nil:
			return t.aborted()
		case err != nil:
			bad := t.c.failed("RETR", t.name, err)
			if fault.KindOf(err) == fault.Corrupt {
				bad.code = 451
			}
			return &bad
		}
		if err := d.end(); err != nil {
			return t.unsent(err)
		}
		return nil
	}
}

// unsent is the reply when the client does not take what is sent.
func (t *transfer) unsent(err error) *reply {
	if t.ctx.Err() != nil {
		return t.aborted()
	}
	return refuse(426, "The data connection has ended badly: %s.", why(err))
}
