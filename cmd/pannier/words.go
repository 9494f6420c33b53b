package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/spec/adminpb"
)

// word is an operator's word on one request.
type word func(ctx context.Context, client *admin.Client, ref *adminpb.Ref) (*adminpb.Request, error)

func (c *console) pauseCommand() *cobra.Command {
	return c.wordCommand(&cobra.Command{
		Use:   "pause ID...",
		Short: "Stop requests at this node, until resume",
		Long: `Stop requests at this node, until resume. What has arrived stays. The partner
hears of it with its next call, and waits.`,
	}, func(ctx context.Context, client *admin.Client, ref *adminpb.Ref) (*adminpb.Request, error) {
		return client.Pause(ctx, ref)
	}, adminpb.Request_TOSUBMIT, adminpb.Request_RUNNING, adminpb.Request_INTERRUPTED)
}

func (c *console) resumeCommand() *cobra.Command {
	return c.wordCommand(&cobra.Command{
		Use:   "resume ID...",
		Short: "Go on with requests that wait or were paused, now",
		Long: `Go on with requests that wait or were paused, now: also with one whose start time
(--at) has not come, but one that was paused meanwhile waits for that again, until it
is resumed once more. What waits for a window of its rule waits on, and so does what
waits for a partner that cannot be reached: "pannier partner test" tries that now.`,
	}, func(ctx context.Context, client *admin.Client, ref *adminpb.Ref) (*adminpb.Request, error) {
		return client.Resume(ctx, ref)
	}, adminpb.Request_TOSUBMIT, adminpb.Request_INTERRUPTED)
}

func (c *console) retryCommand() *cobra.Command {
	return c.wordCommand(&cobra.Command{
		Use:   "retry ID...",
		Short: "Go on with requests that have failed, from where they were",
		Long: `Go on with requests that have failed (INERROR), from where they were: bytes that
are safe are not sent again, tasks that are done are not run again. A retry at the
requester revives the partner's end, too.`,
		Example: `  pannier ls --failed | tail -n +2 | cut -f1 | xargs pannier retry`,
	}, func(ctx context.Context, client *admin.Client, ref *adminpb.Ref) (*adminpb.Request, error) {
		return client.Retry(ctx, ref)
	}, adminpb.Request_INERROR)
}

func (c *console) cancelCommand() *cobra.Command {
	var why string
	cmd := c.wordCommand(&cobra.Command{
		Use:   "cancel ID...",
		Short: "Give requests up: their bytes are not wanted",
		Long: `Give requests up: their bytes are not wanted. They become INERROR, error tasks do
not run, and what has arrived is removed. A file that has its name already is not taken
back. Only this node can retry what it has cancelled.`,
	}, func(ctx context.Context, client *admin.Client, ref *adminpb.Ref) (*adminpb.Request, error) {
		return client.Cancel(ctx, &adminpb.CancelRequest{Ref: ref, Why: why})
	}, adminpb.Request_TOSUBMIT, adminpb.Request_RUNNING, adminpb.Request_INTERRUPTED)
	cmd.Flags().StringVar(&why, "why", "", "the reason, as both nodes keep it")
	return cmd
}

// wordCommand says one word on several requests, and prints what they are then. states are those in
// which it is of use.
func (c *console) wordCommand(cmd *cobra.Command, say word, states ...adminpb.Request_State) *cobra.Command {
	var asJSON bool
	cmd.Args = command.AtLeast(1)
	cmd.ValidArgsFunction = c.completeArgs(requestsIn(states...))
	cmd.RunE = c.run(func(ctx context.Context, cmd *cobra.Command, client *admin.Client, args []string) error {
		var rows []*adminpb.Request
		var errs []error
		for i, ref := range refsOf(args) {
			r, err := say(ctx, client, ref)
			if err != nil {
				if len(args) > 1 {
					err = fmt.Errorf("%s: %w", args[i], err)
				}
				errs = append(errs, err)
				continue
			}
			rows = append(rows, r)
		}
		if err := c.printRequests(cmd, asJSON, rows); err != nil {
			return err
		}
		return some(len(rows), errs)
	})
	jsonFlag(cmd, &asJSON)
	return cmd
}

// printRequests is a table or JSON lines; nothing if there are none.
func (c *console) printRequests(cmd *cobra.Command, asJSON bool, rows []*adminpb.Request) error {
	switch {
	case len(rows) == 0:
		return nil
	case asJSON:
		return writeJSON(cmd.OutOrStdout(), rows...)
	}
	return requestTable(c.view(cmd.OutOrStdout()), rows).Write(cmd.OutOrStdout())
}
