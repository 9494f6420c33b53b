package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/spec/adminpb"
)

func (c *console) watchCommand() *cobra.Command {
	var f queryFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "watch [ID...]",
		Short: "Follow requests as they change",
		Long: `Follow requests as they change.

With ids: how they are doing, until all are over; into a pipe or a file a line for each
change that shows. The exit code is that of what failed. Without: a line for each change of every request that the flags select, first
of those that are not over, until Ctrl-C.`,
		Example: `  pannier watch 3f2a
  pannier watch --partner hostb --json`,
		ValidArgsFunction: c.completeArgs(requestIDs),
		RunE: c.run(func(ctx context.Context, cmd *cobra.Command, client *admin.Client, args []string) error {
			if len(args) == 0 {
				return c.watchAll(ctx, cmd, client, &f, asJSON)
			}
			var all []*adminpb.Request
			for _, ref := range refsOf(args) {
				r, err := client.Get(ctx, ref)
				if err != nil {
					return err
				}
				all = append(all, r)
			}
			return c.follow(ctx, cmd, client, all, false, asJSON)
		}),
	}
	f.register(c, cmd)
	jsonFlag(cmd, &asJSON)
	return cmd
}

// watchAll prints changes until it is told to end.
func (c *console) watchAll(ctx context.Context, cmd *cobra.Command, client *admin.Client, f *queryFlags, asJSON bool) error {
	q, err := f.query(ctx, client, c.now())
	if err != nil {
		return err
	}
	s, err := client.Watch(ctx, &adminpb.WatchRequest{Query: q})
	err = each(s, err, func(change *adminpb.Change) error {
		if asJSON {
			return writeJSON(cmd.OutOrStdout(), change)
		}
		return c.printChange(cmd, change)
	})
	if ctx.Err() != nil {
		return command.Exit(command.Interrupted)
	}
	return err
}

func (c *console) printChange(cmd *cobra.Command, change *adminpb.Change) error {
	if change.GetLost() > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "%d changes were lost: they came too fast\n", change.GetLost())
	}
	at := c.now().Format("15:04:05")
	if !command.Terminal(cmd.OutOrStdout()) {
		at = c.now().UTC().Format("2006-01-02T15:04:05.000Z")
	}
	_, err := fmt.Fprintln(cmd.OutOrStdout(), at+c.changeLine(cmd, change))
	return err
}

// changeLine is a change in a line, without its time.
func (c *console) changeLine(cmd *cobra.Command, change *adminpb.Change) string {
	r := change.GetRequest()
	v := c.view(cmd.OutOrStdout())
	cells := []string{"", v.id(r.GetId()), v.way(r), admin.Partner(r), v.file(ownName(r)), r.GetState().String(), r.GetPhase(), percent(r), admin.Problem(r.GetFailure())}
	for i := range cells {
		cells[i] = strings.ReplaceAll(command.Printable(cells[i]), "\n", `\n`)
	}
	return strings.TrimRight(strings.Join(cells, map[bool]string{true: "  ", false: "\t"}[v.people]), " \t")
}

func (c *console) waitCommand() *cobra.Command {
	var timeout time.Duration
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "wait ID...",
		Short: "Wait until requests are over",
		Long: `Wait until requests are over, and print what they are then. What one waits for itself, as a
window or its partner, is said on stderr first.

Exit code 0: all are DONE. 8: one still runs when --timeout is over. Otherwise that of
the failure; 3 if some are done and some have failed.`,
		Example: `  id=$(pannier send report.pdf hostb)
  pannier wait "$id" --timeout 10m && echo arrived`,
		Args:              command.AtLeast(1),
		ValidArgsFunction: c.completeArgs(requestIDs),
		RunE: c.run(func(ctx context.Context, cmd *cobra.Command, client *admin.Client, args []string) error {
			until := c.now().Add(timeout)
			var all []*adminpb.Request
			for _, ref := range refsOf(args) {
				in := &adminpb.WaitRequest{Ref: ref}
				if timeout > 0 {
					in.Timeout = durationpb.New(max(until.Sub(c.now()), 0))
				}
				if err := sayWhatFor(ctx, cmd, client, ref, c.view(cmd.ErrOrStderr())); err != nil {
					return err
				}
				r, err := client.Wait(ctx, in)
				if err != nil {
					return err
				}
				all = append(all, r)
			}
			if err := c.printRequests(cmd, asJSON, all); err != nil {
				return err
			}
			return ended(all)
		}),
	}
	cmd.Flags().Var(age{&timeout}, "timeout", "wait no longer than this, as 10m (default: as long as it takes)")
	jsonFlag(cmd, &asJSON)
	return cmd
}

// sayWhatFor says on stderr what a request waits for, as a window that opens on Monday, or a partner.
func sayWhatFor(ctx context.Context, cmd *cobra.Command, client *admin.Client, ref *adminpb.Ref, v view) error {
	x, err := client.Explain(ctx, ref)
	if err != nil {
		return err
	}
	switch x.GetRequest().GetState() {
	case adminpb.Request_TOSUBMIT, adminpb.Request_INTERRUPTED:
		if x.GetSummary() == "" {
			return nil
		}
	default:
		return nil
	}
	text := v.id(x.GetRequest().GetId()) + " " + command.Printable(x.GetSummary())
	if x.GetAt() != nil {
		text += "; due " + v.time(x.GetAt())
	}
	_, err = fmt.Fprintln(cmd.ErrOrStderr(), text)
	return err
}

// ended is the error of requests that were waited for.
func ended(all []*adminpb.Request) error {
	done := 0
	var errs []error
	for _, r := range all {
		switch r.GetState() {
		case adminpb.Request_DONE:
			done++
		case adminpb.Request_INERROR:
			errs = append(errs, failureOf(r))
		default:
			return command.Exit(command.Running)
		}
	}
	return some(done, errs)
}
