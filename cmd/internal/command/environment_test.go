package command

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// withEnvironment is a tree with a flag for all and one of a command of a command.
func withEnvironment(args ...string) (code int, out, messages string) {
	var all string
	var own int
	sub := &cobra.Command{Use: "sub", Args: Arguments(0), RunE: func(cmd *cobra.Command, _ []string) error {
		_, err := cmd.OutOrStdout().Write([]byte(all + strings.Repeat("+", own) + "\n"))
		return err
	}}
	sub.Flags().IntVar(&own, "own-flag", 0, "x")
	group := &cobra.Command{Use: "group", Args: Arguments(0), RunE: Help}
	group.AddCommand(sub)
	root := Root(&cobra.Command{Use: "tool", Long: "A tool."}, group)
	root.PersistentFlags().StringVar(&all, "all", "", "x")
	Environment(root)
	var o, m bytes.Buffer
	code = Run(context.Background(), root, args, nil, &o, &m)
	return code, o.String(), m.String()
}

// TestEnvironment: a variable counts where the flag is not given, for its own command.
func TestEnvironment(t *testing.T) {
	t.Setenv("TOOL_ALL", "a")
	t.Setenv("TOOL_OWN_FLAG", "9")
	t.Setenv("TOOL_GROUP_SUB_OWN_FLAG", "2")
	if code, out, messages := withEnvironment("group", "sub"); code != Done || out != "a++\n" {
		t.Error(code, out, messages)
	}
	if code, out, messages := withEnvironment("group", "sub", "--all", "b", "--own-flag", "1"); code != Done || out != "b+\n" {
		t.Error(code, out, messages)
	}
	t.Setenv("TOOL_GROUP_SUB_OWN_FLAG", "x")
	if code, _, messages := withEnvironment("group", "sub"); code != Usage || !strings.Contains(messages, "TOOL_GROUP_SUB_OWN_FLAG") {
		t.Error(code, messages)
	}
}

func TestEnvironmentIsDocumented(t *testing.T) {
	const want = "A flag that is not given is taken from the environment. For every command:\n\nTOOL_ALL          --all: x\n\n" +
		"A flag of one command has the command in its name, as TOOL_GROUP_SUB_OWN_FLAG for tool group sub --own-flag.\n"
	if code, out, _ := withEnvironment("help", "environment"); code != Done || strings.TrimSpace(out) != strings.TrimSpace(want) {
		t.Errorf("%q", out)
	}
}
