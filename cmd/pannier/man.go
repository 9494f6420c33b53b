package main

import (
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/cmd/pannier/man"
	"github.com/pannier/pannier/spec/fault"
)

// genCommand makes what packages ship beside the program.
func genCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "gen", Short: "Make what packages ship beside the program", Args: command.Arguments(0), RunE: command.Help}
	var document string
	pages := &cobra.Command{
		Use:   "man DIR",
		Short: "Write man pages, one for each command",
		Long: `Write man pages, one for each command, into the folder man1 of a folder; and with
--config the one of pannier.toml, made of the document spec/config.md of the sources, into
man5. SOURCE_DATE_EPOCH is their date.`,
		Args: command.Arguments(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return fault.Wrap("write man pages", args[0], manPages(cmd.Root(), document, args[0]))
		},
	}
	pages.Flags().StringVar(&document, "config", "", "the `FILE` spec/config.md")
	cmd.AddCommand(pages)
	return cmd
}

func manPages(root *cobra.Command, document, dir string) error {
	date := time.Now()
	if epoch := os.Getenv("SOURCE_DATE_EPOCH"); epoch != "" {
		n, err := strconv.ParseInt(epoch, 10, 64)
		if err != nil {
			return fault.New("read date", fault.Invalid, "SOURCE_DATE_EPOCH is %q: it is a number of seconds", epoch)
		}
		date = time.Unix(n, 0)
	}
	if document != "" {
		text, err := os.ReadFile(document)
		if err != nil {
			return err
		}
		see := []string{"pannier(1)", "pannier-config-check(1)", "pannier-config-example(1)"}
		if err := manPage(dir, "man5", "pannier.toml.5", man.Document("pannier.toml", "the configuration of a node", string(text), see, date)); err != nil {
			return err
		}
	}
	return commandPages(root, dir, date)
}

// commandPages are those of a command and of all below it.
func commandPages(cmd *cobra.Command, dir string, date time.Time) error {
	if err := manPage(dir, "man1", man.Name(cmd)+".1", man.Command(cmd, date)); err != nil {
		return err
	}
	for _, c := range cmd.Commands() {
		if !c.IsAvailableCommand() || c.IsAdditionalHelpTopicCommand() {
			continue
		}
		if err := commandPages(c, dir, date); err != nil {
			return err
		}
	}
	return nil
}

func manPage(dir, section, name string, text []byte) error {
	dir = filepath.Join(dir, section)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, name), text, 0o644)
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
