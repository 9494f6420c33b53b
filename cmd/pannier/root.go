package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/pannier/pannier/spec/fault"
)

// app is one invocation.
type app struct {
	partial bool // results were printed although something failed
}

func (a *app) rootCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:           "pannier",
		Short:         "Files that travel beside gRPC calls",
		Long:          "Files that travel beside gRPC calls.\n\nResults go to stdout, messages and progress to stderr.",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          noArgs,
		RunE:          showHelp,
	}
	cmd.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return fault.New("read flags", fault.Invalid, "%w; see %s --help", err, c.CommandPath())
	})
	cmd.AddCommand(a.benchCommand(), versionCommand(), exitCodesTopic())
	return cmd
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  noArgs,
		Run: func(cmd *cobra.Command, _ []string) {
			version := "unknown"
			if info, ok := debug.ReadBuildInfo(); ok {
				version = info.Main.Version
			}
			fmt.Fprintf(cmd.OutOrStdout(), "pannier %s %s %s/%s\n", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
		},
	}
}

// noArgs refuses arguments, and so unknown subcommands, as a usage error.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fault.New("read arguments", fault.Invalid, "%q is not known here; see %s --help", args[0], cmd.CommandPath())
	}
	return nil
}

// showHelp is what a command does that only has subcommands.
func showHelp(cmd *cobra.Command, _ []string) error { return cmd.Help() }
