package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/cmd/pannier/bench"
	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/plugins/dir"
	"github.com/pannier/pannier/plugins/ftp"
	"github.com/pannier/pannier/plugins/host"
	"github.com/pannier/pannier/plugins/s3"
	"github.com/pannier/pannier/plugins/sftp"
	"github.com/pannier/pannier/spec/fault"
)

// bundled are the drivers that are part of this program, by name.
var bundled = map[string]plugins.Driver{"dir": dir.Driver{}, "ftp": ftp.Driver{}, "s3": s3.Driver{}, "sftp": sftp.Driver{}}

// bePlugin makes this process the plugin that its arguments name, if they do.
func bePlugin(args []string) {
	if len(args) != 3 || args[1] != host.EntryArgument {
		return
	}
	d := bundled[args[2]]
	if args[2] == zeros {
		d = bench.Zeros{}
	}
	if d != nil {
		plugins.Serve(d, host.Node)
	}
}

// zeros is the name of a driver that only the benchmark knows.
const zeros = "zeros"

// pluginPrefix begins the names of plugins' programs.
const pluginPrefix = "pannier-plugin-"

func pluginCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "plugin",
		Short: "Plugins: bridges to other protocols",
		Long: `Plugins: bridges to other protocols.

A plugin is part of this program, or a program of its own: a path, or a name of which
the program ` + pluginPrefix + `NAME is on the PATH. Arguments of a program follow it, those with a
dash after --: an interpreter's first is its script.`,
		Args: command.Arguments(0),
		RunE: command.Help,
	}
	cmd.AddCommand(pluginListCommand(), pluginDescribeCommand(), pluginVerifyCommand(), pluginNewCommand())
	return cmd
}

// pluginConfig is how the plugin of a name or path is run with its arguments.
func pluginConfig(words []string, log io.Writer) (host.Config, error) {
	name, args := words[0], words[1:]
	cfg := host.Bundled(name)
	if bundled[name] != nil && len(args) > 0 {
		return cfg, fault.New("find plugin", fault.Invalid, "%q is part of this program and takes no arguments", name)
	}
	if bundled[name] == nil {
		cfg = host.Config{Name: strings.TrimPrefix(filepath.Base(name), pluginPrefix), Path: name, Args: args}
		if !strings.ContainsRune(name, filepath.Separator) {
			found, err := exec.LookPath(pluginPrefix + name)
			if err != nil {
				return cfg, command.Suggest(fault.New("find plugin", fault.NotFound, "no plugin %q", name),
					"It is not part of this program, and there is no %s%s on the PATH. A program elsewhere is named by its path, as ./%s", pluginPrefix, name, name)
			}
			cfg.Path = found
		}
	}
	cfg.Log = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelWarn}))
	return cfg, nil
}

// advised makes the advice of an error a suggestion: what plugins advise is for users.
func advised(err error) error {
	if e, ok := errors.AsType[*fault.Error](err); ok {
		for cause := error(e); cause != nil; cause = errors.Unwrap(cause) {
			if e, ok := cause.(*fault.Error); ok && e.Advice != "" {
				return command.Suggest(err, "%s", strings.ToUpper(e.Advice[:1])+e.Advice[1:])
			}
		}
	}
	return err
}

func pluginListCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List plugins that can be named",
		Long:  "List plugins that can be named: those of this program, and the programs on the PATH, which are not run.",
		Args:  command.Arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			type row struct {
				Name    string   `json:"name"`
				Version string   `json:"version"`
				Schemes []string `json:"schemes"`
				Program string   `json:"program"`
			}
			var rows []row
			for _, name := range slices.Sorted(maps.Keys(bundled)) {
				d := bundled[name].Describe()
				rows = append(rows, row{name, d.Version, d.Schemes, "(bundled)"})
			}
			for _, path := range pluginPrograms() {
				if name := strings.TrimPrefix(filepath.Base(path), pluginPrefix); bundled[name] == nil {
					rows = append(rows, row{Name: name, Program: path})
				}
			}
			if asJSON {
				e := json.NewEncoder(cmd.OutOrStdout())
				for _, r := range rows {
					if err := e.Encode(r); err != nil {
						return fault.Wrap("write result", "", err)
					}
				}
				return nil
			}
			t := command.Table{Header: []string{"NAME", "VERSION", "SCHEMES", "PROGRAM"}, Align: "lllc"}
			for _, r := range rows {
				t.Rows = append(t.Rows, []string{r.Name, orDash(r.Version), orDash(strings.Join(r.Schemes, " ")), r.Program})
			}
			return fault.Wrap("write result", "", t.Write(cmd.OutOrStdout()))
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

