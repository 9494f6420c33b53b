package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pannier/pannier/spec/fault"
)

// choose registers a flag with a choice of names, which shells can complete.
func choose[T ~uint8](cmd *cobra.Command, value *T, flag, usage string, names ...string) {
	cmd.Flags().Var(choice[T]{value, names}, flag, usage)
	_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(names, cobra.ShellCompDirectiveNoFileComp)) // fails only for unknown flags
}

// choice is a flag whose values have names: the i-th name is the value i.
type choice[T ~uint8] struct {
	value *T
	names []string
}

func (c choice[T]) String() string { return c.names[*c.value] }
func (c choice[T]) Type() string   { return strings.Join(c.names, "|") }

func (c choice[T]) Set(text string) error {
	i := slices.Index(c.names, text)
	if i < 0 {
		return fault.New("read choice", fault.Invalid, "it is one of %s", strings.Join(c.names, ", "))
	}
	*c.value = T(i)
	return nil
}
