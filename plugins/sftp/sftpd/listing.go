package sftpd

import (
	"context"
	"encoding/binary"
	"io"
	"iter"
	"log/slog"
	"strings"
	"time"

	"github.com/pannier/pannier/plugins"
)

// listing is a directory that a client lists, an entry at a time.
type listing struct {
	left  int    // entries whose names are none
	first string // the first of them

	stop  context.CancelFunc
	next  func() (plugins.Attr, error, bool)
	done  func() // of next
	entry *plugins.Attr
	err   error // io.EOF: there are no more
}

func (s *subsystem) newListing(l plugins.Lister, dir string) (file, error) {
	ctx, stop := context.WithCancel(s.g.hard)
	enough := context.AfterFunc(s.here, stop)
	f := &listing{stop: func() { enough(); stop() }}
	f.next, f.done = iter.Pull2(l.List(ctx, dir))
	if f.advance(); f.err != nil && f.err != io.EOF {
		f.gone()
		return nil, f.err
	}
	return f, nil
}

// advance has the next entry that can be told, or the error.
func (f *listing) advance() {
	for f.entry = nil; ; {
		a, err, ok := f.next()
		switch {
		case !ok:
			f.err = io.EOF
			return
		case err != nil:
			f.err = err
			return
		case a.Name != "" && !strings.Contains(a.Name, "/") && plugins.CheckName("/"+a.Name) == nil:
			f.entry = &a
			return
		}
		if f.left++; f.left == 1 {
			f.first = a.Name
		}
	}
}

func (f *listing) hurry() { f.stop() }

func (f *listing) serve(r *request) message {
	if r.typ != fxReaddir {
		return status(r.id, unsupported("request", "it is an open directory"))
	}
	if f.entry == nil {
		return status(r.id, f.err)
	}
	m, n, now := newMessage(fxName, r.id, 4<<10).number(0), uint32(0), time.Now()
	for f.entry != nil && len(m) < readdirBytes-3*plugins.MaxName && n < 256 {
		m = m.text(f.entry.Name).text(longname(*f.entry, now)).attr(*f.entry)
		n++
		f.advance()
	}
	binary.BigEndian.PutUint32(m[headBytes:], n)
	return m.seal()
}

func (f *listing) close() error {
	f.gone()
	return nil
}

func (f *listing) gone() {
	f.stop()
	f.done()
	if f.left > 0 { // one line, however many a client has us list
		slog.Warn("entries of a directory are left out, as their names are none", "entries", f.left, "first", f.first)
	}
}
