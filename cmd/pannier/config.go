package main

import (
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"

	"github.com/spf13/cobra"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/config"
	"github.com/pannier/pannier/engine/httpd"
	"github.com/pannier/pannier/flow/relay"
	"github.com/pannier/pannier/spec/fault"
)

func configCommand(path *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Check a node's configuration, or begin one",
		Args:  command.Arguments(0),
		RunE:  command.Help,
	}
	cmd.AddCommand(configCheckCommand(path), exampleCommand())
	return cmd
}

func configCheckCommand(path *string) *cobra.Command {
	return &cobra.Command{
		Use:   "check",
		Short: "Say what is wrong with a node's configuration",
		Long: `Say what is wrong with a node's configuration: all of it, with places and
suggestions, on stderr, and exit code 2. What it names is looked at, too: roots of
rules, watch folders, plugins and their options, files of credentials, keys, passwords and
of tasks. What is missing there is a warning, and so is a relay that everyone can use, a
directory that two folders watch, a folder that finds what it has sent, or a variable
as another tool writes it, like $DATE. Run as root, it becomes the owner of the state
directory to see which of the files that user may read. No plugin is run, no partner
called, and the node that runs is not asked.`,
		Args: command.Arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return checkConfig(*path, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
}

// checkConfig prints what a file without problems says, in a line.
func checkConfig(path string, out, messages io.Writer) error {
	cfg, err := load(path)
	if err != nil {
		return err
	}
	warnings := append(rootWarnings(cfg), configWarnings(cfg)...) // unreadable gives up being root
	for _, text := range append(warnings, unreadable(cfg)...) {
		fmt.Fprintln(messages, "warning: "+text)
	}
	bridges, relays, folders := "", "", ""
	if len(cfg.Folders) > 0 {
		folders = fmt.Sprintf(", %d folders", len(cfg.Folders))
	}
	if len(cfg.Bridges)+len(cfg.Listeners) > 0 {
		bridges = fmt.Sprintf(", %d bridges, %d listeners", len(cfg.Bridges), len(cfg.Listeners))
	}
	if len(cfg.Relays)+len(cfg.Policy) > 0 {
		relays = fmt.Sprintf(", %d relays, %d entries of policy", len(cfg.Relays), len(cfg.Policy))
	}
	for _, n := range []struct {
		count int
		what  string
	}{{len(cfg.Book.Pools), "pools"}, {len(cfg.Schedules), "schedules"}, {len(cfg.Expects), "expected files"}} {
		if n.count > 0 {
			folders += fmt.Sprintf(", %d %s", n.count, n.what)
		}
	}
	partners, rules := len(cfg.Book.Partners)-len(cfg.Bridges), len(cfg.Book.Rules)
	for name := range cfg.Bridges { // each has a rule that nobody has written
		if _, is := cfg.Book.Rules[engine.CopyRule(name)]; is {
			rules--
		}
	}
	_, err = fmt.Fprintf(out, "%s: node %s, %d partners, %d rules%s%s%s\n", path, cfg.Node.Name, partners, rules, folders, bridges, relays)
	return fault.Wrap("write result", "", err)
}

// rootWarnings are of roots that are not there.
func rootWarnings(cfg *config.Config) (all []string) {
	roots := map[string]string{} // by the names of rules
	for name, r := range cfg.Book.Rules {
		if r.Bridge == "" {
			roots[name] = r.Root
		}
	}
	missing := absent(maps.Values(roots))
	for _, name := range slices.Sorted(maps.Keys(roots)) {
		if a, ok := missing[roots[name]]; ok {
			all = append(all, fmt.Sprintf("rule %s: %s; its requests will fail until %s", name, a.what, a.until))
		}
	}
	return all
}

// configWarnings are what the text of a configuration, and the files that it names, say that may
// be meant otherwise.
func configWarnings(cfg *config.Config) (all []string) {
	for _, name := range slices.Sorted(maps.Keys(cfg.Relays)) {
		if r := cfg.Relays[name]; r.At == relay.Here && len(r.From) == 0 && slices.ContainsFunc(r.Accept, exposed) {
			all = append(all, fmt.Sprintf("relay %s: whoever reaches this host can use it; say who may with from, or accept at 127.0.0.1", name))
		}
	}
	if h := cfg.HTTP; h.Certificate != "" && h.Key != "" {
		if _, err := httpd.Files(h.Certificate, h.Key); err != nil {
			all = append(all, "http: the node does not start with these files: "+command.Cause(err))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(cfg.Book.Rules)) {
		if len(cfg.Book.Rules[name].Partners) == 0 {
			all = append(all, fmt.Sprintf("rule %s: partners is empty, so nobody may use it; name them, or write [\"*\"] for every partner", name))
		}
	}
	return slices.Concat(all, cfg.Literals(), folderWarnings(cfg), scheduleWarnings(cfg), foreign(cfg))
}

// exposed reports whether an endpoint is reached from other hosts.
func exposed(e relay.Endpoint) bool {
	a, err := netip.ParseAddr(e.Host)
	return e.Scheme != relay.Unix && (err != nil || !a.IsLoopback())
}

func exampleCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "example",
		Short: "Print a configuration with comments",
		Args:  command.Arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := cmd.OutOrStdout().Write(config.Example)
			return fault.Wrap("write example", "", err)
		},
	}
}
