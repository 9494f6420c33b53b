package main

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/quantity"
)

// orderFlags are what send and get have in common.
type orderFlags struct {
	rule, key, at, info string
	bandwidth           string
	priority            int32
	wait, json, dry     bool
}

func (f *orderFlags) register(c *console, cmd *cobra.Command, d adminpb.Rule_Direction) {
	flags := cmd.Flags()
	flags.StringVar(&f.rule, "rule", "", "the rule to use (default: the one that fits)")
	flags.StringVar(&f.key, "id", "", "`KEY` of the request, any text: the same again is the same request")
	flags.StringVar(&f.at, "at", "", "do not begin before this `TIME`, as 20:00, +2h or 2026-01-31 20:00")
	flags.Int32Var(&f.priority, "priority", 0, "higher goes first, -128 to 127 (default: the rule's)")
	flags.StringVar(&f.bandwidth, "bandwidth", "", "the most it may move, at either end, as `RATE` 5MB/s (default: what partner, pools and node allow)")
	flags.StringVar(&f.info, "info", "", "text for tasks and people at both nodes")
	flags.BoolVar(&f.wait, "wait", false, "show progress until it is over; Ctrl-C only detaches, a second one cancels")
	flags.BoolVar(&f.dry, "dry-run", false, "register nothing; print what would be, a line for each request, which a shell and run can run")
	jsonFlag(cmd, &f.json)
	complete(cmd, "rule", ruleNames(d), c)
}

// order is what the flags say of a request.
func (f *orderFlags) order(c *console) (*adminpb.SubmitRequest, error) {
	o := &adminpb.SubmitRequest{Priority: f.priority, Info: f.info}
	if f.priority < math.MinInt8 || f.priority > math.MaxInt8 {
		return nil, fault.New("read flags", fault.Invalid, "--priority %d: -128 to 127 are allowed", f.priority)
	}
	if f.bandwidth != "" {
		rate, err := quantity.Rate.Parse(f.bandwidth)
		if err == nil && rate < lifecycle.MinBandwidth {
			err = fault.New("read flags", fault.Invalid, "--bandwidth %s: at least %s is allowed", f.bandwidth, quantity.Rate.Format(lifecycle.MinBandwidth))
		}
		if err != nil {
			return nil, err
		}
		o.Bandwidth = rate
	}
	if f.at != "" {
		t, err := future(f.at, c.now())
		if err != nil {
			return nil, err
		}
		o.NotBefore = timestamppb.New(t)
	}
	return o, nil
}

// use is the rule of "PARTNER:RULE" and --rule.
func (f *orderFlags) use(rest string) (string, error) {
	if rest != "" && f.rule != "" && rest != f.rule {
		return "", fault.New("read arguments", fault.Invalid, "two rules: %q and --rule %q", rest, f.rule)
	}
	return cmp.Or(rest, f.rule), nil
}

// pathOrName is a path of this host as a whole one, or a name as it is.
func pathOrName(text string) (string, error) {
	if !filepath.IsAbs(text) && text != "." && text != ".." && !strings.HasPrefix(text, "./") && !strings.HasPrefix(text, "../") {
		return text, nil
	}
	return wholePath(text)
}

func wholePath(text string) (string, error) {
	whole, err := filepath.Abs(text)
	return whole, fault.Wrap("find path", text, err)
}

// choose is the one rule that takes the path, which for a send is one of this
// host.
func choose(ctx context.Context, client *admin.Client, in *adminpb.TestRuleRequest) (*adminpb.RuleTest, error) {
	given := in.Path
	if in.Direction == adminpb.Rule_SEND {
		whole, err := wholePath(given)
		if err != nil {
			return nil, err
		}
		in.Path = whole
	}
	reply, err := client.TestRule(ctx, in)
	if err != nil && in.Rule != "" {
		err = unknown(ctx, client, err, "rule", in.Rule, ruleNames(in.Direction))
	}
	if err != nil {
		return nil, err
	}
	switch fit := usable(reply); len(fit) {
	case 1:
		return fit[0], nil
	case 0:
		return nil, unfit(given, in, reply.GetTests())
	default:
		return nil, unclear(given, in, fit)
	}
}

// unclear is the error of several rules that fit.
func unclear(given string, in *adminpb.TestRuleRequest, fit []*adminpb.RuleTest) error {
	err := fault.New("choose rule", fault.Invalid, "%d rules fit", len(fit))
	err.Subject = given
	lines := []string{"Say which one, with --rule:"}
	for _, t := range fit {
		lines = append(lines, "  "+t.GetRule()+"  "+t.GetRoot())
	}
	return command.Suggest(err, "%s", strings.Join(lines, "\n"))
}

