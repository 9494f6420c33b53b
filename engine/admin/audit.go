package admin

import (
	"context"
	"fmt"
	"path"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/pannier/pannier/engine/access"
	"github.com/pannier/pannier/engine/audit"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

// Audit keeps who has ordered what; *audit.Log is one.
type Audit interface {
	// Admits refuses orders that have to be recorded and cannot be just now.
	Admits() error
	// Record keeps an entry. An error is that it is not durable yet.
	Record(ctx context.Context, e audit.Entry) error
}

// looks tells whether a method changes nothing here. Every other one is recorded, so that one
// that is added is, too.
func looks(method string) bool {
	switch scopes[method] {
	case access.Read:
		return true
	case access.Operate:
		switch path.Base(method) {
		case "TestPartner", "Browse", "TestRelay", "Check", "Log":
			return true
		}
	}
	return path.Base(method) == "ListTokens"
}

// Who is who makes a call, as the audit log has it: "user 1000", "token ci".
func Who(ctx context.Context) string {
	if name := access.CallerOf(ctx).Name; name != "" {
		return name
	}
	return "somebody"
}

// admits refuses an order that could not be recorded.
func (s *Server) admits(method string) error {
	if s.cfg.Audit == nil || looks(method) {
		return nil
	}
	return s.cfg.Audit.Admits()
}

// audited records an order and what came of it. It does not end with the call: what was
// done is recorded.
func (s *Server) audited(ctx context.Context, method string, in, reply any, err error) {
	what := path.Base(method)
	if s.cfg.Audit == nil || looks(method) {
		return
	}
	e := audit.Entry{Who: Who(ctx), Do: what, On: on(in, reply)}
	if m, ok := in.(proto.Message); ok {
		e.Detail = detail(s.recorded(m))
	}
	if r, ok := reply.(*adminpb.ApplyReply); ok && err == nil {
		e.Detail = changesOf(r) + "; " + e.Detail
	}
	if r, ok := reply.(*adminpb.ReloadReply); ok && err == nil {
		e.Detail = protojson.MarshalOptions{}.Format(r)
	}
	if err != nil {
		more, ok := s.tells(e.Who, err)
		if !ok {
			return
		}
		if more > 0 {
			e.Detail = fmt.Sprintf("%d refused orders before were not recorded one by one; %s", more, e.Detail)
		}
		e.Error = fault.Text(err)
	}
	if err := s.cfg.Audit.Record(context.WithoutCancel(ctx), e); err != nil {
		s.cfg.Log.Error("an order is done and not yet in the audit log", "word", what, "error", err)
	}
}

// tells reports whether an order that was refused is recorded, and how many of the caller's
// before it were not. Whatever may have been begun is recorded.
func (s *Server) tells(who string, err error) (more int, ok bool) {
	switch fault.KindOf(err) {
	case fault.Permission, fault.Invalid, fault.NotFound, fault.Refused, fault.Unsupported, fault.TooLong, fault.Overloaded, fault.Exists:
	default:
		return 0, true
	}
	s.mu.Lock()
	r := s.refused[who] // callers are tokens and users that may call: there are not many
	if r == nil {
		r = access.NewRefusals(mostRefusals)
		s.refused[who] = r
	}
	s.mu.Unlock()
	return r.Tell(time.Now())
}

// on is what a call was about: the id of a request, or the name of what it named; empty: neither.
func on(in, reply any) string {
	switch r := reply.(type) {
	case *adminpb.Request:
		return r.GetId()
	case *adminpb.SubmitReply:
		return r.GetRequest().GetId()
	}
	switch m := in.(type) {
	case *adminpb.Ref:
		return m.GetId()
	case *adminpb.CancelRequest:
		return m.GetRef().GetId()
	case interface{ GetName() string }:
		return m.GetName()
	}
	return ""
}

// Of a long message the beginnings of its texts and lists are recorded: who asks does not
// decide by its length that nothing is.
const (
	mostText = 256 // bytes of a text
	mostList = 8   // of a list
)

// recorded is an order as it may be kept: objects are as those see them who only read.
func (s *Server) recorded(m proto.Message) proto.Message {
	switch m := m.(type) {
	case *adminpb.ApplyRequest:
		if s.cfg.Objects == nil {
			break
		}
		c := proto.CloneOf(m)
		c.Text = s.cfg.Objects.Public(c.Text)
		for _, more := range c.GetMore() {
			more.Text = s.cfg.Objects.Public(more.Text)
		}
		return c
	case *adminpb.PutObjectRequest:
		if s.cfg.Objects == nil {
			break
		}
		c := proto.CloneOf(m)
		c.Text = s.cfg.Objects.Public(c.Text)
		return c
	}
	return m
}

// changesOf says what an Apply has changed, or would have.
func changesOf(r *adminpb.ApplyReply) string {
	var all []string
	for _, c := range r.GetChanges() {
		if c.GetChange() != "same" {
			all = append(all, c.GetKind()+" "+c.GetName()+" "+c.GetChange())
		}
	}
	return fmt.Sprintf("%d changes: %s", len(all), strings.Join(all, ", "))
}

// detail is a message as it is recorded.
func detail(m proto.Message) string {
	if proto.Size(m) >= audit.MaxText/2 {
		m = proto.Clone(m)
		shorten(m.ProtoReflect())
	}
	return protojson.MarshalOptions{}.Format(m)
}

func shorten(m protoreflect.Message) {
	cut := func(s string) string {
		if len(s) <= mostText {
			return s
		}
		return fmt.Sprintf("%s... (%d bytes)", strings.ToValidUTF8(s[:mostText], ""), len(s))
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.IsList():
			list := v.List()
			if list.Len() > mostList {
				list.Truncate(mostList)
			}
			for i := range list.Len() {
				if f.Kind() == protoreflect.StringKind {
					list.Set(i, protoreflect.ValueOfString(cut(list.Get(i).String())))
				} else if f.Message() != nil {
					shorten(list.Get(i).Message())
				}
			}
		case f.IsMap():
		case f.Kind() == protoreflect.StringKind:
			m.Set(f, protoreflect.ValueOfString(cut(v.String())))
		case f.Message() != nil:
			shorten(v.Message())
		}
		return true
	})
}
