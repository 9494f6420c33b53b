package admin

import (
	"context"
	"errors"
	"io/fs"
	"math"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/flow/relay"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

// Relays is a node's share in relays.
type Relays interface {
	// List is the relays, by name, and the entries of the policy, in order.
	List() ([]Relay, []Policy)
	// Conns is the connections that are open, the oldest first.
	Conns() []relay.ConnStats
	// Try makes each step of a connection, to another destination unless that is zero.
	Try(ctx context.Context, name string, to relay.Endpoint) ([]relay.Step, error)
	// Add begins a relay that lasts until the node ends.
	Add(r relay.Relay) error
	// Remove ends a relay, and says whether it had been added.
	Remove(name string) (added bool, err error)
}

// Relay is a relay and how it is doing.
type Relay struct {
	Is    relay.Relay
	Added bool // by Relays.Add
	relay.Stats
}

// Policy is an entry of the policy and what it has let in.
type Policy struct {
	relay.Allow
	relay.Stats
}

func (s *Server) relays() (Relays, error) {
	if s.cfg.Relays == nil {
		return nil, unsupported("relays", "this node has none")
	}
	return s.cfg.Relays, nil
}

func (s *Server) ListRelays(_ context.Context, in *adminpb.ListRelaysRequest) (*adminpb.ListRelaysReply, error) {
	r, err := s.relays()
	if err != nil {
		return nil, err
	}
	all, policy := r.List()
	reply := &adminpb.ListRelaysReply{}
	for i := range all {
		reply.Relays = append(reply.Relays, relayOf(&all[i]))
	}
	for i := range policy {
		p := &policy[i]
		reply.Policy = append(reply.Policy, &adminpb.RelayPolicy{
			Partner: p.Partner, Relay: p.Relay, Dial: p.Dial, Listen: p.Listen, Limits: RelayLimits(p.Limits), Counts: countsOf(&p.Stats), ProxyProtocol: p.ProxyProtocol,
		})
	}
	if in.GetConnections() {
		for _, c := range r.Conns() {
			reply.Connections = append(reply.Connections, &adminpb.RelayConnection{
				Id: c.ID, Relay: valid(c.Relay), Partner: c.Partner, Role: string(c.Role), From: valid(c.From), To: valid(c.To), Since: timeOf(c.Since),
				ToPeer: c.ToPeer, FromPeer: c.FromPeer,
			})
		}
	}
	return reply, nil
}

func (s *Server) TestRelay(ctx context.Context, in *adminpb.TestRelayRequest) (*adminpb.TestRelayReply, error) {
	r, err := s.relays()
	if err != nil {
		return nil, err
	}
	var to relay.Endpoint
	if in.GetTo() != "" {
		if to, err = relay.ParseTo(in.GetTo()); err != nil {
			return nil, err
		}
	}
	steps, err := r.Try(ctx, in.GetName(), to)
	if err != nil {
		return nil, err
	}
	reply := &adminpb.TestRelayReply{}
	for _, step := range steps {
		p := &adminpb.RelayStep{Step: step.Name, What: valid(step.What)}
		if step.Err != nil {
			p.Failure = problemOf(step.Err)
		}
		reply.Steps = append(reply.Steps, p)
	}
	return reply, nil
}

func (s *Server) AddRelay(_ context.Context, in *adminpb.Relay) (*adminpb.Relay, error) {
	r, err := s.relays()
	if err != nil {
		return nil, err
	}
	is, err := readRelay(in)
	if err != nil {
		return nil, err
	}
	if err := r.Add(is); err != nil {
		return nil, err
	}
	s.cfg.Log.Info("relay added", "relay", is.Name, "partner", is.Partner)
	all, _ := r.List()
	for i := range all {
		if all[i].Is.Name == is.Name {
			return relayOf(&all[i]), nil
		}
	}
	return relayOf(&Relay{Is: is, Added: true}), nil // and removed again meanwhile
}

func (s *Server) RemoveRelay(_ context.Context, in *adminpb.RemoveRelayRequest) (*adminpb.RemoveRelayReply, error) {
	r, err := s.relays()
	if err != nil {
		return nil, err
	}
	added, err := r.Remove(in.GetName())
	if err != nil {
		return nil, err
	}
	s.cfg.Log.Info("relay removed", "relay", in.GetName())
	return &adminpb.RemoveRelayReply{Added: added}, nil
}

// problemOf is what an operator may read of an error: all of it.
func problemOf(err error) *adminpb.Failure {
	f := lifecycle.Failure{Kind: fault.KindOf(err), Cause: fault.Brief(err), At: time.Now()}
	var known *fault.Error
	if errors.As(err, &known) {
		f.Side = known.Side
	}
	return failureOf(&f, 0)
}

func relayOf(r *Relay) *adminpb.Relay {
	q := &adminpb.Relay{
		Name: r.Is.Name, Session: r.Is.Partner, At: r.Is.At.String(), To: r.Is.To.String(), Limits: RelayLimits(r.Is.Limits), Added: r.Added,
		Connected: r.Session, Counts: countsOf(&r.Stats), Mode: uint32(r.Is.Mode), Resume: r.Is.Resume, ProxyProtocol: r.Is.ProxyProtocol,
	}
	if r.Trouble != nil {
		q.Trouble = clipped(Problem(problemOf(r.Trouble)))
	}
	for _, e := range r.Is.Accept {
		q.Accept = append(q.Accept, e.String())
	}
	for port, to := range r.Is.Ports {
		if q.Ports == nil {
			q.Ports = map[uint32]string{}
		}
		q.Ports[uint32(port)] = to.String()
	}
	for _, p := range r.Is.From {
		q.From = append(q.From, p.String())
	}
	for _, at := range r.Bound { // a partner's word
		q.Bound = append(q.Bound, valid(at))
	}
	return q
}

func countsOf(s *relay.Stats) *adminpb.RelayCounts {
	return &adminpb.RelayCounts{
		Open: int32(s.Open), Opened: s.Opened, Refused: s.Refused, Failed: s.Failed, ToPeer: s.ToPeer, FromPeer: s.FromPeer, Datagrams: s.Sent, Dropped: s.Dropped,
	}
}

// RelayLimits are the limits of a relay as a message has them. A number that is too large for one stays too large
// for a relay, and is refused as that.
func RelayLimits(l relay.Limits) *adminpb.RelayLimits {
	number := func(n int) int32 { return int32(min(max(n, math.MinInt32), math.MaxInt32)) }
	return &adminpb.RelayLimits{
		Conns: number(l.Conns), Opens: number(l.Opens), Bytes: l.Bytes, Rate: l.Rate, Life: durationpb.New(l.Life), Idle: durationpb.New(l.Idle), Half: durationpb.New(l.Half),
		Datagram: number(l.Datagram), Sources: number(l.Sources), Amplify: number(l.Amplify), Weight: number(l.Weight),
	}
}

func readLimits(l *adminpb.RelayLimits) relay.Limits {
	return relay.Limits{
		Conns: int(l.GetConns()), Opens: int(l.GetOpens()), Bytes: l.GetBytes(), Rate: l.GetRate(), Life: l.GetLife().AsDuration(), Idle: l.GetIdle().AsDuration(),
		Half: l.GetHalf().AsDuration(), Datagram: int(l.GetDatagram()), Sources: int(l.GetSources()), Amplify: int(l.GetAmplify()), Weight: int(l.GetWeight()),
	}
}

// readRelay is what an operator wants a relay to be. Errors are Invalid.
func readRelay(in *adminpb.Relay) (r relay.Relay, err error) {
	r = relay.Relay{Name: in.GetName(), Partner: in.GetSession(), Mode: fs.FileMode(in.GetMode()), Resume: in.GetResume(), ProxyProtocol: in.GetProxyProtocol(), Limits: readLimits(in.GetLimits())}
	switch in.GetAt() {
	case "", relay.Here.String():
	case relay.There.String():
		r.At = relay.There
	default:
		return r, fault.New("read relay", fault.Invalid, "at is %q; it is here or there", in.GetAt())
	}
	for _, text := range in.GetAccept() {
		e, err := relay.ParseAccept(text)
		if err != nil {
			return r, err
		}
		r.Accept = append(r.Accept, e)
	}
	if in.GetTo() != "" {
		if r.To, err = relay.ParseTo(in.GetTo()); err != nil {
			return r, err
		}
	}
	for port, text := range in.GetPorts() {
		if port < 1 || port > 65535 {
			return r, fault.New("read relay", fault.Invalid, "%d is no port", port)
		}
		e, err := relay.ParseTo(text)
		if err != nil {
			return r, err
		}
		if r.Ports == nil {
			r.Ports = map[uint16]relay.Endpoint{}
		}
		r.Ports[uint16(port)] = e
	}
	for _, text := range in.GetFrom() {
		p, err := relay.ParseFrom(text)
		if err != nil {
			return r, err
		}
		r.From = append(r.From, p)
	}
	return r, r.Check()
}
