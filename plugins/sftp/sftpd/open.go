package sftpd

import (
	"context"
	"errors"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// opening has something opened by open, in a place.
func (s *subsystem) opening(r *request, given string, open func(ctx context.Context, name string) (f file, changes bool, err error)) {
	if r.f.bad {
		s.answer(r, status(r.id, errMalformed))
		return
	}
	if err := s.g.mayBegin(); err != nil {
		s.answer(r, status(r.id, err))
		return
	}
	name, err := nameOf(given)
	if err != nil {
		s.answer(r, status(r.id, err))
		return
	}
	s.named(r, func(ctx context.Context) message {
		if err := s.place(); err != nil {
			return status(r.id, err)
		}
		f, changes, err := open(ctx, name)
		if err != nil {
			s.displace()
			return status(r.id, err)
		}
		if !changes {
			name = ""
		}
		return newMessage(fxHandle, r.id, 16).text(s.open(f, name)).seal()
	}, name)
}

// openFile is OPEN: a file is read, or written from its beginning.
func (s *subsystem) openFile(r *request) {
	given, flags := r.f.text(), r.f.number()
	r.f.size()
	s.opening(r, given, func(ctx context.Context, name string) (file, bool, error) {
		switch {
		case flags&forWriting != 0:
			f, err := s.openForWriting(ctx, name, flags)
			return f, true, err
		case flags&(create|truncate|appending|exclusive) != 0 || flags&forReading == 0:
			return nil, false, fault.New("open", fault.Invalid, "it is neither for reading alone nor for writing")
		}
		f, err := s.openForReading(ctx, name)
		return f, false, err
	})
}

func (s *subsystem) openForReading(ctx context.Context, name string) (file, error) {
	a, err := s.g.session.Stat(ctx, name)
	if err != nil {
		return nil, err
	}
	if a.Dir {
		return nil, fault.New("open", fault.Invalid, "it is a directory")
	}
	return s.newDownload(name, a), nil
}

func (s *subsystem) openForWriting(ctx context.Context, name string, flags uint32) (file, error) {
	w, err := optional[plugins.Writer](s.g, "write", s.g.can.Write)
	if err != nil {
		return nil, err
	}
	u := s.newUpload(w, name)
	if flags&(create|truncate) != create|truncate || flags&exclusive != 0 {
		err := s.fits(ctx, name, flags)
		goesOn := s.g.can.Kept && flags&(truncate|exclusive) == 0 && (err == nil || errors.Is(err, fault.NotFound))
		if goesOn && u.begin(ctx, plugins.ResumeKept) == nil {
			u.kept = u.at
			return u, nil
		}
		if err != nil {
			u.stop()
			return nil, err
		}
	}
	if err := u.begin(ctx, nil); err != nil {
		u.stop()
		return nil, err
	}
	return u, nil
}

// openWhole is whole-file@pannier: a file is written that has a mark.
func (s *subsystem) openWhole(r *request) {
	given, mark := r.f.text(), r.f.text()
	s.opening(r, given, func(ctx context.Context, name string) (file, bool, error) {
		w, err := optional[plugins.Writer](s.g, "write", s.g.can.Write)
		if err != nil {
			return nil, false, err
		}
		resume := plugins.ResumeMarked(mark)
		if _, err := plugins.Marked(resume); err != nil {
			return nil, false, fault.New("open", fault.Invalid, "a mark has 1 to %d bytes", plugins.MaxMark)
		}
		if !s.g.can.Kept {
			resume = nil
		}
		u := s.newUpload(w, name)
		if err := u.begin(ctx, resume); err != nil {
			u.stop()
			return nil, false, err
		}
		return u, true, nil
	})
}

// kept is how much of a file has come that has no name yet, which is what a client asks for
// before it goes on.
func (s *subsystem) kept(ctx context.Context, name string) int64 {
	w, ok := s.g.session.(plugins.Writer)
	if !ok || !s.g.can.Kept {
		return 0
	}
	staged, err := w.Write(ctx, name, plugins.WriteRequest{Size: -1, Resume: plugins.ResumeKept})
	if err != nil {
		return 0
	}
	n := staged.Offset()
	if _, err := staged.Abort(ctx, true); err != nil {
		return 0
	}
	return n
}

// fits says whether writing the whole file anew, or what is missing of one that has no name
// yet, is what these flags mean for what is there.
func (s *subsystem) fits(ctx context.Context, name string, flags uint32) error {
	a, err := s.g.session.Stat(ctx, name)
	there := err == nil
	if err != nil && !errors.Is(err, fault.NotFound) {
		return err
	}
	switch {
	case there && a.Dir:
		return fault.New("open", fault.Invalid, "it is a directory")
	case there && flags&create != 0 && flags&exclusive != 0:
		return fault.New("open", fault.Exists, "the name is taken")
	case !there && flags&create == 0:
		return err
	case there && flags&truncate == 0 && a.Size != 0:
		return unsupported("open", "a file that is there is not appended to or changed in part: upload the whole file, replacing it")
	}
	return nil
}

// openDirectory is OPENDIR.
func (s *subsystem) openDirectory(r *request) {
	s.opening(r, r.f.text(), func(_ context.Context, name string) (file, bool, error) {
		l, err := optional[plugins.Lister](s.g, "list", s.g.can.List)
		if err != nil {
			return nil, false, err
		}
		f, err := s.newListing(l, name)
		return f, false, err
	})
}
