package main

import (
	"context"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/spec/adminpb"
)

// listFiles prints what is in a directory of a partner, "PARTNER:PATH".
func (c *console) listFiles(ctx context.Context, cmd *cobra.Command, client *admin.Client, where, rule string, asJSON, asCSV bool) error {
	partner, dir, err := target(where)
	if err != nil {
		return err
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
