package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/pannier/pannier/engine/node/nodetest"
	"github.com/pannier/pannier/spec/fault"
)

// table is the scorecard, in the order of spec/reliability.md.
func table() []check {
	return []check{
		killReceiver, damage, killSender, powerCut, powerAtEnd, partialDamaged, syncFails, diskFull,
		quota, sourceChanges, sourceReplaced, askedOften, boundaries, phasePairs, clocks, replay, deadPeer, stuckStream,
		stuckTask, pluginDies, orphans, poison, outage, slowDisk, fairness, capacity, descriptors, retention, oldStores, rot, surface, authentication, flood, uploads, paths, bombs, execArgs, hostileServers, webPage, canaries, auditTrail, shipped,
	}
}

// roles are what this program does as a process of its own; see process.go.
func roles() map[string]func(args []string) error {
	return map[string]func([]string) error{
		roleServe: serveRole, roleAttack: attackRole, roleNode: nodeRole, roleCage: cageRole, roleChild: childRole, roleTied: tiedRole, rolePlugin: pluginRole,
	}
}

// Exit codes.
const (
	exitFailed   = 1 // a check has failed
	exitCouldNot = 3 // the scorecard could not run; 2 is what Go leaves when it crashes
)

const couldNotRun = "could not run: "

func main() {
	if len(os.Args) > 1 && os.Args[1] == "--control" {
		nodetest.Tied()
	} else if len(os.Args) < 2 || roles()[os.Args[1]] == nil {
		if code, ran := alone(); ran {
			os.Exit(code)
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// options are the command line.
type options struct {
	only    []int
	full    bool
	json    bool
	seed    uint64
	control string // this is the mutated scorecard: its overlay
}

func parse(args []string, messages io.Writer) (o options, err error) {
	f := flag.NewFlagSet("scorecard", flag.ContinueOnError)
	f.SetOutput(messages)
	only := f.String("only", "", "numbers of the checks to run, as 33,35; default: all")
	f.BoolVar(&o.full, "full", false, "full counts")
	f.BoolVar(&o.json, "json", false, "a JSON object a line")
	f.Uint64Var(&o.seed, "seed", 1, "of everything random")
	f.StringVar(&o.control, "control", "", "for the scorecard's own use")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	for _, word := range strings.FieldsFunc(*only, func(r rune) bool { return r == ',' }) {
		id, err := strconv.Atoi(word)
		if err != nil || !slices.ContainsFunc(table(), func(c check) bool { return c.id == id }) {
			return o, fault.New("read arguments", fault.Invalid, "there is no check %q", word)
		}
		o.only = append(o.only, id)
	}
	return o, nil
}

// run is main with everything it touches passed in; it returns the exit code.
func run(ctx context.Context, args []string, out, messages io.Writer) int {
	if len(args) > 0 && roles()[args[0]] != nil {
		if err := roles()[args[0]](args[1:]); err != nil {
			fmt.Fprintln(messages, "scorecard:", err)
			return exitCouldNot
		}
		return 0
	}
	o, err := parse(args, messages)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err == nil {
		var failed int
		if failed, err = scorecard(ctx, table(), o, out); err == nil && failed > 0 {
			return exitFailed
		}
	}
	if err != nil {
		fmt.Fprintln(messages, "scorecard:", err)
		return exitCouldNot
	}
	return 0
}

// scorecard runs the chosen ones of some checks, each with its control, and
// returns how many failed.
func scorecard(ctx context.Context, checks []check, o options, out io.Writer) (failed int, err error) {
	chosen := slices.DeleteFunc(checks, func(c check) bool { return len(o.only) > 0 && !slices.Contains(o.only, c.id) })
	var m *mutants
	if o.control == "" && slices.ContainsFunc(chosen, func(c check) bool { return len(c.edits) > 0 }) {
		if m, err = buildMutants(ctx, chosen); err != nil {
			return 0, err
		}
		defer m.remove()
	}
	skipped := 0
	for _, c := range chosen {
		j := job{n: c.n.reduced, seed: o.seed, full: o.full, broken: o.control != "", overlay: o.control}
		switch {
		case o.control != "":
			j.n = c.n.forControl()
		case o.full:
			j.n = c.n.full
		}
		r, err := perform(ctx, c, j)
		if o.control == "" && err == nil && r.Skipped == "" {
			j.n, j.full = c.n.forControl(), false
			var as bool
			if as, r.Control = control(ctx, c, j, m); !as {
				r.Pass = false
			}
		}
		switch {
		case r.Skipped != "":
			skipped++
		case !r.Pass:
			failed++
		}
		if err := show(out, r, o.json); err != nil {
			return failed, err
		}
		if ctx.Err() != nil {
			return failed, fault.Wrap("run checks", "", ctx.Err())
		}
	}
	if !o.json {
		fmt.Fprintf(out, "%d of %d passed, %d SKIPPED, seed %d\n", len(chosen)-failed-skipped, len(chosen), skipped, o.seed)
	}
	return failed, nil
}

// show prints one row.
func show(out io.Writer, r row, asJSON bool) error {
	if asJSON {
		return fault.Wrap("print row", "", json.NewEncoder(out).Encode(r))
	}
	word := map[bool]string{true: "pass", false: "FAIL"}[r.Pass]
	if r.Skipped != "" {
		_, err := fmt.Fprintf(out, "%2d SKIPPED %s\n   %s\n", r.ID, r.Title, r.Skipped)
		return fault.Wrap("print row", "", err)
	}
	_, err := fmt.Fprintf(out, "%2d %s %s\n   %.4g %s (n %d, %.1f s); %s\n   mutant: %s\n   control: %s\n",
		r.ID, word, r.Title, r.Figure, r.Unit, r.N, r.Seconds, r.Detail, r.Mutant, r.Control)
	return fault.Wrap("print row", "", err)
}
