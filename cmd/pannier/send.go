package main

import (
	"context"
	"path"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/nearest"
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
called like a partner. RULE is one of this node's, of direction send.

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
	cmd.Flags().SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		if name == "target" { // as JSON and the page call it
			name = "as"
		}
		return pflag.NormalizedName(name)
	})
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
				return nil, meant(ctx, client, err, paths, p, d)
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
	const op = "read arguments"
	if len(args) == 2 {
		return args[:1], args[1:], nil
	}
	partners, err := partnersOf(ctx, client)
	if err != nil {
		return nil, nil, err
	}
	known := func(arg string) bool { return slices.Contains(partners, partnerIn(arg)) }
	first := len(args) - 1
	for first > 1 && known(args[first-1]) {
		first--
	}
	if last := args[len(args)-1]; !known(last) {
		return nil, nil, command.Suggest(fault.New(op, fault.NotFound, "no partner is called %.200q%s", partnerIn(last), nearest.Meant(partnerIn(last), partners)), "%s\n%s", sendForm, thereAre(partners))
	}
	// Files come first: what stands behind a partner and names none is not taken for one.
	for _, a := range args[1:max(1, first-1)] {
		if behind := args[first-1]; known(a) {
			return nil, nil, command.Suggest(fault.New(op, fault.NotFound, "%.200q names a partner, and %.200q behind it none%s", a, behind, nearest.Meant(partnerIn(behind), partners)),
				"%s\nA file that is called like a partner: ./%s", sendForm, command.Printable(a))
		}
	}
	seen := map[string]bool{}
	for _, d := range args[first:] {
		if seen[d] {
			return nil, nil, fault.New(op, fault.Invalid, "%.200q is there twice", d)
		}
		seen[d] = true
	}
	return args[:first], args[first:], nil
}

// sendForm is what the arguments of send are.
const sendForm = "Write: pannier send PATH... PARTNER[:RULE|:/NAME]..."

// partnerIn is the partner of an argument PARTNER[:REST].
func partnerIn(arg string) string {
	name, _, _ := strings.Cut(arg, ":")
	return name
}

// partnersOf are the names of all partners.
func partnersOf(ctx context.Context, client *admin.Client) (names []string, err error) {
	reply, err := client.ListPartners(ctx, &adminpb.ListPartnersRequest{})
	for _, p := range reply.GetPartners() {
		names = append(names, p.GetName())
	}
	return names, err
}

// meant adds to the error of a file and a destination what the arguments are, if one of
// them is no partner and may have been meant for one.
func meant(ctx context.Context, client *admin.Client, err error, paths []string, file, to string) error {
	partners, problem := partnersOf(ctx, client)
	if problem != nil {
		return err
	}
	if !slices.Contains(partners, partnerIn(to)) {
		return command.Suggest(err, "%s\n%s", sendForm, thereAre(partners))
	}
	if near := nearest.Meant(partnerIn(file), partners); near != "" && slices.Index(paths, file) > 0 {
		return command.Suggest(err, "%s was read as a file, because no partner is called so%s\n%s", command.Printable(file), near, sendForm)
	}
	return err
}

// thereAre is the first partners, in words.
func thereAre(partners []string) string { return firstOf("partner", partners) }

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
