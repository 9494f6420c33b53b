package engine

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/engine/task"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/relpath"
)

// Requests that tasks of kind transfer make. Such a task belongs to one rule and sends by
// another: the file's name below the root of the one is not its name below the root of the
// other.

// forwarder registers what the tasks of a run ask for.
type forwarder struct{ x *run }

func (f forwarder) Forward(ctx context.Context, o task.Forward) (lifecycle.ID, error) {
	const op = "forward"
	e := f.x.engine
	book := e.Book()
	rule, err := book.Rule(o.Rule)
	if err != nil {
		return lifecycle.ID{}, err
	}
	name, err := rule.nameOf(f.x.rule, o.File)
	if err != nil {
		return lifecycle.ID{}, fault.Wrap(op, o.File.String(), err)
	}
	r, found, err := f.made(ctx, o, name)
	if err != nil {
		return lifecycle.ID{}, fault.Wrap(op, o.File.String(), err)
	}
	if !found {
		version, err := f.sameFile(o.File, rule, name)
		if err != nil {
			return lifecycle.ID{}, fault.Wrap(op, o.File.String(), err)
		}
		r, _, err = e.Submit(ctx, Order{ID: o.ID, Partner: o.Partner, Rule: o.Rule, Source: name, Follow: o.Follow, Info: o.Info, Hops: o.Hops, Trace: f.x.acts.inner, Version: version})
		if err != nil {
			return r.Key.ID, err
		}
	}
	if !o.Wait {
		return r.Key.ID, nil
	}
	defer f.x.lend(store.RefOf(&r))()
	end, err := e.Wait(ctx, store.RefOf(&r))
	if err == nil && end.State != lifecycle.Done {
		err = fault.New(op, end.Failure.Kind, "request %v ended %v: %s", r.Key.ID, end.State, end.Failure.Cause)
	}
	return r.Key.ID, err
}

// made is the request that an earlier run of the task has registered, if one has. It is found without
// its file: a task of its own may have moved or removed that since. One of other content Submit refuses.
func (f forwarder) made(ctx context.Context, o task.Forward, source relpath.Path) (r lifecycle.Record, found bool, _ error) {
	e := f.x.engine
	r, err := e.cfg.Store.Get(ctx, store.Ref{Key: lifecycle.Key{Requester: e.cfg.Node, ID: o.ID}, Role: lifecycle.Requester})
	switch {
	case fault.KindOf(err) == fault.NotFound:
		return r, false, nil
	case err != nil:
		return r, false, e.storeFailed(err)
	}
	return r, r.Spec.Partner == o.Partner && r.Spec.Rule == o.Rule && r.Spec.Source == source, nil
}

// sameFile is the version of the task's file, and refuses to send another: a link may lead
// elsewhere, and roots may have been mounted over. It is none where a pre task of the rule may give
// the file another content.
func (f forwarder) sameFile(file relpath.Path, rule *Rule, name relpath.Path) (v sideeffect.Version, err error) {
	mine, err := f.x.root.Stat(file.String())
	if err != nil {
		return v, err
	}
	root, err := rule.openRoot()
	if err != nil {
		return v, err
	}
	defer root.Close()
	theirs, err := root.Stat(name.String())
	if err == nil && !os.SameFile(mine, theirs) {
		err = fault.New("look for the file", fault.Stale, "what is %s below the root of rule %q is another file", name, rule.Name)
	}
	if rule.Rewrites() {
		return v, err
	}
	return sideeffect.VersionOf(mine), err
}

// nameOf is what a file of another rule is called below the root of r.
func (r *Rule) nameOf(from *Rule, file relpath.Path) (relpath.Path, error) {
	if r.Bridge == "" && from.Root != "" {
		root, err := real(r.Root)
		if err != nil {
			return relpath.Path{}, err
		}
		mine, err := real(from.Root)
		if err != nil {
			return relpath.Path{}, err
		}
		if name, ok := below(root, filepath.Join(mine, file.String())); ok {
			return relpath.Parse(name)
		}
	}
	return relpath.Path{}, fault.New("name file", fault.Invalid, "rule %q sends what is in %s, and the file is in %s: name a rule of that root, or of a directory above it", fault.Shown(r.Name), r.Root+r.Bridge, from.Root)
}

// Related tells whether one of two directories is the other, or below it: files of a rule with
// the one root may then be among those of a rule with the other. Where a file system does not answer,
// they may be.
func Related(dir, other string) bool {
	a, err := real(dir)
	b, silent := real(other)
	if err != nil || silent != nil {
		return true
	}
	_, down := below(a, b)
	_, up := below(b, a)
	return down || up
}

// below is the name of path below dir, if it is there.
func below(dir, path string) (string, bool) {
	name, err := filepath.Rel(dir, path)
	return name, err == nil && name != ".." && !strings.HasPrefix(name, "../")
}

// real is a directory without links, if it is there. The error is that its file system does not answer.
func real(dir string) (string, error) {
	if err := answered("follow links", dir); err != nil {
		return "", err
	}
	if found, err := filepath.EvalSymlinks(dir); err == nil {
		return found, nil
	}
	return filepath.Clean(dir), nil
}
