package guest

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"os"
	"path"
	"time"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/relpath"
)

// mostFetch is how long a client waits for what it downloads.
const mostFetch = 24 * time.Hour

// fetched begins the names of directories that downloads are in until they are over.
const fetched = "guest-"

// Read implements plugins.Session: a request fetches the file into the root of the rule, from
// where the client gets it, and where it is not needed any more then.
func (s *session) Read(ctx context.Context, name string, offset int64) (io.ReadCloser, error) {
	const op = "download"
	p, err := named(name)
	switch {
	case err != nil:
		return nil, err
	case s.user.Get == "":
		return nil, fault.New(op, fault.Permission, "this user may not download")
	case p.IsZero():
		return nil, fault.New(op, fault.Invalid, "/ is a directory")
	case offset < 0:
		return nil, fault.New(op, fault.Invalid, "offset %d", offset)
	}
	rule, err := s.rule(s.user.Get, engine.Receive)
	if err != nil {
		return nil, err
	}
	var id lifecycle.ID
	_, _ = rand.Read(id[:])
	target, err := relpath.Parse(fetched + id.String() + "/" + path.Base(name))
	if err != nil {
		return nil, err
	}
	r, _, err := s.node.Engine.Submit(ctx, engine.Order{ID: id, Partner: s.user.Partner, Rule: rule.Name, Source: p, Target: target, Info: s.user.Name + " from " + s.from})
	if err != nil {
		return nil, fault.Wrap(op, name, err)
	}
	end, err := s.await(ctx, &r, mostFetch)
	if err != nil {
		s.giveUp(ctx, &r, err)
		return nil, err
	}
	return s.open(rule, &end, name, offset)
}

// giveUp cancels a request that nobody waits for any more.
func (s *session) giveUp(ctx context.Context, r *lifecycle.Record, why error) {
	if ctx.Err() == nil && fault.KindOf(why) != fault.Deadline {
		return // it has ended by itself
	}
	if _, err := s.node.Engine.Cancel(context.WithoutCancel(ctx), store.RefOf(r), "the foreign client has gone"); err != nil {
		s.node.Log.Info("a download that nobody waits for goes on", "id", r.Key.ID.String(), "why", err)
	}
}

// open opens what was fetched. Tasks may have moved it: then it stays where it is.
func (s *session) open(rule *engine.Rule, r *lifecycle.Record, name string, offset int64) (_ io.ReadCloser, err error) {
	root, err := os.OpenRoot(rule.Root)
	if err != nil {
		return nil, fault.Wrap("open the rule's root", rule.Name, reason(err))
	}
	d := &download{root: root, path: r.File.String()}
	if r.File == r.Spec.Target {
		d.dir = path.Dir(d.path)
	}
	if r.File.IsZero() {
		err = fault.New("download", fault.NotFound, "a task has deleted the file")
	} else if d.File, err = root.Open(d.path); err == nil {
		err = d.seek(offset)
	}
	if err != nil {
		return nil, errors.Join(fault.Wrap("download", name, reason(err)), d.Close())
	}
	return d, nil
}

// download is a file that goes.
type download struct {
	*os.File
	root *os.Root
	path string
	dir  string // removed with it; "": nothing is
}

func (d *download) seek(offset int64) error {
	fi, err := d.Stat()
	switch {
	case err != nil:
		return err
	case offset > fi.Size():
		return fault.New("download", fault.Invalid, "offset %d of %d bytes", offset, fi.Size())
	}
	_, err = d.Seek(offset, io.SeekStart)
	return err
}

// Close implements io.Closer.
func (d *download) Close() error {
	var errs []error
	if d.File != nil {
		errs = append(errs, d.File.Close())
	}
	if d.dir != "" {
		errs = append(errs, d.root.Remove(d.path), d.root.Remove(d.dir))
	}
	return errors.Join(append(errs, d.root.Close())...)
}

var (
	_ plugins.Driver = (*Node)(nil)
	_ plugins.Writer = (*session)(nil)
	_ plugins.Lister = (*session)(nil)
	_ plugins.Maker  = (*session)(nil)
)
