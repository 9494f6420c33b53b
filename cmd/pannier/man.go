package main

import (
	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/spec/fault"
)

// genCommand makes what packages ship beside the program.
func genCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "gen", Short: "Make what packages ship beside the program", Args: command.Arguments(0), RunE: command.Help}
	cmd.AddCommand(&cobra.Command{
		Use:   "man DIR",
		Short: "Write man pages, one for each command",
		Long:  "Write man pages, one for each command, into a folder. SOURCE_DATE_EPOCH is their date.",
		Args:  command.Arguments(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			root.DisableAutoGenTag = true
			return fault.Wrap("write man pages", args[0], doc.GenManTree(root, &doc.GenManHeader{Section: "1", Source: "Pannier"}, args[0]))
		},
	})
	return cmd
}

// formatting is the topic of how results look.
const formatting = `Results go to stdout, messages and progress to stderr. There are no colours.

On a terminal lists are aligned: sizes in KiB and the like, times as ages, ids cut to
eight digits, which are enough to name a request, and long cells cut with "…".

Elsewhere they are lines of cells with tabs in between, the header first: bytes, UTC
times as 2026-01-31T20:00:00.000Z, whole ids, nothing cut. Columns are only added, at
the right place for people: find them by their header.

With --json each result is an object on a line of its own, as protobuf's JSON of
pannier.admin.v1 has it: numbers of 64 bits, as bytes, are strings. Fields are only
added, and there may be values that a reader does not know.

Names of files that have quotes, spaces at an end or what a terminal would obey are
shown in quotes, with escapes as in Go.

An ID is 32 hexadecimal digits or the first of them, at least four, if no other request
begins so. ID@NODE says at which node it was registered.`
