package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/engine/config"
	"github.com/pannier/pannier/engine/doctor"
	"github.com/pannier/pannier/engine/node"
	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/plugins/host"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

func (c *console) doctorCommand() *cobra.Command {
	var asJSON, all bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Look at this host and the configuration, and say what is wrong before it hurts",
		Long: `Look at this host and the configuration, and say what is wrong before it hurts: clock,
disks, permissions, limits, addresses, certificates, the store, plugins, partners. It is for
a host with a daemon and for one without; --all says which this is. What the node's user may
do only that user sees: run as root, it becomes the owner of the state directory.

A line is an outcome, ok, warn, fail or skipped, what was looked at, what it means, and what
to do. Only warn and fail are printed, and a summary on stderr; --all prints the others, too.
Files that are written to try a directory are removed at once. Partners are called, and
plugins started for a moment.

Exit code 0: nothing fails; there may be warnings. 1: something fails. 2: the configuration
has problems; see pannier config check.`,
		Example: `  sudo -u pannier pannier doctor
  pannier doctor --all --json | jq -r 'select(.outcome == "skipped") | .text'`,
		Args: command.Arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			h, closed, err := c.patient(cmd.Context())
			if err != nil {
				return c.advise(err)
			}
			defer closed()
			counts := map[doctor.Outcome]int{}
			doctor.Look(cmd.Context(), h, func(f doctor.Finding) {
				counts[f.Outcome]++
				switch {
				case err != nil || !all && (f.Outcome == doctor.OK || f.Outcome == doctor.Skipped):
				case asJSON:
					err = writeFinding(cmd, f)
				default:
					_, err = fmt.Fprintln(cmd.OutOrStdout(), findingLine(f))
				}
			})
			switch {
			case cmd.Context().Err() != nil:
				return command.Exit(command.Interrupted)
			case err != nil:
				return fault.Wrap("write result", "", err)
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "%d ok, %d warnings, %d failed, %d skipped\n", counts[doctor.OK], counts[doctor.Warn], counts[doctor.Fail], counts[doctor.Skipped])
			if counts[doctor.Fail] > 0 {
				return command.Exit(command.Failed)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "also what is as it should be, and what could not be looked at")
	jsonFlag(cmd, &asJSON)
	return cmd
}

func writeFinding(cmd *cobra.Command, f doctor.Finding) error {
	return command.WriteJSON(cmd.OutOrStdout(), f)
}

// findingLine is a finding in one line.
func findingLine(f doctor.Finding) string {
	what := f.Check
	if f.Subject != "" {
		what += " " + f.Subject
	}
	line := fmt.Sprintf("%-7s  %s: %s", f.Outcome, what, f.Text)
	if f.Do != "" {
		line += "; " + f.Do
	}
	return strings.ReplaceAll(command.Printable(line), "\n", `\n`)
}

// patient is the host that is looked at, with its daemon if one answers; closed lets go of it.
func (c *console) patient(ctx context.Context) (h doctor.Host, closed func(), err error) {
	cfg, err := load(c.config)
	if err != nil {
		return h, nil, err
	}
	if c.admin != "" {
		cfg.Node.Admin = c.admin
	}
	if err := asOwner(cfg.Node.State); err != nil {
		return h, nil, err
	}
	names := slices.Sorted(maps.Keys(bundled))
	h = doctor.Host{Config: cfg, Warnings: configWarnings(cfg), Now: c.now,
		Plugin: func(is config.Bridge) (host.Config, error) { return node.PluginConfig(is, names) }}
	if cfg.Node.Admin == "" {
		return h, func() {}, nil
	}
	at, err := carrier.ParseAddress(cfg.Node.Admin)
	if err != nil {
		return h, nil, err
	}
	if at.Scheme != carrier.Unix {
		return h, nil, fault.New("call daemon", fault.Invalid, "doctor looks at this host: --admin names a unix socket of it")
	}
	client, err := admin.Dial(cfg.Node.Admin)
	if err != nil {
		return h, nil, err
	}
	h.Daemon, err = daemonOf(ctx, client, at.Path)
	if err != nil {
		_ = client.Close()
		return h, nil, err
	}
	return h, func() { _ = client.Close() }, nil
}

// daemonAnswer is how long a daemon may take to say who it is.
const daemonAnswer = 10 * time.Second

// daemonOf is the daemon at a socket; nil: there is none.
func daemonOf(ctx context.Context, client *admin.Client, path string) (*doctor.Daemon, error) {
	ctx, cancel := context.WithTimeout(ctx, daemonAnswer)
	defer cancel()
	is, err := client.NodeInfo(ctx, &adminpb.NodeInfoRequest{})
	if _, gone := errors.AsType[*admin.Unreachable](err); gone {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	folders, err := client.ListFolders(ctx, &adminpb.ListFoldersRequest{})
	if err != nil {
		return nil, err
	}
	rules, err := client.ListRules(ctx, &adminpb.ListRulesRequest{Roots: true})
	if err != nil {
		return nil, err
	}
	unwritable := map[string]string{}
	for _, r := range rules.GetRules() {
		if r.GetUnwritable() != "" {
			unwritable[r.GetName()] = r.GetUnwritable()
		}
	}
	listeners, err := client.ListListeners(ctx, &adminpb.ListListenersRequest{})
	if err != nil {
		return nil, err
	}
	down := map[string]string{}
	for _, l := range listeners.GetListeners() {
		if !l.GetServing() {
			down[l.GetAddress()] = cmp.Or(l.GetProblem(), "its plugin is just being started")
		}
	}
	hints, stays := map[string]string{}, map[string]string{}
	for _, f := range folders.GetFolders() {
		if text := admin.Unheard(f); text != "" {
			hints[f.GetName()] = text
		}
		if f.GetStaying() > 0 {
			stays[f.GetName()] = folderError(&adminpb.Folder{Staying: f.GetStaying(), Stays: f.GetStays()})
		}
	}
	return &doctor.Daemon{PID: doctor.PIDOf(path), Hints: hints, Stays: stays, Unwritable: unwritable, Down: down, Version: is.GetVersion(), Key: is.GetKey(), Draining: is.GetDraining(), Check: func(ctx context.Context) (problems, warnings int64, err error) {
		s, err := client.Check(ctx, &adminpb.CheckRequest{})
		err = each(s, err, func(r *adminpb.CheckReply) error {
			if n := r.GetCounts(); n != nil {
				problems, warnings = n.GetErrors(), n.GetWarnings()
			}
			return nil
		})
		return problems, warnings, err
	}}, nil
}
