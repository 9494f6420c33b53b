package admin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/dustin/go-humanize"
	"google.golang.org/grpc"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/relpath"
)

// Check looks at all records first, last finished first, then at the partial
// files of all roots, and at the store's own order. It holds nothing: the node works meanwhile, so what has
// changed since it began is not found fault with.
func (s *Server) Check(in *adminpb.CheckRequest, out grpc.ServerStreamingServer[adminpb.CheckReply]) error {
	c := &checker{
		ctx: out.Context(), began: time.Now(), book: s.cfg.Engine.Book(), read: in.GetReadData(), counts: &adminpb.CheckCounts{},
		roots: map[string]*os.Root{}, taken: map[string]bool{}, partial: map[string]bool{}, kept: s.cfg.Kept,
		tell: func(f *adminpb.Finding) error { return out.Send(&adminpb.CheckReply{Finding: f}) },
	}
	defer c.close()
	looked := s.looked(c.ctx)
	for st, err := range s.cfg.Engine.Find(c.ctx, store.Query{Looked: looked}) {
		if err == nil {
			err = c.record(&st.Record)
		}
		if err == nil {
			_, unreadable := s.cfg.Engine.Events(c.ctx, store.RefOf(&st.Record))
			err = c.events(&st.Record, unreadable)
		}
		if err != nil {
			return err
		}
	}
	if err := c.partials(); err != nil {
		return err
	}
	if s.cfg.Verify != nil {
		err := s.cfg.Verify(looked)
		if c.ctx.Err() != nil {
			return fault.Wrap("check", "", context.Cause(c.ctx))
		}
		if err != nil {
			if err := c.say(&adminpb.Finding{Severity: adminpb.Finding_ERROR, Subject: adminpb.Finding_UNREADABLE}, "the store: %s", fault.Plain(err)); err != nil {
				return err
			}
		}
	}
	return out.Send(&adminpb.CheckReply{Counts: c.counts})
}

// overdueAfter is how much later than due a record may be moved on.
const overdueAfter = time.Minute

// checker is one run of Check.
type checker struct {
	ctx    context.Context
	began  time.Time
	book   engine.Book
	read   bool
	counts *adminpb.CheckCounts
	tell   func(*adminpb.Finding) error

	roots   map[string]*os.Root // by directory; nil: cannot be opened, which was told
	taken   map[string]bool     // paths whose content a later request is answerable for
	partial map[string]bool     // paths of partial files that a request knows
	kept    func(root, name string) bool
}

func (c *checker) close() {
	for _, r := range c.roots {
		if r != nil {
			r.Close()
		}
	}
}

// record looks at one record. Of those with one file the last comes first: what
// earlier ones have left there is gone.
func (c *checker) record(r *lifecycle.Record) error {
	c.counts.Records++
	if waits := r.State == lifecycle.ToSubmit || r.State == lifecycle.Interrupted; waits && !r.Due.IsZero() && c.began.Sub(r.Due) > overdueAfter {
		if err := c.about(r, adminpb.Finding_WARNING, adminpb.Finding_OVERDUE, r.File,
			"%v, was due %s", r.State, humanize.RelTime(r.Due, c.began, "ago", "from now")); err != nil {
			return err
		}
	}
	rule := c.book.Rules[r.Spec.Rule]
	if rule == nil || rule.Bridge != "" {
		if r.State == lifecycle.Done && r.Side == lifecycle.Receiver {
			c.counts.Skipped++
		}
		return nil
	}
	if r.Side == lifecycle.Sender {
		if r.State == lifecycle.Done && r.File != r.Spec.Source {
			c.taken[filepath.Join(rule.Root, r.Spec.Source.String())] = true
		}
		return nil
	}
	return c.received(rule, r)
}

