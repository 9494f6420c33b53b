package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

// How long a second Ctrl-C still means cancel, how long the first may take to
// arrive behind the end of the context, how long what comes behind it is still
// the first (programs that run others pass signals on that these get as well, as
// timeout does), and how long a cancel may take.
const (
	secondWithin  = 2 * time.Second
	signalSettles = 100 * time.Millisecond
	signalEchoes  = 250 * time.Millisecond
	cancelWithin  = 10 * time.Second
)

// follow shows how requests are doing until all are final, and returns what
// went wrong. A signal ends only the following; of own ones, which this command has
// made, a second Ctrl-C cancels.
func (c *console) follow(ctx context.Context, cmd *cobra.Command, client *admin.Client, all []*adminpb.Request, own, asJSON bool) error {
	interrupts := make(chan os.Signal, 2)
	signal.Notify(interrupts, os.Interrupt)
	defer signal.Stop(interrupts)

	within, cancel := context.WithCancel(ctx)
	defer cancel()
	in := &adminpb.WatchRequest{}
	for _, r := range all {
		in.Refs = append(in.Refs, exactly(r))
	}
	s, err := client.Watch(within, in)
	if err != nil {
		return err
	}
	changes := received(within, s)
	m := newMeter(cmd.ErrOrStderr(), all)
	tick := time.NewTicker(m.every())
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			m.clear()
			goesOn(cmd, m.requests)
			if !own {
				return command.Exit(command.Interrupted)
			}
			return again(cmd, m.requests, interrupts, canceller(client))
		case <-tick.C:
			m.draw(c.now())
		case got := <-changes:
			switch {
			case errors.Is(got.err, io.EOF):
				m.clear()
				return c.verdict(cmd, m.requests)
			case ctx.Err() != nil: // the error is the signal's
			case got.err != nil:
				m.clear()
				return command.Suggest(got.err, "What is registered goes on when the daemon does. Follow: pannier watch %s", strings.Join(unfinished(m.requests), " "))
			default:
				m.note(got.change.GetRequest())
				if asJSON {
					if err := writeJSON(cmd.OutOrStdout(), got.change); err != nil {
						return err
					}
				}
			}
		}
	}
}

// news is what a stream brings: a change, or its end.
type news struct {
	change *adminpb.Change
	err    error
}

