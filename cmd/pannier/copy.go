package main

import (
	"context"
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
	cmd := &cobra.Command{
		Use:   "copy BRIDGE:/FILE... BRIDGE:/PATH",
		Short: "Copy files from one bridge to another",
		Long: `Copy files from one bridge to another. The daemon does it, as with send.

Where both bridges name each other in fxp, and their servers can, one server sends to
the other and the bytes do not come here; otherwise they come through the daemon. The
request's "compared" begins with "direct" if they did not. A PATH that ends in /, keeps
the files' names.`,
		Example: `  # See it through
  pannier copy ftp-a:/out/big.iso ftp-b:/in/ --wait
  # Under another name, between different protocols
  pannier copy ftp-a:/out/x.csv bucket:/2026/january.csv`,
		Args: command.AtLeast(2),
		RunE: c.run(func(ctx context.Context, cmd *cobra.Command, client *admin.Client, args []string) error {
			orders, err := f.copies(c, args)
			if err != nil {
				return err
			}
			return c.submit(ctx, cmd, client, &f, orders)
		}),
	}
	f.register(c, cmd, adminpb.Rule_SEND)
	_ = cmd.Flags().MarkHidden("rule")
	cmd.ValidArgsFunction = c.completeArgs(partnerNames)
	return cmd
}

// copies are the requests of copy.
func (f *orderFlags) copies(c *console, args []string) ([]*adminpb.SubmitRequest, error) {
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
	for _, file := range files {
		from, name, err := atBridge(file)
		if err != nil {
			return nil, err
		}
		if name == "" || strings.HasSuffix(name, "/") {
			return nil, fault.New("read arguments", fault.Invalid, "%.200q names no file", file)
		}
		o, err := f.order(c)
		if err != nil {
			return nil, err
		}
		o.Partner, o.Rule, o.Source, o.Target = to, engine.CopyRule(from), name, at
		if f.rule != "" {
			o.Rule = f.rule
		}
		if folder {
			o.Target = path.Join(at, path.Base(name))
		}
		switch {
		case f.key != "" && len(files) > 1:
			o.Id = keyID(f.key, to, o.Rule, o.Source)
		case f.key != "":
			o.Id = keyID(f.key)
		}
		orders = append(orders, o)
	}
	return orders, nil
}

// atBridge reads "BRIDGE:/NAME"; the name is without its first slash.
func atBridge(text string) (bridge, name string, err error) {
	bridge, name, err = target(text)
	if err == nil && !strings.HasPrefix(name, "/") {
		err = fault.New("read arguments", fault.Invalid, "%.200q is no file at a bridge: write BRIDGE:/NAME", text)
	}
	return bridge, strings.TrimLeft(name, "/"), err
}
