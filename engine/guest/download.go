package guest

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"sync"
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

// isFetched says whether a name of a rule's root is of such a directory, in which the download of
// another user may be.
func isFetched(name string) bool {
	id, ok := strings.CutPrefix(name, fetched)
	if ok {
		_, err := parseID(id)
		ok = err == nil
	}
	return ok
}

// Read implements plugins.Session: a request fetches the file into the root of the rule, from
// where the client gets it, and where it is not needed any more then. Who reads it in several
// places at a time reads one version, which is fetched once.
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
	give, err := s.node.files.take(s.user.Name)
	if err != nil {
		return nil, err
	}
	f, err := s.fetched(ctx, p, name)
	if err != nil {
		give()
		return nil, err
	}
	return f.open(name, offset, give)
}

// fetch is a file that was fetched, or is being, for all who read it in a session.
type fetch struct {
	s     *session
	name  string
	ready chan struct{} // closed when it is there, or why not

	// Then:
	rule   *engine.Rule
	target relpath.Path
	end    lifecycle.Record
	err    error
	gone   bool // who fetched it had gone, and that is why

	readers int // s.mu
}

// fetched has the file fetched, or waits for who does. What comes of it is left with leave.
func (s *session) fetched(ctx context.Context, p relpath.Path, name string) (*fetch, error) {
	for {
		s.mu.Lock()
		f, there := s.fetches[name]
		if !there {
			f = &fetch{s: s, name: name, ready: make(chan struct{})}
			s.fetches[name] = f
		}
		f.readers++
		s.mu.Unlock()
		if !there {
			if f.err = f.run(ctx, p); f.err != nil {
				f.gone = ctx.Err() != nil
				f.forget() // who waits for it begins anew, and does not find it again
			}
			close(f.ready)
		}
		select {
		case <-f.ready:
		case <-ctx.Done():
			f.leave()
			return nil, fault.Wrap("download", name, ctx.Err())
		}
		if f.err == nil {
			return f, nil
		}
		f.leave()
		if there && f.gone && ctx.Err() == nil { // not an operator's cancel: that is everybody's
			continue
		}
		return nil, f.err
	}
}

// run is the request. Without an error the file is in its directory.
func (f *fetch) run(ctx context.Context, p relpath.Path) (err error) {
	s := f.s
	if f.rule, err = s.rule(s.user.Get, engine.Receive); err != nil {
		return err
	}
	var id lifecycle.ID
	_, _ = rand.Read(id[:])
	target, err := relpath.Parse(fetched + id.String() + "/" + path.Base(f.name))
	if err != nil {
		return err
	}
	r, _, err := s.node.Engine.Submit(ctx, engine.Order{ID: id, Partner: s.user.Partner, Rule: f.rule.Name, Source: p, Target: target, Info: s.user.Name + " from " + s.from})
	if err != nil {
		return fault.Wrap("download", f.name, err)
	}
	f.target = target
	if f.end, err = s.await(ctx, &r, mostFetch); err != nil {
		s.giveUp(ctx, &r, err)
	}
	return err
}

// forget has the next reader fetch the file anew.
func (f *fetch) forget() {
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	delete(f.s.fetches, f.name)
}

// leave is the end of a use. The last removes what was fetched.
func (f *fetch) leave() {
	f.s.mu.Lock()
	f.readers--
	last := f.readers == 0
	if last && f.s.fetches[f.name] == f {
		delete(f.s.fetches, f.name)
	}
	f.s.mu.Unlock()
	if !last || f.target.IsZero() {
		return
	}
	f.s.node.over(f.rule, f.target.Dir().String())
}

// over removes the directory of a download that is over, with the files in it, and says if it stays.
func (n *Node) over(rule *engine.Rule, dir string) {
	root, err := engine.OpenRoot(rule.Root)
	if err == nil {
		err = errors.Join(removeDir(root, dir), root.Close())
	}
	if err != nil {
		n.Log.Warn("what was fetched for a foreign client stays", "directory", dir, "error", err)
	}
}

// giveUp cancels a request that nobody waits for any more.
func (s *session) giveUp(ctx context.Context, r *lifecycle.Record, why error) {
	if ctx.Err() == nil && fault.KindOf(why) != fault.Deadline {
		return // it has ended by itself
	}
	if _, err := s.node.Engine.Cancel(context.WithoutCancel(ctx), store.RefOf(r), "the foreign client has gone"); err != nil {
		s.node.Log.Info("a download that nobody waits for goes on", "id", r.Key.ID.String(), "follow", r.Spec.Follow.String(), "why", err)
	}
}

