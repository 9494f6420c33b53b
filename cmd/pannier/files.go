package main

import (
	"context"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

// needRule is an error for a partner that is a node: in which of its roots to look a rule
// says. A bridge has one root.
func needRule(ctx context.Context, client *admin.Client, partner string) error {
	known, err := client.ListPartners(ctx, &adminpb.ListPartnersRequest{})
	if err != nil {
		return err
	}
	at := slices.IndexFunc(known.GetPartners(), func(p *adminpb.Partner) bool { return p.GetName() == partner })
	if at < 0 || known.GetPartners()[at].GetBridge() {
		return nil // the daemon says that it is not known
	}
	rules, err := client.ListRules(ctx, &adminpb.ListRulesRequest{})
	if err != nil {
		return err
	}
	lines := []string{"Say by which rule, which has the root at its end, with --rule:"}
	for _, r := range rules.GetRules() {
		if r.GetDirection() == adminpb.Rule_RECEIVE && (slices.Contains(r.GetPartners(), partner) || slices.Contains(r.GetPartners(), engine.AnyPartner)) {
			lines = append(lines, "  "+r.GetName())
		}
	}
	if len(lines) == 1 {
		lines = []string{"No rule here with direction receive lists it; the name of a rule that it has goes with --rule."}
	}
	return command.Suggest(fault.New("list files", fault.Invalid, "%q is a node: a rule says which of its directories is meant", partner), "%s", strings.Join(lines, "\n"))
}

// listFiles prints what is in a directory of a partner, "PARTNER:PATH".
func (c *console) listFiles(ctx context.Context, cmd *cobra.Command, client *admin.Client, where, rule string, asJSON, asCSV bool) error {
	partner, dir, err := target(where)
	if err != nil {
		return err
	}
	if rule == "" {
		if err := needRule(ctx, client, partner); err != nil {
			return err
		}
	}
	s, err := client.Browse(ctx, &adminpb.BrowseRequest{Partner: partner, Rule: rule, Path: strings.Trim(dir, "/")})
	if asJSON {
		return each(s, err, func(e *adminpb.BrowseEntry) error { return writeJSON(cmd.OutOrStdout(), e) })
	}
	v, out := c.view(cmd.OutOrStdout()), cmd.OutOrStdout()
	if asCSV {
		out = struct{ io.Writer }{out} // no terminal, whatever it is
		v = c.view(out)
	}
	t := command.Table{Header: []string{"NAME", "SIZE", "CHANGED"}, Align: "crl"}
	err = each(s, err, func(e *adminpb.BrowseEntry) error {
		name, size := v.file(e.GetName()), v.bytes(e.GetSize())
		if e.GetDirectory() {
			name, size = name+"/", ""
		}
		t.Rows = append(t.Rows, []string{name, size, v.time(e.GetModified())})
		return nil
	})
	if err != nil {
		return err
	}
	if asCSV {
		return t.WriteCSV(out)
	}
	return t.Write(out)
}
