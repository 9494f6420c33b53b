package admin

import (
	"context"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/pannier/pannier/engine/schedule"
	"github.com/pannier/pannier/spec/adminpb"
)

// Schedules are what a node does at times; *schedule.Runner is one. Errors are NotFound
// without one of that name.
type Schedules interface {
	List() ([]schedule.Status, error) // by name
	Show(name string) (schedule.Status, error)
	Run(ctx context.Context, name, by string) (schedule.Status, schedule.Run, error)
}

// upcoming is how many times ShowSchedule tells.
const upcoming = 5

func (s *Server) schedules() (Schedules, error) {
	if s.cfg.Schedules == nil {
		return nil, unsupported("find schedules", "this node has none")
	}
	return s.cfg.Schedules, nil
}

// ListSchedules implements adminpb.AdminServer.
func (s *Server) ListSchedules(context.Context, *adminpb.ListSchedulesRequest) (*adminpb.ListSchedulesReply, error) {
	r, err := s.schedules()
	if err != nil {
		return nil, err
	}
	all, err := r.List()
	reply := &adminpb.ListSchedulesReply{}
	for i := range all {
		reply.Schedules = append(reply.Schedules, scheduleOf(&all[i]))
	}
	return reply, err
}

// ShowSchedule implements adminpb.AdminServer.
func (s *Server) ShowSchedule(_ context.Context, in *adminpb.ShowScheduleRequest) (*adminpb.Schedule, error) {
	r, err := s.schedules()
	if err != nil {
		return nil, err
	}
	st, err := r.Show(in.GetName())
	if err != nil {
		return nil, err
	}
	m := scheduleOf(&st)
	for at := st.Next; len(m.Upcoming) < upcoming && !at.IsZero(); at = st.Schedule.Times.Next(at) {
		m.Upcoming = append(m.Upcoming, timestamppb.New(at))
	}
	return m, nil
}

// RunSchedule implements adminpb.AdminServer.
func (s *Server) RunSchedule(ctx context.Context, in *adminpb.RunScheduleRequest) (*adminpb.ScheduleRun, error) {
	r, err := s.schedules()
	if err != nil {
		return nil, err
	}
	st, run, err := r.Run(ctx, in.GetName(), Who(ctx))
	if err != nil {
		return nil, err
	}
	return runOf(&st, &run), nil
}

func scheduleOf(s *schedule.Status) *adminpb.Schedule {
	is := &s.Schedule
	m := &adminpb.Schedule{
		Name: is.Name, Cron: is.Times.Cron.String(), Zone: is.Times.ZoneName(), Missed: is.Missed.String(), Overlap: is.Overlap.String(), Rule: is.Rule, Direction: is.Direction().String(),
		Partners: is.Partners, Source: is.Source, Target: is.Target, Since: timeOf(s.Since), Next: timeOf(s.Next), Trouble: clipped(s.Trouble),
	}
	for i := range is.Times.Windows {
		m.Windows = append(m.Windows, is.Times.Windows[i].String())
	}
	if !s.Last.Due.IsZero() {
		m.Last = runOf(s, &s.Last)
	}
	for i := range s.Pending {
		m.Pending = append(m.Pending, runOf(s, &s.Pending[i]))
	}
	return m
}

func runOf(s *schedule.Status, run *schedule.Run) *adminpb.ScheduleRun {
	return &adminpb.ScheduleRun{
		Due: timeOf(run.Due), By: run.By, At: timeOf(run.At), Outcome: run.What.String(), Requests: int32(run.Requests), Failed: int32(run.Failed),
		Why: clipped(run.Why), Follow: s.Follow(run).String(),
	}
}
