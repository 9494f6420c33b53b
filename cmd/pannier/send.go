package main

import (
	"context"
	"path"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

func (c *console) sendCommand() *cobra.Command {
	var f orderFlags
	var as string
	cmd := &cobra.Command{
		Use:   "send PATH... PARTNER[:RULE|:/NAME]",
		Short: "Send files to a partner",
		Long: `Send files to a partner. The daemon does it, also when this command, the network
or the host goes down meanwhile. The ids of the requests are printed.

Each PATH is a file of this host and lies in the root of a rule: which one, the daemon
finds out, if only one fits. PARTNER:/NAME is short for --as NAME.`,
		Example: `  # One file; its id is printed
  pannier send /srv/out/report.pdf hostb
  # To a server of another protocol, into a folder there
  pannier send report.pdf warehouse:/in/
  # Under another name, by a rule, and see it through
  pannier send report.pdf hostb:invoices --as 2026/january.pdf --wait
  # Once only, however often a script says it
  pannier send daily.tar hostb --id "daily $(date +%F)"
  # Tonight
  pannier send *.iso hostb --at 22:00 --priority -10`,
		Args:              command.AtLeast(2),
		ValidArgsFunction: c.fileOrPartner,
		RunE: c.run(func(ctx context.Context, cmd *cobra.Command, client *admin.Client, args []string) error {
			orders, err := f.sends(ctx, c, client, args, as)
			if err != nil {
				return err
			}
			return c.submit(ctx, cmd, client, &f, orders)
		}),
	}
	f.register(c, cmd, adminpb.Rule_SEND)
	cmd.Flags().StringVar(&as, "as", "", "`NAME` below the rule's root at the partner; one that ends in / is a folder (default: as here)")
	return cmd
}

// sends are the requests of send. All are known to be possible before the first
// one is made.
func (f *orderFlags) sends(ctx context.Context, c *console, client *admin.Client, args []string, as string) ([]*adminpb.SubmitRequest, error) {
	paths, to := args[:len(args)-1], args[len(args)-1]
	partner, rule, err := target(to)
	if err != nil {
		return nil, err
	}
	if name, ok := strings.CutPrefix(rule, "/"); ok {
		if as != "" {
			return nil, fault.New("read arguments", fault.Invalid, "two names: %q and --as %q", rule, as)
		}
		if rule, as = "", name; as == "" && len(paths) > 0 {
			as = "./"
		}
	}
	if rule, err = f.use(rule); err != nil {
		return nil, err
	}
	if len(paths) > 1 && as != "" && !strings.HasSuffix(as, "/") {
		return nil, fault.New("read flags", fault.Invalid, "--as %q for %d files: write a folder, with / at its end", as, len(paths))
	}
	if len(paths) > 1 && isID(f.key) {
		return nil, fault.New("read flags", fault.Invalid, "--id is a whole id and there are %d files: write any other text", len(paths))
	}
	orders := make([]*adminpb.SubmitRequest, len(paths))
	for i, p := range paths {
		o, err := f.order(c)
		if err != nil {
			return nil, err
		}
		t, err := choose(ctx, client, &adminpb.TestRuleRequest{Partner: partner, Rule: rule, Path: p, Direction: adminpb.Rule_SEND})
		if err != nil {
			return nil, err
		}
		o.Partner, o.Rule, o.Source, o.Target = partner, t.GetRule(), t.GetName(), as
		if strings.HasSuffix(as, "/") {
			o.Target = path.Join(as, path.Base(o.Source))
		}
		switch {
		case f.key != "" && len(paths) > 1:
			o.Id = keyID(f.key, partner, o.Rule, o.Source)
		case f.key != "":
			o.Id = keyID(f.key)
		}
		orders[i] = o
	}
	return orders, nil
}
