package web_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/pannier/pannier/spec/adminpb"
)

// logged is a node whose log has lines about each request.
type logged struct{ adminpb.AdminClient }

func (c logged) Log(_ context.Context, ref *adminpb.Ref, _ ...grpc.CallOption) (*adminpb.LogReply, error) {
	at := timestamppb.New(time.Now().Add(-time.Minute))
	return &adminpb.LogReply{Lines: []*adminpb.LogLine{
		{At: at, Level: "INFO", Text: "request submitted made=true"}, {At: at, Level: "WARN", Text: "interrupted, and tried again error=\"" + hostile + "\" of=" + ref.GetId()},
	}}, nil
}

// TestLog: the page of a request has the node's lines about it, the last first and as text; a node that keeps none has
// no place for them.
func TestLog(t *testing.T) {
	s := newSite(t, func(c adminpb.AdminClient) adminpb.AdminClient { return logged{c} })
	r := request(1, runs(1))
	s.engine.Set(r)
	text := s.get("/transfers/" + r.Key.ID.String())
	submitted, tried := strings.Index(text, "request submitted made=true"), strings.Index(text, "interrupted, and tried again")
	if tried < 0 || submitted < tried || !strings.Contains(text, "of="+r.Key.ID.String()) || strings.Contains(text, "<img") || !strings.Contains(text, "&lt;img") {
		t.Error(text)
	}
	mute := newSite(t)
	mute.engine.Set(r)
	if text := mute.get("/transfers/" + r.Key.ID.String()); strings.Contains(text, "Log of this node") {
		t.Error(text)
	}
}
