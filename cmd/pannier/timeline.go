package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/spec/adminpb"
)

func (c *console) timelineCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "timeline ID",
		Short: "Show the steps of a request at both ends, and when they were done",
		Long: `Show the steps of a request at both ends, and when they were done.

The other end is asked for its own. Times are by the clock of the end that has the step.
Where it does not answer, the command says so, and shows this end alone.`,
		Example: `  pannier timeline 3f2a
  pannier timeline 3f2a --json`,
		Args:              command.Arguments(1),
		ValidArgsFunction: c.completeArgs(requestIDs),
		RunE: c.run(func(ctx context.Context, cmd *cobra.Command, client *admin.Client, args []string) error {
			t, err := client.Timeline(ctx, &adminpb.TimelineRequest{Ref: refOf(args[0])})
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), t)
			}
			if t.GetTrouble() != "" {
				fmt.Fprintln(cmd.ErrOrStderr(), command.Printable(t.GetPartner()+" tells nothing now: "+t.GetTrouble()))
			}
			return timelineTable(c.view(cmd.OutOrStdout()), t).Write(cmd.OutOrStdout())
		}),
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

// timelineTable is the ends, one after the other, the sender first.
func timelineTable(v view, t *adminpb.TimelineReply) command.Table {
	table := command.Table{Header: []string{"END", "STEP", "TIME", "TOOK", "ERROR"}, Align: "lllrc"}
	here, there := stepRows(v, "here", t.GetHere()), stepRows(v, t.GetPartner(), t.GetThere())
	if t.GetHere().GetSide() == adminpb.Request_RECEIVER {
		here, there = there, here
	}
	table.Rows = slices.Concat(here, there)
	return table
}

// stepRows are an end's phases and tasks by their times, and then how it is, and since when.
func stepRows(v view, end string, x *adminpb.Steps) (rows [][]string) {
	if x == nil {
		return nil
	}
	type row struct {
		at   *timestamppb.Timestamp
		text []string
	}
	var all []row
	for _, r := range x.GetReached() {
		all = append(all, row{r.GetAt(), []string{end, r.GetPhase(), v.time(r.GetAt()), "", ""}})
	}
	for _, r := range x.GetRuns() {
		took, failed := "", cmpOr(r.GetFailed(), "failed", cmpOr(r.GetWarned(), "warning", ""))
		if r.GetEnded() != nil {
			took = strconv.FormatFloat(r.GetEnded().AsTime().Sub(r.GetBegan().AsTime()).Seconds(), 'f', 3, 64) + " s"
		}
		all = append(all, row{r.GetBegan(), []string{end, r.GetList() + " task " + strconv.Itoa(int(r.GetNumber())), v.time(r.GetBegan()), took, failed}})
	}
	slices.SortStableFunc(all, func(a, b row) int {
		return cmp.Or(cmp.Compare(a.at.GetSeconds(), b.at.GetSeconds()), cmp.Compare(a.at.GetNanos(), b.at.GetNanos()))
	})
	for _, r := range all {
		rows = append(rows, r.text)
	}
	state := strings.TrimSuffix(x.GetState().String()+", "+x.GetReason(), ", ")
	return append(rows, []string{end, state, v.time(x.GetChanged()), "", admin.Problem(x.GetFailure())})
}
