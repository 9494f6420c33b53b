package main

import (
	"cmp"
	"context"
	"fmt"
	"path"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

func (c *console) copyCommand() *cobra.Command {
	var f orderFlags
	var which choice
	cmd := &cobra.Command{
		Use:   "copy BRIDGE:/PATH... BRIDGE:/PATH",
		Short: "Copy files and directories from one bridge to another",
		Long: `Copy files from one bridge to another. The daemon does it, as with send.

Where both bridges name each other in fxp, and their servers can, one server sends to
the other and the bytes do not come here; otherwise they come through the daemon. The
request's "compared" begins with "direct" if they did not.

A destination that ends in / keeps the files' names. A source that ends in / is a
directory: all files below it are copied, each by a request of its own, to the same place
below the destination, whose directories are made; empty ones are not. Patterns are as in
watch folders, of the path below the directory: one without a slash is of the last
element. An excluded directory is not looked into.`,
		Example: `  # See it through
  pannier copy ftp-a:/out/big.iso ftp-b:/in/ --wait
  # Under another name, between different protocols
  pannier copy ftp-a:/out/x.csv bucket:/2026/january.csv
  # A directory, and again tomorrow what is new or has changed
  pannier copy ftp-a:/out/ ftp-b:/in/ --include '*.csv' --exclude tmp --update`,
		Args: command.AtLeast(2),
		RunE: c.run(func(ctx context.Context, cmd *cobra.Command, client *admin.Client, args []string) error {
			orders, err := f.copies(ctx, c, client, args, &which)
			if err != nil {
				return err
			}
			if len(orders) == 0 {
				_, err := fmt.Fprintln(cmd.ErrOrStderr(), "nothing is new")
				return err
			}
			return c.submit(ctx, cmd, client, &f, orders)
		}),
	}
	f.register(c, cmd, adminpb.Rule_SEND)
	_ = cmd.Flags().MarkHidden("rule")
	flags := cmd.Flags()
	flags.StringArrayVar(&which.include, "include", nil, "of a directory only files that fit this `PATTERN`, or another one")
	flags.StringArrayVar(&which.exclude, "exclude", nil, "of a directory no files and directories that fit this `PATTERN`")
	flags.BoolVar(&which.update, "update", false, "of a directory only files that the destination has not, with another size, or older")
	cmd.ValidArgsFunction = c.completeArgs(partnerNames)
	return cmd
}

// copies are the requests of copy. All directories are listed before the first one is made.
func (f *orderFlags) copies(ctx context.Context, c *console, client *admin.Client, args []string, which *choice) ([]*adminpb.SubmitRequest, error) {
	if err := which.check(); err != nil {
		return nil, err
	}
	files, dest := args[:len(args)-1], args[len(args)-1]
	to, at, err := atBridge(dest)
	if err != nil {
		return nil, err
	}
	folder := at == "" || strings.HasSuffix(at, "/")
	if len(files) > 1 && !folder {
		return nil, fault.New("read arguments", fault.Invalid, "%d files cannot all be %q: write a folder, with / at its end", len(files), dest)
	}
	var orders []*adminpb.SubmitRequest
	add := func(from, name, target string) error {
		o, err := f.order(c)
		if err != nil {
			return err
		}
		o.Partner, o.Rule, o.Source, o.Target = to, cmp.Or(f.rule, engine.CopyRule(from)), name, target
		orders = append(orders, o)
		return nil
	}
	trees := false
	for _, file := range files {
		from, name, err := atBridge(file)
		if err != nil {
			return nil, err
		}
		if name != "" && !strings.HasSuffix(name, "/") {
			if folder {
				err = add(from, name, path.Join(at, path.Base(name)))
			} else {
				err = add(from, name, at)
			}
			if err != nil {
				return nil, err
			}
			continue
		}
		trees = true
		if !folder {
			return nil, fault.New("read arguments", fault.Invalid, "%.200q is a directory, and %.200q a file: write a folder, with / at its end", file, dest)
		}
		if from == to && within(at, name) {
			return nil, fault.New("read arguments", fault.Invalid, "%.200q lies in %.200q, and would be copied into itself", dest, file)
		}
		names, err := which.below(ctx, client, from, name, to, at)
		if err != nil {
			return nil, err
		}
		for _, n := range names {
			if err := add(from, path.Join(name, n), path.Join(at, n)); err != nil {
				return nil, err
			}
		}
	}
	if !trees && (which.update || len(which.include)+len(which.exclude) > 0) {
		return nil, fault.New("read flags", fault.Invalid, "--include, --exclude and --update are of directories: write BRIDGE:/PATH/, with / at its end")
	}
	if f.key == "" {
		return orders, nil
	}
	for _, o := range orders {
		if len(orders) > 1 || trees {
			o.Id = keyID(f.key, to, o.Rule, o.Source)
		} else {
			o.Id = keyID(f.key)
		}
	}
	return orders, nil
}

// within says whether a directory is another one, or lies in it.
func within(dir, other string) bool {
	dir, other = strings.Trim(dir, "/"), strings.Trim(other, "/")
	return other == "" || dir == other || strings.HasPrefix(dir, other+"/")
}

// atBridge reads "BRIDGE:/NAME"; the name is without its first slash.
func atBridge(text string) (bridge, name string, err error) {
	bridge, name, err = target(text)
	if err == nil && !strings.HasPrefix(name, "/") {
		err = fault.New("read arguments", fault.Invalid, "%.200q is no file at a bridge: write BRIDGE:/NAME", text)
	}
	return bridge, strings.TrimLeft(name, "/"), err
}
