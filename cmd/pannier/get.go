package main

import (
	"context"
	"path"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

func (c *console) getCommand() *cobra.Command { return c.ordering(c.getOrder()) }

// getOrder is the command without what it does, and what its arguments order.
func (c *console) getOrder() (*cobra.Command, *orderFlags, orderer) {
	f := new(orderFlags)
	cmd := &cobra.Command{
		Use:   "get PARTNER:PATH DEST",
		Short: "Get a file from a partner",
		Long: `Get a file from a partner. The daemon does it, as with send.

PATH is the file's name below the root that the rule has at the partner, or at a bridge
its name at the server. DEST is a
path of this host inside the root that the rule has here, if it begins with "/", "./" or
"../"; else a name below that root. A folder, or what ends in /, keeps the file's name.`,
		Example: `  # Into the root of the one rule to receive by
  pannier get hostb:exports/list.csv list.csv
  # Into a folder of this host, and see it through
  pannier get hostb:exports/list.csv /srv/in/2026/ --rule inbox --wait`,
		Args: command.Arguments(2),
	}
	f.register(c, cmd, adminpb.Rule_RECEIVE)
	return cmd, f, func(ctx context.Context, client *admin.Client, args []string) ([]*adminpb.SubmitRequest, error) {
		return f.gets(ctx, c, client, args)
	}
}

// gets is the request of get.
func (f *orderFlags) gets(ctx context.Context, c *console, client *admin.Client, args []string) ([]*adminpb.SubmitRequest, error) {
	partner, from, err := target(args[0])
	if err != nil {
		return nil, err
	}
	if from == "" {
		return nil, fault.New("read arguments", fault.Invalid, "%.200q names no file: write PARTNER:PATH", args[0])
	}
	o, err := f.order(c)
	if err != nil {
		return nil, err
	}
	t, err := chooseDest(ctx, client, &adminpb.TestRuleRequest{Partner: partner, Rule: f.rule, Direction: adminpb.Rule_RECEIVE}, args[1], path.Base(from))
	if err != nil {
		return nil, err
	}
	o.Partner, o.Rule, o.Source, o.Target = partner, t.GetRule(), strings.TrimLeft(from, "/"), t.GetName()
	if f.key != "" {
		o.Id = keyID(f.key)
	}
	return []*adminpb.SubmitRequest{o}, nil
}

// chooseDest is choose for a destination: below it, if it is a folder.
func chooseDest(ctx context.Context, client *admin.Client, in *adminpb.TestRuleRequest, dest, base string) (*adminpb.RuleTest, error) {
	whole, err := pathOrName(dest)
	if err != nil {
		return nil, err
	}
	in.Path = whole
	folder := strings.HasSuffix(dest, "/") || dest == "." || dest == ".."
	if !folder {
		reply, err := client.TestRule(ctx, in)
		if err != nil {
			return nil, err
		}
		for _, t := range reply.GetTests() {
			folder = folder || t.GetAllowed() && t.GetPathDirectory()
		}
	}
	if folder {
		in.Path = filepath.Join(whole, base)
	}
	return choose(ctx, client, in)
}
