package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/quantity"
)

func (c *console) tokenCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "token", Short: "Tokens: who may call the node over HTTP from elsewhere", Args: command.Arguments(0), RunE: command.Help}
	cmd.AddCommand(c.tokenCreateCommand(), c.tokenListCommand(), c.tokenDeleteCommand())
	return cmd
}

func (c *console) tokenCreateCommand() *cobra.Command {
	var asJSON bool
	var scopes, rules []string
	var expires string
	cmd := &cobra.Command{
		Use:   "create NAME",
		Short: "Make a token, and print it once",
		Long: `Make a token, and print it once: the node keeps only its digest.

Scopes are read (requests, partners, rules, figures), submit (requests by the rules of
--rule, or by all), operate (read, and pause, resume, cancel, retry, test) and administer
(everything).`,
		Example: `  # For a program that sends by one rule and looks what became of it
  umask 077; pannier token create ci --scope submit,read --rule invoices > ci.token`,
		Args: command.Arguments(1),
		RunE: c.run(func(ctx context.Context, cmd *cobra.Command, client *admin.Client, args []string) error {
			in := &adminpb.CreateTokenRequest{Name: args[0], Scopes: scopes, Rules: rules}
			if expires != "never" {
				d, err := quantity.ParseDuration(expires)
				if err != nil || d <= 0 {
					return fault.New("read expiry", fault.Invalid, "--expires %s is no time from now: write 90d, 12h or never", expires)
				}
				in.Expires = timestamppb.New(c.now().Add(d))
			}
			reply, err := client.CreateToken(ctx, in)
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), reply)
			}
			until := "never expires"
			if at := reply.GetToken().GetExpires(); at != nil {
				until = "expires at " + at.AsTime().Format(time.RFC3339)
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "token %s, which %s; it is not shown again\n", args[0], until)
			_, err = fmt.Fprintln(cmd.OutOrStdout(), reply.GetText())
			return fault.Wrap("write token", "", err)
		}),
	}
	cmd.Flags().StringSliceVar(&scopes, "scope", nil, "what it may: read, submit, operate, administer")
	cmd.Flags().StringSliceVar(&rules, "rule", nil, "by which rules it may submit (default: all)")
	cmd.Flags().StringVar(&expires, "expires", "90d", "when it ends, from now, or never")
	choices(cmd, "scope", "read", "submit", "operate", "administer")
	complete(cmd, "rule", ruleNames(adminpb.Rule_DIRECTION_UNSPECIFIED), c)
	choices(cmd, "expires", "never")
	jsonFlag(cmd, &asJSON)
	return cmd
}

func (c *console) tokenListCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List tokens, without what proves them",
		Args:  command.Arguments(0),
		RunE: c.run(func(ctx context.Context, cmd *cobra.Command, client *admin.Client, _ []string) error {
			reply, err := client.ListTokens(ctx, &adminpb.ListTokensRequest{})
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), reply.GetTokens()...)
			}
			v := c.view(cmd.OutOrStdout())
			t := command.Table{Header: []string{"NAME", "SCOPES", "RULES", "CREATED", "BY", "EXPIRES", "USED"}, Align: "lllllll"}
			for _, one := range reply.GetTokens() {
				t.Rows = append(t.Rows, []string{one.GetName(), strings.Join(one.GetScopes(), ","), orDash(strings.Join(one.GetRules(), ",")),
					v.time(one.GetCreated()), orDash(one.GetBy()), timeOrNever(v, one.GetExpires()), timeOrNever(v, one.GetUsed())})
			}
			return t.Write(cmd.OutOrStdout())
		}),
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

func timeOrNever(v view, at *timestamppb.Timestamp) string {
	if at == nil {
		return "never"
	}
	return v.time(at)
}

func (c *console) tokenDeleteCommand() *cobra.Command {
	var revision uint64
	cmd := &cobra.Command{
		Use:               "delete NAME",
		Short:             "End a token, and sessions that were begun with it",
		Args:              command.Arguments(1),
		ValidArgsFunction: c.completeArgs(tokenNames),
		RunE: c.run(func(ctx context.Context, _ *cobra.Command, client *admin.Client, args []string) error {
			_, err := client.DeleteToken(ctx, &adminpb.DeleteTokenRequest{Name: args[0], Revision: revision})
			return err
		}),
	}
	cmd.Flags().Uint64Var(&revision, "revision", 0, "only if it is at this revision")
	return cmd
}
