package admin_test

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

const someID = "0123456789abcdef0123456789abcdef"

// TestSubmit: what is asked for is what is registered; the same again is the same.
func TestSubmit(t *testing.T) {
	n := newNode(t)
	in := &adminpb.SubmitRequest{Id: someID, Partner: "there", Rule: "out", Source: "a/b", Target: "c", Priority: -3,
		NotBefore: timestamppb.New(time.Now().Add(time.Hour)), Follow: strings.Repeat("ab", 16), Info: "for you", Bandwidth: 5e6}
	reply, err := n.Submit(t.Context(), in)
	if err != nil || !reply.GetMade() {
		t.Fatal(reply, err)
	}
	r := reply.GetRequest()
	if r.Id != someID || r.Requester != "here" || r.Partner != "there" || r.Rule != "out" || r.Source != "a/b" || r.Target != "c" || r.Priority != -3 ||
		r.Follow != in.Follow || r.Info != "for you" || r.Bandwidth != 5e6 || r.State != adminpb.Request_TOSUBMIT || r.Side != adminpb.Request_SENDER ||
		r.Role != adminpb.Request_REQUESTER || r.Phase != "ACCEPTED" || r.Step != "NOTASK" || r.Reason != "scheduled" || r.Size != -1 ||
		!proto.Equal(r.NotBefore, in.NotBefore) || !proto.Equal(r.Due, in.NotBefore) {
		t.Error(r)
	}
	if again, err := n.Submit(t.Context(), in); err != nil || again.GetMade() || again.GetRequest().GetId() != someID {
		t.Error(again, err)
	}
	in.Info = "else"
	_, err = n.Submit(t.Context(), in)
	wantKind(t, err, fault.Exists)
}

// TestSubmitWaits: the answer waits until the request is final, or as long as was said; from when
// it is registered no answer is an error.
func TestSubmitWaits(t *testing.T) {
	n := newNode(t)
	in := &adminpb.SubmitRequest{Id: someID, Partner: "there", Rule: "out", Source: "a", Wait: durationpb.New(time.Millisecond)}
	reply, err := n.Submit(t.Context(), in)
	if err != nil || !reply.GetMade() || reply.GetRequest().GetState() != adminpb.Request_TOSUBMIT {
		t.Fatal(reply, err)
	}
	in.Wait = durationpb.New(time.Hour)
	ended := time.AfterFunc(20*time.Millisecond, func() {
		r := n.engine.Requests()[0]
		done(&r)
		n.engine.Set(r)
	})
	defer ended.Stop()
	reply, err = n.Submit(t.Context(), in)
	if err != nil || reply.GetMade() || reply.GetRequest().GetState() != adminpb.Request_DONE {
		t.Error(reply, err)
	}
	in.Id, in.Wait = strings.Repeat("cd", 16), durationpb.New(-1)
	_, err = n.Submit(t.Context(), in)
	wantKind(t, err, fault.Invalid)
	if len(n.engine.Requests()) != 1 {
		t.Error("registered, and refused")
	}
}

func TestSubmitRefuses(t *testing.T) {
	n := newNode(t)
	good := &adminpb.SubmitRequest{Partner: "there", Rule: "out", Source: "a"}
	for what, change := range map[string]func(*adminpb.SubmitRequest){
		"no partner":   func(r *adminpb.SubmitRequest) { r.Partner = "" },
		"no rule":      func(r *adminpb.SubmitRequest) { r.Rule = "" },
		"no source":    func(r *adminpb.SubmitRequest) { r.Source = "" },
		"outside":      func(r *adminpb.SubmitRequest) { r.Source = "../a" },
		"target":       func(r *adminpb.SubmitRequest) { r.Target = "/etc/passwd" },
		"priority":     func(r *adminpb.SubmitRequest) { r.Priority = 128 },
		"short id":     func(r *adminpb.SubmitRequest) { r.Id = "0123" },
		"no hex":       func(r *adminpb.SubmitRequest) { r.Follow = strings.Repeat("x", 32) },
		"no such time": func(r *adminpb.SubmitRequest) { r.NotBefore = &timestamppb.Timestamp{Nanos: -1} },
	} {
		in := proto.Clone(good).(*adminpb.SubmitRequest)
		change(in)
		if _, err := n.Submit(t.Context(), in); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%s: %v", what, err)
		}
	}
	if len(n.engine.Requests()) != 0 {
		t.Error("registered all the same")
	}
}

// TestEnumsAreTheLifecycles: the numbers are the same, and the names where both have one.
func TestEnumsAreTheLifecycles(t *testing.T) {
	for s := lifecycle.ToSubmit; s <= lifecycle.Done; s++ {
		if adminpb.Request_State(s).String() != s.String() {
			t.Error(s)
		}
	}
	for i, r := range []lifecycle.Role{lifecycle.Requester, lifecycle.Requested} {
		if got := adminpb.Request_Role(r).String(); got != strings.ToUpper(r.String()) {
			t.Error(i, got)
		}
	}
	for i, s := range []lifecycle.Side{lifecycle.Sender, lifecycle.Receiver} {
		if got := adminpb.Request_Side(s).String(); got != strings.ToUpper(s.String()) {
			t.Error(i, got)
		}
	}
	for i, d := range []engine.Direction{engine.Send, engine.Receive} {
		if got := adminpb.Rule_Direction(d).String(); got != strings.ToUpper(d.String()) {
			t.Error(i, got)
		}
	}
}

