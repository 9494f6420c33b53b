package admin

import (
	"context"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

// Timeline implements adminpb.AdminServer.
func (s *Server) Timeline(ctx context.Context, in *adminpb.TimelineRequest) (*adminpb.TimelineReply, error) {
	ref, err := s.resolve(ctx, in.GetRef())
	if err != nil {
		return nil, err
	}
	t, err := s.cfg.Engine.Timeline(ctx, ref, !in.GetNow())
	if err != nil {
		return nil, err
	}
	reply := &adminpb.TimelineReply{Here: shownSteps(ctx, t.Here), Told: timeOf(t.Told), Asking: t.Asking, Partner: t.Partner}
	if !t.Told.IsZero() {
		reply.There = stepsOf(&t.There)
	}
	if t.Trouble != nil {
		reply.Trouble = clipped(fault.Help(t.Trouble))
	}
	return reply, nil
}

func stepsOf(x *engine.Steps) *adminpb.Steps {
	m := &adminpb.Steps{
		Side: adminpb.Request_Side(x.Side), State: adminpb.Request_State(x.State), Phase: x.Phase.Name(x.Side), Failing: x.Failing, Reason: valid(x.Reason),
		Attempt: x.Attempt, Durable: x.Rank, Size: x.Size, Failure: failureOf(&x.Failure, x.Side.Other()), Tasks: tasksOf(x.All, x.Done), Clock: timeOf(x.Clock),
		Changed: timeOf(x.Changed),
	}
	for p, at := range x.Reached {
		if !at.IsZero() {
			m.Reached = append(m.Reached, &adminpb.Reached{Phase: lifecycle.Phase(p).Name(x.Side), At: timeOf(at)})
		}
	}
	for _, t := range x.Tasks {
		m.Runs = append(m.Runs, &adminpb.TaskRun{List: t.List.String(), Number: uint32(t.Number), Began: timeOf(t.Began), Ended: timeOf(t.Ended), Failed: t.Failed, Warned: t.Warned})
	}
	return m
}

// tasksOf is how far those lists are that have tasks.
func tasksOf(all, done [3]uint8) (counts []*adminpb.TaskCount) {
	for l := lifecycle.PreList; l <= lifecycle.ErrorList; l++ {
		if all[l] > 0 {
			counts = append(counts, &adminpb.TaskCount{List: l.String(), Done: uint32(done[l]), All: uint32(all[l])})
		}
	}
	return counts
}
