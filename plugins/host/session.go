package host

import (
	"context"
	"errors"
	"io"
	"iter"
	"strings"
	"time"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/bridgepb"
	"github.com/pannier/pannier/spec/fault"
)

// session is a login, as far as every session has it. What it can do beyond is in the
// small types below, of which combine takes those that the capabilities list.
type session struct {
	p      *process
	number uint64
	can    plugins.Capabilities
}

// call makes a call with the host's limit, with names that are checked here already.
func call[Q, R any](ctx context.Context, s *session, most time.Duration, f func(context.Context, Q, ...grpcOption) (R, error), request Q, names ...string) (R, error) {
	var none R
	for _, name := range names {
		if err := plugins.CheckName(name); err != nil {
			return none, err
		}
	}
	ctx, done := limit(ctx, most)
	defer done()
	r, err := f(ctx, request)
	if err != nil {
		return none, s.p.failed(ctx, err)
	}
	return r, nil
}

func (s *session) base() *session                     { return s }
func (s *session) Capabilities() plugins.Capabilities { return s.can }

func (s *session) Stat(ctx context.Context, name string) (plugins.Attr, error) {
	m, err := call(ctx, s, s.p.cfg.Call, s.p.bridge.Stat, &bridgepb.StatRequest{Session: s.number, Name: name}, name)
	return attr(m), err
}

// Close is of the plugin's own time: whoever closes wants to be done.
func (s *session) Close() error {
	_, err := call(context.Background(), s, s.p.cfg.Call, s.p.bridge.Close, &bridgepb.CloseRequest{Session: s.number})
	if errors.Is(err, fault.Lost) {
		return nil // with the process
	}
	return err
}

type lister struct{ s *session }

func (l lister) List(ctx context.Context, dir string) iter.Seq2[plugins.Attr, error] {
	return func(yield func(plugins.Attr, error) bool) {
		if err := plugins.CheckName(dir); err != nil {
			yield(plugins.Attr{}, err)
			return
		}
		ctx, done := context.WithCancel(ctx)
		defer done()
		left, first := 0, ""
		defer func() {
			if left > 0 { // one line, however many there are
				l.s.p.cfg.Log.Warn("entries left out, their names cannot be used", "entries", left, "first", first, "in", dir)
			}
		}()
		stream, err := l.s.p.bridge.List(ctx, &bridgepb.ListRequest{Session: l.s.number, Name: dir})
		for err == nil {
			var m *bridgepb.ListReply
			if m, err = stream.Recv(); err != nil {
				break
			}
			for _, e := range m.GetEntries() {
				if bad := plugins.CheckName("/" + e.GetName()); bad != nil || e.GetName() == "" || strings.ContainsRune(e.GetName(), '/') {
					if left++; left == 1 {
						first = e.GetName()
					}
					continue
				}
				if !yield(attr(e), nil) {
					return
				}
			}
		}
		if !errors.Is(err, io.EOF) {
			yield(plugins.Attr{}, l.s.p.failed(ctx, err))
		}
	}
}

type renamer struct{ s *session }

func (r renamer) Rename(ctx context.Context, from, to string) error {
	_, err := call(ctx, r.s, r.s.p.cfg.Call, r.s.p.bridge.Rename, &bridgepb.RenameRequest{Session: r.s.number, From: from, To: to}, from, to)
	return err
}

type remover struct{ s *session }

func (r remover) Remove(ctx context.Context, name string) error {
	_, err := call(ctx, r.s, r.s.p.cfg.Call, r.s.p.bridge.Remove, &bridgepb.RemoveRequest{Session: r.s.number, Name: name}, name)
	return err
}

type maker struct{ s *session }

func (m maker) Mkdir(ctx context.Context, name string) error {
	_, err := call(ctx, m.s, m.s.p.cfg.Call, m.s.p.bridge.Mkdir, &bridgepb.MkdirRequest{Session: m.s.number, Name: name}, name)
	return err
}

type checksummer struct{ s *session }

// Checksum takes as long as the server needs for the file: only ctx and the process's
// end limit it.
func (c checksummer) Checksum(ctx context.Context, name, algorithm string, length int64) ([]byte, error) {
	if err := plugins.CheckName(name); err != nil {
		return nil, err
	}
	r, err := c.s.p.bridge.Checksum(ctx, &bridgepb.ChecksumRequest{Session: c.s.number, Name: name, Algorithm: algorithm, Length: length})
	if err != nil {
		return nil, c.s.p.failed(ctx, err)
	}
	return r.GetSum(), nil
}

type copier struct{ s *session }

// Copy is limited as Checksum is.
func (c copier) Copy(ctx context.Context, name string, to plugins.Session, toName string, r plugins.CopyRequest) (result plugins.CopyResult, err error) {
	for _, n := range []string{name, toName} {
		if err := plugins.CheckName(n); err != nil {
			return result, err
		}
	}
	other, ok := to.(interface{ base() *session })
	if !ok || other.base().p != c.s.p {
		return result, fault.New("copy", fault.Invalid, "the two sessions are not of the same process of a plugin").Advise("open both, of the same plugin, and try again")
	}
	ctx, done := context.WithCancel(ctx)
	defer done()
	stream, err := c.s.p.bridge.Copy(ctx, &bridgepb.CopyRequest{Session: c.s.number, Name: name, ToSession: other.base().number, ToName: toName, Resume: r.Resume})
	for err == nil {
		var m *bridgepb.CopyReply
		if m, err = stream.Recv(); err != nil {
			break
		}
		result.Bytes = m.GetBytes()
		if !m.GetDone() {
			from, err := resume(m.GetResume())
			if err != nil {
				return result, err
			}
			if len(from) > 0 {
				result.Resume = from // should the plugin say nothing more, as after the end of ctx
			}
			if r.Progress != nil {
				r.Progress(m.GetBytes(), from)
			}
			continue
		}
		result.Verified = verified(m.GetVerified())
		result.Resume, err = resume(m.GetResume())
		if m.GetFailure() != nil {
			return result, c.s.p.failure(m.GetFailure())
		}
		return result, err
	}
	if errors.Is(err, io.EOF) {
		return result, fault.New("copy", fault.Protocol, "the plugin %s has not said how it ended", c.s.p.cfg.Name)
	}
	return result, c.s.p.failed(ctx, err)
}
