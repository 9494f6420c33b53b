package main

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/cmd/pannier/bench"
)

func benchFanoutCommand() *cobra.Command {
	cfg := bench.FanoutConfig{Size: 1 << 30}
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "fanout",
		Short: "Send one file to several partners: what is read of it, and what it costs",
		Long: `Send one file to several partners, each node a process of its own, over TLS.

  together     one send to all of them
  one-by-one   a send to each, one after the other
  slow         together, but one partner's process runs a quarter of the time
  dead         together, but one partner's process stands still until the others are done

"read" is what the sender's process has read from anywhere, by the size of the file;
"all but one" is when the last but one was done.`,
		Args: command.Arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			self, err := bench.Self()
			if err != nil {
				return err
			}
			cfg.Program, cfg.Progress = []string{self.Path}, cmd.ErrOrStderr()
			results, err := bench.Fanout(cmd.Context(), cfg)
			return showFigures(cmd, asJSON, results, fanoutFigures, err)
		},
	}
	flags := cmd.Flags()
	flags.StringSliceVar(&cfg.Cases, "cases", nil, "only these: "+strings.Join(bench.FanoutCases(), ","))
	flags.IntVar(&cfg.Runs, "runs", 3, "rounds, of which the median counts")
	flags.IntVar(&cfg.Partners, "partners", 8, "partners")
	flags.Var(command.Size(&cfg.Size, 1), "size", "bytes of the file")
	flags.StringVar(&cfg.Dir, "dir", "", "where files and stores go (default: the temporary directory)")
	flags.BoolVar(&asJSON, "json", false, "one JSON object per case, one per line")
	return cmd
}

func fanoutFigures(results []bench.FanoutResult) command.Table {
	header := []string{"case", "read", "s", "all but one s", "CPU s/GiB", "sender MiB"}
	rows := make([][]string, len(results))
	for i, r := range results {
		rows[i] = []string{r.Case, figure(r.Read), figure(r.Wall), figure(r.First), figure(r.CPU), figure(r.MaxRSS)}
	}
	return command.Table{Header: header, Rows: rows}
}
