package main

import (
	"context"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/quantity"
)

// queryFlags select requests.
type queryFlags struct {
	states []string
	since  string
	follow string
	adminpb.ListRequest
}

func (f *queryFlags) register(c *console, cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringSliceVar(&f.states, "state", nil, "only these states: "+strings.Join(stateNames(), ","))
	flags.StringVar(&f.Partner, "partner", "", "only requests with this partner")
	flags.StringVar(&f.Rule, "rule", "", "only requests by this rule")
	flags.StringVar(&f.follow, "follow", "", "only the chain of requests, or the run of a schedule, to which this `ID` belongs")
	flags.StringVar(&f.since, "since", "", "only what has changed since a `TIME` or an age, as 2h")
	choices(cmd, "state", stateNames()...)
	complete(cmd, "partner", partnerNames, c)
	complete(cmd, "rule", ruleNames(adminpb.Rule_DIRECTION_UNSPECIFIED), c)
	complete(cmd, "follow", requestIDs, c)
}

// query is what was asked for.
func (f *queryFlags) query(ctx context.Context, client *admin.Client, now time.Time) (*adminpb.ListRequest, error) {
	for _, name := range f.states {
		s, ok := adminpb.Request_State_value[strings.ToUpper(name)]
		if !ok || s == 0 {
			return nil, fault.New("read flags", fault.Invalid, "--state %q: it is one of %s", name, strings.Join(stateNames(), ", "))
		}
		f.States = append(f.States, adminpb.Request_State(s))
	}
	if f.since != "" {
		t, err := past(f.since, now)
		if err != nil {
			return nil, err
		}
		f.Since = timestamppb.New(t)
	}
	if f.follow != "" {
		r, err := client.Get(ctx, refOf(f.follow))
		f.Follow = r.GetFollow()
		if fault.KindOf(err) == fault.NotFound && isRun(ctx, client, f.follow) {
			f.Follow, err = f.follow, nil
		}
		if err != nil {
			return nil, err
		}
	}
	return &f.ListRequest, nil
}

// isRun reports whether requests follow an id that is no request's: a schedule's run.
func isRun(ctx context.Context, client *admin.Client, id string) bool {
	all, err := client.List(ctx, &adminpb.ListRequest{Follow: id, Limit: 1})
	if err == nil {
		_, err = all.Recv()
	}
	return err == nil
}

func stateNames() (names []string) {
	for s := adminpb.Request_TOSUBMIT; s <= adminpb.Request_DONE; s++ {
		names = append(names, s.String())
	}
	return names
}

