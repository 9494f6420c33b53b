package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/plugins/host"
	"github.com/pannier/pannier/plugins/plugintest"
	"github.com/pannier/pannier/spec/fault"
)

// verification is what "plugin verify" is asked.
type verification struct {
	endpoint, credentials, report, sample string
	other, otherCredentials               string
	options                               map[string]string
	entries                               int
	large                                 bool
	levels                                []string
}

func pluginVerifyCommand() *cobra.Command {
	var v verification
	cmd := &cobra.Command{
		Use:   "verify NAME|PATH [ARGUMENT...] --endpoint URL",
		Short: "Hold a plugin against the contract, at a server",
		Long: `Hold a plugin against the contract, at a server: reading, writing, going on, what happens
when its connections break, when a host does what it should not, and when the plugin's
process is killed or stops. What is written begins with pannier- and is removed if the
server can.

Level fxp, of servers that send to each other, needs a second one: --other. What is tried
of more than 4 GiB needs --large, the room for it at the server, and 4 MiB a second at the
least. Connections are broken
on Linux alone, and are those of the plugin's own process. Not tried: that the plugin's
process ends with its host, which is a promise of the host's too.

The file of credentials is JSON, for nobody else to read:
{"user": "me", "password": "secret", "secrets": {"key": "..."}}

Exit code 3: some checks have failed. Skipped are those that this command cannot make,
absent those of what the server cannot do for this user; the report says why. Other
codes: nothing could be checked.`,
		Example: "  pannier plugin verify ./pannier-plugin-box --endpoint box://host/test --credentials box.json\n  pannier plugin verify /usr/bin/python3 pydir.py --endpoint pydir:///tmp/empty",
		Args:    command.AtLeast(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if v.endpoint == "" {
				return command.Suggest(fault.New("verify plugin", fault.Invalid, "no server to verify it at"), "Give --endpoint URL, as: pannier plugin verify dir --endpoint dir:///tmp/empty")
			}
			if v.report != "text" && v.report != "json" {
				return command.Suggest(fault.New("verify plugin", fault.Invalid, "a report as %q", v.report), "Say --report text or --report json")
			}
			for _, l := range v.levels {
				if !slices.Contains(plugintest.AllLevels(), l) {
					return command.Suggest(fault.New("verify plugin", fault.Invalid, "no level %q", l), "Levels are %s", strings.Join(plugintest.AllLevels(), ", "))
				}
			}
			return v.run(cmd, args)
		},
	}
	cmd.Flags().StringVar(&v.endpoint, "endpoint", "", "the server, as the plugin's schemes are written")
	cmd.Flags().StringVar(&v.credentials, "credentials", "", "file with user and password, as JSON")
	cmd.Flags().StringToStringVar(&v.options, "option", nil, "of the plugin, as NAME=VALUE; for both servers")
	cmd.Flags().StringVar(&v.other, "other", "", "a second server, as `URL`, to which the first may copy directly")
	cmd.Flags().StringVar(&v.otherCredentials, "other-credentials", "", "file with user and password of the second server; those of the first if it is not given")
	cmd.Flags().BoolVar(&v.large, "large", false, "write a file of more than 4 GiB, too")
	cmd.Flags().StringVar(&v.sample, "sample", "", "a file that is there, for a server that cannot be written to")
	cmd.Flags().IntVar(&v.entries, "entries", 1000, "how many files to make for a long listing")
	cmd.Flags().StringSliceVar(&v.levels, "level", nil, "only checks of that level, of "+strings.Join(plugintest.AllLevels(), ", ")+"; may be repeated")
	cmd.Flags().StringVar(&v.report, "report", "text", "text or json")
	choices(cmd, "level", plugintest.AllLevels()...)
	choices(cmd, "report", "text", "json")
	return cmd
}

// to are the endpoints with their credentials; other is empty if there is none.
func (v verification) to() (to, other plugins.Endpoint, err error) {
	to = plugins.Endpoint{URL: v.endpoint, Options: v.options}
	if err = to.ReadCredentials(v.credentials); err != nil || v.other == "" {
		return to, other, err
	}
	other = plugins.Endpoint{URL: v.other, Options: v.options}
	return to, other, other.ReadCredentials(cmp.Or(v.otherCredentials, v.credentials))
}

