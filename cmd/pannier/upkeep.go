package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

func (c *console) statusCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Say who the node is, and whether its daemon answers",
		Args:  command.Arguments(0),
		RunE: c.run(func(ctx context.Context, cmd *cobra.Command, client *admin.Client, _ []string) error {
			n, err := client.NodeInfo(ctx, &adminpb.NodeInfoRequest{})
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), n)
			}
			var f fields
			f.add("node", n.GetName())
			f.add("key", n.GetKey())
			f.add("version", n.GetVersion())
			f.add("addresses", strings.Join(n.GetAddresses(), " "))
			f.add("state", map[bool]string{true: "draining: it takes nothing new", false: "running"}[n.GetDraining()])
			f.add("started", c.view(cmd.OutOrStdout()).time(n.GetStarted()))
			return f.write(cmd.OutOrStdout())
		}),
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

func (c *console) reloadCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "reload",
		Short: "Have the daemon read its configuration again",
		Long: `Have the daemon read its configuration again. What it asks of the host is tried first: new
plugins are started, new addresses of listeners taken, directories of new folders looked
for. If something of that fails, or the configuration has a fault, all stays as it was,
the fault is told with its line, and the exit code is 2. Relays that stay as they are go on
untouched; connections of those that change or go, too.

Exit code 3: the configuration holds, and something of it does not work, as a relay whose
port is taken, or a folder whose directory has gone. What does not is on stderr.`,
		Args: command.Arguments(0),
		RunE: c.run(func(ctx context.Context, cmd *cobra.Command, client *admin.Client, _ []string) error {
			reply, err := client.Reload(ctx, &adminpb.ReloadRequest{})
			if err != nil {
				return err
			}
			code := command.Done
			for _, problem := range reply.GetProblems() {
				fmt.Fprintln(cmd.ErrOrStderr(), "warning: "+command.Printable(problem))
				code = command.Some
			}
			if asJSON {
				if err := writeJSON(cmd.OutOrStdout(), reply); err != nil {
					return err
				}
				return command.Exit(code)
			}
			notes := reply.GetNotes()
			if len(notes) == 0 {
				notes = []string{"nothing has changed"}
			}
			for _, note := range notes {
				if _, err := fmt.Fprintln(cmd.OutOrStdout(), command.Printable(note)); err != nil {
					return fault.Wrap("write changes", "", err)
				}
			}
			return command.Exit(code)
		}),
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

func (c *console) checkCommand() *cobra.Command {
	var asJSON, data, notes bool
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Compare what the node remembers with what is on its disk",
		Long: `Compare what the node remembers with what is on its disk: received files that are
missing or have another size, partial files that no request knows, requests that should
have gone on. With --read-data also whether files still have the content that arrived.
Nothing is changed.

ERROR is what this node is answerable for: a file that nobody has written to since it
arrived, with another size or content. WARNING is what somebody should look at. A NOTE is
what others have done with a file since, as an application that consumes its inbox: it was
taken away or written to. Notes are counted, and printed with --all and --json. Files
that tasks after the bytes may have exchanged, and names that a later request has, are not
compared.

Exit code 0: nothing is wrong; there may be warnings and notes. 6: a file has another size
or content than what arrived. 1: something else is wrong.`,
		Args: command.Arguments(0),
		RunE: c.run(func(ctx context.Context, cmd *cobra.Command, client *admin.Client, _ []string) error {
			s, err := client.Check(ctx, &adminpb.CheckRequest{ReadData: data})
			var all []*adminpb.Finding
			var counts *adminpb.CheckCounts
			err = each(s, err, func(r *adminpb.CheckReply) error {
				if r.GetCounts() != nil {
					counts = r.GetCounts()
				} else {
					all = append(all, r.GetFinding())
				}
				if asJSON {
					return writeJSON(cmd.OutOrStdout(), r)
				}
				return nil
			})
			if err != nil {
				return err
			}
			shown := slices.DeleteFunc(slices.Clone(all), func(f *adminpb.Finding) bool { return !notes && f.GetSeverity() == adminpb.Finding_NOTE })
			if !asJSON && len(shown) > 0 {
				if err := findingTable(c.view(cmd.OutOrStdout()), shown).Write(cmd.OutOrStdout()); err != nil {
					return err
				}
			}
			line := countsLine(counts)
			if n := len(all) - len(shown); n > 0 {
				line += fmt.Sprintf(", %s notes (--all)", humanize.Comma(int64(n)))
			}
			fmt.Fprintln(cmd.ErrOrStderr(), line)
			return command.Exit(checkCode(all))
		}),
	}
	cmd.Flags().BoolVar(&data, "read-data", false, "read every file and compare its digest, too")
	cmd.Flags().BoolVar(&notes, "all", false, "print notes, too: files that were taken away or written to since")
	jsonFlag(cmd, &asJSON)
	return cmd
}

