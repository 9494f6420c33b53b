package bridge

import (
	"context"
	"encoding/hex"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

const (
	// least is the size, bytes, from which on a push is gone on with, and the name of a
	// file is noted before it gets it. A smaller one is sent again after a crash.
	least = 1 << 20
	// noteEvery and noteAfter are how much, and how long, is sent between two notes.
	noteEvery = 256 << 20
	noteAfter = 5 * time.Second
)

// push is a file that goes to the server.
type push struct {
	*call
	s      plugins.Session
	can    plugins.Capabilities
	name   string
	refuse bool // the rule replaces no file
	note   note
	noted  bool // there is a note
	staged plugins.Staged
	at     int64 // of the next block
	told   int64 // at when the last checkpoint was
	when   time.Time
	data   []byte
	end    sideeffect.End
	attr   plugins.Attr
}

// push has the requester's half send its file.
func (x *call) push() (engine.Answer, error) {
	began := time.Now()
	if err := x.parts.begin(x.ctx, x.ask.Key, x.ask.Call.Attempt); err != nil {
		return engine.Answer{}, err
	}
	s, over, err := x.o.Servers.Login(x.ctx, x.partner)
	if err != nil {
		return engine.Answer{}, err
	}
	p := &push{call: x, s: s, can: s.Capabilities(), name: remote(x.ask.Target)}
	o, err := p.run()
	over(err)
	x.fill(o, began, err)
	if err != nil {
		return engine.Answer{}, err
	}
	return served(lifecycle.Posted, o.Bytes, -1), nil
}

func (p *push) run() (o sideeffect.Outcome, err error) {
	w, ok := p.s.(plugins.Writer)
	if !ok {
		return o, fault.New("write", fault.Unsupported, "the server takes no files from this user")
	}
	if err := p.free(); err != nil {
		return o, err
	}
	if f, ok := p.d.Local.(*file); ok {
		o, done, err := p.direct(f)
		if done || err != nil {
			return o, err
		}
		if f.server == p.partner && p.can.Single {
			return o, fault.New("copy", fault.Unsupported, "a file cannot come from %q and go there at the same time: it has one connection", p.partner).
				Advise("allow it more connections, in the options of the bridge")
		}
	}
	src, err := p.d.OpenSource(p.ctx)
	if err != nil {
		return o, err
	}
	defer src.Close()
	if err := p.begin(w, src); err != nil {
		return o, err
	}
	plan := p.d.SendPlan(sideeffect.NoQuota, sideeffect.Fail)
	plan.Start, p.at, p.told, p.when = p.staged.Offset(), p.staged.Offset(), p.staged.Offset(), time.Now()
	p.data = make([]byte, blockSize)
	o, err = sideeffect.SendAll(p.ctx, p, src, plan)
	if err != nil {
		p.failed(err)
		return o, err
	}
	o.Verified = p.attr.Verified
	p.parts.over(p.ask.Key)
	return o, nil
}

// free refuses a name that is taken, if the rule wants that.
func (p *push) free() error {
	rule, err := p.o.Rule(p.ask.Rule)
	if err != nil || rule.Exists != engine.Refuse {
		return err
	}
	p.refuse = true
	n, ok, err := p.notes.get(p.ask.Key)
	if err != nil {
		return err
	}
	a, err := p.s.Stat(p.ctx, p.name)
	switch kindOf(err) {
	case 0:
		if ok && n.Naming && n.Name == p.name && (a.Size < 0 || a.Size == n.Size) {
			return nil // it may be this file
		}
		return fault.New("write", fault.Exists, "%s exists, and rule %q replaces no file", p.name, rule.Name)
	case fault.NotFound:
		return nil
	}
	return err
}

// begin goes on with what an earlier attempt has left at the server, if the file is
// still the same, or begins.
func (p *push) begin(w plugins.Writer, src sideeffect.Source) error {
	fresh := note{Partner: p.partner, Name: p.name, Begun: time.Now(), Follow: p.ask.Follow.String()}
	if v := src.Version(); !v.IsZero() {
		fresh.From = fmt.Sprintf("%v %x", p.d.Local, v.Encode())
	}
	old, ok, err := p.notes.get(p.ask.Key)
	if err != nil {
		return err
	}
	p.note, p.noted = fresh, ok
	if p.willNote(src.Size()) { // now, since a session may be able to do nothing else while it writes
		p.note.Before = p.before(p.ctx)
	}
	request := plugins.WriteRequest{Size: src.Size(), ID: partID(p.ask.Key), Again: ok || p.ask.Call.Attempt > 1, Modified: src.Version().Modified()}
	if ok && p.can.Resume && !old.Copy && old.Partner == p.partner && old.Name == p.name && fresh.From != "" && old.From == fresh.From {
		request.Resume = old.Resume
	}
	p.parts.left(p.ask.Key, true)
	p.staged, err = p.write(w, request)
	if request.Resume != nil && stale(kindOf(err)) {
		p.log.Info("what the server had is gone: the file is sent anew", "name", p.name, "error", err)
		request.Resume = nil
		p.staged, err = p.write(w, request)
	}
	if err != nil {
		p.parts.left(p.ask.Key, trusted(kindOf(err)))
		return err
	}
	switch start := p.staged.Offset(); {
	case start > 0 && src.Size() >= 0 && start > src.Size():
		return p.unusable(fault.New("write", fault.Corrupt, "the server has %d bytes of a file of %d", start, src.Size()))
	case start != 0 && request.Resume == nil:
		return p.unusable(fault.New("write", fault.Protocol, "a file that has just begun is to go on at byte %d", start))
	}
	p.note.Resume, p.note.Rank = request.Resume, p.staged.Offset()
	if src.Size() >= 0 && src.Size() < least {
		return nil
	}
	return p.checkpoint()
}

// willNote says whether the name of a file of that size is noted before it gets it: of a smaller one
// only if it is not to be replaced, by itself neither.
func (p *push) willNote(size int64) bool { return p.refuse || size < 0 || size >= least }

// stale tells whether an error of that kind may be about what was to be gone on with.
func stale(k fault.Kind) bool {
	switch k {
	case fault.Stale, fault.NotFound, fault.Invalid, fault.Corrupt:
		return true
	}
	return false
}

// unusable gives up what the server has, for that reason.
func (p *push) unusable(why error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(p.ctx), tidyTime)
	defer cancel()
	_, _ = p.staged.Abort(ctx, false)
	return why
}

