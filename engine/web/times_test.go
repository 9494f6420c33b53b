package web_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/pannier/pannier/spec/adminpb"
)

// timely is a node with an expected file and a schedule.
type timely struct {
	adminpb.AdminClient
	name string
}

func (c timely) ListExpected(context.Context, *adminpb.ListExpectedRequest, ...grpc.CallOption) (*adminpb.ListExpectedReply, error) {
	due := timestamppb.New(time.Now().Add(-150 * time.Minute))
	return &adminpb.ListExpectedReply{Expected: []*adminpb.Expected{{
		Name: c.name, File: c.name + "*.csv", Partner: "there", Rule: "in", State: "late", Late: []*adminpb.ExpectedFile{{Due: due, State: "late"}},
		Over: []*adminpb.ExpectedFile{{Due: due, State: "came late", At: due, Request: "00000100000000000000000000000001"}},
	}}}, nil
}

func (c timely) ListSchedules(context.Context, *adminpb.ListSchedulesRequest, ...grpc.CallOption) (*adminpb.ListSchedulesReply, error) {
	return &adminpb.ListSchedulesReply{Schedules: []*adminpb.Schedule{{
		Name: "nightly", Cron: "30 2 * * *", Zone: "Europe/Berlin", Source: c.name, Rule: "out", Partners: []string{"there"}, Next: timestamppb.New(time.Now().Add(150 * time.Minute)),
		Last: &adminpb.ScheduleRun{Due: timestamppb.New(time.Now().Add(-90 * time.Second)), Outcome: "failed", Why: c.name + " is refused"},
	}}}, nil
}

// timeless is a node that knows neither.
type timeless struct{ adminpb.AdminClient }

func (timeless) ListExpected(context.Context, *adminpb.ListExpectedRequest, ...grpc.CallOption) (*adminpb.ListExpectedReply, error) {
	return nil, status.Error(codes.Unimplemented, "none")
}

func (timeless) ListSchedules(context.Context, *adminpb.ListSchedulesRequest, ...grpc.CallOption) (*adminpb.ListSchedulesReply, error) {
	return nil, status.Error(codes.Unimplemented, "none")
}

// TestTimeless: of a node that knows neither expected files nor schedules the page says that there are none, as it does of one that has none.
func TestTimeless(t *testing.T) {
	s := newSite(t, func(c adminpb.AdminClient) adminpb.AdminClient { return timeless{c} })
	if a, text := s.do(http.MethodGet, "/times", ""); a.StatusCode != http.StatusOK || !strings.Contains(text, "[[expect]]") || !strings.Contains(text, "[[schedule]]") {
		t.Errorf("%s\n%s", a.Status, text)
	}
}

// TestTimes: the page has what is late and when schedules are due, without any HTML of a name; and a
// node that has neither says how one gets them.
func TestTimes(t *testing.T) {
	const hostile = `<script>alert(1)</script>`
	s := newSite(t, func(c adminpb.AdminClient) adminpb.AdminClient { return timely{c, hostile} })
	a, text := s.do(http.MethodGet, "/times", "")
	if a.StatusCode != http.StatusOK || strings.Contains(text, hostile) {
		t.Errorf("%s\n%s", a.Status, text)
	}
	for _, want := range []string{"Late", "was due 2 h ago", `href="/transfers/00000100000000000000000000000001"`, "nightly", "next in 2 h", "30 2 * * *, Europe/Berlin", "is refused", "Failed"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page has no %q:\n%s", want, text)
		}
	}
	if _, text := newSite(t).do(http.MethodGet, "/times", ""); !strings.Contains(text, "[[expect]]") || !strings.Contains(text, "[[schedule]]") {
		t.Errorf("without any: %s", text)
	}
	// A page that is open shows what becomes late.
	open := newSite(t, func(c adminpb.AdminClient) adminpb.AdminClient { return timely{c, "new-"} })
	for event, want := range map[string]string{"expected": "was due 2 h ago", "schedules": "nightly"} {
		if got := open.told("/live/times", event); !strings.Contains(got, want) || !strings.Contains(got, "new-") {
			t.Errorf("%s, live: %s", event, got)
		}
	}
	if _, page := open.do(http.MethodGet, "/times", ""); !strings.Contains(page, `sse-connect="/live/times"`) || !strings.Contains(page, `sse-swap="expected"`) || !strings.Contains(page, `sse-swap="schedules"`) {
		t.Errorf("the page does not follow it: %s", page)
	}
	s.as(nil)
	if a, _ := s.do(http.MethodGet, "/live/times", ""); a.StatusCode != http.StatusUnauthorized {
		t.Error(a.Status)
	}
	if a, _ := s.do(http.MethodGet, "/times", ""); a.StatusCode != http.StatusUnauthorized {
		t.Error(a.Status)
	}
}