// events tells of a request whose events could not be read, unless it is gone.
func (c *checker) events(r *lifecycle.Record, err error) error {
	if err == nil || c.ctx.Err() != nil || r.State == lifecycle.Done && fault.KindOf(err) == fault.NotFound {
		return nil
	}
	return c.about(r, adminpb.Finding_ERROR, adminpb.Finding_UNREADABLE, relpath.Path{}, "what happened to it cannot be read: %s", fault.Plain(err))
}

// received looks at the record of a receiver.
func (c *checker) received(rule *engine.Rule, r *lifecycle.Record) error {
	if r.State != lifecycle.Done {
		if p, err := sideeffect.PartialName(r.Spec.Target, engine.PartialKey(r.Key)); err == nil {
			c.partial[filepath.Join(rule.Root, p.String())] = true
		}
	}
	if r.Phase < lifecycle.Committed {
		return nil
	}
	path := filepath.Join(rule.Root, r.File.String())
	before := c.taken[path]
	if !r.File.IsZero() {
		c.taken[path] = true
	}
	switch {
	case r.State != lifecycle.Done:
		return nil
	case before || r.File.IsZero() || !rule.Keeps(r):
		c.counts.Skipped++
		return nil
	}
	root, err := c.open(rule)
	if err != nil || root == nil {
		return err
	}
	return c.file(root, r)
}

// open is the rule's root, nil when it cannot be opened, which is told once.
func (c *checker) open(rule *engine.Rule) (*os.Root, error) {
	if root, ok := c.roots[rule.Root]; ok {
		return root, nil
	}
	root, err := engine.OpenRoot(rule.Root)
	c.roots[rule.Root] = root
	if err != nil {
		c.roots[rule.Root] = nil
		return nil, c.say(&adminpb.Finding{Severity: adminpb.Finding_ERROR, Subject: adminpb.Finding_UNREADABLE, Rule: rule.Name},
			"the root %s cannot be opened: %s", rule.Root, unopened(err))
	}
	return root, nil
}

// unopened is why a rule's root cannot be opened, without its path.
func unopened(err error) error {
	if engine.IsSilentRoot(err) {
		return errors.New(engine.SilentRoot)
	}
	return fault.WithoutPath(err)
}

// file compares what was received with what is there. The request is answerable for the
// content as long as nobody else has written to it: a file that is gone, or was written to
// since, is what whoever gets the files has done with it, and worth a note.
func (c *checker) file(root *os.Root, r *lifecycle.Record) error {
	bad := adminpb.Finding_ERROR
	f, err := root.OpenFile(r.File.String(), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return c.about(r, adminpb.Finding_NOTE, adminpb.Finding_MISSING, r.File, "received %s, and taken away since", when(r))
	case err != nil:
		return c.about(r, adminpb.Finding_WARNING, adminpb.Finding_UNREADABLE, r.File, "cannot be opened: %s", fault.WithoutPath(err))
	}
	defer f.Close()
	fi, err := f.Stat()
	switch {
	case err != nil:
		return c.about(r, adminpb.Finding_WARNING, adminpb.Finding_UNREADABLE, r.File, "cannot be looked at: %s", fault.WithoutPath(err))
	case !fi.Mode().IsRegular():
		return c.about(r, adminpb.Finding_NOTE, adminpb.Finding_MISSING, r.File, "received %s, and is no file any more", when(r))
	case fi.ModTime().After(r.Changed):
		bad = adminpb.Finding_NOTE
	}
	c.counts.Files++
	if r.Size >= 0 && fi.Size() != r.Size {
		return c.about(r, bad, adminpb.Finding_SIZE, r.File, "has %d bytes, received were %d, %s", fi.Size(), r.Size, when(r))
	}
	if c.read {
		return c.digest(f, r, bad)
	}
	return nil
}

