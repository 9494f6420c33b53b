package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/flow/relay"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/quantity"
)

// relayFlags are what a relay is, as flags.
type relayFlags struct {
	relay  adminpb.Relay
	ports  []string
	mode   string
	limits relay.Limits
}

func (f *relayFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.relay.Session, "session", "", "the `PARTNER` at the other end; required")
	flags.StringArrayVar(&f.relay.Accept, "accept", nil, "where connections come in, as tcp://127.0.0.1:2200; may be given again; required")
	flags.StringVar(&f.relay.To, "to", "", "where they lead, as tcp://127.0.0.1:22")
	flags.StringVar(&f.relay.At, "at", "here", "which end accepts: here or there")
	flags.StringArrayVar(&f.ports, "port", nil, "another destination for connections of one port, as `8001=tcp://db:5432`; may be given again")
	flags.StringArrayVar(&f.relay.From, "from", nil, "clients that are let in, as 10.0.0.0/8; may be given again (default: all)")
	flags.StringVar(&f.mode, "mode", "", "permissions of the unix sockets in --accept, as 0660 (default 0600)")
	resumeFlag(cmd, &f.relay.Resume)
	flags.BoolVar(&f.relay.ProxyProtocol, "proxy-protocol", false, "with --at there: send destinations a PROXY header with the client's address")
	limitFlags(cmd, &f.limits)
}

func resumeFlag(cmd *cobra.Command, resume *bool) {
	cmd.Flags().BoolVar(resume, "resume", false, "connections outlive those of the session, and end with the session itself")
}

// limitFlags are the limits of a relay, under the names that they have in the configuration.
func limitFlags(cmd *cobra.Command, l *relay.Limits) {
	flags := cmd.Flags()
	flags.IntVar(&l.Conns, "conns", 0, "connections, or sources of datagrams, at a time (default 4096)")
	flags.IntVar(&l.Opens, "opens", 0, "begun a second (default 2000)")
	flags.Var(command.Size(&l.Bytes, 1), "bytes", "of one connection, each way (default: no limit)")
	flags.Var(command.ByteRate(&l.Rate), "rate", "bytes a second of one connection, each way (default: no limit)")
	flags.Var(age{&l.Life}, "life", "of one connection (default: no limit)")
	flags.Var(age{&l.Idle}, "idle", "after which a connection without a byte ends (default: never; a source of datagrams after 2m)")
	flags.Var(age{&l.Half}, "half", "the same when one direction is closed (default 5m)")
	flags.IntVar(&l.Weight, "weight", 0, "beside other relays, 1 to 100, where the session is the bottleneck (default 1)")
	flags.IntVar(&l.Datagram, "datagram", 0, "bytes of the largest that is taken from the other end (default 65507)")
	flags.IntVar(&l.Sources, "sources", 0, "of datagrams at one accepting socket (default 1024)")
	flags.IntVar(&l.Amplify, "amplify", 0, "times the bytes that came from a source of datagrams that has not answered (default 3, no limit on loopback)")
}

// message is the relay of that name.
func (f *relayFlags) message(name string) (*adminpb.Relay, error) {
	f.relay.Name, f.relay.To = name, commandWords(f.relay.To)
	for _, text := range f.ports {
		port, to, ok := strings.Cut(text, "=")
		n, err := strconv.ParseUint(port, 10, 16)
		if !ok || err != nil {
			return nil, fault.New("read flags", fault.Invalid, "--port %.200q: write it as 8001=tcp://db:5432", text)
		}
		if f.relay.Ports == nil {
			f.relay.Ports = map[uint32]string{}
		}
		f.relay.Ports[uint32(n)] = to
	}
	if f.mode != "" {
		n, err := strconv.ParseUint(f.mode, 8, 32)
		if err != nil || n == 0 {
			return nil, fault.New("read flags", fault.Invalid, "--mode %.200q: write octal permissions, as 0660", f.mode)
		}
		f.relay.Mode = uint32(n)
	}
	f.relay.Limits = admin.RelayLimits(f.limits)
	return &f.relay, nil
}

