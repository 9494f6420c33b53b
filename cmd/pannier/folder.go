package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

func (c *console) folderCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "folder", Short: "Watch folders: what is sent as it appears", Args: command.Arguments(0), RunE: command.Help}
	cmd.AddCommand(c.folderListCommand(), c.folderShowCommand(), c.folderTestCommand(), c.folderScanCommand(), c.deleteCommand("folder"))
	return cmd
}

func (c *console) folderListCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List watch folders",
		Long: `List watch folders, and how many files of each are in what state: see folder show. STAYING
are those that were delivered, or have failed, and could not be moved or removed as the
folder has it: the failed ones of them count as FAILED, too. Each scan tries again.`,
		Args: command.Arguments(0),
		RunE: c.run(func(ctx context.Context, cmd *cobra.Command, client *admin.Client, _ []string) error {
			reply, err := client.ListFolders(ctx, &adminpb.ListFoldersRequest{})
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), reply.GetFolders()...)
			}
			return folderTable(c.view(cmd.OutOrStdout()), reply.GetFolders()).Write(cmd.OutOrStdout())
		}),
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

func folderTable(v view, all []*adminpb.Folder) command.Table {
	t := command.Table{Header: []string{"NAME", "DIRECTORY", "PARTNERS", "RULE", "AFTER", "WAITING", "OPEN", "KEPT", "FAILED", "STAYING", "SKIPPED", "SEEN BY", "SCANNED", "ERROR"}, Align: "lcccl" + "rrrrrr" + "lrc"}
	count := func(n int64) string { return strconv.FormatInt(n, 10) }
	for _, f := range all {
		t.Rows = append(t.Rows, []string{
			f.GetName(), v.file(path.Join(f.GetRoot(), f.GetDir())), strings.Join(f.GetPartners(), ","), f.GetRule(), f.GetAfter(), count(f.GetWaiting() + f.GetHeld()),
			count(f.GetOpen()), count(f.GetKept()), count(f.GetFailed()), count(f.GetStaying()), count(f.GetSkipped()), seenBy(f), v.time(f.GetScanned()), orDash(command.Printable(folderError(f))),
		})
	}
	return t
}

// folderError is what is wrong with a folder; "": nothing is.
func folderError(f *adminpb.Folder) string {
	if f.GetTrouble() == "" && f.GetStaying() > 0 {
		return fmt.Sprintf("%d to be moved or removed, and cannot be: %s", f.GetStaying(), f.GetStays())
	}
	return f.GetTrouble()
}

// seenBy is how changes of a folder are seen.
func seenBy(f *adminpb.Folder) string {
	switch {
	case f.GetPartly():
		return "events, rescans"
	case f.GetHints() != "":
		return "rescans"
	}
	return "events"
}

// folderFileTable is files of a folder.
func folderFileTable(v view, all []*adminpb.FolderFile) command.Table {
	t := command.Table{Header: []string{"FILE", "SIZE", "STATE", "REQUESTS", "WHY"}, Align: "crlcc"}
	for _, f := range all {
		var ids []string
		for _, id := range f.GetIds() {
			ids = append(ids, v.id(id))
		}
		t.Rows = append(t.Rows, []string{v.file(f.GetPath()), v.bytes(f.GetSize()), f.GetState(), orDash(strings.Join(ids, ",")), orDash(command.Printable(f.GetWhy()))})
	}
	return t
}

// folderCall is a command about one folder.
func (c *console) folderCall(cmd *cobra.Command, call func(context.Context, *cobra.Command, *admin.Client, string, bool) error) *cobra.Command {
	var asJSON bool
	cmd.Args, cmd.ValidArgsFunction = command.Arguments(1), c.completeArgs(folderNames)
	cmd.RunE = c.run(func(ctx context.Context, cmd *cobra.Command, client *admin.Client, args []string) error {
		return unknown(ctx, client, call(ctx, cmd, client, args[0], asJSON), "folder", args[0], folderNames)
	})
	jsonFlag(cmd, &asJSON)
	return cmd
}

