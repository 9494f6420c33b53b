package command

import (
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/pannier/pannier/spec/fault"
)

// Environment gives each flag of the tree an environment variable, which counts
// where the flag is not given. A flag of all commands is PROGRAM_FLAG, one of a
// command PROGRAM_COMMAND_FLAG: so a variable that is meant for one command, or
// for a script that runs it, is not taken for another's.
func Environment(root *cobra.Command) {
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error { return FromEnvironment(cmd) }
	root.AddCommand(Topic("environment", "Which environment variables there are", environmentText(root)))
}

// FromEnvironment sets the flags of cmd that were not given, for those who read flags where no
// command runs, as while a shell completes.
func FromEnvironment(cmd *cobra.Command) (err error) {
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		name := variable(cmd, f)
		text, ok := os.LookupEnv(name)
		if !ok || f.Changed || name == "" || err != nil {
			return
		}
		if bad := cmd.Flags().Set(f.Name, text); bad != nil {
			err = Suggest(fault.New("read environment", fault.Invalid, "%s: %w", name, bad), "See: %s help environment", cmd.Root().Name())
		}
	})
	return err
}

// variable is the name of a flag's variable; "" where it has none.
func variable(cmd *cobra.Command, f *pflag.Flag) string {
	if f.Name == "help" {
		return ""
	}
	path := cmd.CommandPath()
	if cmd.Root().PersistentFlags().Lookup(f.Name) == f {
		path = cmd.Root().Name()
	}
	return strings.ToUpper(strings.NewReplacer(" ", "_", "-", "_").Replace(path + "_" + f.Name))
}

// environmentText lists the variables of all commands that people use.
func environmentText(root *cobra.Command) string {
	var b strings.Builder
	b.WriteString("A flag that is not given is taken from the environment:\n\n")
	list := func(cmd *cobra.Command, flags *pflag.FlagSet) {
		flags.VisitAll(func(f *pflag.Flag) {
			if name := variable(cmd, f); name != "" && !f.Hidden {
				b.WriteString(name + "\n")
			}
		})
	}
	list(root, root.PersistentFlags())
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		for _, sub := range cmd.Commands() {
			if !sub.Hidden {
				list(sub, sub.LocalNonPersistentFlags())
				walk(sub)
			}
		}
	}
	walk(root)
	return strings.TrimSpace(b.String())
}
