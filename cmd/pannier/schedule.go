package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

func (c *console) scheduleCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "schedule", Short: "Schedules: requests that are made at times", Args: command.Arguments(0), RunE: command.Help}
	cmd.AddCommand(c.scheduleListCommand(), c.scheduleShowCommand(), c.scheduleRunCommand(), c.deleteCommand("schedule"))
	return cmd
}

func (c *console) scheduleListCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List schedules: when each is due, and what became of its last run",
		Args:  command.Arguments(0),
		RunE: c.run(func(ctx context.Context, cmd *cobra.Command, client *admin.Client, _ []string) error {
			reply, err := client.ListSchedules(ctx, &adminpb.ListSchedulesRequest{})
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), reply.GetSchedules()...)
			}
			return scheduleTable(c.view(cmd.OutOrStdout()), reply.GetSchedules()).Write(cmd.OutOrStdout())
		}),
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

func scheduleTable(v view, all []*adminpb.Schedule) command.Table {
	t := command.Table{Header: []string{"NAME", "CRON", "ZONE", "NEXT", "LAST", "OUTCOME", "REQUESTS", "RULE", "PARTNERS", "SOURCE", "ERROR"}, Align: "lccccc" + "rcccc"}
	for _, s := range all {
		last := s.GetLast()
		trouble := s.GetTrouble()
		if trouble == "" {
			trouble = last.GetWhy()
		}
		t.Rows = append(t.Rows, []string{
			s.GetName(), s.GetCron(), s.GetZone(), v.time(s.GetNext()), v.time(last.GetDue()), orDash(last.GetOutcome()), strconv.Itoa(int(last.GetRequests())),
			s.GetRule(), strings.Join(s.GetPartners(), ","), v.file(s.GetSource()), orDash(command.Printable(trouble)),
		})
	}
	return t
}

func (c *console) scheduleShowCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show NAME",
		Short: "Show a schedule, and when it is due next",
		Long: `Show a schedule, when it is due next, and its last run. What the last run's requests have
become, pannier ls --follow says with the id that is shown.`,
		Args:              command.Arguments(1),
		ValidArgsFunction: c.completeArgs(scheduleNames),
		RunE: c.run(func(ctx context.Context, cmd *cobra.Command, client *admin.Client, args []string) error {
			s, err := client.ShowSchedule(ctx, &adminpb.ShowScheduleRequest{Name: args[0]})
			if err != nil {
				return unknown(ctx, client, err, "schedule", args[0], scheduleNames)
			}
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), s)
			}
			return scheduleFields(c.view(cmd.OutOrStdout()), s).write(cmd.OutOrStdout())
		}),
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

func scheduleFields(v view, s *adminpb.Schedule) (f fields) {
	f.add("name", s.GetName())
	f.add("cron", s.GetCron())
	f.add("zone", s.GetZone())
	f.add("windows", strings.Join(s.GetWindows(), "; "))
	f.add("missed", s.GetMissed())
	f.add("overlap", s.GetOverlap())
	f.add("rule", s.GetRule()+" ("+s.GetDirection()+")")
	f.add("partners", strings.Join(s.GetPartners(), ", "))
	f.add("source", v.file(s.GetSource()))
	f.add("target", v.file(s.GetTarget()))
	f.add("since", v.time(s.GetSince()))
	for _, at := range s.GetUpcoming() {
		f.add("next", v.time(at))
	}
	for _, run := range s.GetPending() {
		f.add("under way", runText(v, run))
	}
	if last := s.GetLast(); last != nil {
		f.add("last", runText(v, last))
		f.add("follow", last.GetFollow())
	}
	f.add("error", s.GetTrouble())
	return f
}

// runText is a run in a line.
func runText(v view, run *adminpb.ScheduleRun) string {
	text := "due " + v.time(run.GetDue())
	if run.GetBy() != "" {
		text = "ordered by " + run.GetBy() + " " + v.time(run.GetDue())
	}
	if run.GetOutcome() != "" {
		text += fmt.Sprintf(": %s, %d requests", run.GetOutcome(), run.GetRequests())
	}
	if run.GetFailed() > 0 {
		text += fmt.Sprintf(", %d not", run.GetFailed())
	}
	if run.GetWhy() != "" {
		text += ": " + run.GetWhy()
	}
	return text
}

func (c *console) scheduleRunCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "run NAME",
		Short: "Make a run of a schedule now, besides those at its times",
		Long: `Make a run of a schedule now, besides those at its times, and return when its requests are
durable. Prints how many there are, and what pannier ls --follow finds them by. Exit code 1: not all could be
registered.`,
		Args:              command.Arguments(1),
		ValidArgsFunction: c.completeArgs(scheduleNames),
		RunE: c.run(func(ctx context.Context, cmd *cobra.Command, client *admin.Client, args []string) error {
			run, err := client.RunSchedule(ctx, &adminpb.RunScheduleRequest{Name: args[0]})
			if err != nil {
				return unknown(ctx, client, err, "schedule", args[0], scheduleNames)
			}
			if asJSON {
				err = writeJSON(cmd.OutOrStdout(), run)
			} else {
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d\t%s\n", run.GetRequests(), run.GetFollow())
			}
			if err == nil && run.GetOutcome() == "failed" {
				err = fault.New("run schedule", fault.Refused, "%s", run.GetWhy())
			}
			return err
		}),
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

func scheduleNames(ctx context.Context, client *admin.Client) (names []string, err error) {
	reply, err := client.ListSchedules(ctx, &adminpb.ListSchedulesRequest{})
	for _, s := range reply.GetSchedules() {
		names = append(names, s.GetName()+"\t"+s.GetCron())
	}
	return names, err
}
