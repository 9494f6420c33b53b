package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

func (c *console) relayCommand() *cobra.Command {
	var once onceFlags
	cmd := &cobra.Command{
		Use:   "relay",
		Short: "Relays: sockets over sessions with partners",
		Long: `Relays: sockets over sessions with partners. What one end of a session accepts, the
other end connects to. Those of the daemon are sections [[relay]] of its configuration; what
partners may ask of it with theirs, sections [[relay_policy]].

With --from, --to and --over this command is a relay itself, without a daemon on this host, until
it is told to end. It has the key of the node of the configuration, or that of --identity. At
the other end is a daemon, which knows that key as a partner's, and whose policy has to allow
what is asked, also where --over is a command that leads to it, as pannier stdio. Where it listens
is printed, a line for each.`,
		Example: `  # How relays are doing, and what comes through them now
  pannier relay list
  pannier relay list --connections
  # Without a daemon here: port 2200 of this host is ssh of hostb
  pannier relay --from tcp://127.0.0.1:2200 --to tcp://127.0.0.1:22 --over tls://hostb:6610 --key sha256:0f1e...
  pannier relay --from tcp://127.0.0.1:2200 --to tcp://127.0.0.1:22 --over exec:"ssh hostb pannier stdio" --key sha256:0f1e...
  # The other way round: hostb listens, this host connects
  pannier relay --at there --from tcp://127.0.0.1:8080 --to tcp://127.0.0.1:80 --over hostb`,
		Args: command.Arguments(0),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(once.from) == 0 && once.to == "" && once.over == "" {
				return command.Help(cmd, args)
			}
			return once.run(cmd.Context(), c.config, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	once.register(cmd)
	cmd.AddCommand(c.relayListCommand(), c.relayTestCommand(), c.relayAddCommand(), c.relayRemoveCommand())
	return cmd
}

// relayNames are those of the daemon's relays.
func relayNames(ctx context.Context, client *admin.Client) (names []string, err error) {
	reply, err := client.ListRelays(ctx, &adminpb.ListRelaysRequest{})
	for _, r := range reply.GetRelays() {
		names = append(names, r.GetName()+"\t"+strings.Join(r.GetAccept(), " ")+" "+r.GetSession())
	}
	return names, err
}

func (c *console) relayListCommand() *cobra.Command {
	var asJSON, connections, policy bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List relays, with what has come through them",
		Long: `List relays, with what has come through them since the daemon began or the relay was
changed. STATE is up: it listens and there is a session with the partner; idle: it listens,
and the session is made when somebody connects; down: it does not listen, and ERROR says why.
Bytes and connections are counted while they are open, too.`,
		Args: command.Arguments(0),
		RunE: c.run(func(ctx context.Context, cmd *cobra.Command, client *admin.Client, _ []string) error {
			reply, err := client.ListRelays(ctx, &adminpb.ListRelaysRequest{Connections: connections})
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			v := c.view(out)
			switch {
			case connections && asJSON:
				return writeJSON(out, reply.GetConnections()...)
			case connections:
				return connectionTable(v, reply.GetConnections()).Write(out)
			case policy && asJSON:
				return writeJSON(out, reply.GetPolicy()...)
			case policy:
				return policyTable(v, reply.GetPolicy()).Write(out)
			case asJSON:
				return writeJSON(out, reply.GetRelays()...)
			}
			return relayTable(v, reply.GetRelays()).Write(out)
		}),
	}
	cmd.Flags().BoolVar(&connections, "connections", false, "the connections that are open now, at this end, whoever's relay it is")
	cmd.Flags().BoolVar(&policy, "policy", false, "what partners may ask, and what of it was let in")
	cmd.MarkFlagsMutuallyExclusive("connections", "policy")
	jsonFlag(cmd, &asJSON)
	return cmd
}

func relayTable(v view, all []*adminpb.Relay) command.Table {
	t := command.Table{
		Header: []string{"NAME", "SESSION", "AT", "ACCEPT", "TO", "STATE", "OPEN", "OPENED", "REFUSED", "FAILED", "SENT", "RECEIVED", "DROPPED", "ERROR"},
		Align:  "lllcclrrrrrrrc",
	}
	for _, r := range all {
		at := r.GetBound()
		if len(at) == 0 {
			at = r.GetAccept()
		}
		t.Rows = append(t.Rows, append([]string{r.GetName(), r.GetSession(), r.GetAt(), strings.Join(at, " "), destinations(r), relayState(r)},
			append(v.counts(r.GetCounts()), r.GetTrouble())...))
	}
	return t
}

// destinations are where a relay leads, in a word.
func destinations(r *adminpb.Relay) string {
	switch n := len(r.GetPorts()); {
	case n > 0 && r.GetTo() != "":
		return fmt.Sprintf("%s, %d by port", r.GetTo(), n)
	case n > 0:
		return fmt.Sprintf("%d by port", n)
	case r.GetTo() == "":
		return "(clients say it)"
	}
	return r.GetTo()
}

func relayState(r *adminpb.Relay) string {
	switch {
	case len(r.GetBound()) == 0:
		return "down"
	case r.GetConnected():
		return "up"
	}
	return "idle"
}

func (v view) counts(n *adminpb.RelayCounts) []string {
	return []string{
		strconv.Itoa(int(n.GetOpen())), strconv.FormatInt(n.GetOpened(), 10), strconv.FormatInt(n.GetRefused(), 10), strconv.FormatInt(n.GetFailed(), 10),
		v.bytes(n.GetToPeer()), v.bytes(n.GetFromPeer()), strconv.FormatInt(n.GetDropped(), 10),
	}
}

func policyTable(v view, all []*adminpb.RelayPolicy) command.Table {
	t := command.Table{
		Header: []string{"PARTNER", "RELAY", "DIAL", "LISTEN", "OPEN", "OPENED", "REFUSED", "FAILED", "SENT", "RECEIVED", "DROPPED"}, Align: "llccrrrrrrr",
	}
	for _, p := range all {
		t.Rows = append(t.Rows, append([]string{p.GetPartner(), p.GetRelay(), orDash(strings.Join(p.GetDial(), " ")), orDash(strings.Join(p.GetListen(), " "))},
			v.counts(p.GetCounts())...))
	}
	return t
}

func connectionTable(v view, all []*adminpb.RelayConnection) command.Table {
	t := command.Table{Header: []string{"ID", "RELAY", "PARTNER", "ROLE", "FROM", "TO", "SINCE", "SENT", "RECEIVED"}, Align: "rlllcclrr"}
	for _, n := range all {
		t.Rows = append(t.Rows, []string{
			strconv.FormatUint(n.GetId(), 10), n.GetRelay(), n.GetPartner(), n.GetRole(), n.GetFrom(), n.GetTo(), v.time(n.GetSince()), v.bytes(n.GetToPeer()), v.bytes(n.GetFromPeer()),
		})
	}
	return t
}

func (c *console) relayTestCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "test NAME [DESTINATION]",
		Short: "Make each step of a connection of a relay, and say what happens",
		Long: `Make each step of a connection of a relay, and say what happens: is there a session with
the partner, does the relay listen, does the end that is asked consent, does the destination connect. The
connection is made and closed without a byte; a command is started. Of a relay whose clients
say where to, as socks5, a destination has to be given.

The exit code is that of the step that has failed: 7 without a session, 4 without consent, 11
when the destination refuses.`,
		Args: func(cmd *cobra.Command, args []string) error {
			return command.Arguments(min(max(len(args), 1), 2))(cmd, args)
		},
		ValidArgsFunction: c.completeArgs(relayNames),
		RunE: c.run(func(ctx context.Context, cmd *cobra.Command, client *admin.Client, args []string) error {
			in := &adminpb.TestRelayRequest{Name: args[0]}
			if len(args) > 1 {
				in.To = args[1]
			}
			reply, err := client.TestRelay(ctx, in)
			if err != nil {
				return unknown(ctx, client, err, "relay", args[0], relayNames)
			}
			if asJSON {
				err = writeJSON(cmd.OutOrStdout(), reply.GetSteps()...)
			} else {
				err = stepTable(reply.GetSteps()).Write(cmd.OutOrStdout())
			}
			for _, s := range reply.GetSteps() {
				if f := s.GetFailure(); f != nil && err == nil {
					err = fault.New("test relay", fault.Kind(f.GetKind()), "%s: %s", s.GetStep(), f.GetCause())
				}
			}
			return err
		}),
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

func stepTable(all []*adminpb.RelayStep) command.Table {
	t := command.Table{Header: []string{"STEP", "RESULT", "WHAT", "ERROR"}, Align: "llcc"}
	for _, s := range all {
		result := "yes"
		if s.GetFailure() != nil {
			result = "no"
		}
		t.Rows = append(t.Rows, []string{s.GetStep(), result, orDash(s.GetWhat()), admin.Problem(s.GetFailure())})
	}
	return t
}