func (c *console) listCommand() *cobra.Command {
	var f queryFlags
	var asJSON, asCSV, failed bool
	cmd := &cobra.Command{
		Use:   "ls [PARTNER:PATH]",
		Short: "List requests, or files of a partner",
		Long: `List requests of this node, those it has made and those of partners: what has changed
last first, so that what was just sent is at the top. With --json, unless there is a --limit, each
is printed as it comes: first what is not done, in no order, then what is, finished last first.

With PARTNER:PATH: the files in a directory there, of a bridge, or of a node below the root
that the rule (--rule) has at it. "PARTNER:/" is the root itself.`,
		Example: `  # What does not go on by itself
  pannier ls --state INERROR
  # Try again what has failed, and nobody has cancelled
  pannier ls --failed | tail -n +2 | cut -f1 | xargs pannier retry
  # Today's, with one partner, for a program
  pannier ls --partner hostb --since 24h --json
  # What is in a directory of a bridge, and of a partner
  pannier ls warehouse:/in
  pannier ls hostb:exports --rule exports
  # The history, for a spreadsheet
  pannier ls --state DONE --csv > history.csv`,
		Args: func(cmd *cobra.Command, args []string) error { return command.Arguments(min(len(args), 1))(cmd, args) },
		RunE: c.run(func(ctx context.Context, cmd *cobra.Command, client *admin.Client, args []string) error {
			if len(args) == 1 {
				return c.listFiles(ctx, cmd, client, args[0], f.Rule, asJSON, asCSV)
			}
			q, err := f.query(ctx, client, c.now())
			if err != nil {
				return err
			}
			wanted := func(*adminpb.Request) bool { return true }
			if failed {
				q.States, wanted = []adminpb.Request_State{adminpb.Request_INERROR}, hasFailed
			}
			if asJSON && q.Limit == 0 {
				s, err := client.List(ctx, q)
				return each(s, err, func(r *adminpb.Request) error {
					if !wanted(r) {
						return nil
					}
					return writeJSON(cmd.OutOrStdout(), r)
				})
			}
			rows, err := latest(ctx, client, q, wanted)
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), rows...)
			}
			if asCSV {
				file := struct{ io.Writer }{cmd.OutOrStdout()} // no terminal, whatever it is
				return requestTable(c.view(file), rows).WriteCSV(file)
			}
			return requestTable(c.view(cmd.OutOrStdout()), rows).Write(cmd.OutOrStdout())
		}),
	}
	cmd.Flags().BoolVar(&asCSV, "csv", false, "results as CSV, with a header")
	f.register(c, cmd)
	cmd.Flags().BoolVar(&failed, "failed", false, "what has failed: in INERROR, and not because somebody cancelled it")
	cmd.MarkFlagsMutuallyExclusive("failed", "state")
	cmd.Flags().Int32Var(&f.Limit, "limit", 0, "at most so many, those that have changed last (default: all)")
	jsonFlag(cmd, &asJSON)
	cmd.MarkFlagsMutuallyExclusive("json", "csv")
	return cmd
}

// hasFailed is whether a request in INERROR has failed, and was not cancelled.
func hasFailed(r *adminpb.Request) bool {
	return fault.Kind(r.GetFailure().GetKind()) != fault.Canceled
}

// latest is what matches and is wanted, changed last first.
func latest(ctx context.Context, client *admin.Client, q *adminpb.ListRequest, wanted func(*adminpb.Request) bool) (rows []*adminpb.Request, err error) {
	ctx, enough := context.WithCancel(ctx)
	defer enough()
	most, done := int(q.Limit), 0
	q.Limit = 0 // the service does not begin with the latest
	s, err := client.List(ctx, q)
	err = each(s, err, func(r *adminpb.Request) error {
		if !wanted(r) {
			return nil
		}
		rows = append(rows, r)
		if r.GetState() == adminpb.Request_DONE {
			done++
		}
		if done == most && most > 0 { // all others have finished before
			return io.EOF
		}
		return nil
	})
	slices.SortStableFunc(rows, func(a, b *adminpb.Request) int { return b.GetChanged().AsTime().Compare(a.GetChanged().AsTime()) })
	if most > 0 && len(rows) > most {
		rows = rows[:most]
	}
	return rows, err
}

