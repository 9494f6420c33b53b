package sftp

import (
	"context"
	"io"
	"sync"

	"github.com/pannier/pannier/spec/fault"
)

// mostReads is how many READs of a file are under way: with those of 255 KiB more than
// the 2 MiB that an SSH channel lets the server send.
const mostReads = 12

// reader is a file that is being read: its pieces are asked for ahead, and delivered in
// order. The end is what the server says is one, at the size that it says the file has.
type reader struct {
	c      *conn
	ctx    context.Context
	path   string
	handle string
	size   int64 // that the server has said; -1: it has not

	next   int64 // offset to ask for
	at     int64 // of the next byte to deliver
	asked  []*piece
	window int
	piece  *piece // what came and was not delivered
	rest   []byte // of it
	eof    bool
	err    error // of Read

	once   sync.Once
	result error // of Close
}

type piece struct {
	call
	offset int64
	buf    []byte
}

var buffers = sync.Pool{New: func() any { return new([mostData]byte) }}

func (p *piece) recycle() { buffers.Put((*[mostData]byte)(p.buf[:mostData])) }

// Read opens the file, and asks for its size and its first bytes in one go.
func (s *session) Read(ctx context.Context, name string, offset int64) (io.ReadCloser, error) {
	path, err := s.path(name)
	if err != nil {
		return nil, err
	}
	c, err := s.take(ctx)
	if err != nil {
		return nil, err
	}
	r, err := c.reader(ctx, path, offset)
	if err != nil {
		s.give(c)
		return nil, err
	}
	return r, nil
}

func (c *conn) reader(ctx context.Context, path string, offset int64) (*reader, error) {
	if offset < 0 {
		return nil, c.said(fault.Invalid, "READ", path, "offset %d", offset)
	}
	h, err := c.handle(ctx, ask(fxOpen, path).number(forReading).number(0), &call{op: "OPEN", path: path})
	if err != nil {
		return nil, err
	}
	r := &reader{c: c, ctx: ctx, path: path, handle: h, next: offset, at: offset, window: 2}
	if err = r.begin(offset); err != nil {
		r.leave()
		return nil, err
	}
	return r, nil
}

func (r *reader) begin(offset int64) error {
	size := &call{op: "FSTAT", path: r.path}
	if err := r.c.start(r.ctx, ask(fxFstat, r.handle), size); err != nil {
		return err
	}
	if err := r.ask(r.next, r.c.read); err != nil {
		return err
	}
	if err := r.c.wait(r.ctx, size); err != nil {
		return err
	}
	f, err := r.c.reply(fxAttrs, size)
	if err != nil {
		return err
	}
	a := f.attributes()
	if f.bad {
		return r.c.broken(size, "its attributes are cut off")
	}
	if !a.regular() {
		return r.c.said(fault.Invalid, "READ", r.path, "it is no regular file").Advise("name a file")
	}
	r.size = a.size
	if r.size >= 0 && offset > r.size {
		return r.c.said(fault.Invalid, "READ", r.path, "there is no offset %d: the file has %d bytes", offset, r.size).Advise("read from 0 to %d", r.size)
	}
	return nil
}

// ask asks for a piece.
func (r *reader) ask(offset int64, n int) error {
	p := &piece{offset: offset, buf: buffers.Get().(*[mostData]byte)[:n]}
	p.op, p.path, p.into = "READ", r.path, p.buf
	if err := r.c.start(r.ctx, ask(fxRead, r.handle).long(offset).number(uint32(n)), &p.call); err != nil {
		return err
	}
	r.asked = append(r.asked, p)
	r.next = offset + int64(n)
	return nil
}

// fill asks for pieces until the file's end, which the last goes beyond: it is short, or
// has none.
func (r *reader) fill() error {
	for len(r.asked) < r.window && (len(r.asked) == 0 || r.size < 0 || r.next <= r.size) {
		if err := r.ask(r.next, r.c.read); err != nil {
			return err
		}
	}
	return nil
}

