package guest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"syscall"
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
	p, err := s.named(name)
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
	give, err := s.node.files.take(s.user.Name)
	if err != nil {
		return nil, err
	}
	r, _, err := s.node.Engine.Submit(ctx, engine.Order{ID: id, Partner: s.user.Partner, Rule: rule.Name, Source: p, Target: target, Info: s.user.Name + " from " + s.from})
	if err != nil {
		give()
		return nil, fault.Wrap(op, name, err)
	}
	end, err := s.await(ctx, &r, mostFetch)
	if err != nil {
		s.giveUp(ctx, &r, err)
		if root, err := os.OpenRoot(rule.Root); err == nil {
			s.node.over(&download{root: root, dir: target.Dir().String()})
		}
		give()
		return nil, err
	}
	return s.open(rule, &end, name, offset, give)
}

// over ends a download, and says what stays of it.
func (n *Node) over(d *download) {
	if err := d.remove(); err != nil {
		n.Log.Warn("what was fetched for a foreign client stays", "directory", d.dir, "error", err)
	}
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
func (s *session) open(rule *engine.Rule, r *lifecycle.Record, name string, offset int64, give func()) (_ io.ReadCloser, err error) {
	root, err := os.OpenRoot(rule.Root)
	if err != nil {
		give()
		return nil, fault.Wrap("open the rule's root", rule.Name, reason(err))
	}
	d := &download{node: s.node, give: give, root: root, dir: r.Spec.Target.Dir().String()}
	if r.File.IsZero() {
		err = fault.New("download", fault.NotFound, "a task has deleted the file")
	} else if d.File, err = root.Open(r.File.String()); err == nil {
		err = d.seek(offset)
	}
	if err != nil {
		_ = d.Close()
		return nil, fault.Wrap("download", name, reason(err))
	}
	return d, nil
}

// download is a file that goes.
type download struct {
	*os.File
	node *Node
	give func() // its place
	root *os.Root
	dir  string // removed with what is in it
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
	defer d.give()
	defer d.node.over(d)
	if d.File == nil {
		return nil
	}
	return d.File.Close()
}

// remove removes the directory, with the files in it, and closes the root.
func (d *download) remove() error {
	defer d.root.Close()
	f, err := d.root.OpenFile(d.dir, os.O_RDONLY|syscall.O_DIRECTORY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	names, err := f.Readdirnames(-1)
	errs := []error{err, f.Close()}
	for _, name := range names {
		errs = append(errs, d.root.Remove(d.dir+"/"+name))
	}
	return errors.Join(append(errs, d.root.Remove(d.dir))...)
}

// Leftover is what an earlier life of the node has left of downloads by a rule: nobody waits for
// them any more. It is called before a listener serves; the function removes them, which takes
// as long as cancelling a request does.
func (n *Node) Leftover(ctx context.Context, node, rule string) (remove func(), err error) {
	book := n.Engine.Book()
	r, err := book.Rule(rule)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(r.Root)
	if err != nil {
		return nil, fault.Wrap("open the rule's root", r.Root, err)
	}
	left := map[string]store.Ref{}
	note := func(r *lifecycle.Record) {
		if dir := r.Spec.Target.Dir().String(); dir == fetched+r.Key.ID.String() && r.Spec.Rule == rule {
			left[dir] = store.RefOf(r)
		}
	}
	for r, err := range n.Engine.Find(ctx, store.Query{Rule: rule, States: []lifecycle.State{lifecycle.ToSubmit, lifecycle.Running, lifecycle.Interrupted}}) {
		if err != nil {
			return nil, errors.Join(err, root.Close())
		}
		note(&r.Record)
	}
	dirs, err := fs.Glob(root.FS(), fetched+"*")
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	for _, dir := range dirs {
		var id lifecycle.ID
		if b, err := hex.DecodeString(dir[len(fetched):]); err != nil || copy(id[:], b) != len(id) {
			continue
		}
		if r, err := n.Engine.Get(ctx, store.Ref{Key: lifecycle.Key{Requester: node, ID: id}, Role: lifecycle.Requester}); err == nil {
			note(&r.Record)
		}
	}
	return func() {
		defer root.Close()
		for dir, ref := range left {
			_, _ = n.Engine.Cancel(ctx, ref, "the foreign client has gone") // fails for what has ended
			if again, err := root.OpenRoot("."); err == nil {
				n.over(&download{root: again, dir: dir})
			}
		}
	}, nil
}

var (
	_ plugins.Driver = (*Node)(nil)
	_ plugins.Writer = (*session)(nil)
	_ plugins.Lister = (*session)(nil)
	_ plugins.Maker  = (*session)(nil)
)
