package admin_test

import (
	"context"
	"os"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/access"
	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

// next is the next change of a stream.
func next(t *testing.T, s grpc.ServerStreamingClient[adminpb.Change]) *adminpb.Request {
	t.Helper()
	c, err := s.Recv()
	if err != nil {
		t.Fatal(err)
	}
	return c.GetRequest()
}

// TestWatchAll: first what is not final, then changes, until the caller has enough.
func TestWatchAll(t *testing.T) {
	n := newNode(t)
	n.engine.Set(request(1))
	n.engine.Set(request(2, done))
	ctx, cancel := context.WithCancel(t.Context())
	s, err := n.Watch(ctx, &adminpb.WatchRequest{Query: &adminpb.ListRequest{Partner: "there"}})
	if err != nil {
		t.Fatal(err)
	}
	if r := next(t, s); r.Id[:2] != "01" {
		t.Error(r)
	}
	n.engine.Set(request(3, func(s *engine.Status) { s.Spec.Partner = "far" }))
	n.engine.Set(request(4, func(s *engine.Status) { s.Live = &engine.Live{Doing: "moving bytes"} }))
	if r := next(t, s); r.Id[:2] != "04" || r.Live.GetDoing() != "moving bytes" {
		t.Error(r)
	}
	cancel()
	_, err = s.Recv()
	wantKind(t, err, fault.Canceled)
}

// TestWatchBegins: from its header on a watch tells what ends, for callers elsewhere and in this process.
func TestWatchBegins(t *testing.T) {
	n := newNode(t)
	for i, client := range []adminpb.AdminClient{n.Client, n.server.Local()} {
		ctx, cancel := context.WithCancel(access.With(t.Context(), access.Local(os.Getuid())))
		s, err := client.Watch(ctx, &adminpb.WatchRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Header(); err != nil {
			t.Fatal(err)
		}
		r := request(byte(10+i), done)
		n.engine.Set(r)
		if got := next(t, s); got.Id != r.Key.ID.String() {
			t.Error(got)
		}
		cancel()
		_, err = s.Recv()
		wantKind(t, admin.FromStatus(err), fault.Canceled)
	}
}

// TestWatchSome ends when all that are watched are final, also those that were before;
// each end is told once.
func TestWatchSome(t *testing.T) {
	n := newNode(t)
	n.engine.Set(request(1))
	n.engine.Set(request(2, done))
	n.engine.Set(request(3))
	n.engine.Set(request(4))
	s, err := n.Watch(t.Context(), &adminpb.WatchRequest{Refs: []*adminpb.Ref{{Id: "01aa"}, {Id: "02aa"}, {Id: "04aa"}}})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for range 3 { // in any order
		r := next(t, s)
		seen[r.Id[:2]+r.State.String()]++
	}
	if seen["01TOSUBMIT"] != 1 || seen["02DONE"] != 1 || seen["04TOSUBMIT"] != 1 {
		t.Fatal(seen)
	}
	n.engine.Set(request(3, done))
	n.engine.Set(request(1, func(s *engine.Status) { s.State, s.Due = lifecycle.InError, time.Time{} }))
	if r := next(t, s); r.Id[:2] != "01" || r.State != adminpb.Request_INERROR {
		t.Error(r)
	}
	time.Sleep(10 * time.Millisecond) // for a second word about it, were there one
	n.engine.Set(request(4, done))
	rest := all(t, s, nil)
	if len(rest) != 1 || rest[0].GetRequest().GetId()[:2] != "04" {
		t.Error(rest)
	}
}

func TestWatchRefuses(t *testing.T) {
	n := newNode(t)
	for kind, in := range map[fault.Kind]*adminpb.WatchRequest{
		fault.NotFound: {Refs: []*adminpb.Ref{{Id: "0000"}}},
		fault.Invalid:  {Query: &adminpb.ListRequest{Limit: -1}},
		fault.TooLong:  {Refs: make([]*adminpb.Ref, 1001)},
	} {
		for i := range in.Refs {
			if in.Refs[i] == nil {
				in.Refs[i] = &adminpb.Ref{}
			}
		}
		s, err := n.Watch(t.Context(), in)
		if err == nil {
			_, err = s.Recv()
		}
		wantKind(t, err, kind)
	}
}

// TestWait answers with the state that is, when the time is over.
func TestWait(t *testing.T) {
	n := newNode(t)
	n.engine.Set(request(1))
	ref := &adminpb.Ref{Id: "01aa"}
	r, err := n.Wait(t.Context(), &adminpb.WaitRequest{Ref: ref, Timeout: durationpb.New(time.Millisecond)})
	if err != nil || r.State != adminpb.Request_TOSUBMIT {
		t.Fatal(r, err)
	}
	_, err = n.Wait(t.Context(), &adminpb.WaitRequest{Ref: ref, Timeout: durationpb.New(-1)})
	wantKind(t, err, fault.Invalid)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, err = n.Wait(ctx, &adminpb.WaitRequest{Ref: ref})
	wantKind(t, err, fault.Deadline)
	n.engine.Set(request(1, done))
	if r, err = n.Wait(t.Context(), &adminpb.WaitRequest{Ref: ref}); err != nil || r.State != adminpb.Request_DONE {
		t.Error(r, err)
	}
}

// TestCloseEndsWhatWaits: a daemon that goes down does not wait for those who wait.
func TestCloseEndsWhatWaits(t *testing.T) {
	n := newNode(t)
	n.engine.Set(request(1))
	s, err := n.Watch(t.Context(), &adminpb.WatchRequest{Refs: []*adminpb.Ref{{Id: "01aa"}}})
	if err != nil {
		t.Fatal(err)
	}
	next(t, s)
	waited := make(chan error, 1)
	go func() {
		_, err := n.Wait(t.Context(), &adminpb.WaitRequest{Ref: &adminpb.Ref{Id: "01aa"}})
		waited <- err
	}()
	time.Sleep(20 * time.Millisecond) // most likely the call is under way; if not, it is refused as well
	n.server.Close()
	_, err = s.Recv()
	wantKind(t, err, fault.Draining)
	if k := fault.KindOf(<-waited); k != fault.Draining && k != fault.Lost {
		t.Error(k)
	}
}