// TestGet: all of the record arrives, and what works on it.
func TestGet(t *testing.T) {
	n := newNode(t)
	at := time.Now().Add(-time.Minute)
	n.engine.Set(request(1, func(s *engine.Status) {
		s.State, s.Phase, s.Attempt, s.Round, s.Size, s.Rank = lifecycle.Interrupted, lifecycle.Acked, 3, 2, 100, 40
		s.Reason, s.Owner, s.Failing = lifecycle.Retrying, lifecycle.Requester, true
		s.Failure = lifecycle.Failure{Kind: fault.NoSpace, Side: fault.Peer, Cause: "disk \xff", At: at}
		s.Spec.Tasks, s.Tasks = [3]uint8{2, 0, 1}, [3]uint8{1, 0, 0}
		s.Live = &engine.Live{Doing: "moving bytes", Durable: 41, Received: 43, Total: 100, From: 40, Rate: 2.5, Limit: "disk", Output: "\xff"}
	}))
	r, err := n.Get(t.Context(), &adminpb.Ref{Id: "01AA"})
	if err != nil {
		t.Fatal(err)
	}
	if r.Phase != "ACKED" || r.Step != "ERRORTASK" || r.Reason != "retrying" || r.Owner != adminpb.Request_REQUESTER || r.Attempt != 3 || r.Round != 2 ||
		r.Size != 100 || r.Durable != 41 || len(r.Tasks) != 2 || r.Tasks[0].List != "pre" || r.Tasks[0].Done != 1 || r.Tasks[1].List != "error" {
		t.Error(r)
	}
	if f := r.Failure; f.Kind != uint32(fault.NoSpace) || f.Name != "no space" || f.Side != "peer" || f.Cause != "disk ?" || !f.At.AsTime().Equal(at) {
		t.Error(f)
	}
	if l := r.Live; l.Doing != "moving bytes" || l.Durable != 41 || l.Received != 43 || l.Total != 100 || l.From != 40 || l.Rate != 2.5 || l.Limit != "disk" || l.Output != "?" {
		t.Error(l)
	}
}

// TestRef: a prefix will do if it is of one request; a whole id may be of two nodes'
// requests, and then the requester has to be said.
func TestRef(t *testing.T) {
	n := newNode(t)
	twin := func(requester string, role lifecycle.Role) func(*engine.Status) {
		return func(s *engine.Status) { s.Key.Requester, s.Role = requester, role }
	}
	n.engine.Set(request(1))
	n.engine.Set(request(2))
	n.engine.Set(request(2, func(s *engine.Status) { s.Key.ID[15] = 9 }))
	n.engine.Set(request(3))
	n.engine.Set(request(3, twin("there", lifecycle.Requested)))
	n.engine.Set(request(4))
	n.engine.Set(request(4, twin("here", lifecycle.Requested))) // to itself
	n.engine.Set(request(5, twin("left", lifecycle.Requested))) // not a partner any more
	whole := func(i byte) string { return request(i).Key.ID.String() }
	for _, c := range []struct {
		ref  *adminpb.Ref
		kind fault.Kind // 0: found
		want string     // requester and role, or what the error says
	}{
		{&adminpb.Ref{Id: "01aa"}, 0, "here REQUESTER"},
		{&adminpb.Ref{Id: whole(1)}, 0, "here REQUESTER"},
		{&adminpb.Ref{Id: "01a"}, fault.Invalid, "at least 4"},
		{&adminpb.Ref{Id: ""}, fault.Invalid, "at least 4"},
		{&adminpb.Ref{Id: "01ag"}, fault.Invalid, "hexadecimal"},
		{&adminpb.Ref{Id: whole(1) + "0"}, fault.Invalid, "hexadecimal"},
		{&adminpb.Ref{Id: "09aa"}, fault.NotFound, "09aa"},
		{&adminpb.Ref{Id: whole(9)}, fault.NotFound, whole(9)},
		{&adminpb.Ref{Id: "02aa"}, fault.Invalid, whole(2) + "@here"},
		{&adminpb.Ref{Id: whole(2)}, 0, "here REQUESTER"},
		{&adminpb.Ref{Id: whole(3)}, fault.Invalid, whole(3) + "@there"},
		{&adminpb.Ref{Id: "03aa", Requester: "there"}, 0, "there REQUESTED"},
		{&adminpb.Ref{Id: whole(3), Requester: "here"}, 0, "here REQUESTER"},
		{&adminpb.Ref{Id: whole(4)}, 0, "here REQUESTER"},
		{&adminpb.Ref{Id: "04aa", Role: adminpb.Request_REQUESTED}, 0, "here REQUESTED"},
		{&adminpb.Ref{Id: whole(5)}, 0, "left REQUESTED"},
	} {
		r, err := n.Get(t.Context(), c.ref)
		if c.kind != 0 {
			if fault.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v: %v; want %v with %q", c.ref, err, c.kind, c.want)
			}
		} else if got := r.GetRequester() + " " + r.GetRole().String(); err != nil || got != c.want {
			t.Errorf("%v: %q, %v; want %q", c.ref, got, err, c.want)
		}
	}
}

