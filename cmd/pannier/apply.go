package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/rogpeppe/go-internal/diff"
	"github.com/spf13/cobra"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/access"
	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/engine/config"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

func (c *console) applyCommand() *cobra.Command {
	var file string
	var dry, asJSON bool
	var revision uint64
	cmd := &cobra.Command{
		Use:   "apply -f FILE|DIR",
		Short: "Make or replace partners, rules and other objects while the node runs",
		Long: `Make or replace partners, rules, pools, folders, schedules, expected files and tokens while the
node runs, as sections of a TOML file, of all *.toml files of a directory, or of stdin (-f -). All of them, or, if something is wrong
with one, none. The node keeps them in its state directory, beside what its own file has,
which is changed there only. Once it is applied, what config check would warn of is told
where the node is of this host, and its configuration may be read.`,
		Example: `  pannier apply -f partners/ --dry-run
  pannier export | pannier --admin tls://other:8443 --token-file t apply -f -`,
		Args: func(cmd *cobra.Command, args []string) error {
			if file == "" {
				return command.Suggest(fault.New("read flags", fault.Invalid, "nothing is said that is to be applied"), "Write: pannier apply -f FILE, -f DIR, or -f - for stdin")
			}
			return command.Arguments(0)(cmd, args)
		},
		RunE: c.run(func(ctx context.Context, cmd *cobra.Command, client *admin.Client, _ []string) error {
			texts, err := applyTexts(file, cmd.InOrStdin())
			if err != nil {
				return err
			}
			before := c.ownWarnings()
			reply, err := client.Apply(ctx, &adminpb.ApplyRequest{Text: texts[0].GetText(), File: texts[0].GetFile(), More: texts[1:], DryRun: dry, Revision: revision})
			if err != nil {
				return err
			}
			for _, text := range c.ownWarnings() {
				if !slices.Contains(before, text) {
					fmt.Fprintln(cmd.ErrOrStderr(), "warning: "+text)
				}
			}
			if !dry {
				warnOfRoots(ctx, cmd.ErrOrStderr(), client, reply)
			}
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), reply)
			}
			return writeChanges(cmd.OutOrStdout(), reply, dry)
		}),
	}
	cmd.Flags().StringVarP(&file, "file", "f", "", "what to apply; -: stdin")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "print what would change, and change nothing")
	cmd.Flags().Uint64Var(&revision, "revision", 0, "only if the objects are at this revision, as export has printed it")
	jsonFlag(cmd, &asJSON)
	return cmd
}

// ownWarnings are what config check would warn of now, of the daemon of this host's
// configuration; none where that cannot be read.
func (c *console) ownWarnings() []string {
	if c.admin != "" {
		return nil
	}
	cfg, err := config.Load(c.config)
	if err != nil {
		return nil
	}
	return append(rootWarnings(cfg), configWarnings(cfg)...)
}

// warnOfRoots says which roots of rules that were applied the node cannot write: the sandbox of its
// unit is seen from there only. That it cannot be asked is a warning, too.
func warnOfRoots(ctx context.Context, w io.Writer, client *admin.Client, reply *adminpb.ApplyReply) {
	applied := func(rule string) bool {
		return slices.ContainsFunc(reply.GetChanges(), func(c *adminpb.ObjectChange) bool {
			return c.GetKind() == "rule" && c.GetName() == rule && (c.GetChange() == "new" || c.GetChange() == "changed")
		})
	}
	rules, err := client.ListRules(ctx, &adminpb.ListRulesRequest{Roots: true})
	if err != nil { // it is applied all the same
		fmt.Fprintf(w, "warning: whether the node can write the roots is not known: %s\n", command.Printable(fault.Plain(err)))
	}
	for _, r := range rules.GetRules() {
		if r.GetUnwritable() != "" && applied(r.GetName()) {
			fmt.Fprintf(w, "warning: %s\n", command.Printable(engine.RootTrouble(r.GetName(), r.GetRoot(), r.GetUnwritable(), false)))
		}
	}
}

// applyTexts are those of a file, of the TOML files of a directory, or of stdin.
func applyTexts(path string, in io.Reader) (all []*adminpb.ApplyText, err error) {
	const op = "read objects"
	if path == "-" {
		data, err := io.ReadAll(in)
		all = []*adminpb.ApplyText{{File: "stdin", Text: string(data)}}
		return all, cmp.Or(fault.Wrap(op, "stdin", err), encoded(all))
	}
	fi, err := os.Stat(path)
	if err != nil {
		return nil, fault.Wrap(op, path, err)
	}
	files := []string{path}
	if fi.IsDir() {
		files, err = filepath.Glob(filepath.Join(path, "*.toml")) // sorted
		if err == nil && len(files) == 0 {
			err = fault.New(op, fault.NotFound, "%s has no *.toml files", path)
		}
		if err != nil {
			return nil, err
		}
	}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			return nil, fault.Wrap(op, f, err)
		}
		all = append(all, &adminpb.ApplyText{File: f, Text: string(data)})
	}
	return all, encoded(all)
}