// each hands on what a stream brings, to its end.
func each[T any](s grpc.ServerStreamingClient[T], err error, do func(*T) error) error {
	for err == nil {
		var m *T
		if m, err = s.Recv(); err == nil {
			err = do(m)
		}
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// requestTable is requests as lists show them.
func requestTable(v view, all []*adminpb.Request) command.Table {
	t := command.Table{
		Header: []string{"ID", "DIR", "PARTNER", "RULE", "FILE", "SIZE", "DONE", "STATE", "STEP", "ATTEMPT", "CHANGED", "ERROR"},
		Align:  "llccc" + "rr" + "ll" + "r" + "l" + "c",
	}
	for _, r := range all {
		t.Rows = append(t.Rows, []string{
			v.id(r.GetId()), v.way(r), admin.Partner(r), orDash(r.GetRule()), v.file(ownName(r)), v.bytes(r.GetSize()), percent(r), r.GetState().String(),
			r.GetStep(), strconv.Itoa(int(r.GetAttempt())), v.time(r.GetChanged()), admin.Problem(r.GetFailure()),
		})
	}
	return t
}

// ownName is what the request's file was called at this node.
func ownName(r *adminpb.Request) string {
	if r.GetSide() == adminpb.Request_SENDER {
		return r.GetSource()
	}
	return r.GetTarget()
}

func (c *console) showCommand() *cobra.Command {
	var asJSON, log bool
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Show all that is known of a request",
		Example: `  pannier show 3f2a
  pannier show 3f2a --json
  pannier show 3f2a --log`,
		Args:              command.Arguments(1),
		ValidArgsFunction: c.completeArgs(requestIDs),
		RunE: c.run(func(ctx context.Context, cmd *cobra.Command, client *admin.Client, args []string) error {
			if log {
				reply, err := client.Log(ctx, refOf(args[0]))
				if err != nil {
					return err
				}
				if asJSON {
					return writeJSON(cmd.OutOrStdout(), reply.GetLines()...)
				}
				return logTable(c.view(cmd.OutOrStdout()), reply.GetLines()).Write(cmd.OutOrStdout())
			}
			if asJSON {
				r, err := client.Get(ctx, refOf(args[0]))
				if err != nil {
					return err
				}
				return writeJSON(cmd.OutOrStdout(), r)
			}
			e, err := client.Explain(ctx, refOf(args[0]))
			if err != nil {
				return err
			}
			return requestFields(c.view(cmd.OutOrStdout()), e).write(cmd.OutOrStdout())
		}),
	}
	jsonFlag(cmd, &asJSON)
	cmd.Flags().BoolVar(&log, "log", false, "the last lines of the node's log about it, since the node was started")
	return cmd
}

func logTable(v view, lines []*adminpb.LogLine) command.Table {
	t := command.Table{Header: []string{"TIME", "LEVEL", "LINE"}, Align: "lll"}
	for _, l := range lines {
		t.Rows = append(t.Rows, []string{v.time(l.GetAt()), l.GetLevel(), l.GetText()})
	}
	return t
}

func requestFields(v view, e *adminpb.Explanation) (f fields) {
	r := e.GetRequest()
	f.add("id", r.GetId())
	f.add("requester", r.GetRequester())
	f.add("role", strings.ToLower(r.GetRole().String())+", "+strings.ToLower(r.GetSide().String()))
	f.add("partner", r.GetPartner())
	if r.GetThird() != "" {
		f.add("third party", r.GetThird()+cmpOr(r.GetFetch(), ", from which the partner fetches", ", to which the partner sends"))
	}
	f.add("wanted by", r.GetBy())
	f.add("rule", r.GetRule())
	f.add("source", v.file(r.GetSource()))
	f.add("target", v.file(r.GetTarget()))
	if r.GetFile() != ownName(r) {
		f.add("file", cmpOr(r.GetFile() == "", "gone", v.file(r.GetFile())))
	}
	f.add("state", r.GetState().String())
	f.add("phase", r.GetPhase()+", "+r.GetStep())
	f.add("waits", admin.Waits(r))
	if r.GetState() != adminpb.Request_RUNNING {
		f.add("next", cmpOr(e.GetAt() != nil, e.GetNext(), ""))
		f.add("due", v.time(e.GetAt()))
	}
	f.add("size", v.bytes(r.GetSize()))
	f.add("safe", v.bytes(safeOf(r)))
	f.add("digest", r.GetDigest())
	f.add("compared", r.GetVerified())
	f.add("attempt", admin.Attempt(r, e.GetAttempts()))
	for _, t := range r.GetTasks() {
		f.add(t.GetList()+" tasks", strconv.Itoa(int(t.GetDone()))+" of "+strconv.Itoa(int(t.GetAll())))
	}
	f.add("failure", admin.Problem(r.GetFailure()))
	f.add("failed", v.time(r.GetFailure().GetAt()))
	f.add("warning", r.GetWarning())
	f.add("warnings", cmpOr(r.GetWarnings() > 1, strconv.Itoa(int(r.GetWarnings()))+", that was the last", ""))
	f.add("priority", strconv.Itoa(int(r.GetPriority())))
	f.add("bandwidth", cmpOr(r.GetBandwidth() > 0, quantity.Rate.Format(r.GetBandwidth()), ""))
	f.add("follows", cmpOr(r.GetFollow() == r.GetId(), "", r.GetFollow()))
	f.add("info", r.GetInfo())
	f.add("not before", v.time(r.GetNotBefore()))
	f.add("registered", v.time(r.GetRegistered()))
	f.add("changed", v.time(r.GetChanged()))
	if l := r.GetLive(); l != nil {
		f.add("now", l.GetDoing())
		f.add("since", v.time(l.GetSince()))
		f.add("limited by", l.GetLimit())
		f.add("output", strings.TrimSpace(l.GetOutput()))
	}
	return f
}

// safeOf is how many bytes are safe at the receiver: as last heard while they move,
// which is ahead of the record.
func safeOf(r *adminpb.Request) int64 { return max(r.GetDurable(), r.GetLive().GetDurable()) }

// cmpOr is a if on, else b.
func cmpOr(on bool, a, b string) string {
	if on {
		return a
	}
	return b
}

func (c *console) eventsCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:               "events ID",
		Short:             "Show what happened to a request",
		Long:              "Show what happened to a request at this node, oldest first; at most the last 200.",
		Args:              command.Arguments(1),
		ValidArgsFunction: c.completeArgs(requestIDs),
		RunE: c.run(func(ctx context.Context, cmd *cobra.Command, client *admin.Client, args []string) error {
			reply, err := client.Events(ctx, refOf(args[0]))
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), reply.GetEvents()...)
			}
			return eventTable(c.view(cmd.OutOrStdout()), reply.GetEvents()).Write(cmd.OutOrStdout())
		}),
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