// write makes the directories of the name, if that is what is missing.
func (p *push) write(w plugins.Writer, r plugins.WriteRequest) (plugins.Staged, error) {
	return Write(p.ctx, p.s, w, p.name, r)
}

// Write begins a file at a server; if its directories are missing, they are made.
func Write(ctx context.Context, s plugins.Session, w plugins.Writer, name string, r plugins.WriteRequest) (plugins.Staged, error) {
	staged, err := w.Write(ctx, name, r)
	if kindOf(err) != fault.NotFound || r.Resume != nil || !makeDirs(ctx, s, name) {
		return staged, err // of a directory that could not be made it says what the user knows
	}
	return w.Write(ctx, name, r)
}

// makeDirs makes the directories above the name, if there are any, and the server does.
func makeDirs(ctx context.Context, s plugins.Session, name string) bool {
	m, ok := s.(plugins.Maker)
	dir := path.Dir(name)
	return ok && dir != "/" && mkdirs(ctx, m, dir) == nil
}

func mkdirs(ctx context.Context, m plugins.Maker, dir string) error {
	if dir == "/" {
		return nil
	}
	err := m.Mkdir(ctx, dir)
	if kindOf(err) != fault.NotFound {
		return err
	}
	if err := mkdirs(ctx, m, path.Dir(dir)); err != nil {
		return err
	}
	return m.Mkdir(ctx, dir)
}

