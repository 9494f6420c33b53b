package guest

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"sync"
	"time"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/relpath"
)

// Write implements plugins.Writer: the file comes into the root of the rule, beside its
// name.
func (s *session) Write(ctx context.Context, name string, w plugins.WriteRequest) (plugins.Staged, error) {
	const op = "upload"
	p, err := s.named(name)
	switch {
	case err != nil:
		return nil, err
	case s.user.Send == "":
		return nil, fault.New(op, fault.Permission, "this user may not upload")
	case p.IsZero():
		return nil, fault.New(op, fault.Invalid, "/ is a directory")
	}
	resume, key, err := s.resumes(w)
	if err != nil {
		return nil, err
	}
	rule, root, err := s.root()
	if err != nil {
		return nil, err
	}
	give, err := s.node.files.take(s.user.Name)
	if err != nil {
		_ = root.Close()
		return nil, err
	}
	u := &upload{s: s, rule: rule, root: root, path: p, name: name, ctx: ctx, give: give, key: key, marked: len(w.Resume) > len(plugins.ResumeKept)}
	if err := u.begin(w.Size, resume); err != nil {
		give()
		_ = root.Close()
		return nil, plugins.FileError(op, name, err)
	}
	return u, nil
}

// upload is a file that comes.
type upload struct {
	s    *session
	rule *engine.Rule
	root *os.Root
	path relpath.Path
	name string
	ctx  context.Context
	give func() // its place
	sink sideeffect.Sink
	keep *keeping // nil: it cannot be gone on with

	key    string // whose the partial file is
	marked bool   // it has a mark: who comes again asks for that, and not for the name

	offset int64 // where it goes on
	n      int64 // bytes there are, with those before offset

	mu   sync.Mutex // of Commit and Abort
	over bool
	attr plugins.Attr
	err  error
}

func (u *upload) begin(size int64, resume bool) error {
	if !resume || u.marked { // else they are there, or nothing is
		if err := sideeffect.MakeDirs(u.root, u.path.Dir()); err != nil {
			return err
		}
	}
	local := sideeffect.File(u.root, u.path.String())
	if u.s.node.Layer != nil {
		local = sideeffect.FileOn(u.s.node.Layer, u.root, u.path.String())
	}
	d := &sideeffect.Descriptor{Direction: sideeffect.ServerToClient, Local: local, Quota: u.rule.Quota}
	if u.rule.Exists == engine.Refuse {
		d.Mode = sideeffect.CreateNew
	}
	return u.open(d, size, resume)
}

// Offset implements plugins.Staged.
func (u *upload) Offset() int64 { return u.offset }

// Write implements plugins.Staged.
func (u *upload) Write(p []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, fault.Wrap("upload", u.name, err)
	}
	if q := u.rule.Quota; q >= 0 && u.n+int64(len(p)) > q {
		return 0, fault.New("upload", fault.QuotaExceeded, "a file may have %d bytes", q)
	}
	if err := u.put(p); err != nil {
		return 0, fault.Wrap("upload", u.name, reason(err))
	}
	u.n += int64(len(p))
	return len(p), nil
}

// Commit implements plugins.Staged. The file gets its name, the request is registered, and
// what became of it is the answer, as far as the user waits for that. A second Commit says
// the same.
func (u *upload) Commit(ctx context.Context) (plugins.Attr, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.over {
		u.over = true
		u.attr, u.err = u.commit(ctx)
		if n := u.s.node; u.err != nil {
			n.Log.Warn("a foreign client was told that its upload has failed", "listener", n.Listener, "user", u.s.user.Name, "from", fault.Shown(u.s.from), "name", u.name, "error", u.err)
		}
	}
	return u.attr, u.err
}

func (u *upload) commit(ctx context.Context) (a plugins.Attr, err error) {
	s := u.s
	r, err := u.request(ctx)
	u.give()
	_ = u.root.Close()
	if err != nil {
		return a, fault.Wrap("upload", u.name, reason(err))
	}
	s.node.Log.Info("a foreign client has uploaded a file", "listener", s.node.Listener, "user", s.user.Name, "from", fault.Shown(s.from),
		"name", u.name, "size", u.n, "id", r.Key.ID.String())
	a = plugins.Attr{Name: u.name, Size: u.n}
	if s.user.Wait == 0 {
		return a, nil
	}
	end, err := s.await(ctx, &r, s.user.Wait)
	a.Verified = end.Verified
	return a, err
}