// encoded refuses texts that are no UTF-8.
func encoded(all []*adminpb.ApplyText) error {
	const op = "read objects"
	for _, t := range all {
		if text := t.GetText(); config.IsUTF16([]byte(text)) {
			return fault.New(op, fault.Invalid, "%s: %s", t.GetFile(), config.NotUTF16)
		} else if !utf8.ValidString(text) {
			return fault.New(op, fault.Invalid, "%s is not UTF-8: save it as that", t.GetFile())
		}
	}
	return nil
}

// writeChanges prints the difference that each object makes.
func writeChanges(w io.Writer, reply *adminpb.ApplyReply, dry bool) error {
	var b strings.Builder
	for _, c := range reply.GetChanges() {
		name := c.GetKind() + " " + c.GetName()
		if dry && c.GetChange() != "same" {
			b.Write(diff.Diff(name+", now", []byte(c.GetBefore()), name+", then", []byte(c.GetAfter())))
			continue
		}
		fmt.Fprintf(&b, "%s: %s\n", name, c.GetChange())
	}
	_, err := io.WriteString(w, printableLines(b.String()))
	return fault.Wrap("write changes", "", err)
}

// printableLines is a text whose lines a terminal may show.
func printableLines(text string) string {
	lines := strings.Split(text, "\n")
	for i := range lines {
		lines[i] = command.Printable(lines[i])
	}
	return strings.Join(lines, "\n")
}

func (c *console) exportCommand() *cobra.Command {
	var all, tokens, asJSON bool
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Print what was applied, as apply takes them",
		Long: `Print what was applied, as apply takes them. Tokens are left out unless --tokens is said, which
takes scope administer: what is printed then has the digests of their texts. Nobody can call with
a digest, but a node where it is applied lets in whoever has the token.`,
		Args: command.Arguments(0),
		RunE: c.run(func(ctx context.Context, cmd *cobra.Command, client *admin.Client, _ []string) error {
			if tokens { // who may not see them is told so, and gets no export without them
				if _, err := client.ListObjects(ctx, &adminpb.ListObjectsRequest{Kind: access.Kind}); err != nil {
					return err
				}
			}
			reply, err := client.ListObjects(ctx, &adminpb.ListObjectsRequest{})
			if err != nil {
				return err
			}
			if asJSON {
				if !tokens {
					reply.Objects = slices.DeleteFunc(reply.Objects, func(o *adminpb.Object) bool { return o.GetKind() == access.Kind })
				}
				return writeJSON(cmd.OutOrStdout(), reply)
			}
			var b strings.Builder
			fmt.Fprintf(&b, "# revision %d\n", reply.GetRevision())
			left := 0
			for _, o := range reply.GetObjects() {
				if o.GetOrigin() != "file" || all {
					if o.GetKind() == access.Kind && !tokens {
						left++
						continue
					}
					if o.GetHidden() {
						err := fault.New("export", fault.Permission, "%s %s has addresses that a token with scope read sees in part only, and nothing can be applied without them", o.GetKind(), o.GetName())
						return command.Suggest(err, "Take a token with scope operate; --json prints what this one sees")
					}
					fmt.Fprintf(&b, "\n%s", o.GetText())
				}
			}
			if left > 0 {
				fmt.Fprintf(cmd.ErrOrStderr(), "tokens that are left out: %d; --tokens prints them, with digests in place of what proves them\n", left)
			}
			_, err = io.WriteString(cmd.OutOrStdout(), b.String())
			return fault.Wrap("write objects", "", err)
		}),
	}
	cmd.Flags().BoolVar(&all, "all", false, "those of the node's own file, too")
	cmd.Flags().BoolVar(&tokens, "tokens", false, "tokens, too, as their digests")
	jsonFlag(cmd, &asJSON)
	return cmd
}

// deleteCommand removes objects of a kind that were applied.
func (c *console) deleteCommand(kind string) *cobra.Command {
	var revision uint64
	cmd := &cobra.Command{
		Use:               "delete NAME",
		Short:             "Remove a " + kind + " that was applied while the node ran",
		Args:              command.Arguments(1),
		ValidArgsFunction: c.completeArgs(appliedNames(kind)),
		RunE: c.run(func(ctx context.Context, cmd *cobra.Command, client *admin.Client, args []string) error {
			_, err := client.DeleteObject(ctx, &adminpb.DeleteObjectRequest{Kind: kind, Name: args[0], Revision: revision})
			return err
		}),
	}
	cmd.Flags().Uint64Var(&revision, "revision", 0, "only if it is at this revision")
	return cmd
}
