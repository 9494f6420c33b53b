package command

import (
	"fmt"
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
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		err := FromEnvironment(cmd)
		if err == nil { // cobra looks after this, and calls nothing what it then finds
			err = flagsTogether(cmd)
		}
		return err
	}
	root.AddCommand(Topic("environment", "Which environment variables there are", environmentText(root)))
}

// flagsTogether refuses flags that are missing, and those of which only one is allowed, as
// usage errors.
func flagsTogether(cmd *cobra.Command) error {
	err := cmd.ValidateRequiredFlags()
	if err == nil {
		err = cmd.ValidateFlagGroups()
	}
	if err == nil {
		return nil
	}
	return Suggest(fault.New("read flags", fault.Invalid, "%w", err), "See: %s --help", cmd.CommandPath())
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

// environmentText says how variables are named, and lists those of all commands;
// the others follow from it.
func environmentText(root *cobra.Command) string {
	var b strings.Builder
	b.WriteString("A flag that is not given is taken from the environment. For every command:\n\n")
	root.PersistentFlags().VisitAll(func(f *pflag.Flag) {
		if name := variable(root, f); name != "" && !f.Hidden {
			fmt.Fprintf(&b, "%-16s  --%s: %s\n", name, f.Name, f.Usage)
		}
	})
	fmt.Fprintf(&b, "\nA flag of one command has the command in its name")
	if cmd, f := anyFlag(root); f != nil {
		fmt.Fprintf(&b, ", as %s for %s --%s", variable(cmd, f), cmd.CommandPath(), f.Name)
	}
	b.WriteString(".\n")
	return strings.TrimSpace(b.String())
}

// anyFlag is the first flag that a command has for itself.
func anyFlag(cmd *cobra.Command) (of *cobra.Command, first *pflag.Flag) {
	for _, sub := range cmd.Commands() {
		if sub.Hidden {
			continue
		}
		sub.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
			if first == nil && !f.Hidden && f.Name != "help" {
				of, first = sub, f
			}
		})
		if first == nil {
			of, first = anyFlag(sub)
		}
		if first != nil {
			return of, first
		}
	}
	return nil, nil
}