func TestList(t *testing.T) {
	n := newNode(t)
	n.engine.Set(request(1))
	n.engine.Set(request(2, done))
	n.engine.Set(request(3, done, func(s *engine.Status) { s.Spec.Partner, s.Changed = "far", time.Now().Add(-time.Hour) }))
	for _, c := range []struct {
		query *adminpb.ListRequest
		want  string
	}{
		{&adminpb.ListRequest{}, "010203"},
		{&adminpb.ListRequest{Limit: 2}, "0102"},
		{&adminpb.ListRequest{States: []adminpb.Request_State{adminpb.Request_DONE}}, "0203"},
		{&adminpb.ListRequest{Partner: "far"}, "03"},
		{&adminpb.ListRequest{Rule: "in"}, ""},
		{&adminpb.ListRequest{Since: timestamppb.New(time.Now().Add(-time.Minute))}, "0102"},
		{&adminpb.ListRequest{Follow: someID}, ""},
	} {
		s, err := n.List(t.Context(), c.query)
		got := ""
		for _, r := range all(t, s, err) {
			got += r.Id[:2]
		}
		if got != c.want {
			t.Errorf("%v: %s, want %s", c.query, got, c.want)
		}
	}
	for _, q := range []*adminpb.ListRequest{{Limit: -1}, {States: []adminpb.Request_State{9}}, {Follow: "x"}} {
		s, err := n.List(t.Context(), q)
		if err == nil {
			_, err = s.Recv()
		}
		wantKind(t, err, fault.Invalid)
	}
}

func TestEvents(t *testing.T) {
	n := newNode(t)
	r := request(1)
	n.engine.Set(r)
	n.engine.SetEvents(refOf(r), store.Entry{Seq: 7, At: time.Now(), Event: "Advance", State: lifecycle.Running, Phase: lifecycle.Ended, Rank: 5, Attempt: 2})
	reply, err := n.Client.Events(t.Context(), &adminpb.Ref{Id: "01aa"})
	if err != nil || len(reply.Events) != 1 {
		t.Fatal(reply, err)
	}
	if e := reply.Events[0]; e.Seq != 7 || e.Event != "Advance" || e.Phase != "ENDED" || e.Durable != 5 || e.Attempt != 2 || e.State != adminpb.Request_RUNNING {
		t.Error(e)
	}
}

// TestWords: an operator's words reach the record, and a refusal comes back.
func TestWords(t *testing.T) {
	n := newNode(t)
	n.engine.Set(request(1))
	ref := &adminpb.Ref{Id: "01aa"}
	for _, c := range []struct {
		what string
		say  func() (*adminpb.Request, error)
		kind fault.Kind
		want adminpb.Request_State
	}{
		{"retry what is well", func() (*adminpb.Request, error) { return n.Retry(t.Context(), ref) }, fault.Invalid, 0},
		{"pause", func() (*adminpb.Request, error) { return n.Pause(t.Context(), ref) }, 0, adminpb.Request_INTERRUPTED},
		{"resume", func() (*adminpb.Request, error) { return n.Resume(t.Context(), ref) }, 0, adminpb.Request_TOSUBMIT},
		{"cancel", func() (*adminpb.Request, error) {
			return n.Cancel(t.Context(), &adminpb.CancelRequest{Ref: ref, Why: "no"})
		}, 0, adminpb.Request_INERROR},
		{"retry", func() (*adminpb.Request, error) { return n.Retry(t.Context(), ref) }, 0, adminpb.Request_TOSUBMIT},
	} {
		r, err := c.say()
		if c.kind != 0 {
			wantKind(t, err, c.kind)
		} else if err != nil || r.State != c.want {
			t.Errorf("%s: %v %v", c.what, r, err)
		}
		if c.what == "cancel" && r.GetFailure().GetCause() != "no" {
			t.Error(r)
		}
	}
}

func TestPurge(t *testing.T) {
	n := newNode(t)
	n.engine.Set(request(1, done, func(s *engine.Status) { s.Changed = time.Now().Add(-48 * time.Hour) }))
	_, err := n.Purge(t.Context(), &adminpb.PurgeRequest{})
	wantKind(t, err, fault.Invalid)
	if r, err := n.Purge(t.Context(), &adminpb.PurgeRequest{Before: timestamppb.Now()}); err != nil || r.Purged != 1 {
		t.Error(r, err)
	}
	n.engine.Set(request(2, func(s *engine.Status) { s.State, s.Changed = lifecycle.InError, time.Now().Add(-48*time.Hour) }))
	for _, failed := range []bool{false, true} {
		if r, err := n.Purge(t.Context(), &adminpb.PurgeRequest{Before: timestamppb.Now(), Failed: failed}); err != nil || (r.Purged == 1) != failed {
			t.Error(failed, r, err)
		}
	}
}
