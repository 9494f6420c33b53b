package admin

import (
	"context"
	"math"
	"strings"
	"time"

	"google.golang.org/grpc"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/access"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/relpath"
)

// Submit implements adminpb.AdminServer, as do the others below.
func (s *Server) Submit(ctx context.Context, in *adminpb.SubmitRequest) (*adminpb.SubmitReply, error) {
	o, err := orderOf(in)
	if err != nil {
		return nil, err
	}
	if c := access.CallerOf(ctx); !c.MaySubmit(o.Rule) {
		return nil, fault.New("submit", fault.Permission, "%s may submit by other rules only: %s", c.Name, strings.Join(c.Rules, ", "))
	}
	if in.GetWait() != nil {
		waiting, leave, err := s.waiting(ctx, in.GetWait())
		if err != nil {
			return nil, err
		}
		defer leave()
		return s.submit(ctx, o, waiting)
	}
	return s.submit(ctx, o, nil)
}

// submit registers a request, and waits for it as long as waiting does, if it is not nil. From
// when it is registered nothing is an error: who got one would take it for not submitted.
func (s *Server) submit(ctx context.Context, o engine.Order, waiting context.Context) (*adminpb.SubmitReply, error) {
	r, made, err := s.cfg.Engine.Submit(ctx, o)
	if fault.KindOf(err) == fault.NoSpace {
		return nil, fault.New("submit", fault.NoSpace, "the node has no room to write the request down, and does not have it: make room on the file system of its state directory, and submit it again (%w)", err)
	}
	if err != nil {
		return nil, err
	}
	s.cfg.Log.Info("request submitted", "id", r.Key.ID.String(), "follow", r.Spec.Follow.String(), "partner", o.Partner, "rule", o.Rule, "made", made)
	var q *adminpb.Request
	if waiting != nil {
		q, _ = s.await(ctx, store.RefOf(&r), waiting)
	}
	if q == nil {
		q, err = shownRecord(ctx, r, nil)
	}
	return &adminpb.SubmitReply{Request: q, Made: made}, err
}

func orderOf(in *adminpb.SubmitRequest) (o engine.Order, err error) {
	const op = "submit"
	o = engine.Order{Partner: in.GetPartner(), Rule: in.GetRule(), Priority: int8(in.GetPriority()), Info: in.GetInfo(), Bandwidth: in.GetBandwidth()}
	if in.GetPriority() < math.MinInt8 || in.GetPriority() > math.MaxInt8 {
		return o, fault.New(op, fault.Invalid, "priority %d: -128 to 127 are allowed", in.GetPriority())
	}
	if o.Together = int(in.GetTogether()); o.Together < 0 {
		return o, fault.New(op, fault.Invalid, "%d requests together", o.Together)
	}
	if o.From, o.Asked = in.GetCopyFrom(), in.GetCopyBy(); o.From != "" {
		o.Rule = engine.ThirdRule(o.Rule)
	}
	if o.Partner == "" || o.Rule == "" {
		return o, fault.New(op, fault.Invalid, "partner and rule have to be said")
	}
	if o.ID, err = readID("id", in.GetId()); err != nil {
		return o, err
	}
	if o.Follow, err = readID("follow", in.GetFollow()); err != nil {
		return o, err
	}
	if o.NotAt, err = readTime("start time", in.GetNotBefore()); err != nil {
		return o, err
	}
	if o.Source, err = relpath.Parse(in.GetSource()); err != nil {
		return o, fault.Wrap("read source's name", in.GetSource(), err)
	}
	if in.GetTarget() != "" {
		if o.Target, err = relpath.Parse(in.GetTarget()); err != nil {
			return o, fault.Wrap("read target's name", in.GetTarget(), err)
		}
	}
	return o, nil
}

func (s *Server) Get(ctx context.Context, in *adminpb.Ref) (*adminpb.Request, error) {
	ref, err := s.resolve(ctx, in)
	if err != nil {
		return nil, err
	}
	st, err := s.cfg.Engine.Get(ctx, ref)
	if err != nil {
		return nil, err
	}
	return shownRequest(ctx, st), nil
}

func (s *Server) List(in *adminpb.ListRequest, out grpc.ServerStreamingServer[adminpb.Request]) error {
	q, err := queryOf(in)
	if err != nil {
		return err
	}
	q.Looked = s.looked(out.Context())
	for st, err := range s.cfg.Engine.Find(out.Context(), q) {
		if err != nil {
			return err
		}
		if err := out.Send(shownRequest(out.Context(), st)); err != nil {
			return err
		}
	}
	return nil
}

