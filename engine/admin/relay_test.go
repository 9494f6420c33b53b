package admin_test

import (
	"context"
	"math"
	"reflect"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/flow/relay"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

// relays is a node's share in memory.
type relays struct {
	all   []admin.Relay
	tried relay.Endpoint
}

func (r *relays) List() ([]admin.Relay, []admin.Policy) {
	return r.all, []admin.Policy{{Allow: relay.Allow{Partner: "there", Relay: "*", Dial: []string{"tcp://x:1"}}, Stats: relay.Stats{Opened: 7}}}
}

func (r *relays) Conns() []relay.ConnStats {
	return []relay.ConnStats{{ID: 3, Relay: "r", Partner: "there", Role: relay.Exit, From: "f", To: "tcp://x:1", Since: time.Unix(1, 0), ToPeer: 5, FromPeer: 6}}
}

func (r *relays) Try(_ context.Context, name string, to relay.Endpoint) ([]relay.Step, error) {
	r.tried = to
	return []relay.Step{{Name: "session", What: "there"}, {Name: "consent", Err: fault.FromPeer("relay", fault.Permission, "no")}}, nil
}

func (r *relays) Add(is relay.Relay) error {
	r.all = append(r.all, admin.Relay{Is: is, Added: true, Stats: relay.Stats{
		Name: is.Name, Bound: []string{"tcp://127.0.0.1:4"}, Trouble: fault.FromPeer("stream", fault.Permission, "relay: permission denied: why"), Session: true, Open: 1, Opened: 2, Refused: 3, Failed: 4, ToPeer: 5, FromPeer: 6, Sent: 7, Dropped: 8,
	}})
	return nil
}

func (r *relays) Remove(name string) (bool, error) {
	if name != "r" {
		return false, fault.New("remove relay", fault.NotFound, "there is no relay %q", name)
	}
	return true, nil
}

// TestRelays: what operators say of a relay arrives as the relay that they mean, and what
// the node says of it arrives at them.
func TestRelays(t *testing.T) {
	r := &relays{}
	n := newNode(t, func(c *admin.Config) { c.Relays = r })
	ctx := t.Context()
	in := &adminpb.Relay{
		Name: "r", Session: "there", Accept: []string{"tcp://127.0.0.1:4-5", "unix:///run/s"}, Mode: 0o660, At: "here", To: "tcp://x:6", Ports: map[uint32]string{5: `exec:["/bin/cat"]`},
		From: []string{"10.0.0.0/8"}, Limits: &adminpb.RelayLimits{Conns: 1, Opens: 2, Bytes: 3, Rate: 4, Life: durationpb.New(5), Idle: durationpb.New(6), Half: durationpb.New(-1), Datagram: 7, Sources: 8, Amplify: 9, Weight: 10},
	}
	got, err := n.AddRelay(ctx, in)
	if err != nil {
		t.Fatal(err)
	}
	want := proto.CloneOf(in)
	want.Added, want.Connected, want.Bound, want.Trouble = true, true, []string{"tcp://127.0.0.1:4"}, got.GetTrouble()
	want.Counts = &adminpb.RelayCounts{Open: 1, Opened: 2, Refused: 3, Failed: 4, ToPeer: 5, FromPeer: 6, Datagrams: 7, Dropped: 8}
	if !proto.Equal(got, want) || got.GetTrouble() != "permission denied at the partner: relay: why" {
		t.Errorf("%v, want %v", got, want)
	}
	limits := relay.Limits{Conns: 1, Opens: 2, Bytes: 3, Rate: 4, Life: 5, Idle: 6, Half: -1, Datagram: 7, Sources: 8, Amplify: 9, Weight: 10}
	if is := r.all[0].Is; !reflect.DeepEqual(is.Limits, limits) || is.Ports[5].Scheme != relay.Exec || len(is.From) != 1 || is.At != relay.Here || is.To.String() != in.To || is.Mode != 0o660 {
		t.Errorf("%+v", is)
	}
	reply, err := n.ListRelays(ctx, &adminpb.ListRelaysRequest{Connections: true})
	if err != nil || len(reply.GetRelays()) != 1 || len(reply.GetPolicy()) != 1 || reply.GetPolicy()[0].GetCounts().GetOpened() != 7 || len(reply.GetConnections()) != 1 || reply.GetConnections()[0].GetRole() != "exit" {
		t.Errorf("%v, %v", reply, err)
	}
	if reply, err := n.ListRelays(ctx, &adminpb.ListRelaysRequest{}); err != nil || len(reply.GetConnections()) != 0 {
		t.Errorf("%v, %v", reply, err)
	}
	steps, err := n.TestRelay(ctx, &adminpb.TestRelayRequest{Name: "r", To: "tcp://y:2"})
	if err != nil || len(steps.GetSteps()) != 2 || r.tried.Host != "y" {
		t.Fatalf("%v, %v, %v", steps, err, r.tried)
	}
	if f := steps.GetSteps()[1].GetFailure(); fault.Kind(f.GetKind()) != fault.Permission || f.GetSide() != "peer" || steps.GetSteps()[0].GetFailure() != nil {
		t.Errorf("%v", steps)
	}
	if reply, err := n.RemoveRelay(ctx, &adminpb.RemoveRelayRequest{Name: "r"}); err != nil || !reply.GetAdded() {
		t.Errorf("%v, %v", reply, err)
	}
	_, err = n.RemoveRelay(ctx, &adminpb.RemoveRelayRequest{Name: "s"})
	wantKind(t, err, fault.NotFound)
	for what, change := range map[string]func(*adminpb.Relay){
		"name": func(r *adminpb.Relay) { r.Name = "two words" }, "accept": func(r *adminpb.Relay) { r.Accept = []string{"tcp://host:1"} },
		"at": func(r *adminpb.Relay) { r.At = "their" }, "to": func(r *adminpb.Relay) { r.To = "x" }, "port": func(r *adminpb.Relay) { r.Ports[70000] = "tcp://x:1" },
		"mode": func(r *adminpb.Relay) { r.Mode = 0o4000 }, "header": func(r *adminpb.Relay) { r.ProxyProtocol = true },
		"port's": func(r *adminpb.Relay) { r.Ports[5] = "x" }, "from": func(r *adminpb.Relay) { r.From = []string{"x"} }, "nobody": func(r *adminpb.Relay) { r.Session = "" },
	} {
		bad := proto.CloneOf(in)
		change(bad)
		if _, err := n.AddRelay(ctx, bad); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%s: %v", what, err)
		}
	}
	if len(r.all) != 1 {
		t.Errorf("%d relays", len(r.all))
	}
	_, err = newNode(t).ListRelays(ctx, &adminpb.ListRelaysRequest{})
	wantKind(t, err, fault.Unsupported)
}

// TestRelayLimits: limits that a message has no room for stay beyond what a relay may have, at the same end, instead of
// becoming others.
func TestRelayLimits(t *testing.T) {
	for n, want := range map[int]int32{0: 0, -1: -1, math.MaxInt32: math.MaxInt32, math.MaxInt32 + 1: math.MaxInt32, math.MinInt32 - 1: math.MinInt32, 1<<32 + 1: math.MaxInt32} {
		l := admin.RelayLimits(relay.Limits{Conns: n, Opens: n, Datagram: n, Sources: n, Amplify: n, Weight: n})
		for _, got := range []int32{l.GetConns(), l.GetOpens(), l.GetDatagram(), l.GetSources(), l.GetAmplify(), l.GetWeight()} {
			if got != want {
				t.Errorf("%d becomes %d; want %d", n, got, want)
			}
		}
	}
}
