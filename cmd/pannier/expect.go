package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/spec/adminpb"
)

func (c *console) expectCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "expect", Short: "Expected files: what is to come here, and is late", Args: command.Arguments(0), RunE: command.Help}
	cmd.AddCommand(c.expectListCommand(), c.expectAddCommand(), c.expectAcknowledgeCommand(), c.expectRemoveCommand())
	return cmd
}

func (c *console) expectListCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List expected files: late ones first, then by when they are due",
		Args:  command.Arguments(0),
		RunE: c.run(func(ctx context.Context, cmd *cobra.Command, client *admin.Client, _ []string) error {
			reply, err := client.ListExpected(ctx, &adminpb.ListExpectedRequest{})
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), reply.GetExpected()...)
			}
			return expectTable(c.view(cmd.OutOrStdout()), reply.GetExpected()).Write(cmd.OutOrStdout())
		}),
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

func expectTable(v view, all []*adminpb.Expected) command.Table {
	t := command.Table{Header: []string{"NAME", "STATE", "SINCE", "NEXT", "PARTNER", "RULE", "FILE", "LAST", "REQUEST"}, Align: "lccccc" + "ccc"}
	for _, e := range all {
		late, last, request := "-", "-", "-"
		if n := len(e.GetLate()); n > 0 {
			late = v.time(e.GetLate()[0].GetDue())
			if n > 1 {
				late += fmt.Sprintf(" (%d)", n)
			}
		}
		if len(e.GetOver()) > 0 {
			over := e.GetOver()[0]
			last = over.GetState() + " " + v.time(over.GetAt())
			if over.GetRequest() != "" {
				request = v.id(over.GetRequest())
			}
		}
		t.Rows = append(t.Rows, []string{e.GetName(), e.GetState(), late, v.time(e.GetNext()), e.GetPartner(), e.GetRule(), v.file(e.GetFile()), last, request})
	}
	return t
}

func (c *console) expectAddCommand() *cobra.Command {
	var in adminpb.AddExpectedRequest
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "add NAME --rule RULE --partner PARTNER --file PATTERN {--at TIME | --cron EXPRESSION}",
		Short: "Expect a file: say by when it is to come",
		Long: `Expect a file from a partner by a rule: say by when it is to come. If it does not, that is in
the log, the audit log and the metrics, and at the head of pannier expect list. It is an object
of kind expect, which pannier export prints and pannier expect remove removes.`,
		Example: `  pannier expect add invoice-7 --rule in --partner bank --file 'invoice-7*.xml' --at '2026-12-01 18:00'
  pannier expect add statements --rule in --partner bank --file 'st-*.csv' --cron '0 18 * * Mon-Fri' --zone Europe/Berlin`,
		Args: command.Arguments(1),
		RunE: c.run(func(ctx context.Context, cmd *cobra.Command, client *admin.Client, args []string) error {
			in.Name = args[0]
			e, err := client.AddExpected(ctx, &in)
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), e)
			}
			return expectTable(c.view(cmd.OutOrStdout()), []*adminpb.Expected{e}).Write(cmd.OutOrStdout())
		}),
	}
	f := cmd.Flags()
	f.StringVar(&in.Rule, "rule", "", "that it comes by")
	f.StringVar(&in.Partner, "partner", "", "from whom")
	f.StringVar(&in.File, "file", "", "pattern of its name; without a slash, of the last element")
	f.StringVar(&in.At, "at", "", "when it is due, as '2026-12-01 18:00'")
	f.StringVar(&in.Cron, "cron", "", "when one is due each time, as '0 18 * * Mon-Fri'")
	f.StringVar(&in.Zone, "zone", "", "whose clocks count, as Europe/Berlin; default: the node's")
	f.StringVar(&in.Expire, "expire", "", "so long after it was due it is not waited for any more; default: 1d")
	f.StringVar(&in.Early, "early", "", "so long before it is due it may come; default: since the one before was due")
	complete(cmd, "rule", ruleNames(adminpb.Rule_DIRECTION_UNSPECIFIED), c)
	complete(cmd, "partner", partnerNames, c)
	_ = cmd.RegisterFlagCompletionFunc("file", cobra.NoFileCompletions) // a pattern; fails only for unknown flags
	for _, name := range []string{"rule", "partner", "file"} {
		_ = cmd.MarkFlagRequired(name) // fails only for unknown flags
	}
	cmd.MarkFlagsOneRequired("at", "cron")
	cmd.MarkFlagsMutuallyExclusive("at", "cron")
	jsonFlag(cmd, &asJSON)
	return cmd
}

func (c *console) expectAcknowledgeCommand() *cobra.Command {
	var due string
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "acknowledge NAME [--due TIME]",
		Aliases: []string{"ack"},
		Short:   "Wait no longer for what is late: it is known",
		Long: `Wait no longer for what is late, because it is known: all of NAME that is, or the one that was due at
TIME. It is not at the head of pannier expect list any more, and what comes counts for the next time.
Who has done that is in the list's JSON and the audit log.`,
		Example: `  pannier expect acknowledge statements
  pannier expect acknowledge statements --due '2026-12-01 18:00'`,
		Args:              command.Arguments(1),
		ValidArgsFunction: c.completeArgs(expectNames),
		RunE: c.run(func(ctx context.Context, cmd *cobra.Command, client *admin.Client, args []string) error {
			in := &adminpb.AcknowledgeExpectedRequest{Name: args[0]}
			if due != "" {
				at, err := moment(due, "2026-12-01 18:00")
				if err != nil {
					return err
				}
				in.Due = timestamppb.New(at)
			}
			e, err := client.AcknowledgeExpected(ctx, in)
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), e)
			}
			return expectTable(c.view(cmd.OutOrStdout()), []*adminpb.Expected{e}).Write(cmd.OutOrStdout())
		}),
	}
	cmd.Flags().StringVar(&due, "due", "", "only the one that was due at that `TIME`")
	jsonFlag(cmd, &asJSON)
	return cmd
}

func (c *console) expectRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "remove NAME",
		Short:             "Expect a file no more that was added while the node ran",
		Args:              command.Arguments(1),
		ValidArgsFunction: c.completeArgs(expectNames),
		RunE: c.run(func(ctx context.Context, _ *cobra.Command, client *admin.Client, args []string) error {
			_, err := client.RemoveExpected(ctx, &adminpb.RemoveExpectedRequest{Name: args[0]})
			return err
		}),
	}
}

func expectNames(ctx context.Context, client *admin.Client) (names []string, err error) {
	reply, err := client.ListExpected(ctx, &adminpb.ListExpectedRequest{})
	for _, e := range reply.GetExpected() {
		names = append(names, e.GetName()+"\t"+e.GetFile())
	}
	return names, err
}
