package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/spec/adminpb"
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

// goesOn says that the requests do not end with the command.
func goesOn(cmd *cobra.Command, all []*adminpb.Request) {
	what := "The transfer goes"
	if len(unfinished(all)) > 1 {
		what = "The transfers go"
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%s on in the daemon. Follow: %s\n", what, following(all))
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
	for _, r := range open(all) {
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

// mostNames is how many requests a line names.
const mostNames = 20

// following is the command that follows what is not final: by names, or all there is where
// those would be too many for a line.
func following(all []*adminpb.Request) string {
	ids := unfinished(all)
	if len(ids) > mostNames {
		ids = nil
	}
	return strings.Join(append([]string{"pannier watch"}, ids...), " ")
}

// unfinished are the names of the requests that are not final.
func unfinished(all []*adminpb.Request) (names []string) {
	for _, r := range open(all) {
		names = append(names, nameOf(r))
	}
	return names
}

// open are the requests that are not final.
func open(all []*adminpb.Request) (left []*adminpb.Request) {
	for _, r := range all {
		if !final(r) {
			left = append(left, r)
		}
	}
	return left
}
