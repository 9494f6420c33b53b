package main

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/cmd/pannier/bench"
)

func benchFolderCommand() *cobra.Command {
	var cfg bench.FolderConfig
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "folder",
		Short: "Watch a folder: from the end of writing to the request, and a large tree",
		Long: `Watch a folder with a daemon, a process of its own, whose partner is away.

  closed   files written one after the other, each within 20 ms: from its close to its
           durable request, with closed = true
  stable   the same with stable = "50ms", which is part of the figure
  tree     files in 1,000 directories that were made before the daemon's start: until it
           has found all of them, and the memory of its process`,
		Args: command.Arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			self, err := bench.Self()
			if err != nil {
				return err
			}
			cfg.Program, cfg.Progress = []string{self.Path}, cmd.ErrOrStderr()
			results, err := bench.Folder(cmd.Context(), cfg)
			return showFigures(cmd, asJSON, results, folderFigures, err)
		},
	}
	flags := cmd.Flags()
	flags.StringSliceVar(&cfg.Cases, "cases", nil, "only these: "+strings.Join(bench.FolderCases(), ","))
	flags.IntVar(&cfg.Runs, "runs", 3, "rounds, of which the median counts")
	flags.IntVar(&cfg.Count, "count", 200, "files that are written")
	flags.IntVar(&cfg.Tree, "tree", 100_000, "files of the tree")
	flags.StringVar(&cfg.Dir, "dir", "", "where files and stores go (default: the temporary directory)")
	flags.BoolVar(&asJSON, "json", false, "one JSON object per case, one per line")
	return cmd
}

func folderFigures(results []bench.FolderResult) command.Table {
	header := []string{"case", "files", "close to submit p50 ms", "p99 ms", "found s", "CPU s", "empty MiB", "RSS MiB"}
	rows := make([][]string, len(results))
	for i, r := range results {
		rows[i] = []string{r.Case, whole(float64(r.Files)), figure(r.P50), figure(r.P99), figure(r.Found), figure(r.CPU), figure(r.Before), figure(r.MaxRSS)}
	}
	return command.Table{Header: header, Rows: rows}
}
