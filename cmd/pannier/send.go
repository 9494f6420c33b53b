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

func (c *console) sendCommand() *cobra.Command { return c.ordering(c.sendOrder()) }

// sendOrder is the command without what it does, and what its arguments order.
func (c *console) sendOrder() (*cobra.Command, *orderFlags, orderer) {
	f := new(orderFlags)
	var as string
	cmd := &cobra.Command{
		Use:   "send PATH... PARTNER[:RULE|:/NAME]...",
		Short: "Send files to partners",
		Long: `Send files to partners. The daemon does it, also when this command, the network
or the host goes down meanwhile. The ids of the requests are printed, one for each file
and partner.

Each PATH is a file of this host and lies in the root of a rule: which one, the daemon
finds out, if only one fits. PARTNER:/NAME is short for --as NAME. From the end on, what
names a partner is one, but never the first argument: write ./NAME for a file that is
called like a partner.

A file that goes to several partners at the same time is read once. Each partner has a
request of its own, and none waits for another. With --wait there is one verdict for
each, and the exit code is 3 if only some have it.`,
		Example: `  # One file; its id is printed
  pannier send /srv/out/report.pdf hostb
  # To three partners, and see each through
  pannier send release.iso hostb hostc hostd:/in/ --wait
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
	}
	f.register(c, cmd, adminpb.Rule_SEND)
	cmd.Flags().StringVar(&as, "as", "", "`NAME` below the rule's root at the partner; one that ends in / is a folder (default: as here)")
	return cmd, f, func(ctx context.Context, client *admin.Client, args []string) ([]*adminpb.SubmitRequest, error) {
		return f.sends(ctx, c, client, args, as)
	}
}

// sends are the requests of send, file by file. All are known to be possible before the
// first one is made.
func (f *orderFlags) sends(ctx context.Context, c *console, client *admin.Client, args []string, as string) ([]*adminpb.SubmitRequest, error) {
	paths, to, err := addressees(ctx, client, args)
	if err != nil {
		return nil, err
	}
	if len(paths)*len(to) > 1 && isID(f.key) {
		return nil, fault.New("read flags", fault.Invalid, "--id is a whole id and there are %d requests: write any other text", len(paths)*len(to))
	}
	orders := make([]*adminpb.SubmitRequest, 0, len(paths)*len(to))
	for _, p := range paths {
		for _, d := range to {
			o, err := f.send(ctx, c, client, p, d, as, len(paths))
			if err != nil {
				return nil, err
			}
			o.Together = int32(len(to))
			switch {
			case f.key != "" && len(paths)*len(to) > 1:
				o.Id = keyID(f.key, o.Partner, o.Rule, o.Source)
			case f.key != "":
				o.Id = keyID(f.key)
			}
			orders = append(orders, o)
		}
	}
	return orders, nil
}

// addressees tells the paths of send from what follows them: from the end on, all that
// name a partner, but not the first argument.
func addressees(ctx context.Context, client *admin.Client, args []string) (paths, to []string, err error) {
	if len(args) == 2 {
		return args[:1], args[1:], nil
	}
	reply, err := client.ListPartners(ctx, &adminpb.ListPartnersRequest{})
	if err != nil {
		return nil, nil, err
	}
	known := map[string]bool{}
	for _, p := range reply.GetPartners() {
		known[p.GetName()] = true
	}
	first := len(args) - 1
	for name := ""; first > 1; first-- {
		if name, _, _ = strings.Cut(args[first-1], ":"); !known[name] {
			break
		}
	}
	seen := map[string]bool{}
	for _, d := range args[first:] {
		if seen[d] {
			return nil, nil, fault.New("read arguments", fault.Invalid, "%.200q is there twice", d)
		}
		seen[d] = true
	}
	return args[:first], args[first:], nil
}

// send is the request to send a file, one of several, to a destination.
func (f *orderFlags) send(ctx context.Context, c *console, client *admin.Client, file, to, as string, of int) (*adminpb.SubmitRequest, error) {
	partner, rule, err := target(to)
	if err != nil {
		return nil, err
	}
	if name, ok := strings.CutPrefix(rule, "/"); ok {
		if as != "" {
			return nil, fault.New("read arguments", fault.Invalid, "two names: %q and --as %q", rule, as)
		}
		if rule, as = "", name; as == "" {
			as = "./"
		}
	}
	if rule, err = f.use(rule); err != nil {
		return nil, err
	}
	if of > 1 && as != "" && !strings.HasSuffix(as, "/") {
		return nil, fault.New("read flags", fault.Invalid, "--as %q for %d files: write a folder, with / at its end", as, of)
	}
	o, err := f.order(c)
	if err != nil {
		return nil, err
	}
	t, err := choose(ctx, client, &adminpb.TestRuleRequest{Partner: partner, Rule: rule, Path: file, Direction: adminpb.Rule_SEND})
	if err != nil {
		return nil, err
	}
	o.Partner, o.Rule, o.Source, o.Target = partner, t.GetRule(), t.GetName(), as
	if strings.HasSuffix(as, "/") {
		o.Target = path.Join(as, path.Base(o.Source))
	}
	return o, nil
}