// checkpoint notes how a later attempt goes on if this process or the plugin's dies.
func (p *push) checkpoint() error {
	p.told, p.when = p.at, time.Now()
	c, ok := p.staged.(plugins.Checkpointer)
	if !ok || !p.can.Resume || p.note.From == "" {
		return nil
	}
	resume, err := c.Checkpoint(p.ctx)
	if err != nil || len(resume) == 0 {
		return err
	}
	p.note.Resume, p.noted = resume, true
	return p.notes.put(p.ask.Key, p.note)
}

// failed keeps what the server has, if it is of use.
func (p *push) failed(err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(p.ctx), tidyTime)
	defer cancel()
	keep := p.can.Resume && p.note.From != "" && p.at >= least && trusted(kindOf(err))
	resume, aborted := p.staged.Abort(ctx, keep)
	p.parts.left(p.ask.Key, keep || aborted != nil)
	switch {
	case keep && aborted == nil && len(resume) > 0:
		p.note.Resume = resume // Naming stays: who has lost the answer does not know
		if err := p.notes.put(p.ask.Key, p.note); err != nil {
			p.log.Warn("the next attempt cannot go on where this one ended", "error", err)
		}
	case !keep && p.noted && !p.note.Naming:
		p.notes.drop(p.ask.Key)
	}
}

// trusted tells whether bytes that the server took before a failure of this kind may be
// part of a later success.
func trusted(k fault.Kind) bool {
	switch k {
	case fault.Lost, fault.DeadPeer, fault.Canceled, fault.Deadline, fault.NoSpace, fault.IO,
		fault.Draining, fault.Overloaded, fault.Internal:
		return true
	}
	return false
}

// Next implements sideeffect.Outlet.
func (p *push) Next(ctx context.Context) (sideeffect.Block, error) {
	return sideeffect.Block{Offset: p.at, Data: p.data}, context.Cause(ctx)
}

// Send implements sideeffect.Outlet.
func (p *push) Send(_ context.Context, b sideeffect.Block, n int) error {
	if _, err := p.staged.Write(b.Data[:n]); err != nil {
		return AsEnd(p.partner, err)
	}
	p.at += int64(n)
	if p.at-p.told >= noteEvery || p.at >= least && time.Since(p.when) >= noteAfter {
		return p.checkpoint()
	}
	return nil
}

// End implements sideeffect.Outlet.
func (p *push) End(_ context.Context, e sideeffect.End) error {
	p.end = e
	return nil
}

// Received implements sideeffect.Outlet: what is on its way.
func (p *push) Received() int64 { return p.at }

// Durable implements sideeffect.Outlet: a server promises nothing before Commit but what
// it went on with.
func (p *push) Durable() int64 { return p.note.Rank }

// Verdict implements sideeffect.Outgoing: the server has the file under its name.
func (p *push) Verdict(ctx context.Context) (v sideeffect.Verdict, err error) {
	if p.willNote(p.end.Total) {
		if c, ok := p.staged.(plugins.Checkpointer); ok && p.can.Resume {
			if resume, err := c.Checkpoint(ctx); err == nil && len(resume) > 0 {
				p.note.Resume = resume
			}
		}
		p.note.Naming, p.note.Size, p.note.Digest = true, p.end.Total, p.end.Hash.String()
		if err := p.notes.put(p.ask.Key, p.note); err != nil {
			return v, err
		}
		p.noted = true
	}
	if !p.can.Verdict {
		var stop func()
		ctx, stop = outlasting(ctx, namingTime)
		defer stop()
	}
	if p.attr, err = p.commit(ctx); err == nil {
		p.attr.Verified, err = p.compare(ctx)
	}
	if err != nil {
		return v, AsEnd(p.partner, err)
	}
	return sideeffect.Verdict{Bytes: p.end.Total, Durable: p.end.Total, Hash: p.end.Hash}, nil
}

// commit has the server name the file. Where it answers for what lies behind it, that takes its time.
func (p *push) commit(ctx context.Context) (a plugins.Attr, err error) {
	last := func() error {
		a, err = p.staged.Commit(ctx)
		return err
	}
	if l, ok := p.d.Ledger.(engine.Judging); ok && p.can.Verdict {
		err = l.Judged(last)
		return a, err
	}
	err = last()
	return a, err
}

