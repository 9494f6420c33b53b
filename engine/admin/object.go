package admin

import (
	"cmp"
	"context"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/pannier/pannier/engine/access"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/nearest"
)

// Object is a partner, rule or another section as it is written.
type Object struct {
	Kind, Name, Text string
	Revision         uint64 // 0: it is in the node's file
	Changed          time.Time
	By               string
}

// ObjectChange is what becomes of an object by Objects.Apply.
type ObjectChange struct {
	Kind, Name, Change, Before, After string
}

// Applied is what has become of objects.
type Applied struct {
	Changes  []ObjectChange // as they stand in the texts
	Objects  []Object       // as they are now, in that order
	Revision uint64         // of all
	Notes    []string       // what is different for the node
}

// Text is what is applied, and what messages call it.
type Text struct{ Name, Text string }

// AnyRevision is whatever revision there is.
const AnyRevision = 0

// NoRevision is that of an object which is not there yet.
const NoRevision = math.MaxUint64

// Objects are the partners and rules of a node as they are written.
type Objects interface {
	// Kinds are what an object can be.
	Kinds() []string
	// List is all of them, by kind and name, and the revision of those that were applied.
	List() (all []Object, revision uint64, err error)
	// Apply makes or replaces those of texts, all or none. only, if it is not zero, is the
	// one that the text has to have. Stale: the revision, of only or of all, is another.
	Apply(texts []Text, by string, only Object, revision uint64, dry bool) (Applied, error)
	// Public is a text without what those who only read may not see.
	Public(text string) string
	// Delete removes one that was applied.
	Delete(kind, name string, revision uint64) (notes []string, err error)
}

func (s *Server) ListObjects(ctx context.Context, in *adminpb.ListObjectsRequest) (*adminpb.ListObjectsReply, error) {
	if s.cfg.Objects == nil {
		return nil, unsupported("list objects", "this node has none")
	}
	if in.GetKind() != "" {
		if err := s.kind("list objects", in.GetKind()); err != nil {
			return nil, err
		}
	}
	if err := mayKnow(ctx, in.GetKind()); err != nil {
		return nil, err
	}
	all, revision, err := s.cfg.Objects.List()
	if err != nil {
		return nil, err
	}
	reply := &adminpb.ListObjectsReply{Revision: revision}
	for i := range all {
		if (in.GetKind() == "" || in.GetKind() == all[i].Kind) && mayKnow(ctx, all[i].Kind) == nil {
			reply.Objects = append(reply.Objects, s.shown(ctx, &all[i]))
		}
	}
	return reply, nil
}

func (s *Server) GetObject(ctx context.Context, in *adminpb.ObjectName) (*adminpb.Object, error) {
	if s.cfg.Objects == nil {
		return nil, unsupported("get object", "this node has none")
	}
	const op = "get object"
	if err := cmp.Or(s.kind(op, in.GetKind()), mayKnow(ctx, in.GetKind())); err != nil {
		return nil, err
	}
	all, _, err := s.cfg.Objects.List()
	if err != nil {
		return nil, err
	}
	for i := range all {
		if all[i].Kind == in.GetKind() && all[i].Name == in.GetName() {
			return s.shown(ctx, &all[i]), nil
		}
	}
	return nil, fault.New(op, fault.NotFound, "there is no %s %q", in.GetKind(), in.GetName())
}

func (s *Server) Apply(ctx context.Context, in *adminpb.ApplyRequest) (*adminpb.ApplyReply, error) {
	if s.cfg.Objects == nil {
		return nil, unsupported("apply", "this node has no objects")
	}
	texts := []Text{{in.GetFile(), in.GetText()}}
	for _, more := range in.GetMore() {
		texts = append(texts, Text{more.GetFile(), more.GetText()})
	}
	for i := range texts {
		if texts[i].Name == "" {
			texts[i].Name = "objects"
		}
	}
	is, err := s.cfg.Objects.Apply(texts, access.CallerOf(ctx).Name, Object{}, in.GetRevision(), in.GetDryRun())
	if err != nil {
		return nil, err
	}
	reply := &adminpb.ApplyReply{Revision: is.Revision, Notes: is.Notes}
	for _, c := range is.Changes {
		reply.Changes = append(reply.Changes, &adminpb.ObjectChange{Kind: c.Kind, Name: c.Name, Change: c.Change, Before: c.Before, After: c.After})
		if !in.GetDryRun() && c.Change != "same" {
			s.cfg.Log.Info("object applied", "kind", c.Kind, "name", c.Name, "change", c.Change, "by", access.CallerOf(ctx).Name)
		}
	}
	return reply, nil
}