func (v verification) run(cmd *cobra.Command, words []string) error {
	cfg, err := pluginConfig(words, cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	to, other, err := v.to()
	if err != nil {
		return advised(err)
	}
	cfg.Answer, cfg.Drain = 3*time.Second, time.Second // stopped processes are part of it
	ctx := cmd.Context()
	p := host.New(cfg)
	defer func() { _ = p.Close(context.WithoutCancel(ctx)) }()
	s, err := p.Describe(ctx)
	if err != nil {
		return advised(err)
	}
	first, err := p.Open(ctx, to)
	if err != nil {
		return advised(err)
	}
	can := first.Capabilities()
	h := plugintest.Harness{
		Open:    func(ctx context.Context) (plugins.Session, error) { return p.Open(ctx, to) },
		Entries: v.entries,
		Large:   v.large,
		Levels:  v.levels,
		Sample:  v.sample,
		Restart: func(ctx context.Context) error {
			old := p
			p = host.New(cfg)
			return old.Close(ctx)
		},
	}
	if v.sample != "" {
		if h.Content, err = content(ctx, first, v.sample); err != nil {
			return advised(err)
		}
	}
	_ = first.Close()
	h.Kill = func() error { return signalPlugin(ctx, p, syscall.SIGKILL) }
	h.Hang = func() error { return signalPlugin(ctx, p, syscall.SIGSTOP) }
	h.Cut = func() error {
		status, err := p.Describe(ctx)
		if err != nil {
			return err
		}
		return cutConnections(status.PID)
	}
	if v.other != "" {
		h.Other = func(ctx context.Context) (plugins.Session, error) { return p.Open(ctx, other) }
	}
	var results []plugintest.Result
	plugintest.Verify(ctx, h, func(r plugintest.Result) { results = append(results, r) })
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return v.show(cmd, facts(s), can, results)
}

// mostSample is the most bytes of --sample, which is in memory.
const mostSample = 64 << 20

// content is a file of the server, read once for comparing.
func content(ctx context.Context, s plugins.Session, name string) ([]byte, error) {
	r, err := s.Read(ctx, name, 0)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(r, mostSample+1))
	if err == nil && len(b) > mostSample {
		_ = r.Close()
		return nil, fault.New("read sample", fault.TooLong, "%s has more than %d MiB", fault.Shown(name), mostSample>>20).Advise("name a smaller file with --sample")
	}
	return b, errors.Join(err, r.Close())
}

func signalPlugin(ctx context.Context, p *host.Plugin, s syscall.Signal) error {
	status, err := p.Describe(ctx)
	if err != nil {
		return err
	}
	return syscall.Kill(status.PID, s)
}

// show prints the report; failed checks are the command's failure.
func (v verification) show(cmd *cobra.Command, f pluginFacts, can plugins.Capabilities, results []plugintest.Result) error {
	counts := map[plugintest.Outcome]int{}
	t := command.Table{Header: []string{"LEVEL", "CHECK", "OUTCOME", "TOOK", "WHY"}, Align: "lllrc"}
	for _, r := range results {
		counts[r.Outcome]++
		t.Rows = append(t.Rows, []string{r.Level, r.Check, string(r.Outcome), r.Took.Round(time.Millisecond).String(), orDash(strings.ReplaceAll(command.Printable(r.Why), "\n", " / "))})
	}
	var err error
	if v.report == "json" {
		err = json.NewEncoder(cmd.OutOrStdout()).Encode(map[string]any{"plugin": f, "endpoint": v.endpoint, "capabilities": can, "results": results,
			"passed": counts[plugintest.Passed], "failed": counts[plugintest.Failed], "skipped": counts[plugintest.Skipped], "absent": counts[plugintest.Absent]})
	} else {
		err = t.Write(cmd.OutOrStdout())
	}
	if err != nil {
		return fault.Wrap("write result", "", err)
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%s %s: %d passed, %d failed, %d skipped, %d absent\n", f.Name, f.Version, counts[plugintest.Passed], counts[plugintest.Failed], counts[plugintest.Skipped], counts[plugintest.Absent])
	if n := counts[plugintest.Failed]; n > 0 {
		return command.Partial(fault.New("verify plugin "+f.Name, fault.Refused, "%d of %d checks have failed", n, len(results)))
	}
	return nil
}