func (c *console) folderShowCommand() *cobra.Command {
	return c.folderCall(&cobra.Command{
		Use:   "show NAME",
		Short: "Show a watch folder, and its files",
		Long: `Show a watch folder, and its files: those that have failed or are skipped first, then
those that wait and why, those under way, and what was sent and is kept. At most 1,000.

waiting  it is not ready, or was changed since     held       it is ready, and others go first
open     its requests are under way                delivered  all partners have it, and it is to go; if it stays, WHY says why
kept     all partners have it                      failed     pannier retry ID, or change the file
skipped  it never can be sent`,
	}, func(ctx context.Context, cmd *cobra.Command, client *admin.Client, name string, asJSON bool) error {
		f, err := client.ShowFolder(ctx, &adminpb.ShowFolderRequest{Name: name})
		if err != nil {
			return err
		}
		return c.printFolder(cmd, f, asJSON)
	})
}

func (c *console) printFolder(cmd *cobra.Command, f *adminpb.Folder, asJSON bool) error {
	out, v := cmd.OutOrStdout(), c.view(cmd.OutOrStdout())
	if asJSON {
		return writeJSON(out, f)
	}
	err := folderTable(v, []*adminpb.Folder{f}).Write(out)
	if err == nil && len(f.GetFiles()) > 0 {
		if _, err = fmt.Fprintln(out); err == nil {
			err = folderFileTable(v, f.GetFiles()).Write(out)
		}
	}
	if text := admin.Unheard(f); err == nil && text != "" {
		_, err = fmt.Fprintln(cmd.ErrOrStderr(), command.Printable(text))
	}
	return err
}

func (c *console) folderScanCommand() *cobra.Command {
	return c.folderCall(&cobra.Command{
		Use:   "scan NAME",
		Short: "Look through a watch folder now",
		Long: `Look through a watch folder now, and show it then. Files that have to stay the same for
a while are sent when that is over. Exit code 1: a directory could not be listed.`,
	}, func(ctx context.Context, cmd *cobra.Command, client *admin.Client, name string, asJSON bool) error {
		f, err := client.ScanFolder(ctx, &adminpb.ScanFolderRequest{Name: name})
		if err != nil {
			return err
		}
		if err := c.printFolder(cmd, f, asJSON); err != nil || f.GetTrouble() == "" {
			return err
		}
		return fault.New("scan folder", fault.IO, "%s", f.GetTrouble())
	})
}

func (c *console) folderTestCommand() *cobra.Command {
	return c.folderCall(&cobra.Command{
		Use:   "test NAME",
		Short: "Say of each file in a watch folder what would become of it, and why",
		Long: `Say of each file in a watch folder what would become of it now, and why: "send" is
ready, "excluded" is wanted by no pattern; the others are as in folder show. Nothing is
changed. The counts on stderr are of all files, the table has 1,000 at most. Exit code 1: a directory
could not be listed.`,
	}, func(ctx context.Context, cmd *cobra.Command, client *admin.Client, name string, asJSON bool) error {
		reply, err := client.TestFolder(ctx, &adminpb.TestFolderRequest{Name: name})
		if err != nil {
			return err
		}
		if asJSON {
			err = writeJSON(cmd.OutOrStdout(), reply)
		} else if err = folderFileTable(c.view(cmd.OutOrStdout()), reply.GetFiles()).Write(cmd.OutOrStdout()); err == nil {
			var counts []string
			for _, state := range slices.Sorted(maps.Keys(reply.GetCounts())) {
				counts = append(counts, fmt.Sprintf("%d %s", reply.GetCounts()[state], state))
			}
			_, err = fmt.Fprintln(cmd.ErrOrStderr(), cmp.Or(strings.Join(counts, ", "), "no file is there"))
		}
		if err == nil && reply.GetTrouble() != "" {
			err = fault.New("test folder", fault.IO, "%s", reply.GetTrouble())
		}
		return err
	})
}

func folderNames(ctx context.Context, client *admin.Client) (names []string, err error) {
	reply, err := client.ListFolders(ctx, &adminpb.ListFoldersRequest{})
	for _, f := range reply.GetFolders() {
		names = append(names, f.GetName()+"\t"+path.Join(f.GetRoot(), f.GetDir()))
	}
	return names, err
}