func (s *Server) PutObject(ctx context.Context, in *adminpb.PutObjectRequest) (*adminpb.Object, error) {
	if s.cfg.Objects == nil {
		return nil, unsupported("put object", "this node has no objects")
	}
	if err := s.kind("put object", in.GetKind()); err != nil {
		return nil, err
	}
	revision, err := revisionOf(ctx, in.GetRevision())
	if err != nil {
		return nil, err
	}
	only := Object{Kind: in.GetKind(), Name: in.GetName()}
	is, err := s.cfg.Objects.Apply([]Text{{only.Kind + " " + only.Name, in.GetText()}}, access.CallerOf(ctx).Name, only, revision, false)
	if err != nil {
		return nil, err
	}
	s.cfg.Log.Info("object applied", "kind", only.Kind, "name", only.Name, "by", access.CallerOf(ctx).Name)
	m := s.shown(ctx, &is.Objects[0]) // what this call has made, whatever others do meanwhile
	m.Notes = is.Notes
	return m, nil
}

func (s *Server) DeleteObject(ctx context.Context, in *adminpb.DeleteObjectRequest) (*adminpb.DeleteObjectReply, error) {
	if s.cfg.Objects == nil {
		return nil, unsupported("delete object", "this node has no objects")
	}
	if err := s.kind("delete object", in.GetKind()); err != nil {
		return nil, err
	}
	revision, err := revisionOf(ctx, in.GetRevision())
	if err != nil {
		return nil, err
	}
	notes, err := s.cfg.Objects.Delete(in.GetKind(), in.GetName(), revision)
	if err != nil {
		return nil, err
	}
	s.cfg.Log.Info("object deleted", "kind", in.GetKind(), "name", in.GetName(), "by", access.CallerOf(ctx).Name)
	return &adminpb.DeleteObjectReply{Notes: notes}, nil
}

// mayKnow refuses objects that only those see who administer: tokens.
func mayKnow(ctx context.Context, kind string) error {
	if kind != access.Kind {
		return nil
	}
	return access.CallerOf(ctx).Check(access.Administer)
}

// kind refuses what is no kind of object, which nothing could be found of.
func (s *Server) kind(op, kind string) error {
	kinds := s.cfg.Objects.Kinds()
	if slices.Contains(kinds, kind) {
		return nil
	}
	return fault.New(op, fault.Invalid, "no object is a %.100q%s; there are: %s", kind, nearest.Meant(kind, kinds), strings.Join(kinds, ", "))
}

// IfMatch is the metadata that has the header If-Match of an HTTP request.
const IfMatch = "if-match"

// IfNone is that of If-None-Match, of a PutObject that has it: the object is not there yet.
const IfNone = "if-none-match"

// revisionOf is the revision that a call asks for: its own, or that of If-Match, which is the
// same if it has both.
func revisionOf(ctx context.Context, own uint64) (uint64, error) {
	const op = "read If-Match"
	md, _ := metadata.FromIncomingContext(ctx)
	if len(md.Get(IfNone)) > 0 {
		if own != AnyRevision {
			return 0, fault.New("read If-None-Match", fault.Invalid, "the object is to be new, and the revision of the request is %d: send one of them", own)
		}
		return NoRevision, nil
	}
	tag := md.Get(IfMatch)
	if len(tag) == 0 || tag[0] == "*" {
		return own, nil
	}
	n, err := strconv.ParseUint(strings.Trim(tag[0], `"`), 10, 64)
	switch {
	case err != nil || n == 0:
		return 0, fault.New(op, fault.Stale, "%s is no revision: send the ETag of the object", tag[0])
	case own != AnyRevision && own != n:
		return 0, fault.New(op, fault.Invalid, "it is %s, and the revision of the request %d: send one of them", tag[0], own)
	}
	return n, nil
}

// shown is an object as its caller may see it.
func (s *Server) shown(ctx context.Context, o *Object) *adminpb.Object {
	m := objectOf(o)
	if !whole(ctx) {
		all := m.Text
		m.Text = s.cfg.Objects.Public(all)
		m.Hidden = m.Text != all
	}
	return m
}

func objectOf(o *Object) *adminpb.Object {
	m := &adminpb.Object{Kind: o.Kind, Name: o.Name, Text: valid(o.Text), Origin: "run time", Revision: o.Revision, Changed: timeOf(o.Changed), By: o.By}
	if o.Revision == 0 {
		m.Origin = "file"
	}
	return m
}