// digest compares the content with what the record says of it: the root that every
// transfer has, and the digest that a rule may ask for.
func (c *checker) digest(f *os.File, r *lifecycle.Record, bad adminpb.Finding_Severity) error {
	w, err := sideeffect.ParseWhole(r.Size, r.Proof)
	if err != nil {
		return nil // it was received by a version that kept none
	}
	h, err := sideeffect.NewHasher(w.Digest.Algorithm)
	if err != nil {
		return c.about(r, adminpb.Finding_WARNING, adminpb.Finding_UNREADABLE, r.File, "this version cannot make its digest, %v", w.Digest.Algorithm)
	}
	root, err := sideeffect.RootOf(c.ctx, f, w.Size, w.BlockSize, h)
	switch {
	case c.ctx.Err() != nil:
		return fault.Wrap("check", "", context.Cause(c.ctx))
	case err != nil:
		return c.about(r, adminpb.Finding_ERROR, adminpb.Finding_UNREADABLE, r.File, "cannot be read: %s", fault.WithoutPath(err))
	}
	c.counts.Digests++
	c.counts.Bytes += w.Size
	if got := h.Sum(); root != w.Root || !got.Equal(w.Digest) {
		text := "has another content than was received " + when(r)
		if !w.Digest.IsZero() {
			text = fmt.Sprintf("its digest is %v, received was %v, %s", got, w.Digest, when(r))
		}
		return c.about(r, bad, adminpb.Finding_DIGEST, r.File, "%s", text)
	}
	return nil
}

// partials looks for partial files that no request knows. One that has been
// written to since the check began is of a request that is newer than that.
func (c *checker) partials() error {
	seen := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(c.book.Rules)) {
		rule := c.book.Rules[name]
		if rule.Bridge != "" { // its files are at a server
			continue
		}
		root, err := c.open(rule)
		if err != nil {
			return err
		}
		if root == nil {
			continue
		}
		err = fs.WalkDir(root.FS(), ".", func(path string, d fs.DirEntry, err error) error {
			full := filepath.Join(rule.Root, path)
			switch {
			case c.ctx.Err() != nil:
				return fault.Wrap("check", "", context.Cause(c.ctx))
			case err != nil:
				return c.say(&adminpb.Finding{Severity: adminpb.Finding_WARNING, Subject: adminpb.Finding_UNREADABLE, Rule: rule.Name, File: valid(path)},
					"cannot be looked at: %s", fault.WithoutPath(err))
			case d.IsDir() && seen[full]:
				return fs.SkipDir
			case d.IsDir():
				seen[full] = true
				return nil
			case !sideeffect.IsPartial(d.Name()) || c.partial[full] || c.kept != nil && c.kept(rule.Root, path):
				return nil
			}
			return c.orphan(rule, path, d)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *checker) orphan(rule *engine.Rule, path string, d fs.DirEntry) error {
	fi, err := d.Info()
	if err != nil || fi.ModTime().After(c.began) {
		return nil // gone, or in use
	}
	return c.say(&adminpb.Finding{Severity: adminpb.Finding_WARNING, Subject: adminpb.Finding_PARTIAL, Rule: rule.Name, File: valid(path)},
		"a partial file of %s that no request knows, last written %s; it can be removed", humanize.IBytes(uint64(fi.Size())), fi.ModTime().UTC().Format(time.RFC3339))
}

// about tells a finding about a request.
func (c *checker) about(r *lifecycle.Record, sev adminpb.Finding_Severity, what adminpb.Finding_Subject, file relpath.Path, format string, args ...any) error {
	return c.say(&adminpb.Finding{Severity: sev, Subject: what, Id: r.Key.ID.String(), Rule: r.Spec.Rule, File: file.String()}, format, args...)
}

func (c *checker) say(f *adminpb.Finding, format string, args ...any) error {
	f.Text = clipped(fmt.Sprintf(format, args...))
	switch f.GetSeverity() {
	case adminpb.Finding_WARNING:
		c.counts.Warnings++
	case adminpb.Finding_ERROR:
		c.counts.Errors++
	}
	return c.tell(f)
}

// when is when the request was last changed, for a finding's text.
func when(r *lifecycle.Record) string { return "on " + r.Changed.UTC().Format(time.RFC3339) }