// open opens what was fetched. Tasks may have moved it: then it stays where it is.
func (f *fetch) open(name string, offset int64, give func()) (_ io.ReadCloser, err error) {
	d := &download{fetch: f, give: give}
	root, err := engine.OpenRoot(f.rule.Root)
	if err == nil {
		defer root.Close()
		if f.end.File.IsZero() {
			err = fault.New("download", fault.NotFound, "a task has deleted the file")
		} else if d.File, err = root.Open(f.end.File.String()); err == nil {
			err = d.seek(offset)
		}
		err = reason(err)
	}
	if err != nil {
		_ = d.Close()
		return nil, fault.Wrap("download", name, err)
	}
	return d, nil
}

// download is a file that goes.
type download struct {
	*os.File
	fetch *fetch
	give  func() // its place
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
func (d *download) Close() (err error) {
	if d.give == nil {
		return os.ErrClosed
	}
	defer d.give()
	d.give = nil
	if d.File != nil {
		err = d.File.Close()
	}
	d.fetch.leave()
	return err
}

// removeDir removes a directory, with the files in it; it need not be there.
func removeDir(root *os.Root, dir string) error {
	f, err := root.OpenFile(dir, os.O_RDONLY|syscall.O_DIRECTORY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	names, err := f.Readdirnames(-1)
	errs := []error{err, f.Close()}
	for _, name := range names {
		errs = append(errs, root.Remove(dir+"/"+name))
	}
	return errors.Join(append(errs, root.Remove(dir))...)
}

// Leftover is what an earlier life of the node has left of downloads by a rule: nobody waits for
// them any more. It is called before a listener serves; the function removes them, which takes
// as long as cancelling a request does, or its end where that is too late. Where the root cannot be
// opened, open requests are cancelled all the same, and what is left of ended ones stays until the next start.
func (n *Node) Leftover(ctx context.Context, node, name string) (remove func(), err error) {
	book := n.Engine.Book()
	rule, err := book.Rule(name)
	if err != nil {
		return nil, err
	}
	left := map[string]store.Ref{}
	note := func(r *lifecycle.Record) {
		if dir := r.Spec.Target.Dir().String(); dir == fetched+r.Key.ID.String() && r.Spec.Rule == name {
			left[dir] = store.RefOf(r)
		}
	}
	for r, err := range n.Engine.Find(ctx, store.Query{Rule: name, States: []lifecycle.State{lifecycle.ToSubmit, lifecycle.Running, lifecycle.Interrupted}}) {
		if err != nil {
			return nil, err
		}
		note(&r.Record)
	}
	dirs, err := fetchedDirs(rule.Root)
	if err != nil {
		n.Log.Warn("what was fetched for foreign clients before may stay", "rule", name, "error", err)
	}
	for _, dir := range dirs {
		id, err := parseID(dir[len(fetched):])
		if err != nil {
			continue
		}
		if r, err := n.Engine.Get(ctx, store.Ref{Key: lifecycle.Key{Requester: node, ID: id}, Role: lifecycle.Requester}); err == nil {
			note(&r.Record)
		}
	}
	return func() {
		var ending sync.WaitGroup
		for dir, ref := range left {
			_, err := n.Engine.Cancel(ctx, ref, "the foreign client has gone")
			ending.Go(func() {
				if err != nil && !n.ended(ctx, ref) { // a file that has its name is not taken back, and would be fetched again
					return
				}
				n.over(rule, dir)
			})
		}
		ending.Wait()
	}, nil
}

// fetchedDirs are the directories of downloads below a rule's root.
func fetchedDirs(dir string) ([]string, error) {
	root, err := engine.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return fs.Glob(root.FS(), fetched+"*")
}

// ended waits for the end of a request. false: the node ends before.
func (n *Node) ended(ctx context.Context, ref store.Ref) bool {
	_, err := n.Engine.Wait(ctx, ref)
	return err == nil || fault.KindOf(err) == fault.NotFound
}

var (
	_ plugins.Driver = (*Node)(nil)
	_ plugins.Writer = (*session)(nil)
	_ plugins.Lister = (*session)(nil)
	_ plugins.Maker  = (*session)(nil)
)
