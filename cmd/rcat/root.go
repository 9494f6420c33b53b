package main

import (
	"github.com/spf13/cobra"

	"github.com/pannier/pannier/spec/fault"
)

func rootCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rcat",
		Short: "A remote cat: files as side effects of gRPC calls",
		Long: `A remote cat: files as side effects of gRPC calls.

Results go to stdout, messages and progress to stderr.`,
		Example: `  1. See what it does:      rcat demo
  2. Give files:            rcat serve --root /srv/files --allow sha256:...
  3. Show one:              rcat get example.org:notes.txt
  4. Fetch one:             rcat get --resume -o disk.img example.org:disk.img
  5. Send what a pipe has:  tar c docs | rcat put - example.org:docs.tar`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          arguments(0),
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return fault.New("read flags", fault.Invalid, "%w; see %s --help", err, c.CommandPath())
	})
	cmd.AddCommand(serveCommand(), getCommand(), putCommand(), keyCommand(), demoCommand(), exitCodesTopic())
	return cmd
}

// arguments refuses another number of arguments, and so unknown subcommands, as
// a usage error.
func arguments(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) > n:
			return fault.New("read arguments", fault.Invalid, "%q is one too many or not known here; see %s --help", args[n], cmd.CommandPath())
		case len(args) < n:
			return fault.New("read arguments", fault.Invalid, "%d of %d arguments; write %s", len(args), n, cmd.UseLine())
		}
		return nil
	}
}