func eventTable(v view, all []*adminpb.Event) command.Table {
	t := command.Table{Header: []string{"SEQ", "TIME", "EVENT", "STATE", "PHASE", "SAFE", "ATTEMPT", "ERROR"}, Align: "rllllrrc"}
	for _, e := range all {
		t.Rows = append(t.Rows, []string{
			strconv.FormatUint(e.GetSeq(), 10), v.time(e.GetAt()), e.GetEvent(), e.GetState().String(), e.GetPhase(), v.bytes(e.GetDurable()),
			strconv.Itoa(int(e.GetAttempt())), admin.Problem(e.GetFailure()) + cmpOr(e.GetWarning() != "", "warning: "+e.GetWarning(), ""),
		})
	}
	return t
}

func (c *console) explainCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:               "explain ID",
		Short:             "Say why a request is as it is, and what happens next",
		Args:              command.Arguments(1),
		ValidArgsFunction: c.completeArgs(requestIDs),
		RunE: c.run(func(ctx context.Context, cmd *cobra.Command, client *admin.Client, args []string) error {
			e, err := client.Explain(ctx, refOf(args[0]))
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), e)
			}
			return explanation(c.view(cmd.OutOrStdout()), e).write(cmd.OutOrStdout())
		}),
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

func explanation(v view, e *adminpb.Explanation) (f fields) {
	r, p := e.GetRequest(), e.GetPartner()
	f.add("request", r.GetId())
	f.add("moves", command.Printable(way(v, r)))
	f.add("is", e.GetSummary())
	f.add("cause", e.GetCause())
	f.add("attempt", admin.Attempt(r, e.GetAttempts()))
	f.add("next", e.GetNext())
	f.add("when", v.time(e.GetAt()))
	if p.GetName() != "" {
		f.add("partner", p.GetName()+", "+partnerState(v, p))
	}
	f.add("data", dataState(v, r))
	for _, do := range slices.Clone(e.GetDo()) {
		f.add("do", "pannier "+do)
	}
	return f
}

// dataState is how much of the file is safe, in words.
func dataState(v view, r *adminpb.Request) string {
	if r.GetSize() < 0 || r.GetState() == adminpb.Request_INERROR && !hasFailed(r) && safeOf(r) < r.GetSize() { // what was cancelled is removed
		return ""
	}
	return v.bytes(safeOf(r)) + " of " + v.bytes(r.GetSize()) + " safe at the receiver"
}
