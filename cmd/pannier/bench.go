package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/cmd/pannier/bench"
	"github.com/pannier/pannier/spec/fault"
)

func benchCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure transfers, calls, relays, bridges and what they do to each other on this machine",
		Long: `Measure transfers, calls, relays, bridges and what they do to each other on this machine.

Each end of each run is a process of its own, so that processor time (getrusage)
and peak memory (VmHWM) are those of one end. Rounds alternate over the cases;
every figure is the median over the rounds.

Figures go to stdout: a table on a terminal, elsewhere lines of cells with tabs in
between, with --json an object for each case. What cannot be measured is left out, and
the exit code says so.`,
		Args: command.Arguments(0),
		RunE: command.Help,
	}
	cmd.AddCommand(transferCommand(), rpcCommand(), mixedCommand(), resumeCommand(), engineCommand(), benchRelayCommand(), benchBridgeCommand(), benchFolderCommand(), benchFanoutCommand(), endCommand())
	return cmd
}

// benchFlags are the flags of one benchmark.
type benchFlags struct {
	bench.Config
	json bool
}

// register adds the flags every benchmark has.
func (f *benchFlags) register(cmd *cobra.Command, name string) {
	cmd.Flags().StringSliceVar(&f.Cases, "cases", nil, "only these, in this order: "+strings.Join(bench.Names(bench.Cases(name)), ","))
	f.registerCommon(cmd)
}

// registerCommon adds the flags of benchmarks without a choice of cases.
func (f *benchFlags) registerCommon(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.IntVar(&f.Runs, "runs", 3, "rounds, of which the median counts")
	flags.BoolVar(&f.json, "json", false, "one JSON object per case, one per line")
	flags.StringVar(&f.Dir, "dir", "", "where the files go (default: a tmpfs, else the temporary directory)")
}

// registerLink adds the flags of an emulated link.
func (f *benchFlags) registerLink(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.DurationVar(&f.Link.RTT, "rtt", 0, "emulate a link with this round-trip time")
	flags.Var(command.Rate(&f.Link.Rate), "rate", "emulate a bottleneck, as 300Mbit")
	flags.Float64Var(&f.Link.Loss, "loss", 0, "emulate the loss of segments, as 0.001")
	flags.IntVar(&f.Lanes, "lanes", 0, "bulk connections of a session (default: as the session decides)")
}

func (f *benchFlags) registerSize(cmd *cobra.Command, usage string) {
	f.Size = 1 << 30
	cmd.Flags().Var(command.Size(&f.Size, 1), "size", usage)
}

func transferCommand() *cobra.Command {
	var f benchFlags
	cmd := &cobra.Command{
		Use:   "transfer",
		Short: "Move files from one process to another",
		Example: `  # All cases, 1 GiB each
  pannier bench transfer
  # Memory of both ends over 8 GiB
  pannier bench transfer --size 8GiB --runs 1
  # A long link, four lanes
  pannier bench transfer --rtt 100ms --rate 300Mbit --loss 0.001 --lanes 4
  # A thousand files at once
  pannier bench transfer --concurrent 1000`,
		Args: command.Arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runBench(cmd, &f, bench.Transfer, transferTable)
		},
	}
	f.register(cmd, bench.BenchTransfer)
	f.registerSize(cmd, "bytes moved in one run, all files together")
	f.registerLink(cmd)
	cmd.Flags().IntVar(&f.Concurrent, "concurrent", 1, "files moved at once, each of --size divided by this")
	return cmd
}

func rpcCommand() *cobra.Command {
	var f benchFlags
	cmd := &cobra.Command{
		Use:   "rpc",
		Short: "Make small calls one after the other",
		Args:  command.Arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runBench(cmd, &f, bench.RPC, callTable)
		},
	}
	f.register(cmd, bench.BenchRPC)
	cmd.Flags().IntVar(&f.Calls, "calls", 5000, "calls timed in one run")
	return cmd
}

func mixedCommand() *cobra.Command {
	var f benchFlags
	cmd := &cobra.Command{
		Use:   "mixed",
		Short: "Make small calls alone, then beside a bulk transfer on the same session",
		Args:  command.Arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runBench(cmd, &f, bench.Mixed, mixedTable)
		},
	}
	f.register(cmd, bench.BenchMixed)
	f.registerSize(cmd, "bytes of the file that is moved again and again")
	f.registerLink(cmd)
	cmd.Flags().IntVar(&f.Calls, "calls", 5000, "calls timed, alone and beside each")
	return cmd
}

func resumeCommand() *cobra.Command {
	var f benchFlags
	cmd := &cobra.Command{
		Use:   "resume",
		Short: "Give a transfer up at nine tenths and continue it",
		Args:  command.Arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runBench(cmd, &f, bench.Resume, resumeTable)
		},
	}
	f.registerCommon(cmd)
	f.registerSize(cmd, "bytes of the file")
	return cmd
}