func (c *console) relayAddCommand() *cobra.Command {
	var f relayFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "add NAME",
		Short: "Begin a relay, until the daemon ends",
		Long: `Begin a relay, at once. It lasts until it is removed or the daemon ends, and stays when the
configuration is read again. To keep it for longer, put the section that is printed on stderr into the
configuration.`,
		Example: `  pannier relay add ssh-of-hostb --session hostb --accept tcp://127.0.0.1:2200 --to tcp://127.0.0.1:22
  # hostb listens, if its policy says so
  pannier relay add web --session hostb --at there --accept tcp://0.0.0.0:8080 --to tcp://127.0.0.1:80`,
		Args: command.Arguments(1),
		RunE: c.run(func(ctx context.Context, cmd *cobra.Command, client *admin.Client, args []string) error {
			in, err := f.message(args[0])
			if err != nil {
				return err
			}
			r, err := client.AddRelay(ctx, in)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "This relay lasts until the daemon ends. To keep it, add to %s:\n\n%s", c.config, command.Printable(section(in)))
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), r)
			}
			return relayTable(c.view(cmd.OutOrStdout()), []*adminpb.Relay{r}).Write(cmd.OutOrStdout())
		}),
	}
	f.register(cmd)
	complete(cmd, "session", partnerNames, c)
	choices(cmd, "at", "here", "there")
	jsonFlag(cmd, &asJSON)
	return cmd
}

func (c *console) relayRemoveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rm NAME",
		Short: "End a relay; its connections go on",
		Long: `End a relay: nothing new is accepted, its connections go on. One that is in the configuration
comes back when that is read again, or the daemon starts.`,
		Args:              command.Arguments(1),
		ValidArgsFunction: c.completeArgs(relayNames),
		RunE: c.run(func(ctx context.Context, cmd *cobra.Command, client *admin.Client, args []string) error {
			reply, err := client.RemoveRelay(ctx, &adminpb.RemoveRelayRequest{Name: args[0]})
			if err == nil && !reply.GetAdded() {
				fmt.Fprintf(cmd.ErrOrStderr(), "It is in the configuration: remove it from %s, too, or it is back with the next reload or start.\n", c.config)
			}
			return err
		}),
	}
	return cmd
}

// section is a relay as a configuration has it.
func section(r *adminpb.Relay) string {
	var b strings.Builder
	text := func(key, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%s = %s\n", key, strconv.Quote(value))
		}
	}
	list := func(key string, values []string) {
		quoted := make([]string, len(values))
		for i, v := range values {
			quoted[i] = strconv.Quote(v)
		}
		if len(values) > 0 {
			fmt.Fprintf(&b, "%s = [%s]\n", key, strings.Join(quoted, ", "))
		}
	}
	b.WriteString("[[relay]]\n")
	text("name", r.GetName())
	text("session", r.GetSession())
	list("accept", r.GetAccept())
	if r.GetAt() != "here" {
		text("at", r.GetAt())
	}
	text("to", r.GetTo())
	list("from", r.GetFrom())
	if r.GetMode() != 0 {
		text("mode", fmt.Sprintf("%04o", r.GetMode()))
	}
	if r.GetResume() {
		b.WriteString("resume = true\n")
	}
	if r.GetProxyProtocol() {
		b.WriteString("proxy_protocol = true\n")
	}
	list("allow", []string{r.GetSession()})
	for _, port := range slices.Sorted(maps.Keys(r.GetPorts())) {
		fmt.Fprintf(&b, "[[relay.ports]]\nport = %d\nto = %s\n", port, strconv.Quote(r.GetPorts()[port]))
	}
	if limits := limitLines(r.GetLimits()); limits != "" {
		fmt.Fprintf(&b, "[relay.limits]\n%s", limits)
	}
	return b.String()
}

// limitLines is the limits that have a flag, a line each.
func limitLines(l *adminpb.RelayLimits) string {
	var b strings.Builder
	for _, t := range []struct {
		key   string
		value int32
	}{
		{"conns", l.GetConns()}, {"opens", l.GetOpens()}, {"weight", l.GetWeight()}, {"datagram", l.GetDatagram()}, {"sources", l.GetSources()}, {"amplify", l.GetAmplify()},
	} {
		if t.value != 0 {
			fmt.Fprintf(&b, "%s = %d\n", t.key, t.value)
		}
	}
	for _, t := range []struct{ key, value string }{
		{"bytes", quantity.Size.Format(l.GetBytes())}, {"rate", quantity.Rate.Format(l.GetRate())},
		{"life", quantity.FormatDuration(l.GetLife().AsDuration())}, {"idle", quantity.FormatDuration(l.GetIdle().AsDuration())},
		{"half", quantity.FormatDuration(l.GetHalf().AsDuration())},
	} {
		if !strings.HasPrefix(t.value, "0") {
			fmt.Fprintf(&b, "%s = %q\n", t.key, t.value)
		}
	}
	return b.String()
}
