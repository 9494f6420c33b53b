package main

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/engine/config"
	"github.com/pannier/pannier/engine/node"
	"github.com/pannier/pannier/engine/node/heap"
	"github.com/pannier/pannier/spec/fault"
)

func serveCommand(path *string) *cobra.Command {
	return &cobra.Command{
		Use:   "serve",
		Short: "Run a node until it is told to end",
		Long: `Run a node until SIGTERM or SIGINT. What runs then may finish within node.drain;
the rest is interrupted and goes on after the next start. A second signal ends the
process at once.

SIGHUP reads the file again, as pannier reload does: all but [audit], [http], [push] and
most of [node] holds from then on. A file with a problem, or that asks for what this host
does not have, changes nothing, and the log says what it is.`,
		Example: `  # A file to begin with
  pannier config example > pannier.toml
  # What is wrong with it
  pannier config check --config pannier.toml
  # Run it
  pannier serve --config pannier.toml`,
		Args: command.Arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return serve(cmd.Context(), *path, cmd.ErrOrStderr())
		},
	}
}

// load reads the configuration, and says where one comes from.
func load(path string) (*config.Config, error) {
	cfg, err := config.Load(path)
	if errors.Is(err, fault.NotFound) {
		err = command.Suggest(err, "Make one with: pannier config example > %s", path)
	}
	return cfg, err
}

// whose says what to do where a node may not use its own files, because somebody else has
// made them.
func whose(err error, state string) error {
	if !errors.Is(err, fault.Permission) && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	names, looked := node.Foreign(state)
	if looked != nil || len(names) == 0 {
		return err
	}
	reclaim, looked := node.Reclaim(state)
	if looked != nil {
		return err
	}
	return command.Suggest(err, "In %s there are files that are not of the user whose it is, as %q.\nAs root: %s", state, names[0], reclaim)
}

// serve runs the node of a file until ctx ends. Its log goes to messages.
func serve(ctx context.Context, path string, messages io.Writer) error {
	hups := make(chan os.Signal, 1)
	signal.Notify(hups, syscall.SIGHUP)
	defer signal.Stop(hups)
	cfg, err := load(path)
	if err != nil {
		return err
	}
	collecting, enough := context.WithCancel(ctx)
	defer enough()
	go heap.Keep(collecting)
	read := func() (*config.Config, error) { return config.Load(path) }
	n, err := node.Open(ctx, cfg, node.Options{Version: command.Version(), Read: read, Output: messages, Bundled: slices.Sorted(maps.Keys(bundled)), Check: checkOptions})
	if err != nil {
		return whose(err, cfg.Node.State)
	}
	ended := make(chan struct{})
	reloading := make(chan struct{})
	go func() {
		defer close(reloading)
		for {
			select {
			case <-hups:
				n.ReadAgain()
			case <-ended:
				return
			}
		}
	}()
	notify("READY=1\nSTATUS=" + cfg.Node.Name)
	if every := watchdogEvery(); every > 0 {
		go watchdog(collecting, every, n.Pulse)
	}
	stopping := context.AfterFunc(ctx, func() { notify(stoppingNote(cfg.Node.Drain)) })
	defer stopping()
	err = n.Run(ctx)
	close(ended)
	<-reloading
	return err
}