func queryOf(in *adminpb.ListRequest) (q store.Query, err error) {
	if in.GetLimit() < 0 {
		return q, fault.New("read query", fault.Invalid, "a limit of %d", in.GetLimit())
	}
	q = store.Query{Partner: in.GetPartner(), Rule: in.GetRule(), Limit: int(in.GetLimit())}
	for _, s := range in.GetStates() {
		if s <= 0 || s > adminpb.Request_DONE {
			return q, fault.New("read query", fault.Invalid, "no state has the number %d", s)
		}
		q.States = append(q.States, lifecycle.State(s))
	}
	if q.Follow, err = readID("follow", in.GetFollow()); err != nil {
		return q, err
	}
	q.Since, err = readTime("since", in.GetSince())
	return q, err
}

func (s *Server) Events(ctx context.Context, in *adminpb.Ref) (*adminpb.EventsReply, error) {
	ref, err := s.resolve(ctx, in)
	if err != nil {
		return nil, err
	}
	st, err := s.cfg.Engine.Get(ctx, ref) // for the side, by which phases are named
	if err != nil {
		return nil, err
	}
	all, err := s.cfg.Engine.Events(ctx, ref)
	if err != nil {
		return nil, err
	}
	reply := &adminpb.EventsReply{Events: make([]*adminpb.Event, len(all))}
	for i := range all {
		reply.Events[i] = shownEvent(ctx, all[i], st.Side)
	}
	return reply, nil
}

func (s *Server) Log(ctx context.Context, in *adminpb.Ref) (*adminpb.LogReply, error) {
	if s.cfg.Lines == nil {
		return nil, unsupported("log", "this node keeps no lines of its log")
	}
	ref, err := s.resolve(ctx, in)
	if err != nil {
		return nil, err
	}
	st, err := s.cfg.Engine.Get(ctx, ref)
	if err != nil {
		return nil, err
	}
	reply := &adminpb.LogReply{}
	for _, l := range s.cfg.Lines(ref.Key.ID.String(), st.Spec.Partner) {
		reply.Lines = append(reply.Lines, &adminpb.LogLine{At: timeOf(l.At), Level: l.Level.String(), Text: valid(l.Text)})
	}
	return reply, nil
}

func (s *Server) Explain(ctx context.Context, in *adminpb.Ref) (*adminpb.Explanation, error) {
	ref, err := s.resolve(ctx, in)
	if err != nil {
		return nil, err
	}
	e, err := s.cfg.Engine.Explain(ctx, ref)
	if err != nil {
		return nil, err
	}
	return shownExplanation(ctx, e), nil
}

func (s *Server) Pause(ctx context.Context, in *adminpb.Ref) (*adminpb.Request, error) {
	return s.word(ctx, "pause", in, s.cfg.Engine.Pause)
}

func (s *Server) Resume(ctx context.Context, in *adminpb.Ref) (*adminpb.Request, error) {
	return s.word(ctx, "resume", in, s.cfg.Engine.Resume)
}

func (s *Server) Retry(ctx context.Context, in *adminpb.Ref) (*adminpb.Request, error) {
	return s.word(ctx, "retry", in, s.cfg.Engine.Retry)
}

func (s *Server) Cancel(ctx context.Context, in *adminpb.CancelRequest) (*adminpb.Request, error) {
	return s.word(ctx, "cancel", in.GetRef(), func(ctx context.Context, ref store.Ref) (lifecycle.Record, error) {
		return s.cfg.Engine.Cancel(ctx, ref, in.GetWhy())
	})
}

// word is an operator's word on one request.
func (s *Server) word(ctx context.Context, what string, in *adminpb.Ref, say func(context.Context, store.Ref) (lifecycle.Record, error)) (*adminpb.Request, error) {
	ref, err := s.resolve(ctx, in)
	if err != nil {
		return nil, err
	}
	r, err := say(ctx, ref)
	said := []any{"word", what, "id", ref.Key.ID.String()}
	if err == nil {
		said = append(said, "follow", r.Spec.Follow.String())
	}
	s.cfg.Log.Info("operator", append(said, "error", err)...)
	return shownRecord(ctx, r, err)
}

func (s *Server) Purge(ctx context.Context, in *adminpb.PurgeRequest) (*adminpb.PurgeReply, error) {
	before, err := readTime("time", in.GetBefore())
	if err == nil && before.IsZero() {
		err = fault.New("purge", fault.Invalid, "say before which time")
	}
	if err != nil {
		return nil, err
	}
	n, err := s.cfg.Engine.Purge(ctx, before)
	failed := 0
	if err == nil && in.GetFailed() {
		failed, err = s.cfg.Engine.PurgeFailed(ctx, before)
		n += failed
	}
	if err != nil {
		return nil, err
	}
	s.cfg.Log.Info("purged", "requests", n, "failed", failed, "before", before.Format(time.RFC3339))
	return &adminpb.PurgeReply{Purged: int64(n)}, nil
}