func engineCommand() *cobra.Command {
	cfg := bench.EngineConfig{Size: 2 << 30}
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "engine",
		Short: "Carry durable requests between two daemons",
		Long: `Carry durable requests between two daemons: processes of their own, joined by TLS,
each with its store on disk. Every file is synced, every step committed. Processor
time is that of both daemons, memory that of the larger one. The cases disk-... write
the same files durably from one process, without any transfer: what this disk can do.
The cases observed-... let two daemons whose metrics are read each second and whose traces
go to a collector take turns with two that nobody observes: a ratio is the median over the
turns, of the processor time on a busy machine of more use than of the rate.`,
		Example: `  # All cases but the long ones
  pannier bench engine
  # What metrics and traces cost
  pannier bench engine --cases observed-4kB-64,observed-250kB-64
  # Whether cost depends on how much is queued
  pannier bench engine --cases queued-100,queued-1000,queued-10000,queued-100000 --runs 1`,
		Args: command.Arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			self, err := bench.Self()
			if err != nil {
				return err
			}
			cfg.Program, cfg.Progress = []string{self.Path}, cmd.ErrOrStderr()
			results, err := bench.Engine(cmd.Context(), cfg)
			return showFigures(cmd, asJSON, results, engineTable, err)
		},
	}
	flags := cmd.Flags()
	flags.StringSliceVar(&cfg.Cases, "cases", []string{"disk-250kB-64", "250kB-64", "disk-4kB-64", "4kB-64", "disk-250kB-1", "250kB-1", "large"}, "of "+strings.Join(bench.EngineCases(), ", "))
	flags.IntVar(&cfg.Runs, "runs", 3, "rounds, of which the median counts")
	flags.IntVar(&cfg.Count, "count", 1000, "requests of the cases of small files")
	flags.Var(command.Size(&cfg.Size, 1), "size", "bytes of the large file")
	flags.StringVar(&cfg.Dir, "dir", "", "where files and stores go: a disk (default: the temporary directory)")
	flags.BoolVar(&asJSON, "json", false, "one JSON object per case, one per line")
	return cmd
}

func benchRelayCommand() *cobra.Command {
	cfg := bench.RelayConfig{Size: 1 << 30, Settle: 2 * time.Second, Rest: 8 * time.Second}
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "relay",
		Short: "Relay connections and datagrams, and compare with other ways",
		Long: `Relay connections and datagrams from a client to a server, and compare with other ways from the
one to the other. Client, server and both ends of each way are processes of their own, all on this host;
processor time is that of all of them together.

  direct     no relay: the client connects to the server
  bare       two processes that pass on bytes with splice(2) and do nothing else
  socat      socat at both ends, with buffers of 256 KiB
  ssh        ssh -L and an sshd of the benchmark's own
  yamux      a relay made with hashicorp/yamux over TCP, with its defaults
  smux       the same with xtaci/smux, version 2
  relay-tcp  a relay over a session of plain TCP
  relay-tls  a relay over a session of TLS, as between nodes

  bulk       one connection in one direction
  ping       one byte there and back
  idle       memory of each end while so many connections are open and silent
  churn      1000 connections a second, each with one byte there and back
  busy       ping beside 100 connections with 1 MiB/s each and a transfer on the same session, which
             takes what it gets; where there are no transfers, one more connection does
  flood      the same with 100 connections that send all they can
  datagrams  50,000 datagrams of 200 bytes a second

A case whose program the host does not have is left out, and stderr says so.`,
		Example: `  # Everything
  pannier bench relay
  # One connection, with and without TLS
  pannier bench relay --cases direct,ssh,relay-tcp,relay-tls --figures bulk --runs 9`,
		Args: command.Arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			self, err := bench.Self("bench", "end")
			if err != nil {
				return err
			}
			cfg.Program, cfg.Progress = self, cmd.ErrOrStderr()
			results, err := bench.Relay(cmd.Context(), cfg)
			return showFigures(cmd, asJSON, results, waysTable, err)
		},
	}
	flags := cmd.Flags()
	flags.StringSliceVar(&cfg.Cases, "cases", nil, "only these, in this order: "+strings.Join(bench.Ways(), ","))
	flags.StringSliceVar(&cfg.Figures, "figures", nil, "only these: "+strings.Join(bench.Figures(), ","))
	flags.IntVar(&cfg.Runs, "runs", 3, "rounds, of which the median counts")
	flags.Var(command.Size(&cfg.Size, 1), "size", "bytes of the one connection of bulk")
	flags.IntVar(&cfg.Calls, "calls", 5000, "bytes there and back of ping; a fifth of them of busy")
	flags.IntVar(&cfg.Idle, "idle", 10_000, "connections of idle")
	flags.IntVar(&cfg.Churn, "churn", 5000, "connections of churn")
	flags.IntVar(&cfg.Datagrams, "datagrams", 100_000, "datagrams")
	flags.BoolVar(&asJSON, "json", false, "one JSON object per case, one per line")
	return cmd
}

// endCommand is how a benchmark starts its ends; it is not for people.
func endCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "end",
		Hidden: true,
		Args:   command.Arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return bench.End(cmd.Context(), cmd.InOrStdin(), cmd.OutOrStdout())
		},
	}
}

// runBench measures and prints.
func runBench[T any](cmd *cobra.Command, f *benchFlags,
	measure func(context.Context, bench.Config) ([]T, error), table func([]T) command.Table,
) error {
	self, err := bench.Self("bench", "end")
	if err != nil {
		return err
	}
	f.Program, f.Progress = self, cmd.ErrOrStderr()
	results, err := measure(cmd.Context(), f.Config)
	return showFigures(cmd, f.json, results, table, err)
}

// showFigures prints what there is, also when some cases failed: err.
func showFigures[T any](cmd *cobra.Command, asJSON bool, results []T, table func([]T) command.Table, err error) error {
	if len(results) == 0 {
		return err
	}
	out := cmd.OutOrStdout()
	var failed error
	if asJSON {
		failed = command.WriteJSON(out, results...)
	} else {
		failed = table(results).Write(out)
	}
	if failed != nil {
		return fault.Wrap("write results", "", failed)
	}
	return command.Partial(err)
}