// received reads a stream beside its user. It ends with the stream or ctx.
func received(ctx context.Context, s grpc.ServerStreamingClient[adminpb.Change]) <-chan news {
	out := make(chan news)
	go func() {
		for {
			change, err := s.Recv()
			select {
			case out <- news{change, err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return out
}

// verdict says how each request has ended, and returns the errors of those that
// have failed.
func (c *console) verdict(cmd *cobra.Command, all []*adminpb.Request) error {
	done := 0
	var errs []error
	v := view{people: true, now: c.now()}
	for _, r := range all {
		if err := failureOf(r); err != nil {
			errs = append(errs, err)
			continue
		}
		done++
		took := r.GetChanged().AsTime().Sub(r.GetRegistered().AsTime())
		fmt.Fprintf(cmd.ErrOrStderr(), "%s  %s  DONE  %s in %s\n", nameOf(r), v.file(ownName(r)), v.bytes(r.GetSize()), lasted(took))
	}
	return some(done, errs)
}

// lasted is a duration that is over: in milliseconds below a second.
func lasted(d time.Duration) string {
	if d < time.Second {
		return d.Round(time.Millisecond).String()
	}
	return span(d)
}

// failureOf is why a request has failed, as an error of its failure's kind; nil if it
// has not. One that somebody has cancelled is not an interrupted command.
func failureOf(r *adminpb.Request) error {
	if r.GetState() != adminpb.Request_INERROR {
		return nil
	}
	f := r.GetFailure()
	kind := fault.Kind(f.GetKind())
	if kind == 0 {
		kind = fault.Internal
	}
	err := fault.New("request", kind, "%s", f.GetCause())
	err.Subject = nameOf(r)
	if f.GetSide() == fault.Peer.String() {
		err.Side = fault.Peer
	}
	more := "See: pannier explain " + nameOf(r)
	if kind == fault.Canceled {
		return command.Suggest(command.WithCode(command.Failed, err), "%s", more)
	}
	return command.Suggest(err, "%s", more)
}

// goesOn says that the requests do not end with the command.
func goesOn(cmd *cobra.Command, all []*adminpb.Request) {
	ids := unfinished(all)
	what := "The transfer goes"
	if len(ids) > 1 {
		what = "The transfers go"
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%s on in the daemon. Follow: pannier watch %s\n", what, strings.Join(ids, " "))
}

// again is what a command does that was told to end: it waits whether it is told
// once more; then each request is given to cancel.
func again(cmd *cobra.Command, all []*adminpb.Request, interrupts <-chan os.Signal, cancel func(*adminpb.Request) error) error {
	w := cmd.ErrOrStderr()
	select {
	case <-interrupts: // the one that has ended the command
	case <-time.After(signalSettles):
		return command.Exit(command.Interrupted) // it was another signal
	}
	time.Sleep(signalEchoes)
	for len(interrupts) > 0 {
		<-interrupts
	}
	fmt.Fprintln(w, "Ctrl-C again to cancel.")
	select {
	case <-time.After(secondWithin):
		return command.Exit(command.Interrupted)
	case <-interrupts:
	}
	var errs []error
	for _, r := range all {
		if r.GetState() == adminpb.Request_DONE || r.GetState() == adminpb.Request_INERROR {
			continue
		}
		if err := cancel(r); err != nil {
			errs = append(errs, err)
			continue
		}
		fmt.Fprintf(w, "%s is cancelled.\n", nameOf(r))
	}
	if len(errs) > 0 {
		return command.WithCode(command.Interrupted, errors.Join(errs...))
	}
	return command.Exit(command.Interrupted)
}

// canceller cancels requests although the command's context is over.
func canceller(client *admin.Client) func(*adminpb.Request) error {
	return func(r *adminpb.Request) error {
		ctx, cancel := context.WithTimeout(context.Background(), cancelWithin)
		defer cancel()
		_, err := client.Cancel(ctx, &adminpb.CancelRequest{Ref: exactly(r), Why: "interrupted at the terminal"})
		return err
	}
}

// exactly is how to name the record of r and no other.
func exactly(r *adminpb.Request) *adminpb.Ref {
	return &adminpb.Ref{Id: r.GetId(), Requester: r.GetRequester(), Role: r.GetRole()}
}

// unfinished are the names of the requests that are not final.
func unfinished(all []*adminpb.Request) (names []string) {
	for _, r := range all {
		if s := r.GetState(); s != adminpb.Request_DONE && s != adminpb.Request_INERROR {
			names = append(names, nameOf(r))
		}
	}
	return names
}

func (c *console) watchCommand() *cobra.Command {
	var f queryFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "watch [ID...]",
		Short: "Follow requests as they change",
		Long: `Follow requests as they change.

With ids: how they are doing, until all are over; the exit code is that of what
failed. Without: a line for each change of every request that the flags select, first
of those that are not over, until Ctrl-C.`,
		Example: `  pannier watch 3f2a
  pannier watch --partner hostb --json`,
		ValidArgsFunction: c.completeArgs(requestIDs),
		RunE: c.run(func(ctx context.Context, cmd *cobra.Command, client *admin.Client, args []string) error {
			if len(args) == 0 {
				return c.watchAll(ctx, cmd, client, &f, asJSON)
			}
			var all []*adminpb.Request
			for _, ref := range refsOf(args) {
				r, err := client.Get(ctx, ref)
				if err != nil {
					return err
				}
				all = append(all, r)
			}
			return c.follow(ctx, cmd, client, all, false, asJSON)
		}),
	}
	f.register(c, cmd)
	jsonFlag(cmd, &asJSON)
	return cmd
}

// watchAll prints changes until it is told to end.
func (c *console) watchAll(ctx context.Context, cmd *cobra.Command, client *admin.Client, f *queryFlags, asJSON bool) error {
	q, err := f.query(ctx, client, c.now())
	if err != nil {
		return err
	}
	s, err := client.Watch(ctx, &adminpb.WatchRequest{Query: q})
	err = each(s, err, func(change *adminpb.Change) error {
		if asJSON {
			return writeJSON(cmd.OutOrStdout(), change)
		}
		return c.printChange(cmd, change)
	})
	if ctx.Err() != nil {
		return command.Exit(command.Interrupted)
	}
	return err
}

func (c *console) printChange(cmd *cobra.Command, change *adminpb.Change) error {
	if change.GetLost() > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "%d changes were lost: they came too fast\n", change.GetLost())
	}
	r := change.GetRequest()
	v := c.view(cmd.OutOrStdout())
	cells := []string{v.id(r.GetId()), v.way(r.GetSide()), r.GetPartner(), v.file(ownName(r)), r.GetState().String(), r.GetPhase(), percent(r), problem(r.GetFailure())}
	for i := range cells {
		cells[i] = strings.ReplaceAll(command.Printable(cells[i]), "\n", `\n`)
	}
	at := c.now().Format("15:04:05")
	if !v.people {
		at = c.now().UTC().Format("2006-01-02T15:04:05.000Z")
	}
	separator := map[bool]string{true: "  ", false: "\t"}[v.people]
	_, err := fmt.Fprintln(cmd.OutOrStdout(), at+separator+strings.TrimRight(strings.Join(cells, separator), " \t"))
	return err
}

func (c *console) waitCommand() *cobra.Command {
	var timeout time.Duration
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "wait ID...",
		Short: "Wait until requests are over",
		Long: `Wait until requests are over, and print what they are then.

Exit code 0: all are DONE. 8: one still runs when --timeout is over. Otherwise that of
the failure; 3 if some are done and some have failed.`,
		Example: `  id=$(pannier send report.pdf hostb)
  pannier wait "$id" --timeout 10m && echo arrived`,
		Args:              command.AtLeast(1),
		ValidArgsFunction: c.completeArgs(requestIDs),
		RunE: c.run(func(ctx context.Context, cmd *cobra.Command, client *admin.Client, args []string) error {
			until := c.now().Add(timeout)
			var all []*adminpb.Request
			for _, ref := range refsOf(args) {
				in := &adminpb.WaitRequest{Ref: ref}
				if timeout > 0 {
					in.Timeout = durationpb.New(max(until.Sub(c.now()), 0))
				}
				r, err := client.Wait(ctx, in)
				if err != nil {
					return err
				}
				all = append(all, r)
			}
			if err := c.printRequests(cmd, asJSON, all); err != nil {
				return err
			}
			return ended(all)
		}),
	}
	cmd.Flags().Var(age{&timeout}, "timeout", "wait no longer than this, as 10m (default: as long as it takes)")
	jsonFlag(cmd, &asJSON)
	return cmd
}

// ended is the error of requests that were waited for.
func ended(all []*adminpb.Request) error {
	done := 0
	var errs []error
	for _, r := range all {
		switch r.GetState() {
		case adminpb.Request_DONE:
			done++
		case adminpb.Request_INERROR:
			errs = append(errs, failureOf(r))
		default:
			return command.Exit(command.Running)
		}
	}
	return some(done, errs)
}
