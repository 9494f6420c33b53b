package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/engine/audit"
	"github.com/pannier/pannier/engine/node"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/shellword"
)

func auditCommand(config *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "The audit log: who has told the node what",
		Long: `The audit log: who has told the node what. Its files are read as they are; the
daemon is not asked. [audit] in the configuration switches it on.`,
		Args: command.Arguments(0),
		RunE: command.Help,
	}
	var dir string
	cmd.PersistentFlags().StringVar(&dir, "dir", "", "the log's `directory` (default: audit in the node's state directory)")
	_ = cmd.MarkPersistentFlagDirname("dir") // fails only for unknown flags
	at := func() (string, error) {
		if dir != "" {
			return dir, nil
		}
		cfg, err := load(*config)
		if err != nil {
			return "", err
		}
		return node.AuditDir(cfg.Node.State), nil
	}
	cmd.AddCommand(auditVerifyCommand(at), auditShowCommand(at))
	return cmd
}

// noDirectory refuses arguments, and says how a directory is given.
func noDirectory(cmd *cobra.Command, args []string) error {
	if len(args) == 1 {
		return command.Suggest(fault.New("read arguments", fault.Invalid, "%.200q is one too many: the log's directory is a flag", args[0]), "Write: %s --dir %s", cmd.CommandPath(), shellword.Quote(args[0]))
	}
	return command.Arguments(0)(cmd, args)
}

func auditVerifyCommand(at func() (string, error)) *cobra.Command {
	var key, checkpoint string
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Say whether the audit log is as it was written",
		Long: `Say whether the audit log is as it was written: that each record follows the one before,
and that the log has what its last signed checkpoint says. The first record that is not
as it was written is named, with exit code 6.

Whoever can write in the directory can write all of it anew, the key included. What they
cannot change is what was kept elsewhere: the key (audit.pub), and checkpoints.`,
		Example: `  pannier audit verify
  # With what was kept on another machine
  pannier audit verify --key "$(cat hosta.pub)" --checkpoint /mnt/hosta.checkpoint`,
		Args: noDirectory,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := at()
			if err != nil {
				return err
			}
			r, err := audit.Verify(dir, key, checkpoint)
			switch {
			case err != nil:
				return err
			case r.Finding != nil:
				return fault.New("verify audit log", fault.Corrupt, "%w", r.Finding)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "records %d to %d are as they were written; signed up to %d, %s\n", r.First, r.Last, r.Checkpoint.Seq, r.Checkpoint.Time.Format(time.RFC3339))
			return fault.Wrap("write result", "", err)
		},
	}
	cmd.Flags().StringVar(&key, "key", "", "the log's public key (default: audit.pub of the directory)")
	cmd.Flags().StringVar(&checkpoint, "checkpoint", "", "`file` of a checkpoint that was kept (default: that of the directory)")
	return cmd
}

func auditShowCommand(at func() (string, error)) *cobra.Command {
	var asJSON bool
	var on, since string
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Print the audit log",
		Example: `  pannier audit show --since 24h
  pannier audit show --on 3f2a --json`,
		Args: noDirectory,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := at()
			if err != nil {
				return err
			}
			from := time.Time{}
			if since != "" {
				if from, err = past(since, time.Now()); err != nil {
					return err
				}
			}
			return showAudit(cmd.OutOrStdout(), dir, asJSON, func(r *audit.Record) bool {
				return !r.Time.Before(from) && (on == "" || len(r.On) >= len(on) && r.On[:len(on)] == on)
			})
		},
	}
	cmd.Flags().StringVar(&since, "since", "", "only what was recorded since a `TIME` or an age, as 2h")
	cmd.Flags().StringVar(&on, "on", "", "only what was about this, as the beginning of a request's `ID`, or of the name of a folder or an expected file")
	jsonFlag(cmd, &asJSON)
	return cmd
}

// showAudit prints a record a line, as it comes.
func showAudit(out io.Writer, dir string, asJSON bool, wanted func(*audit.Record) bool) error {
	for r, err := range audit.Read(dir) {
		switch {
		case err != nil:
			return err
		case !wanted(&r):
			continue
		case asJSON:
			err = json.NewEncoder(out).Encode(r)
		default:
			_, err = fmt.Fprintf(out, "%s\t%s\t%s\t%s\t%s\t%s\n", strconv.FormatUint(r.Seq, 10), r.Time.Format(time.RFC3339), command.Printable(r.Who), command.Printable(r.Do), orDash(command.Printable(r.On)), orDash(command.Printable(strings.Trim(r.Error+"; "+r.Detail, "; "))))
		}
		if err != nil {
			return fault.Wrap("write result", "", err)
		}
	}
	return nil
}