// pluginPrograms are the plugins on the PATH, the first of a name.
func pluginPrograms() (paths []string) {
	seen := map[string]bool{}
	for _, d := range filepath.SplitList(os.Getenv("PATH")) {
		entries, err := os.ReadDir(d)
		if err != nil {
			continue
		}
		for _, e := range entries {
			fi, err := e.Info()
			if err == nil && fi.Mode()&fs.ModeSymlink != 0 {
				fi, err = os.Stat(filepath.Join(d, e.Name()))
			}
			if err == nil && fi.Mode().IsRegular() && fi.Mode()&0o111 != 0 && strings.HasPrefix(e.Name(), pluginPrefix) && !seen[e.Name()] {
				seen[e.Name()] = true
				paths = append(paths, filepath.Join(d, e.Name()))
			}
		}
	}
	return paths
}

// pluginFacts is a plugin as JSON.
type pluginFacts struct {
	Name     string         `json:"name"`
	Version  string         `json:"version"`
	SHA256   string         `json:"sha256"`
	Schemes  []string       `json:"schemes"`
	Channels bool           `json:"channels"`
	Server   bool           `json:"server"` // it serves foreign clients, too: [[listener]]
	Options  []pluginOption `json:"options"`
	Listen   []pluginOption `json:"listen_options"`
}

type pluginOption struct {
	Name    string `json:"name"`
	Default string `json:"default"`
	Help    string `json:"help"`
}

func facts(s host.Status) pluginFacts {
	return pluginFacts{Name: s.Name, Version: s.Version, SHA256: s.SHA256, Schemes: s.Schemes, Channels: s.Channels, Server: s.Server, Options: pluginOptions(s.Options), Listen: pluginOptions(s.Listen)}
}

func pluginOptions(from []plugins.Option) []pluginOption {
	all := []pluginOption{}
	for _, o := range from {
		all = append(all, pluginOption{o.Name, o.Default, o.Help})
	}
	return all
}

func pluginDescribeCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "describe NAME|PATH [ARGUMENT...]",
		Short: "Run a plugin and show what it says of itself",
		Args:  command.AtLeast(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := pluginConfig(args, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			p := host.New(cfg)
			defer p.Close(context.WithoutCancel(cmd.Context()))
			s, err := p.Describe(cmd.Context())
			if err != nil {
				return advised(err)
			}
			f := facts(s)
			if asJSON {
				return fault.Wrap("write result", "", json.NewEncoder(cmd.OutOrStdout()).Encode(f))
			}
			t := command.Table{Header: []string{"WHAT", "VALUE", "DEFAULT", "HELP"}, Align: "lllc", Rows: [][]string{
				{"name", f.Name, "-", "-"}, {"version", f.Version, "-", "-"}, {"sha256", f.SHA256, "-", "-"}, {"schemes", strings.Join(f.Schemes, " "), "-", "-"}}}
			for _, o := range f.Options {
				t.Rows = append(t.Rows, []string{"option", o.Name, orDash(o.Default), orDash(o.Help)})
			}
			for _, o := range f.Listen {
				t.Rows = append(t.Rows, []string{"option of a listener", o.Name, orDash(o.Default), orDash(o.Help)})
			}
			return fault.Wrap("write result", "", t.Write(cmd.OutOrStdout()))
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}
