package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

func (c *console) ruleCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "rule", Short: "Rules: what is allowed, and where files are", Args: command.Arguments(0), RunE: command.Help}
	cmd.AddCommand(c.ruleListCommand(), c.ruleTestCommand(), c.deleteCommand("rule"))
	return cmd
}

func (c *console) ruleListCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List rules",
		Args:  command.Arguments(0),
		RunE: c.run(func(ctx context.Context, cmd *cobra.Command, client *admin.Client, _ []string) error {
			reply, err := client.ListRules(ctx, &adminpb.ListRulesRequest{})
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), reply.GetRules()...)
			}
			return ruleTable(c.view(cmd.OutOrStdout()), reply.GetRules()).Write(cmd.OutOrStdout())
		}),
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

func ruleTable(v view, all []*adminpb.Rule) command.Table {
	t := command.Table{Header: []string{"NAME", "DIR", "PARTNERS", "ROOT", "EXISTS", "QUOTA", "DIGEST", "SENDER TASKS", "RECEIVER TASKS"}, Align: "llccl" + "rlrr"}
	for _, r := range all {
		t.Rows = append(t.Rows, []string{
			r.GetName(), strings.ToLower(r.GetDirection().String()), orDash(strings.Join(r.GetPartners(), ",")), v.file(r.GetRoot()), r.GetExists(),
			v.bytes(r.GetQuota()), r.GetDigest(), tasks(r.GetSender()), tasks(r.GetReceiver()),
		})
	}
	return t
}

// tasks are the numbers of pre, post and error tasks.
func tasks(l *adminpb.TaskLists) string {
	return fmt.Sprintf("%d/%d/%d", l.GetPre(), l.GetPost(), l.GetError())
}

func (c *console) ruleTestCommand() *cobra.Command {
	var asJSON, receive bool
	cmd := &cobra.Command{
		Use:   "test PATH [PARTNER][:RULE]",
		Short: "Say which rules a file could be sent by, and what is in the way",
		Long: `Say which rules a file could be sent by, and what is in the way. With --receive:
which it could be received by, under that name. Nothing is changed.

PATH is of this host, as with send. With --receive it is as with get: of this host, or
a name below the rule's root if it does not begin with "/", "./" or "../". The partner
may be left out where only one comes into question: the rule's, or the node's. Exit
code 11: no rule would take it.`,
		Example: `  pannier rule test ./report.pdf hostb
  pannier rule test --receive new.csv hostb:inbox`,
		Args: func(cmd *cobra.Command, args []string) error {
			return command.Arguments(min(max(len(args), 1), 2))(cmd, args)
		},
		RunE: c.run(func(ctx context.Context, cmd *cobra.Command, client *admin.Client, args []string) error {
			partner, rule, err := onlyTarget(ctx, client, args[1:])
			if err != nil {
				return err
			}
			read := wholePath
			if receive {
				read = pathOrName
			}
			path, err := read(args[0])
			if err != nil {
				return err
			}
			in := &adminpb.TestRuleRequest{Partner: partner, Rule: rule, Path: path, Direction: adminpb.Rule_SEND}
			if receive {
				in.Direction = adminpb.Rule_RECEIVE
			}
			reply, err := client.TestRule(ctx, in)
			if err != nil {
				return err
			}
			if asJSON {
				err = writeJSON(cmd.OutOrStdout(), reply.GetTests()...)
			} else {
				err = ruleTestTable(c.view(cmd.OutOrStdout()), reply.GetTests()).Write(cmd.OutOrStdout())
			}
			if err != nil || len(usable(reply)) > 0 {
				return err
			}
			return fault.New("test rule", fault.Refused, "no rule would take it")
		}),
	}
	cmd.Flags().BoolVar(&receive, "receive", false, "as the name of a file to be received")
	cmd.ValidArgsFunction = c.fileOrPartner
	jsonFlag(cmd, &asJSON)
	return cmd
}

// onlyTarget is the partner and the rule of an argument that may leave out the partner,
// and may not be there.
func onlyTarget(ctx context.Context, client *admin.Client, args []string) (partner, rule string, err error) {
	if len(args) > 0 && !strings.HasPrefix(args[0], ":") {
		return target(args[0])
	}
	if len(args) > 0 {
		if rule = args[0][1:]; rule == "" {
			return "", "", fault.New("read arguments", fault.Invalid, "%q names no rule", args[0])
		}
	}
	reply, err := client.ListPartners(ctx, &adminpb.ListPartnersRequest{})
	if err != nil {
		return "", "", err
	}
	var names []string
	for _, p := range reply.GetPartners() {
		if p.GetAddress() != carrier.InMemory+":" {
			names = append(names, p.GetName())
		}
	}
	if rule != "" {
		rules, err := client.ListRules(ctx, &adminpb.ListRulesRequest{})
		if err != nil {
			return "", "", err
		}
		for _, r := range rules.GetRules() {
			if r.GetName() == rule && !slices.Contains(r.GetPartners(), engine.AnyPartner) {
				names = r.GetPartners()
			}
		}
	}
	if len(names) != 1 {
		return "", "", fault.New("read arguments", fault.Invalid, "say which partner, as PATH PARTNER: there are %d, %s", len(names), orDash(strings.Join(names, ", ")))
	}
	return names[0], rule, nil
}

// usable are the rules that would take the request.
func usable(reply *adminpb.TestRuleReply) (all []*adminpb.RuleTest) {
	for _, t := range reply.GetTests() {
		if t.GetProblem() == "" {
			all = append(all, t)
		}
	}
	return all
}

func ruleTestTable(v view, all []*adminpb.RuleTest) command.Table {
	t := command.Table{Header: []string{"RULE", "ROOT", "NAME", "RESULT"}, Align: "lccc"}
	for _, r := range all {
		result := r.GetProblem()
		if result == "" {
			result = "yes"
		}
		t.Rows = append(t.Rows, []string{r.GetRule(), v.file(r.GetRoot()), v.file(r.GetName()), result})
	}
	return t
}
