package ftp

import (
	"context"
	"io"
	"sync"

	"github.com/pannier/pannier/spec/fault"
)

// reader is a file that is being read.
type reader struct {
	t      *data
	offset int64 // of the next byte
	size   int64 // that the server has said
	eof    bool
	err    error // of Read
	once   sync.Once
	result error // of Close
}

// Read asks for the size first: a server's final reply does not say how many bytes it
// was about.
func (s *session) Read(ctx context.Context, name string, offset int64) (io.ReadCloser, error) {
	path, err := s.path(name)
	if err != nil {
		return nil, err
	}
	c, err := s.take(ctx)
	if err != nil {
		return nil, err
	}
	r, err := c.read(ctx, path, offset)
	if err != nil {
		s.give(c)
		return nil, err
	}
	return r, nil
}

func (c *conn) read(ctx context.Context, path string, offset int64) (*reader, error) {
	size, err := c.size(ctx, path)
	if err != nil {
		return nil, err
	}
	if offset < 0 || offset > size {
		return nil, c.said(fault.Invalid, "RETR", path, "there is no offset %d: the file has %d bytes", offset, size).Advise("read from 0 to %d", size)
	}
	t, err := c.transfer(ctx, "RETR", path, offset)
	if err != nil {
		return nil, err
	}
	return &reader{t: t, offset: offset, size: size}, nil
}

func (r *reader) Read(p []byte) (int, error) {
	if r.eof {
		return 0, io.EOF
	}
	if r.err != nil {
		return 0, r.err
	}
	n, err := r.t.Read(p)
	r.offset += int64(n)
	switch {
	case err == io.EOF:
		r.eof = true
	case err != nil:
		r.err = err
	}
	return n, err
}

// WriteTo is for io.Copy, with a buffer that makes few calls.
func (r *reader) WriteTo(w io.Writer) (n int64, err error) {
	buf := make([]byte, 256<<10)
	for {
		k, err := r.Read(buf)
		if k > 0 {
			m, werr := w.Write(buf[:k])
			if n += int64(m); werr != nil {
				return n, werr
			}
		}
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

// Close waits for the final reply, and says whether all bytes came.
func (r *reader) Close() error {
	r.once.Do(func() {
		defer r.t.c.s.give(r.t.c)
		r.result = r.confirmed()
	})
	return r.result
}

func (r *reader) confirmed() error {
	t := r.t
	if !r.eof {
		t.close()
		t.c.kill()
		if r.err != nil {
			return r.err
		}
		return &fault.Error{Op: "ftp RETR", Kind: fault.Canceled, Subject: t.c.at(t.path), Err: fault.New("close", fault.Canceled, "not all of the file was read")}
	}
	if err := t.finish(); err != nil {
		return err
	}
	if r.offset == r.size {
		return nil
	}
	now, err := t.c.size(t.ctx, t.path) // it may have grown
	if err != nil {
		return err
	}
	if now != r.offset {
		return t.c.said(fault.Corrupt, "RETR", t.path, "the server has confirmed the end after %d bytes, and says that the file has %d", r.offset, now).Advise("read again; if it happens again, the server cuts files off")
	}
	return nil
}
