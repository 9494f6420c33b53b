package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/cmd/pannier/top"
	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/spec/fault"
)

func (c *console) topCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "top",
		Short: "Watch the node on the whole screen",
		Long: `Watch the node on the whole screen: what runs and how fast, what waits and why, what has
failed, and the partners. The bytes that are counted are safe at the receiver.

  up, down, pgup, pgdn, home, end   choose a request
  p  pause it       g  go on with it (resume)
  r  retry it       c  cancel it, after a question
  /  show only what has all these words; enter keeps the filter, esc drops it
  s  sort by state, rate, size, partner, age
  q  leave; nothing that runs minds`,
		Args: command.Arguments(0),
		RunE: c.run(func(ctx context.Context, cmd *cobra.Command, client *admin.Client, _ []string) error {
			if !command.Terminal(cmd.OutOrStdout()) {
				return fault.New("show node", fault.Invalid, "the output is no terminal: use pannier watch, or pannier ls --json")
			}
			return top.Run(ctx, client)
		}),
	}
}