// namingTime is how much longer than its call a server is waited for that is naming a file: whoever
// cancels then should not hear that it was in time, and find the file there.
const namingTime = 5 * time.Second

// outlasting is a context that ends some time after ctx.
func outlasting(ctx context.Context, by time.Duration) (context.Context, func()) {
	longer, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		late := time.AfterFunc(by, func() { cancel(context.Cause(ctx)) })
		context.AfterFunc(longer, func() { late.Stop() })
	})
	return longer, func() { stop(); cancel(nil) }
}

// nothing is the lookOf a name that is free.
const nothing = "nothing"

// lookOf tells a file from another of its name, as far as the server says; "" if it cannot.
func lookOf(a plugins.Attr) string {
	if a.Size < 0 || a.Modified.IsZero() {
		return ""
	}
	return fmt.Sprintf("%d %d", a.Size, a.Modified.UnixNano())
}

// before is what has the name now.
func (p *push) before(ctx context.Context) string {
	a, err := p.s.Stat(ctx, p.name)
	switch kindOf(err) {
	case 0:
		return lookOf(a)
	case fault.NotFound:
		return nothing
	}
	return ""
}

// compare is how far what the server has was compared with what was sent. What the
// driver has done is not done again.
func (p *push) compare(ctx context.Context) (string, error) {
	if p.attr.Verified != "" && p.attr.Verified != bySize {
		return p.attr.Verified, nil
	}
	sum, err := ChecksumOfTaken(ctx, p.s, p.name, p.end.Hash.Algorithm.String())
	switch {
	case err != nil:
		return "", err
	case sum != nil && string(sum) != string(p.end.Hash.Bytes):
		return "", fault.New("compare", fault.Corrupt, "the server has a file of another %v under that name", p.end.Hash.Algorithm)
	case sum != nil:
		return p.end.Hash.Algorithm.String(), nil
	case p.attr.Size >= 0 && p.attr.Size != p.end.Total:
		return "", fault.New("compare", fault.Corrupt, "the server has %d bytes of %d", p.attr.Size, p.end.Total)
	case p.attr.Size >= 0:
		return bySize, nil
	}
	return byEnd, nil
}

// named finds out what became of a file that was about to get its name: the unfinished one is
// not there any more if it has, and the file has its size and is not the one from before.
// Where that cannot be told, equal digests can; otherwise it is sent again.
func (x *call) named(n note) (engine.Answer, error) {
	again := served(lifecycle.Ready, n.Rank, -1)
	name := remote(x.ask.Target)
	if n.Partner != x.partner || n.Name != name {
		return again, nil
	}
	s, over, err := x.o.Servers.Login(x.ctx, x.partner)
	if err != nil {
		return engine.Answer{}, err
	}
	done, other, err := isNamed(x.ctx, s, n)
	over(err)
	if err == nil && other { // whatever has the name when it is sent again is not this file
		n.Naming = false
		err = x.notes.put(x.ask.Key, n)
	}
	switch {
	case err != nil:
		return engine.Answer{}, err
	case done:
		x.log.Info("the file had got its name", "name", name)
		return served(lifecycle.Posted, n.Size, -1), nil
	}
	return again, nil
}