// request gives the file its name and registers the request, for that file and no other that may have
// the name by then. If that fails, it is none.
func (u *upload) request(ctx context.Context) (r lifecycle.Record, err error) {
	var id lifecycle.ID
	_, _ = rand.Read(id[:])
	is, over := newName{Root: u.rule.Root, Name: u.path.String(), Request: id.String()}, func() {}
	defer naming.lock(is.turn())()
	if err = u.unused(ctx); err == nil {
		err = u.whole()
	}
	if err == nil {
		over, err = u.publish(&is)
	}
	defer over()
	u.giveUp()
	if closed := u.sink.Close(); err == nil {
		err = closed
	}
	u.forgotten()
	if err == nil {
		o := engine.Order{ID: id, Partner: u.s.user.Partner, Rule: u.s.user.Send, Source: u.path, Info: u.s.user.Name + " from " + u.s.from}
		if !u.rule.Rewrites() {
			o.Version = is.version
		}
		r, _, err = u.s.node.Engine.Submit(context.WithoutCancel(ctx), o)
	}
	if err != nil && u.rule.Exists == engine.Refuse { // it would be in the way of the next one
		_, gone := is.remove()
		is.stays = gone != nil
		err = errors.Join(err, reason(gone))
	}
	return r, err
}

// publish gives the file its name. Where it would be in the way of others, that is written down before;
// over is called when that has its end.
func (u *upload) publish(is *newName) (over func(), err error) {
	over = func() {}
	s, ok := u.sink.(sideeffect.Namer)
	if !ok {
		return over, u.sink.Commit()
	}
	all := u.s.node.Namings
	return over, s.CommitNoted(func(v sideeffect.Version) error {
		is.version = v
		if u.rule.Exists != engine.Refuse || all == nil {
			return nil
		}
		over = func() { all.end(*is) }
		return all.add(*is)
	})
}

// unused refuses a name whose file is still an open request's. That would send the new file, and whoever
// has uploaded the old one would be told that it has arrived; its tasks would move or delete the new one.
func (u *upload) unused(ctx context.Context) error {
	if u.free() {
		return nil
	}
	book := u.s.node.Engine.Book()
	for r, err := range u.s.node.Engine.Find(ctx, store.Query{States: []lifecycle.State{lifecycle.ToSubmit, lifecycle.Running, lifecycle.Interrupted}}) {
		if err != nil {
			return err
		}
		if r.Side != lifecycle.Sender || r.File != u.path {
			continue
		}
		if rule := book.Rules[r.Spec.Rule]; rule != nil && rule.Root == u.rule.Root {
			return fault.New("name file", fault.Overloaded, "an earlier file of that name is on its way, by request %s", fault.Shown(r.Key.ID.String()))
		}
	}
	return nil
}

// await waits for the end of a request, for most.
func (s *session) await(ctx context.Context, r *lifecycle.Record, most time.Duration) (lifecycle.Record, error) {
	id := r.Key.ID.String()
	limited, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	end, err := s.node.Engine.Wait(limited, store.RefOf(r))
	switch {
	case err != nil && ctx.Err() == nil && limited.Err() != nil:
		if f := end.Failure; f.Kind != 0 {
			return end, fault.Concluded("wait", fault.Deadline, "request %s has not ended within %v: it goes on, after %v, %s", fault.Shown(id), most, fault.Shown(f.Kind.String()), fault.Shown(heard(f)))
		}
		return end, fault.Concluded("wait", fault.Deadline, "request %s has not ended within %v: it goes on", fault.Shown(id), most)
	case err != nil:
		return end, fault.Wrap("wait for request "+id, "", err)
	case end.State != lifecycle.Done:
		f := end.Failure
		return end, fault.FromPeer("request "+id, f.Kind, heard(f))
	}
	return end, nil
}

// heard is what a foreign client may know of a failure, without the way that it has come.
func heard(f lifecycle.Failure) string {
	return fault.Brief(fault.FromPeer("call partner", f.Kind, f.Told))
}

// Abort implements plugins.Staged.
func (u *upload) Abort(_ context.Context, keep bool) (resume []byte, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.over {
		if u.err == nil && u.attr.Name != "" {
			return nil, fault.New("abort", fault.Stale, "the file was committed")
		}
		return nil, nil
	}
	u.over = true
	u.err = fault.New("upload", fault.Stale, "it was aborted")
	u.give()
	if keep = keep && u.brokeOff(); keep {
		resume = plugins.ResumeKept
	} else {
		u.giveUp()
	}
	err = errors.Join(u.sink.Abort(keep), u.sink.Close())
	if !keep {
		u.forgotten()
	}
	return resume, fault.Wrap("abort", u.name, reason(errors.Join(err, u.root.Close())))
}
