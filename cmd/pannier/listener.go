package main

import (
	"context"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/spec/adminpb"
)

func (c *console) listenerCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "listener", Short: "Listeners: where clients of other protocols connect", Args: command.Arguments(0), RunE: command.Help}
	cmd.AddCommand(c.listenerListCommand())
	return cmd
}

func (c *console) listenerListCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List listeners, their users, and whether clients are served",
		Args:  command.Arguments(0),
		RunE: c.run(func(ctx context.Context, cmd *cobra.Command, client *admin.Client, _ []string) error {
			reply, err := client.ListListeners(ctx, &adminpb.ListListenersRequest{})
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), reply.GetListeners()...)
			}
			t := command.Table{Header: []string{"ADDRESS", "PLUGIN", "PROCESS", "STATE", "USERS", "ERROR"}, Align: "llrlcc"}
			for _, l := range reply.GetListeners() {
				state, process := "down", "-"
				if l.GetServing() {
					state = "serving"
				}
				if l.GetPid() != 0 {
					process = strconv.Itoa(int(l.GetPid()))
				}
				t.Rows = append(t.Rows, []string{l.GetAddress(), l.GetPlugin(), process, state, orDash(strings.Join(l.GetUsers(), ",")), orDash(command.Printable(l.GetProblem()))})
			}
			return t.Write(cmd.OutOrStdout())
		}),
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}
