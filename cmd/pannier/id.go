package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/engine/node"
	"github.com/pannier/pannier/spec/fault"
)

func idCommand(path *string) *cobra.Command {
	return &cobra.Command{
		Use:   "id",
		Short: "Print the node's key, which partners write into their configuration",
		Long: `Print the node's key, which partners write into their configuration as key. It is
made, with the state directory, if there is none. Run this as the user of the node, or as
root: what it makes in a state directory is the owner's of that.`,
		Args: command.Arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error { return id(*path, cmd.OutOrStdout()) },
	}
}

// id prints the key of the node of a file.
func id(path string, out io.Writer) error {
	cfg, err := load(path)
	if err != nil {
		return err
	}
	if err := asOwner(cfg.Node.State); err != nil {
		return err
	}
	identity, err := node.Identity(cfg)
	if err != nil {
		return whose(err, cfg.Node.State)
	}
	_, err = fmt.Fprintln(out, identity.Key())
	return fault.Wrap("write key", "", err)
}