// isNamed tells whether the file has its name; other is that it certainly has not.
func isNamed(ctx context.Context, s plugins.Session, n note) (done, other bool, err error) {
	a, err := s.Stat(ctx, n.Name)
	switch kind := kindOf(err); {
	case kind == fault.NotFound, err == nil && a.Size >= 0 && a.Size != n.Size:
		return false, true, nil
	case mayNotLook(kind):
		return false, false, nil
	case err != nil:
		return false, false, err
	case s.Capabilities().Verdict: // what it hands on has its name before that has succeeded
		return false, false, nil
	}
	if algorithm, digest, ok := strings.Cut(n.Digest, ":"); ok {
		sum, err := Checksum(ctx, s, n.Name, algorithm)
		if !mayNotLook(kindOf(err)) && (err != nil || sum != nil) {
			done = err == nil && hex.EncodeToString(sum) == digest
			return done, err == nil && !done, err
		}
	}
	if look := lookOf(a); n.Before != nothing && (n.Before == "" || look == "" || look == n.Before) {
		return false, false, nil // it may be an older one
	}
	w, ok := s.(plugins.Writer)
	if !ok || len(n.Resume) == 0 || !s.Capabilities().Resume {
		return false, false, nil
	}
	staged, err := w.Write(ctx, n.Name, plugins.WriteRequest{Size: n.Size, Resume: n.Resume})
	switch kind := kindOf(err); {
	case kind == fault.NotFound, kind == fault.Stale:
		return true, false, nil
	case n.Copy && kind == fault.Invalid: // what goes on with a copy is not what goes on with a Write
		return false, false, nil
	case err != nil:
		return false, false, err
	}
	there := staged.Offset() > 0
	if _, err := staged.Abort(ctx, there); err != nil {
		return false, false, err
	}
	return !there, there, nil
}

// mayNotLook tells whether a server that takes files does not say what it has.
func mayNotLook(k fault.Kind) bool { return k == fault.Permission || k == fault.Unsupported }

// stopped removes what a request that has ended has left at its server, unless an
// operator's retry may go on with it.
func (x *call) stopped() {
	n, ok, err := x.notes.get(x.ask.Key)
	switch {
	case err != nil:
	case !ok && x.ask.Side == lifecycle.Sender:
		x.discard()
	case ok && (x.ask.Why.Kind == fault.Canceled || !trusted(x.ask.Why.Kind)):
		x.wg.Go(func() { x.forget(x.ask.Key, n) })
	}
}

// givenUp is for how long what a request has left at a server is tried to be removed.
const givenUp = 30 * 24 * time.Hour

// forget removes an unfinished file of a server, and the note about it. A server that cannot be
// reached, or that has no time, is asked again by Sweep.
func (l *Line) forget(key lifecycle.Key, n note) {
	ctx, cancel := context.WithTimeout(l.ctx, tidyTime)
	defer cancel()
	var err error
	if len(n.Resume) > 0 {
		err = l.remove(ctx, n.Partner, n.Name, plugins.WriteRequest{Size: -1, Resume: n.Resume})
	}
	again := ctx.Err() != nil || trusted(kindOf(err)) && (n.Given.IsZero() || time.Since(n.Given) < givenUp)
	if err != nil {
		l.o.Log.Warn("an unfinished file stays at a bridge", "id", key.ID.String(), "follow", n.Follow, "partner", n.Partner, "name", n.Name, "tried again", again, "error", err)
	}
	if !again {
		l.notes.drop(key)
		l.parts.over(key)
		return
	}
	if !n.Given.IsZero() {
		return
	}
	n.Given = time.Now()
	if err := l.notes.put(key, n); err != nil {
		l.o.Log.Warn("an unfinished file stays at a bridge for good", "id", key.ID.String(), "follow", n.Follow, "partner", n.Partner, "name", n.Name, "error", err)
	}
}

// Sweep removes what requests have left that do not exist any more, or have ended
// well: now and every so often, since those that have failed are forgotten later. It is
// called once, when the node is up.
func (l *Line) Sweep(ended func(lifecycle.Key) bool, often time.Duration) {
	l.wg.Go(func() {
		next := time.NewTicker(often)
		defer next.Stop()
		for {
			l.sweep(ended)
			select {
			case <-next.C:
			case <-l.ctx.Done():
				return
			}
		}
	})
}

func (l *Line) sweep(ended func(lifecycle.Key) bool) {
	keys, err := l.notes.all()
	if err != nil {
		l.o.Log.Warn("what requests have left at bridges stays there", "error", err)
	}
	for _, k := range keys {
		if l.ctx.Err() != nil {
			return
		}
		if n, ok, err := l.notes.get(k); err == nil && ok && (!n.Given.IsZero() || ended(k)) {
			l.forget(k, n)
		}
	}
}
