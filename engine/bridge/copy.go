package bridge

import (
	"context"
	"fmt"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

// direct has the server of f send it to that of the push. done is false when the bytes
// have to come through this node, and the log says why.
func (p *push) direct(f *file) (o sideeffect.Outcome, done bool, err error) {
	s, over, err := p.o.Servers.Login(p.ctx, f.server)
	if err != nil {
		return o, false, AsEnd(f.server, err)
	}
	defer func() { over(err) }()
	c, ok := s.(plugins.Copier)
	why := p.o.Servers.Direct(f.server, p.partner)
	if why == nil && !ok {
		why = fault.New("copy", fault.Unsupported, "the server cannot send to another one for this user")
	}
	if why == nil && p.ask.Bandwidth > 0 {
		why = fault.New("copy", fault.Unsupported, "the servers hold no bandwidth, and the request has one")
	}
	n, noted, err := p.notes.get(p.ask.Key)
	if err != nil || noted && !n.Copy { // an earlier attempt has begun the other way
		return o, false, err
	}
	if why != nil {
		p.log.Info("the file comes through this node", "from", f.server, "to", p.partner, "why", why)
		p.undo(n.Resume)
		return o, false, nil
	}
	a, err := s.Stat(p.ctx, f.name)
	if err != nil {
		return o, false, AsEnd(f.server, err)
	}
	version := versionOf(f.server, f.name, a)
	from := fmt.Sprintf("%v %x", f, version.Encode())
	if !noted || version.IsZero() || n.Partner != p.partner || n.Name != p.name || n.From != from {
		if noted && n.Partner == p.partner && n.Name == p.name {
			p.undo(n.Resume) // of another version of the source
		}
		n = note{Partner: p.partner, Name: p.name, From: from, Copy: true, Follow: p.ask.Follow.String()}
	}
	if a.Size >= 0 && p.willNote(a.Size) { // the servers name it, before this node can say so
		n.Naming, n.Size, n.Before = true, a.Size, p.before(p.ctx)
		if p.refuse {
			if err := p.notes.put(p.ask.Key, n); err != nil {
				return o, true, err
			}
		}
	}
	var first bool  // nothing has been told yet
	var begun int64 // what the server had when the copy began
	progress := func(offset int64, resume []byte) {
		if first { // a driver tells where it begins
			first, o.ResumedFrom, begun = false, offset, offset
		}
		n.Rank = offset
		if len(resume) > 0 {
			n.Resume = resume
			if err := p.notes.put(p.ask.Key, n); err != nil {
				p.log.Warn("a later attempt may not go on where this one ends", "error", err)
			}
		}
		if p.d.Progress != nil {
			p.d.Progress(sideeffect.Progress{Moved: offset, Received: offset, Acknowledged: offset, Durable: offset, Total: a.Size})
		}
	}
	copied := func(resume []byte) (plugins.CopyResult, error) {
		first, begun = true, 0
		return c.Copy(p.ctx, f.name, p.s, p.name, plugins.CopyRequest{Resume: resume, Progress: progress})
	}
	result, err := copied(n.Resume)
	if n.Resume != nil && stale(kindOf(err)) { // also after a crash behind the end of a copy
		p.log.Info("what the server had is gone: the file is copied anew", "name", p.name, "error", err)
		n.Resume = nil
		result, err = copied(nil)
	}
	if kindOf(err) == fault.NotFound && isThere(p.ctx, s, f.name) && makeDirs(p.ctx, p.s, p.name) {
		result, err = copied(nil)
	}
	switch kind := kindOf(err); {
	case (kind == fault.Unsupported || kind == fault.Refused || kind == fault.Permission) && result.Bytes <= begun && (begun == 0 || begun != a.Size):
		p.log.Warn("the servers do not send to each other: the file comes through this node", "from", f.server, "to", p.partner, "error", err)
		if len(result.Resume) > 0 {
			n.Resume = result.Resume
		}
		p.undo(n.Resume)
		return o, false, nil
	case err != nil:
		if len(result.Resume) > 0 || !trusted(kind) { // else, as after a cancel, what was noted is still there
			n.Resume, n.Rank = result.Resume, result.Bytes
		}
		if len(n.Resume) > 0 {
			if noting := p.notes.put(p.ask.Key, n); noting != nil {
				p.log.Warn("the next attempt cannot go on where this one ended", "error", noting)
			}
		} else if p.refuse && !noted && (!trusted(kind) || kind == fault.Overloaded && result.Bytes == 0) {
			p.notes.drop(p.ask.Key) // no attempt can have named it: what has the name next is not this file
		} else if kind != fault.Lost && !p.refuse { // a plugin that has died says nothing of it, and the file may have its name
			p.notes.drop(p.ask.Key)
		}
		return o, true, err
	}
	if a.Size >= 0 && result.Bytes != a.Size {
		p.notes.drop(p.ask.Key) // what has the name is not the file
		return o, true, fault.New("copy", fault.SourceChanged, "the file had %d bytes, and %d were copied", a.Size, result.Bytes)
	}
	o.Bytes, o.Durable, o.Verified = result.Bytes, result.Bytes, "direct"
	if result.Verified != "" {
		o.Verified += "+" + result.Verified
	}
	if p.d.Ledger != nil {
		err = p.d.Ledger.Ended(result.Bytes, sideeffect.Sum{})
	}
	return o, true, err
}

// undo removes what a direct copy has left at the destination, and its note: another way does not
// go on with it.
func (p *push) undo(resume []byte) {
	if len(resume) > 0 {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(p.ctx), tidyTime)
		defer cancel()
		if err := removeAt(ctx, p.s, p.name, plugins.WriteRequest{Size: -1, Resume: resume}); err != nil {
			p.log.Warn("an unfinished file stays at a bridge", "name", p.name, "error", err)
		}
	}
	p.notes.drop(p.ask.Key)
}

// isThere says whether it is not the source that is missing.
func isThere(ctx context.Context, s plugins.Session, name string) bool {
	_, err := s.Stat(ctx, name)
	return kindOf(err) != fault.NotFound
}
