package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/rpc"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

// drainTime is how long transfers may go on after the first signal: longer than
// a session waits for a client that has lost its connection (30 s).
const drainTime = 35 * time.Second

// serveFlags are the flags of serve.
type serveFlags struct {
	root, listen, state string
	allow               []string
	allowAny            bool
	plain               plainFlags
	writable            bool
	quota               int64
}

func serveCommand() *cobra.Command {
	f := serveFlags{quota: sideeffect.NoQuota}
	cmd := &cobra.Command{
		Use:   "serve --root DIR",
		Short: "Give the files below a folder",
		Long: `Give the files below a folder, until SIGINT or SIGTERM; transfers that run then
have ` + drainTime.String() + ` to finish.

The address and this server's key are printed on stdout, a line for each call on
stderr. Clients are let in by their keys, which "rcat key" prints; a socket is
open to its owner, --plain to everyone on this machine, --insecure-plaintext to
everyone who reaches the port.`,
		Example: `  # To yourself, from anywhere; other clients print their keys with "rcat key", too
  rcat serve --root . --allow "$(rcat key)"
  # And take files of up to 10 GiB
  rcat serve --root . --allow "$(rcat key)" --writable --quota 10GiB
  # Without the network
  rcat serve --root . --listen unix:/tmp/rcat.sock`,
		Args: command.Arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error { return f.serve(cmd) },
	}
	flags := cmd.Flags()
	registerState(cmd, &f.state)
	flags.StringVar(&f.root, "root", "", "the folder; no name and no link leads out of it")
	flags.StringVar(&f.listen, "listen", "", "HOST[:PORT], :PORT, unix:SOCKET, fifo://IN,OUT, tty://DEVICE or stdio: (default: :"+carrier.DefaultPort+"; with --plain 127.0.0.1:"+carrier.DefaultPort+")")
	flags.StringArrayVar(&f.allow, "allow", nil, "let the client with this key in; may be repeated")
	flags.BoolVar(&f.allowAny, "allow-any", false, "let every client in, whatever its key")
	f.plain.register(cmd)
	flags.BoolVar(&f.writable, "writable", false, "take files, too")
	flags.Var(command.Size(&f.quota, 0), "quota", "take at most this much with one put")
	return cmd
}

func (f *serveFlags) serve(cmd *cobra.Command) error {
	address, err := f.address()
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
	cfg, err := f.config(address, log)
	if err != nil {
		return err
	}
	if f.root == "" {
		return command.Suggest(fault.New("read flags", fault.Invalid, "there is no folder to serve"), "Say which: --root DIR")
	}
	root, err := os.OpenRoot(f.root)
	if err != nil {
		return fault.Wrap("open root", f.root, err)
	}
	defer root.Close()
	server, err := newServer(&service{root: root, writable: f.writable, quota: f.quota}, cfg, grpc.UnaryInterceptor(logCalls(log)))
	if err != nil {
		return err
	}
	defer server.Stop()
	bound, err := server.Listen(address.String())
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	if address.Scheme == carrier.Stdio { // where stdout is the client's
		out = cmd.ErrOrStderr()
	}
	fmt.Fprintln(out, "listening on", bound)
	if cfg.Identity != nil {
		fmt.Fprintln(out, "key", cfg.Identity.Key())
	}
	return serveUntil(cmd.Context(), server, log)
}

// serveUntil serves until ctx ends and lets what runs finish.
func serveUntil(ctx context.Context, server *rpc.Server, log *slog.Logger) error {
	drained := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		log.Info("stopping; transfers may finish", "limit", drainTime)
		limit, cancel := context.WithTimeout(context.Background(), drainTime)
		defer cancel()
		drained <- server.Shutdown(limit)
	})
	err := server.Serve()
	if stop() {
		return err // a listener failed
	}
	return <-drained
}

// address is where to listen.
func (f *serveFlags) address() (carrier.Address, error) {
	listen := f.listen
	switch {
	case listen == "" && f.plain.given() && !f.plain.anywhere:
		listen = "127.0.0.1:" + carrier.DefaultPort
	case listen == "":
		listen = ":" + carrier.DefaultPort
	}
	return parseHost(listen, f.plain)
}

// config says who may connect to the address.
func (f *serveFlags) config(a carrier.Address, log *slog.Logger) (rpc.ServerConfig, error) {
	const op = "read flags"
	named := len(f.allow) > 0 || f.allowAny
	switch {
	case !a.Proves() && named:
		return rpc.ServerConfig{}, command.Suggest(fault.New(op, fault.Invalid, "%s proves no keys", a), "Leave out --allow and --allow-any.")
	case !a.Proves():
		return rpc.ServerConfig{ExposePlaintext: f.plain.anywhere}, nil
	case !named:
		return rpc.ServerConfig{}, command.Suggest(fault.New(op, fault.Invalid, "nobody would be let in"),
			"Give the keys of clients with --allow (each prints its own with: rcat key), or --allow-any.")
	}
	pins, err := carrier.ParsePins(f.allow...)
	if err != nil {
		return rpc.ServerConfig{}, err
	}
	id, _, err := loadIdentity(f.state)
	door := &door{pins: pins, any: f.allowAny, log: log}
	return rpc.ServerConfig{Identity: id, AuthorizeKey: door.authorize}, err
}

// maxStrangers bounds how many refused keys are logged.
const maxStrangers = 100

// door lets clients in by their keys, and logs each key once that it turns away.
type door struct {
	pins carrier.Pins
	any  bool
	log  *slog.Logger

	mu        sync.Mutex
	strangers []string // len <= maxStrangers
}

func (d *door) authorize(key string) error {
	if d.any || d.pins.Has(key) {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.strangers) < maxStrangers && !slices.Contains(d.strangers, key) {
		d.strangers = append(d.strangers, key)
		d.log.Warn("refused; --allow lets it in", "key", key)
	}
	return fault.New("authorize", fault.Permission, "the key is not among those of --allow")
}

// logCalls is an interceptor like any other.
func logCalls(log *slog.Logger) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, request any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
		began := time.Now()
		reply, err := handle(ctx, request)
		attrs := []any{"call", info.FullMethod, "took", time.Since(began).Round(time.Microsecond)}
		if r, ok := request.(interface{ GetPath() string }); ok {
			attrs = append(attrs, "path", r.GetPath())
		}
		if err != nil {
			attrs = append(attrs, "error", err)
		}
		log.Info("served", attrs...)
		return reply, err
	}
}