func findingTable(v view, all []*adminpb.Finding) command.Table {
	t := command.Table{Header: []string{"SEVERITY", "SUBJECT", "ID", "RULE", "FILE", "TEXT"}, Align: "lllccc"}
	for _, f := range all {
		t.Rows = append(t.Rows, []string{f.GetSeverity().String(), f.GetSubject().String(), orDash(v.id(f.GetId())), orDash(f.GetRule()), v.file(f.GetFile()), f.GetText()})
	}
	return t
}

func countsLine(n *adminpb.CheckCounts) string {
	line := fmt.Sprintf("%s requests, %s files compared by size", humanize.Comma(n.GetRecords()), humanize.Comma(n.GetFiles()))
	if n.GetDigests() > 0 {
		line += fmt.Sprintf(", %s by digest (%s)", humanize.Comma(n.GetDigests()), humanize.IBytes(uint64(n.GetBytes())))
	}
	if n.GetSkipped() > 0 {
		line += fmt.Sprintf(", %s not compared, because they were replaced or taken away, or a task may have changed them", humanize.Comma(n.GetSkipped()))
	}
	return line + fmt.Sprintf(": %s errors, %s warnings", humanize.Comma(n.GetErrors()), humanize.Comma(n.GetWarnings()))
}

// checkCode is the exit code for what was found.
func checkCode(all []*adminpb.Finding) int {
	code := command.Done
	for _, f := range all {
		switch {
		case f.GetSeverity() != adminpb.Finding_ERROR:
		case f.GetSubject() == adminpb.Finding_SIZE, f.GetSubject() == adminpb.Finding_DIGEST:
			return command.Corrupt
		default:
			code = command.Failed
		}
	}
	return code
}

func (c *console) purgeCommand() *cobra.Command {
	var before string
	var failed, asJSON bool
	cmd := &cobra.Command{
		Use:   "purge --before AGE",
		Short: "Forget requests that are done",
		Long: `Forget requests that are DONE and were changed last before a time or an age. Those
of the last hour stay. What has failed or was cancelled stays, too, unless --failed says
that nobody is going to retry it; then what has arrived of an unfinished file is removed.
Other files are not touched. The daemon does this by itself after node.retention and
node.failed_retention.`,
		Example: `  pannier purge --before 30d
  pannier purge --before 7d --failed`,
		Args: command.Arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if before == "" {
				return command.Suggest(fault.New("read flags", fault.Invalid, "--before is missing"), "Write: pannier purge --before 30d")
			}
			t, err := past(before, c.now())
			if err != nil {
				return err
			}
			c.messages = cmd.ErrOrStderr()
			return c.with(cmd.Context(), func(ctx context.Context, client *admin.Client) error {
				reply, err := client.Purge(ctx, &adminpb.PurgeRequest{Before: timestamppb.New(t), Failed: failed})
				if err != nil {
					return err
				}
				if kept := c.now().Add(-lifecycle.MinRetention); t.After(kept) {
					fmt.Fprintf(cmd.ErrOrStderr(), "requests that changed within the last hour are kept, whatever --before says: calls for them may still be on their way\n")
				}
				if asJSON {
					return writeJSON(cmd.OutOrStdout(), reply)
				}
				_, err = fmt.Fprintln(cmd.OutOrStdout(), reply.GetPurged())
				return err
			})
		},
	}
	cmd.Flags().StringVar(&before, "before", "", "an `AGE`, as 30d, or a time; required")
	cmd.Flags().BoolVar(&failed, "failed", false, "also what has failed or was cancelled")
	jsonFlag(cmd, &asJSON)
	return cmd
}
