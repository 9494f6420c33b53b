package sftp

import (
	"context"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// attr is what a caller hears of a file.
func attr(name string, a attributes) plugins.Attr {
	p := plugins.Attr{Name: name, Size: a.size, Modified: a.modified, Dir: a.dir()}
	if !a.regular() { // a link's size is not that of what it leads to
		p.Size = -1
	}
	return p
}

func (c *conn) stat(ctx context.Context, path string) (attributes, error) {
	return c.attributes(ctx, ask(fxStat, path), &call{op: "STAT", path: path})
}

func (c *conn) fstat(ctx context.Context, handle, path string) (attributes, error) {
	return c.attributes(ctx, ask(fxFstat, handle), &call{op: "FSTAT", path: path})
}

// simple is a request that is answered by a STATUS.
func (c *conn) simple(ctx context.Context, op string, m message, path string) error {
	_, err := c.do(ctx, fxStatus, m, &call{op: op, path: path})
	return err
}

func (s *session) Stat(ctx context.Context, name string) (a plugins.Attr, err error) {
	path, err := s.path(name)
	if err != nil {
		return a, err
	}
	err = s.with(ctx, func(c *conn) error {
		found, err := c.stat(ctx, path)
		a = attr(name, found)
		return err
	})
	return a, err
}

// Rename renames, and replaces a file of the name where the server can in one step.
func (s *session) Rename(ctx context.Context, from, to string) error {
	a, err := s.path(from)
	if err != nil {
		return err
	}
	b, err := s.path(to)
	if err != nil {
		return err
	}
	return s.with(ctx, func(c *conn) error { return c.rename(ctx, a, b, a) })
}

// rename renames; path is what an error is about.
func (c *conn) rename(ctx context.Context, from, to, path string) error {
	if c.has(extRename) {
		return c.full(ctx, "RENAME", c.simple(ctx, extRename, ask(fxExtended, extRename, from, to), path), parent(to))
	}
	err := c.simple(ctx, "RENAME", ask(fxRename, from, to), path)
	if err == nil || !is(err, codeFailure) {
		return err
	}
	if _, there := c.stat(ctx, to); there != nil {
		return c.full(ctx, "RENAME", err, parent(to))
	}
	return c.said(fault.Exists, "RENAME", to, "the server does not replace a file by renaming: %v", err).
		Advise("remove the older file, or set replace=delete, with which there is a moment without either")
}

// Remove deletes a file, or a directory that is empty.
func (s *session) Remove(ctx context.Context, name string) error {
	path, err := s.path(name)
	if err != nil {
		return err
	}
	return s.with(ctx, func(c *conn) error {
		err := c.simple(ctx, "REMOVE", ask(fxRemove, path), path)
		if err == nil || c.dead() || is(err, codeNoFile) {
			return err
		}
		if a, err2 := c.stat(ctx, path); err2 != nil || !a.dir() {
			return c.full(ctx, "REMOVE", err, path)
		}
		err = c.full(ctx, "RMDIR", c.simple(ctx, "RMDIR", ask(fxRmdir, path), path), path)
		if is(err, codeFailure) {
			return c.said(fault.Invalid, "RMDIR", path, "the server does not remove the directory: %v", err).Advise("remove what is in it before")
		}
		return err
	})
}

// Mkdir makes a directory.
func (s *session) Mkdir(ctx context.Context, name string) error {
	path, err := s.path(name)
	if err != nil {
		return err
	}
	return s.with(ctx, func(c *conn) error {
		err := c.simple(ctx, "MKDIR", ask(fxMkdir, path).number(0), path)
		if err == nil || c.dead() {
			return err
		}
		if a, err2 := c.stat(ctx, path); err2 == nil && a.dir() {
			return nil
		} else if err2 == nil {
			return c.said(fault.Exists, "MKDIR", path, "the name is a file's").Advise("remove or rename the file")
		}
		return c.full(ctx, "MKDIR", err, parent(path))
	})
}
