package main

import (
	"bufio"
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

func (c *console) historyCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "history", Short: "What has ended, for programs and spreadsheets", Args: command.Arguments(0), RunE: command.Help}
	cmd.AddCommand(c.historyExport())
	return cmd
}

func (c *console) historyExport() *cobra.Command {
	var f queryFlags
	var format, until string
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Print the requests that have ended",
		Long: `Print the requests that have ended, DONE or INERROR, or those of --state: each as it
comes, however many there are. Those that are not DONE come first, then the others, finished
last first.

As CSV there is a header, times are RFC 3339 in UTC, and a text that a spreadsheet would take for a
formula has a ' before it. As JSON lines a request is as "pannier show --json" has it.`,
		Example: `  pannier history export --since 30d --partner hostb > hostb.csv
  pannier history export --format jsonl --since 2026-01-01 --until 2026-02-01`,
		Args: command.Arguments(0),
		RunE: c.run(func(ctx context.Context, cmd *cobra.Command, client *admin.Client, _ []string) error {
			if format != "csv" && format != "jsonl" {
				return fault.New("read flags", fault.Invalid, "--format %q: it is csv or jsonl", format)
			}
			before := time.Time{}
			if until != "" {
				t, err := past(until, c.now())
				if err != nil {
					return err
				}
				before = t
			}
			if len(f.states) == 0 {
				f.states = []string{"DONE", "INERROR"}
			}
			q, err := f.query(ctx, client, c.now())
			if err != nil {
				return err
			}
			s, err := client.List(ctx, q)
			out := newExport(cmd.OutOrStdout(), format)
			err = each(s, err, func(r *adminpb.Request) error {
				if !before.IsZero() && !r.GetChanged().AsTime().Before(before) {
					return nil
				}
				return out.add(r)
			})
			if err != nil {
				return err
			}
			return out.close()
		}),
	}
	f.register(c, cmd)
	cmd.Flags().StringVar(&format, "format", "csv", "csv or jsonl")
	cmd.Flags().StringVar(&until, "until", "", "only what has changed before a `TIME` or an age, as 2h")
	choices(cmd, "format", "csv", "jsonl")
	return cmd
}

// export writes requests as they come, and keeps none.
type export struct {
	out *bufio.Writer
	csv *csv.Writer // nil: JSON lines
}

var exportHeader = []string{"id", "requester", "role", "side", "partner", "rule", "source", "target", "state", "size", "durable", "attempts", "round",
	"registered", "finished", "seconds", "digest", "verified", "error", "error_side", "cause", "follow", "info", "third", "fetch", "warnings", "warning"}

func newExport(w io.Writer, format string) *export {
	e := &export{out: bufio.NewWriter(w)}
	if format == "csv" {
		e.csv = csv.NewWriter(e.out)
		_ = e.csv.Write(exportHeader) // its error stays for close
	}
	return e
}

func (e *export) add(r *adminpb.Request) error {
	if e.csv == nil {
		return writeJSON(e.out, r)
	}
	took := r.GetChanged().AsTime().Sub(r.GetRegistered().AsTime())
	row := []string{r.GetId(), r.GetRequester(), strings.ToLower(r.GetRole().String()), strings.ToLower(r.GetSide().String()), r.GetPartner(), r.GetRule(), r.GetSource(), r.GetTarget(), r.GetState().String(),
		strconv.FormatInt(r.GetSize(), 10), strconv.FormatInt(r.GetDurable(), 10), fmt.Sprint(r.GetAttempt()), fmt.Sprint(r.GetRound()),
		utc(r.GetRegistered()), utc(r.GetChanged()), strconv.FormatFloat(took.Seconds(), 'f', 3, 64), r.GetDigest(), r.GetVerified(),
		r.GetFailure().GetName(), r.GetFailure().GetSide(), r.GetFailure().GetCause(), r.GetFollow(), r.GetInfo(),
		r.GetThird(), cmpOr(r.GetThird() != "", strconv.FormatBool(r.GetFetch()), ""), fmt.Sprint(r.GetWarnings()), r.GetWarning()}
	for i, cell := range row {
		row[i] = harmless(cell)
	}
	return fault.Wrap("write result", "", e.csv.Write(row))
}

func (e *export) close() error {
	if e.csv != nil {
		e.csv.Flush()
		if err := e.csv.Error(); err != nil {
			return fault.Wrap("write result", "", err)
		}
	}
	return fault.Wrap("write result", "", e.out.Flush())
}

// harmless is a cell that no spreadsheet takes for a formula, and no terminal for an order.
func harmless(cell string) string {
	cell = strings.ReplaceAll(command.Printable(cell), "\n", `\n`)
	if cell != "" && strings.ContainsRune("=+-@", rune(cell[0])) && cell != "-1" {
		return "'" + cell
	}
	return cell
}

func utc(t *timestamppb.Timestamp) string {
	if t == nil {
		return ""
	}
	return t.AsTime().Format(time.RFC3339Nano)
}
