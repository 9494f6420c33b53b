package sftpd

import (
	"context"
	"errors"
	"path"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// nameOf is a path of a client as the node names files: from the root, which is where a
// client begins.
func nameOf(given string) (string, error) {
	name := path.Join("/", given)
	return name, plugins.CheckName(name)
}

// optional is the session as one of its optional interfaces, if its capabilities list it.
func optional[T any](g *guest, op string, listed bool) (T, error) {
	t, ok := g.session.(T)
	if !listed || !ok {
		return t, unsupported(op, "it cannot be done here, or not by this user")
	}
	return t, nil
}

// named has a request about names served by a goroutine of its own, after the earlier
// ones of the same names.
func (s *subsystem) named(r *request, do func(context.Context) message, given ...string) {
	names := make([]string, len(given))
	for i, n := range given {
		var err error
		if names[i], err = nameOf(n); err != nil {
			s.answer(r, status(r.id, err))
			return
		}
	}
	turn := s.order.enter(names...)
	s.work.Go(func() {
		defer turn.leave()
		if err := turn.wait(s.here); err != nil {
			s.answer(r, status(r.id, fault.Wrap("wait", "", err)))
			return
		}
		s.g.busy(func() { s.answer(r, do(s.here)) })
	})
}

// ofName serves the requests that name one file, or two.
func (s *subsystem) ofName(r *request) {
	given := ""
	switch r.typ {
	case fxRealpath, fxStat, fxLstat, fxSetstat, fxRemove, fxMkdir, fxRmdir:
		given = r.f.text()
	case fxRename:
		s.rename(r, false)
		return
	default:
		s.answer(r, status(r.id, unsupported("request", "this server has no requests of type %d: no links, for example", r.typ)))
		return
	}
	if r.f.bad {
		s.answer(r, status(r.id, errMalformed))
		return
	}
	name, err := nameOf(given)
	if err != nil {
		s.answer(r, status(r.id, err))
		return
	}
	simple := func(do func(context.Context) error) {
		s.named(r, func(ctx context.Context) message { return status(r.id, do(ctx)) }, name)
	}
	switch r.typ {
	case fxRealpath:
		s.answer(r, newMessage(fxName, r.id, 64+2*len(name)).number(1).text(name).text(name).number(0).seal())
	case fxStat, fxLstat:
		s.named(r, func(ctx context.Context) message { return s.stat(ctx, r.id, name) }, name)
	case fxSetstat:
		size := r.f.size()
		simple(func(ctx context.Context) error { return s.setstat(ctx, name, size) })
	case fxRemove, fxRmdir:
		simple(func(ctx context.Context) error { return s.remove(ctx, name, r.typ == fxRmdir) })
	case fxMkdir:
		simple(func(ctx context.Context) error {
			m, err := optional[plugins.Maker](s.g, "make directory", s.g.can.Mkdir)
			if err != nil {
				return err
			}
			return m.Mkdir(ctx, name)
		})
	}
}

func (s *subsystem) stat(ctx context.Context, id uint32, name string) message {
	a, err := s.g.session.Stat(ctx, name)
	if errors.Is(err, fault.NotFound) {
		if n := s.kept(ctx, name); n > 0 {
			a, err = plugins.Attr{Size: n}, nil
		}
	}
	if err != nil {
		return status(id, err)
	}
	return newMessage(fxAttrs, id, 32).attr(a).seal()
}

// setstat takes times, rights and owners, which are not kept: clients set them after a
// file that may be elsewhere by now. A size is one to cut the file off at.
func (s *subsystem) setstat(ctx context.Context, name string, size int64) error {
	if size < 0 {
		return nil
	}
	a, err := s.g.session.Stat(ctx, name)
	if err == nil && a.Size != size {
		err = unsupported("set attributes", "files are not cut off or made longer: write the whole file anew")
	}
	return err
}

// remove is REMOVE or RMDIR, which a node has as one.
func (s *subsystem) remove(ctx context.Context, name string, dir bool) error {
	m, err := optional[plugins.Remover](s.g, "remove", s.g.can.Remove)
	if err != nil {
		return err
	}
	a, err := s.g.session.Stat(ctx, name)
	switch {
	case err != nil:
		return err
	case a.Dir && !dir:
		return fault.New("remove", fault.Invalid, "it is a directory")
	case !a.Dir && dir:
		return fault.New("remove", fault.Invalid, "it is no directory")
	}
	return m.Remove(ctx, name)
}

// rename is RENAME, which replaces nothing, or posix-rename@openssh.com, which does.
func (s *subsystem) rename(r *request, replacing bool) {
	from, to := r.f.text(), r.f.text()
	if r.f.bad {
		s.answer(r, status(r.id, errMalformed))
		return
	}
	s.named(r, func(ctx context.Context) message {
		return status(r.id, s.renamed(ctx, path.Join("/", from), path.Join("/", to), replacing))
	}, from, to)
}

func (s *subsystem) renamed(ctx context.Context, from, to string, replacing bool) error {
	m, ok := s.g.session.(plugins.Renamer)
	if !ok || !s.g.can.Rename {
		return unsupported("rename", "files have their names once they are closed here: upload to the final name, without a temporary one")
	}
	if !replacing {
		if _, err := s.g.session.Stat(ctx, to); err == nil {
			return fault.New("rename", fault.Exists, "the new name is taken")
		} else if !errors.Is(err, fault.NotFound) {
			return err
		}
	}
	return m.Rename(ctx, from, to)
}