// unfit is the error of no rule that fits: why the one that was meant does not, or
// where the roots are.
func unfit(given string, in *adminpb.TestRuleRequest, tests []*adminpb.RuleTest) error {
	kind, lines := fault.Invalid, []string{}
	var near []*adminpb.RuleTest // the partner may, and the path is in the root
	for _, t := range tests {
		lines = append(lines, fmt.Sprintf("  %s  %s: %s", t.GetRule(), t.GetRoot(), t.GetProblem()))
		if t.GetAllowed() && t.GetInside() {
			near = append(near, t)
		}
	}
	say := func(format string, args ...any) *fault.Error {
		err := fault.New("choose rule", kind, format, args...)
		err.Subject = given
		return err
	}
	switch {
	case len(tests) == 0:
		return command.Suggest(say("there is no rule to %s by", strings.ToLower(in.GetDirection().String())), "Rules are in the configuration. See: pannier rule list")
	case len(tests) == 1 || len(near) == 1:
		if len(near) == 0 {
			near = tests
		}
		if t := near[0]; !t.GetPathExists() && t.GetName() != "" && t.GetInside() && t.GetRootExists() && t.GetAllowed() && in.GetDirection() == adminpb.Rule_SEND {
			kind = fault.NotFound
		} else if !t.GetAllowed() {
			kind = fault.Permission
		}
		return say("rule %q, root %s: %s", near[0].GetRule(), near[0].GetRoot(), near[0].GetProblem())
	}
	if in.GetPath() != given {
		given += ", which is " + in.GetPath() + " here"
	}
	return command.Suggest(say("no rule takes it"), "%s", "The rules and their roots:\n"+strings.Join(lines, "\n"))
}

// orderer is the requests that the arguments of a command order.
type orderer func(ctx context.Context, client *admin.Client, args []string) ([]*adminpb.SubmitRequest, error)

// ordering is a command that makes the requests its arguments order.
func (c *console) ordering(cmd *cobra.Command, f *orderFlags, orders orderer) *cobra.Command {
	cmd.RunE = c.run(func(ctx context.Context, cmd *cobra.Command, client *admin.Client, args []string) error {
		all, err := orders(ctx, client, args)
		if err != nil {
			return err
		}
		if len(all) == 0 {
			_, err := fmt.Fprintln(cmd.ErrOrStderr(), "nothing is new")
			return err
		}
		if f.dry {
			items := make([]batchItem, len(all))
			for i, o := range all {
				items[i] = batchItem{kind: cmd.Name(), order: o}
			}
			return c.dryRun(ctx, cmd.OutOrStdout(), client, items, f.json)
		}
		return c.submit(ctx, cmd, client, f, all)
	})
	return cmd
}

// submit makes the requests, says what became of each, and sees them through
// with --wait.
func (c *console) submit(ctx context.Context, cmd *cobra.Command, client *admin.Client, f *orderFlags, orders []*adminpb.SubmitRequest) error {
	var made []*adminpb.Request
	var errs []error
	for _, o := range orders {
		if f.key != "" && o.Id != strings.ToLower(f.key) {
			fmt.Fprintf(cmd.ErrOrStderr(), "--id %s is the id %s\n", command.Printable(f.key), o.Id)
		}
		reply, err := client.Submit(ctx, o)
		if err != nil {
			if len(orders) > 1 {
				err = fmt.Errorf("%s to %s: %w", o.Source, o.Partner, err)
			}
			errs = append(errs, err)
			continue
		}
		if err := c.said(cmd, f.json, reply); err != nil {
			return err
		}
		made = append(made, reply.GetRequest())
	}
	err := some(len(made), errs)
	if !f.wait || len(made) == 0 {
		return err
	}
	failed := c.follow(ctx, cmd, client, made, true, f.json)
	if err == nil {
		return failed
	}
	return err
}

// way is which file goes from where to where, and by which rule.
func way(v view, r *adminpb.Request) string {
	source, target := v.file(r.GetSource()), v.file(r.GetTarget())
	switch {
	case r.GetThird() != "":
		return fmt.Sprintf("%s from %s as %s, by a request of %s; no bytes come here", source, admin.Partner(r), target, r.GetPartner())
	case r.GetSide() == adminpb.Request_RECEIVER:
		return fmt.Sprintf("%s from %s as %s, rule %s", source, r.GetPartner(), target, r.GetRule())
	case r.GetTarget() != r.GetSource():
		return fmt.Sprintf("%s to %s as %s, rule %s", source, r.GetPartner(), target, r.GetRule())
	}
	return fmt.Sprintf("%s to %s, rule %s", source, r.GetPartner(), r.GetRule())
}

// said prints the id on stdout and what it is on stderr.
func (c *console) said(cmd *cobra.Command, asJSON bool, reply *adminpb.SubmitReply) error {
	if asJSON {
		return writeJSON(cmd.OutOrStdout(), reply)
	}
	r := reply.GetRequest()
	if _, err := fmt.Fprintln(cmd.OutOrStdout(), r.GetId()); err != nil {
		return err
	}
	v := c.view(cmd.ErrOrStderr())
	line := way(v, r)
	if !reply.GetMade() {
		line += "; the request was there before: it is " + r.GetState().String()
	} else if r.GetNotBefore() != nil {
		line += ", " + view{people: true, now: v.now}.time(r.GetNotBefore())
	}
	_, err := fmt.Fprintln(cmd.ErrOrStderr(), command.Printable(line))
	return err
}
