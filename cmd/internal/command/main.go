package command

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/nearest"
)

// Main runs a command and ends the process with its exit code. The first SIGINT
// or SIGTERM ends the command's context, a second one the process.
func Main(root *cobra.Command) {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		cancel()
		signal.Stop(signals)
		select {
		case again := <-signals: // it came before Stop: now it ends the process, unless the command waits for it
			_ = syscall.Kill(os.Getpid(), again.(syscall.Signal))
		default:
		}
	}()
	os.Exit(Run(ctx, root, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// Run is Main with everything it touches passed in; it returns the exit code.
func Run(ctx context.Context, root *cobra.Command, args []string, in io.Reader, out, messages io.Writer) int {
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(messages)
	err := root.ExecuteContext(ctx)
	if err != nil && !errors.Is(err, errSilent) {
		writeError(messages, root.Name(), err)
	}
	return Code(ctx, err)
}

// Root completes the root of a command tree: it prints help when nothing is
// asked, and its errors are printed by Run. Besides subs it gets "version", as a flag, too, and the
// topic "exit-codes".
func Root(cmd *cobra.Command, subs ...*cobra.Command) *cobra.Command {
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.Args, cmd.RunE = Arguments(0), Help
	cmd.Long += "\n\nResults go to stdout, messages and progress to stderr. Exit codes: " + cmd.Name() + " help exit-codes"
	cmd.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return Suggest(fault.New("read flags", fault.Invalid, "%w", err), "See: %s --help", c.CommandPath())
	})
	cmd.AddCommand(subs...)
	cmd.AddCommand(versionCommand(), exitCodesTopic())
	versionFlag(cmd)
	cmd.InitDefaultHelpCmd()
	for _, sub := range cmd.Commands() {
		if sub.Name() == "help" {
			helps(sub)
			cmd.RemoveCommand(sub) // cobra adds it again when it runs
		}
	}
	return cmd
}

// helps has the help command refuse what there is not, which cobra answers with help about the
// command above it.
func helps(cmd *cobra.Command) {
	cmd.Run, cmd.RunE = nil, func(cmd *cobra.Command, args []string) error {
		found, rest, err := cmd.Root().Find(args)
		if err != nil {
			return fault.New("find help", fault.Invalid, "%w", err)
		}
		if len(rest) > 0 {
			var names []string
			for _, sub := range found.Commands() {
				if !sub.Hidden {
					names = append(names, sub.Name())
				}
			}
			return Suggest(fault.New("find help", fault.Invalid, "%s has no command %q, and there is no such topic%s", found.CommandPath(), rest[0], nearest.Meant(rest[0], names)), "See: %s --help", found.CommandPath())
		}
		found.InitDefaultHelpFlag() // as cobra's own does
		return found.Help()
	}
}

// Arguments refuses another number of arguments, and so unknown subcommands, as
// a usage error.
func Arguments(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		const op = "read arguments"
		switch {
		case len(args) > n:
			near := ""
			if n == 0 {
				near = nearest.Meant(args[n], subcommands(cmd))
			}
			err := fault.New(op, fault.Invalid, "%q is one too many or not known here%s", args[n], near)
			return Suggest(err, "See: %s --help", cmd.CommandPath())
		case len(args) < n:
			return Suggest(fault.New(op, fault.Invalid, "%d of %d arguments", len(args), n), "Write: %s", cmd.UseLine())
		}
		return nil
	}
}

// subcommands are the names of what is below a command.
func subcommands(cmd *cobra.Command) (names []string) {
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			names = append(names, sub.Name())
		}
	}
	return names
}

// AtLeast refuses fewer arguments as a usage error.
func AtLeast(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < n {
			return Arguments(n)(cmd, args)
		}
		return nil
	}
}

// Help is what a command does that only has subcommands.
func Help(cmd *cobra.Command, _ []string) error { return cmd.Help() }
