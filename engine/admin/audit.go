package admin

import (
	"context"
	"fmt"
	"path"

	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

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

// looks are the methods that change nothing. Every other one is recorded, so that one that
// is added is, too.
var looks = map[string]bool{
	"Get": true, "List": true, "Events": true, "Watch": true, "Wait": true, "Explain": true, "NodeInfo": true, "ListPartners": true, "TestPartner": true,
	"ListRules": true, "TestRule": true, "Browse": true, "ListRelays": true, "TestRelay": true, "Check": true,
}

// Who is who makes a call, as the audit log has it: "uid 1000".
func Who(ctx context.Context) string {
	if p, _ := peer.FromContext(ctx); p != nil {
		if u, ok := p.AuthInfo.(user); ok {
			return fmt.Sprintf("uid %d", u.uid)
		}
	}
	return "somebody"
}

// admits refuses an order that could not be recorded.
func (s *Server) admits(method string) error {
	if s.cfg.Audit == nil || looks[path.Base(method)] {
		return nil
	}
	return s.cfg.Audit.Admits()
}

// audited records an order and what came of it. It does not end with the call: what was
// done is recorded.
func (s *Server) audited(ctx context.Context, method string, in, reply any, err error) {
	what := path.Base(method)
	if s.cfg.Audit == nil || looks[what] {
		return
	}
	e := audit.Entry{Who: Who(ctx), Do: what, On: on(in, reply)}
	if m, ok := in.(proto.Message); ok && proto.Size(m) < audit.MaxText {
		e.Detail = protojson.MarshalOptions{}.Format(m)
	}
	if r, ok := reply.(*adminpb.ReloadReply); ok && err == nil {
		e.Detail = protojson.MarshalOptions{}.Format(r)
	}
	if err != nil {
		e.Error = fault.Text(err)
	}
	if err := s.cfg.Audit.Record(context.WithoutCancel(ctx), e); err != nil {
		s.cfg.Log.Error("an order is done and not yet in the audit log", "word", what, "error", err)
	}
}

// on is which request a call was about; empty: none.
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
	}
	return ""
}
