package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/spec/adminpb"
)

func (c *console) partnerCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "partner", Short: "Partners: how they are doing", Args: command.Arguments(0), RunE: command.Help}
	cmd.AddCommand(c.partnerListCommand(), c.partnerTestCommand(), c.deleteCommand("partner"))
	return cmd
}

func (c *console) partnerListCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List partners",
		Args:  command.Arguments(0),
		RunE: c.run(func(ctx context.Context, cmd *cobra.Command, client *admin.Client, _ []string) error {
			reply, err := client.ListPartners(ctx, &adminpb.ListPartnersRequest{})
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), reply.GetPartners()...)
			}
			return partnerTable(c.view(cmd.OutOrStdout()), reply.GetPartners()).Write(cmd.OutOrStdout())
		}),
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

func partnerTable(v view, all []*adminpb.Partner) command.Table {
	t := command.Table{Header: []string{"NAME", "ADDRESS", "STATE", "RTT", "RUNNING", "QUEUED", "ERROR"}, Align: "lclrrrc"}
	for _, p := range all {
		t.Rows = append(t.Rows, []string{
			p.GetName(), partnerAddress(p), partnerState(v, p), rtt(p), strconv.Itoa(int(p.GetRunning())), strconv.Itoa(int(p.GetQueued())), admin.Problem(p.GetFailure()),
		})
	}
	return t
}

// partnerAddress is where a partner is dialled. A node is a partner of its own, for
// requests from one rule's root to another's.
func partnerAddress(p *adminpb.Partner) string {
	if p.GetAddress() == carrier.InMemory+":" {
		return "(this node itself)"
	}
	return orDash(p.GetAddress())
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// partnerState is whether a partner is connected, in words.
func partnerState(v view, p *adminpb.Partner) string {
	switch {
	case p.GetConnected():
		return "connected"
	case p.GetRetryAt() != nil:
		return "down, again " + v.time(p.GetRetryAt())
	}
	return "idle"
}

func rtt(p *adminpb.Partner) string {
	if p.GetRtt() == nil {
		return "-"
	}
	return strconv.FormatFloat(p.GetRtt().AsDuration().Seconds()*1000, 'f', 1, 64) + "ms"
}

func (c *console) partnerTestCommand() *cobra.Command {
	var asJSON, write bool
	cmd := &cobra.Command{
		Use:   "test PARTNER",
		Short: "Connect to a partner now, and prove keys both ways",
		Long: `Connect to a partner now, whatever its back-off, and prove keys both ways.

Of a bridge: log in, and say what the server can do for this user; with --write a small
file is written and removed there, which tells clocks apart and tries direct copies.

Exit code 7: it cannot be reached. 4: it has another key than this node knows, or
does not accept this node's; a bridge's server does not accept its user.`,
		Args:              command.Arguments(1),
		ValidArgsFunction: c.completeArgs(partnerNames),
		RunE: c.run(func(ctx context.Context, cmd *cobra.Command, client *admin.Client, args []string) error {
			p, err := client.TestPartner(ctx, &adminpb.TestPartnerRequest{Partner: args[0], Write: write})
			if err != nil {
				return unknown(ctx, client, err, "partner", args[0], partnerNames)
			}
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), p)
			}
			err = partnerTable(c.view(cmd.OutOrStdout()), []*adminpb.Partner{p}).Write(cmd.OutOrStdout())
			for _, line := range p.GetFound() {
				if err == nil {
					_, err = fmt.Fprintln(cmd.ErrOrStderr(), command.Printable(line))
				}
			}
			return err
		}),
	}
	cmd.Flags().BoolVar(&write, "write", false, "at a bridge, write and remove a small file, too")
	jsonFlag(cmd, &asJSON)
	return cmd
}
