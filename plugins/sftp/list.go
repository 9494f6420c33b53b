package sftp

import (
	"context"
	"iter"
	"log/slog"
	"strings"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// ahead is how many READDIR are under way.
const ahead = 4

// List yields entries as they come. Those whose names cannot be names here are left out,
// with a line in the log; a name that no file can have is a lie, and ends the listing.
func (s *session) List(ctx context.Context, dir string) iter.Seq2[plugins.Attr, error] {
	return func(yield func(plugins.Attr, error) bool) {
		stopped := false
		err := s.list(ctx, dir, func(a plugins.Attr) bool {
			stopped = !yield(a, nil)
			return !stopped
		})
		if err != nil && !stopped {
			yield(plugins.Attr{}, err)
		}
	}
}

func (s *session) list(ctx context.Context, dir string, yield func(plugins.Attr) bool) error {
	path, err := s.path(dir)
	if err != nil {
		return err
	}
	return s.with(ctx, func(c *conn) error {
		h, err := c.handle(ctx, ask(fxOpendir, path), &call{op: "OPENDIR", path: path})
		if err != nil {
			if is(err, codeFailure) {
				return c.said(fault.Invalid, "OPENDIR", path, "the server does not list it: %v", err).Advise("name a directory")
			}
			return err
		}
		defer c.close(h, path)
		l := &listing{c: c, path: path, handle: h, yield: yield}
		defer l.leave()
		for {
			if over, err := l.more(ctx); over || err != nil {
				return err
			}
		}
	})
}

// listing is a directory that is being read.
type listing struct {
	c            *conn
	path, handle string
	yield        func(plugins.Attr) bool
	calls        []*call // under way, in order
	n            int     // entries that came
	self         int     // of those, the directory itself and the one above
	left         int     // of those, whose names cannot be used
	first        string  // of those
}

func (l *listing) leave() {
	if l.left > 0 { // one line, however many there are
		slog.Warn("entries left out, their names cannot be used", "entries", l.left, "first", l.first, "in", l.c.at(l.path))
	}
	for _, k := range l.calls {
		l.c.leave(k)
	}
}

// more takes a reply. Over: there are no more, or nobody wants more.
func (l *listing) more(ctx context.Context) (over bool, err error) {
	for len(l.calls) < ahead {
		k := &call{op: "READDIR", path: l.path}
		if err := l.c.start(ctx, ask(fxReaddir, l.handle), k); err != nil {
			return false, err
		}
		l.calls = append(l.calls, k)
	}
	k := l.calls[0]
	l.calls = l.calls[1:]
	if err := l.c.wait(ctx, k); err != nil {
		return false, err
	}
	f, err := l.c.reply(fxName, k)
	if is(err, codeEOF) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	n := f.number()
	if n == 0 {
		return false, l.c.broken(k, "a part of the listing has no entries, in place of the end")
	}
	for ; n > 0; n-- {
		name := f.text()
		f.text() // as ls -l
		a := f.attributes()
		if f.bad {
			return false, l.c.broken(k, "an entry is cut off")
		}
		self := name == "." || name == ".."
		if self {
			l.self++
		}
		if l.n++; l.n > l.c.s.maxEntries+min(l.self, 2) { // once each they are not counted
			return false, l.c.said(fault.TooLong, "READDIR", l.path, "the listing has more than %d entries", l.c.s.maxEntries).Advise("raise max-entries, if there are so many")
		}
		switch {
		case self:
		case name == "" || strings.ContainsAny(name, "/\x00"):
			return false, l.c.broken(k, "an entry has a name that no file can have: %s", fault.Shown(name))
		case plugins.CheckName("/"+name) != nil:
			if l.left++; l.left == 1 {
				l.first = name
			}
		case !l.yield(attr(name, a)):
			return true, nil
		}
	}
	return false, nil
}
