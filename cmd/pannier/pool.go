package main

import (
	"context"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/quantity"
)

func (c *console) poolCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "pool", Short: "Pools: bandwidths that partners and rules share", Args: command.Arguments(0), RunE: command.Help}
	cmd.AddCommand(c.poolListCommand(), c.deleteCommand("pool"))
	return cmd
}

func (c *console) poolListCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List pools: the rate that counts now, when there is another, and who shares it",
		Args:  command.Arguments(0),
		RunE: c.run(func(ctx context.Context, cmd *cobra.Command, client *admin.Client, _ []string) error {
			reply, err := client.ListPools(ctx, &adminpb.ListPoolsRequest{})
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), reply.GetPools()...)
			}
			v := c.view(cmd.OutOrStdout())
			t := command.Table{Header: []string{"NAME", "RATE", "THEN", "RATE THEN", "PARTNERS", "RULES", "WAITING", "MOVED"}, Align: "lrcrcc" + "rr"}
			for _, p := range reply.GetPools() {
				then := "-"
				if p.GetNext() != nil {
					then = rateText(p.GetNextRate())
				}
				t.Rows = append(t.Rows, []string{
					p.GetName(), rateText(p.GetRate()), v.time(p.GetNext()), then, orDash(strings.Join(p.GetPartners(), ",")), orDash(strings.Join(p.GetRules(), ",")),
					strconv.Itoa(int(p.GetWaiting())), v.bytes(p.GetMoved()),
				})
			}
			return t.Write(cmd.OutOrStdout())
		}),
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

// rateText is a rate as a node's file has it.
func rateText(rate int64) string {
	if rate == 0 {
		return quantity.NoLimit
	}
	return quantity.Rate.Format(rate)
}
