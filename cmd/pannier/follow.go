package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

// follow shows how requests are doing until all are final, and returns what
// went wrong. A signal ends only the following; of own ones, which this command has
// made, a second Ctrl-C cancels. Of others it prints what changes, where nobody looks on.
func (c *console) follow(ctx context.Context, cmd *cobra.Command, client *admin.Client, all []*adminpb.Request, own, asJSON bool) error {
	interrupts := make(chan os.Signal, 2)
	signal.Notify(interrupts, os.Interrupt)
	defer signal.Stop(interrupts)

	within, cancel := context.WithCancel(ctx)
	defer cancel()
	changes := changesOf(within, watcherOf(client), all)
	m := newMeter(cmd.ErrOrStderr(), all)
	lines := !own && !asJSON && !command.Terminal(cmd.OutOrStdout())
	told := map[string]string{} // the last line of each
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
			if m.terminal || !lines {
				m.draw(c.now())
			}
		case got := <-changes:
			switch {
			case errors.Is(got.err, io.EOF):
				if left := open(m.requests); len(left) > 0 { // one that had failed is tried again
					changes = changesOf(within, watcherOf(client), left)
					continue
				}
				m.clear()
				return c.verdict(cmd, m.requests)
			case ctx.Err() != nil: // the error is the signal's
			case got.err != nil:
				m.clear()
				return command.Suggest(got.err, "What is registered goes on when the daemon does. Follow: %s", following(m.requests))
			default:
				m.note(got.change.GetRequest())
				var err error
				switch {
				case asJSON:
					err = writeJSON(cmd.OutOrStdout(), got.change)
				case lines:
					key, line := exactly(got.change.GetRequest()).String(), c.changeLine(cmd, got.change)
					if told[key] != line {
						told[key] = line
						err = c.printChange(cmd, got.change)
					}
				}
				if err != nil {
					return err
				}
			}
		}
	}
}

// verdict says how each request has ended, and returns the errors of those that
// have failed.
func (c *console) verdict(cmd *cobra.Command, all []*adminpb.Request) error {
	done := 0
	var errs []error
	v := view{people: true, now: c.now()}
	several := slices.ContainsFunc(all, func(r *adminpb.Request) bool { return r.GetPartner() != all[0].GetPartner() })
	for _, r := range all {
		file := v.file(ownName(r))
		if several {
			file += "  " + r.GetPartner()
		}
		if err := failureOf(r); err != nil {
			if several {
				err = fmt.Errorf("%s: %w", r.GetPartner(), err)
			}
			errs = append(errs, err)
			continue
		}
		done++
		took := r.GetChanged().AsTime().Sub(r.GetRegistered().AsTime())
		fmt.Fprintf(cmd.ErrOrStderr(), "%s  %s  DONE  %s in %s%s\n", nameOf(r), command.Printable(file), v.bytes(r.GetSize()), lasted(took), wayOf(r))
		if n := r.GetWarnings(); n > 0 {
			fmt.Fprintf(cmd.ErrOrStderr(), "  Warnings of tasks here: %d, the last: %s\n  See: pannier explain %s\n", n, command.Printable(r.GetWarning()), nameOf(r))
		}
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

// taskList is the list whose tasks run in a phase, at either end.
var taskList = map[string]string{"PRE": "pre", "POST": "post"}

// inTask reports whether a request has ended in one of this node's tasks.
func inTask(r *adminpb.Request) bool {
	list := taskList[r.GetPhase()]
	return slices.ContainsFunc(r.GetTasks(), func(t *adminpb.TaskCount) bool { return t.GetList() == list && t.GetDone() < t.GetAll() })
}

// failureOf is why a request has failed, as an error of its failure's kind; nil if it
// has not. One that somebody has cancelled is not an interrupted command, and one that
// an own task has refused, or not ended in time, was not refused by the partner. Whose task has not
// ended in time there was, and can be reached. What is wrong with a file or with a task's
// settings is no wrong use of the command.
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
	wrong := kind == fault.Invalid || kind == fault.TooLong
	switch {
	case kind == fault.Canceled:
		return command.Suggest(command.WithCode(command.Cancelled, err), "%s", more)
	case wrong && f.GetSide() != fault.Here.String(),
		kind == fault.Deadline && f.GetSide() == fault.Peer.String() && taskList[f.GetPhase()] != "": // its tasks have the only limits there
		return command.Suggest(command.WithCode(command.Refused, err), "%s", more)
	case f.GetSide() != fault.Here.String():
	case kind == fault.Refused, // nothing else of a node refuses its own request
		wrong && inTask(r),
		kind == fault.Deadline && inTask(r): // and nothing else of it has a limit then
		return command.Suggest(command.WithCode(command.TaskFailed, err), "%s", more)
	case wrong:
		return command.Suggest(command.WithCode(command.Failed, err), "%s", more)
	}
	return command.Suggest(err, "%s", more)
}
