package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/engine/config"
	"github.com/pannier/pannier/spec/fault"
)

func configCommand(path *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Check a node's configuration, or begin one",
		Args:  command.Arguments(0),
		RunE:  command.Help,
	}
	cmd.AddCommand(configCheckCommand(path), exampleCommand())
	return cmd
}

func configCheckCommand(path *string) *cobra.Command {
	return &cobra.Command{
		Use:   "check",
		Short: "Say what is wrong with a node's configuration",
		Long: `Say what is wrong with a node's configuration: all of it, with places and
suggestions, on stderr, and exit code 2. Only the file is looked at: not the
directories it names, not the node that runs.`,
		Args: command.Arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error { return checkConfig(*path, cmd.OutOrStdout()) },
	}
}

// checkConfig prints what a file without problems says, in a line.
func checkConfig(path string, out io.Writer) error {
	cfg, err := load(path)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s: node %s, %d partners, %d rules\n", path, cfg.Node.Name, len(cfg.Book.Partners), len(cfg.Book.Rules))
	return fault.Wrap("write result", "", err)
}

func exampleCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "example",
		Short: "Print a configuration with comments",
		Args:  command.Arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := cmd.OutOrStdout().Write(config.Example)
			return fault.Wrap("write example", "", err)
		},
	}
}