// take waits for the next piece.
func (r *reader) take() error {
	if err := r.fill(); err != nil {
		return err
	}
	p := r.asked[0]
	if err := r.c.wait(r.ctx, &p.call); err != nil {
		return err
	}
	r.asked = r.asked[1:]
	if r.window < mostReads {
		r.window++
	}
	if p.typ != fxData {
		_, err := r.c.reply(fxData, &p.call)
		if is(err, codeEOF) {
			return r.end()
		}
		return err
	}
	r.piece, r.rest = p, p.buf[:p.n]
	if short := p.offset + int64(p.n); p.n < len(p.buf) && short != r.size {
		return r.missing(short, len(p.buf)-p.n)
	}
	if p.n < len(p.buf) {
		r.eof = true // as many as the file has, of more that were asked for
	}
	return nil
}

// missing asks for what a server has left out of a piece, before what comes after it.
func (r *reader) missing(offset int64, n int) error {
	later, next := r.asked, r.next
	r.asked = nil
	if err := r.ask(offset, n); err != nil {
		r.asked = later
		return err
	}
	r.asked = append(r.asked, later...)
	r.next = next
	return nil
}

// end is an end that the server has told.
func (r *reader) end() error {
	r.eof = true
	if r.at >= r.size { // more: it has grown
		return nil
	}
	a, err := r.c.fstat(r.ctx, r.handle, r.path)
	if err != nil {
		return err
	}
	if a.size <= r.at {
		return r.c.said(fault.SourceChanged, "READ", r.path, "the file was cut off while it was read: it had %d bytes, and now %d", r.size, a.size).Advise("read it when nobody writes to it")
	}
	return r.c.said(fault.Corrupt, "READ", r.path, "the server tells the end after %d bytes, and says that the file has %d", r.at, a.size).Advise("read again; if it happens again, the server cuts files off")
}

// ready has bytes to deliver, or the end.
func (r *reader) ready() error {
	for len(r.rest) == 0 {
		if r.piece != nil {
			r.piece.recycle()
			r.piece = nil
		}
		switch {
		case r.err != nil:
			return r.err
		case r.eof:
			return io.EOF
		}
		if r.err = r.take(); r.err != nil {
			return r.err
		}
	}
	return nil
}

func (r *reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if err := r.ready(); err != nil {
		return 0, err
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	r.at += int64(n)
	return n, nil
}

// WriteTo is for io.Copy: pieces are written as they came.
func (r *reader) WriteTo(w io.Writer) (n int64, err error) {
	for {
		if err := r.ready(); err == io.EOF {
			return n, nil
		} else if err != nil {
			return n, err
		}
		m, err := w.Write(r.rest)
		r.rest = r.rest[m:]
		r.at += int64(m)
		if n += int64(m); err != nil {
			return n, err
		}
	}
}

// Close says whether all bytes came.
func (r *reader) Close() error {
	r.once.Do(func() {
		if r.err == nil && !r.eof && len(r.rest) == 0 && r.size >= 0 && r.at >= r.size && !r.c.dead() {
			_ = r.ready() // perhaps only the end was not read
		}
		switch {
		case r.err != nil:
			r.result = r.err
		case !r.eof || len(r.rest) > 0:
			r.result = &fault.Error{Op: "sftp READ", Kind: fault.Canceled, Subject: r.c.at(r.path), Err: fault.New("close", fault.Canceled, "not all of the file was read")}
		}
		r.leave()
		r.c.s.give(r.c)
		if r.err == nil {
			r.err = fault.New("sftp read", fault.Canceled, "the reader is closed")
		}
		r.rest = nil
	})
	return r.result
}

// leave gives up what is under way, and the handle.
func (r *reader) leave() {
	for _, p := range r.asked {
		r.c.leave(&p.call)
	}
	r.asked = nil
	r.c.close(r.handle, r.path)
}
