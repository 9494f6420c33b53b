package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/engine/config"
	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/spec/fault"
)

// defaultAdmin is where a daemon listens whose configuration does not say it.
const defaultAdmin = "unix:///var/lib/pannier/admin.sock"

// console is what the commands have in common. Flags are read into it.
type console struct {
	admin  string // address; empty: as the configuration says
	token  string // file of the token for one that is elsewhere
	key    string // of its certificate
	config string // file
	now    func() time.Time

	messages io.Writer // of the command that runs; nil: nobody reads
}

// register adds the flags that all commands have.
func (c *console) register(root *cobra.Command) {
	flags := root.PersistentFlags()
	flags.StringVar(&c.admin, "admin", "", "address of the daemon, as unix:///run/pannier.sock or tls://host:8443 (default: as the configuration says)")
	flags.StringVar(&c.token, "token-file", "", "file with the token for a daemon at tls://host:port, which only you can read")
	flags.StringVar(&c.key, "server-key", "", "key of that daemon, as its pannier id --http prints it (default: an authority has signed its certificate)")
	flags.StringVar(&c.config, "config", config.DefaultPath, "the node's configuration")
	_ = root.MarkPersistentFlagFilename("config", "toml") // fails only for unknown flags
}

// address is where the daemon is. Without --admin it is in the configuration,
// whose default file may be missing. One with problems is no hindrance if it says
// where the daemon is, which may run with what it was before.
func (c *console) address() (string, error) {
	if c.admin != "" {
		return c.admin, nil
	}
	cfg, err := config.Load(c.config)
	switch {
	case errors.Is(err, fault.NotFound) && c.config == config.DefaultPath:
		return defaultAdmin, nil
	case errors.Is(err, fault.Invalid):
		if at, missing := config.AdminOf(c.config); missing == nil {
			if c.messages != nil {
				fmt.Fprintf(c.messages, "warning: %s has problems, see pannier config check; the daemon is called at %s all the same\n", c.config, at)
			}
			return at, nil
		}
		fallthrough
	case err != nil:
		return "", command.Suggest(err, "Say where the daemon is: --admin unix:///path")
	}
	return cfg.Node.Admin, nil
}

// dial makes a client; it connects with the first call.
func (c *console) dial() (*admin.Client, error) {
	at, err := c.address()
	if err != nil {
		return nil, err
	}
	proof := admin.Proof{Key: c.key}
	if c.token != "" {
		if proof.Token, err = readToken(c.token); err != nil {
			return nil, err
		}
	}
	return admin.DialWith(at, proof)
}

// readToken reads a token's file. Permission: others can, too.
func readToken(path string) (string, error) {
	const op = "read token"
	fi, err := os.Stat(path)
	if err != nil {
		return "", fault.Wrap(op, path, err)
	}
	if mode := fi.Mode().Perm(); mode&0o077 != 0 {
		return "", fault.New(op, fault.Permission, "others can read %s, which has mode %04o: chmod 0600 it, and replace the token if somebody has", path, mode)
	}
	text, err := os.ReadFile(path)
	return strings.TrimSpace(string(text)), fault.Wrap(op, path, err)
}

// with runs do with a client of the daemon, and says what helps when there is none.
func (c *console) with(ctx context.Context, do func(context.Context, *admin.Client) error) error {
	client, err := c.dial()
	if err != nil {
		return err
	}
	defer client.Close()
	err = do(ctx, client)
	if ctx.Err() != nil && fault.KindOf(err) == fault.Canceled {
		return command.Exit(command.Interrupted)
	}
	return c.advise(err)
}

// advise adds to an error of the connection what to do, and its exit code.
func (c *console) advise(err error) error {
	var gone *admin.Unreachable
	var f *fault.Error
	switch {
	case errors.As(err, &gone) && strings.HasPrefix(c.admin, carrier.TLS+"://"):
		return command.Suggest(command.WithCode(command.NoDaemon, err), "Is it running, and is this one of the addresses of http.listen there?")
	case errors.As(err, &f) && f.Op == "prove daemon":
		return command.Suggest(err, `--server-key or PANNIER_SERVER_KEY say the key by which it proves itself: what pannier id --http
prints at the node. Nothing was sent to it.`)
	case errors.As(err, &gone):
		return command.Suggest(command.WithCode(command.NoDaemon, err), `Is it running? It is started with: pannier serve
Where it listens is node.admin in %s; --admin or PANNIER_ADMIN say another address.
One that began before node.admin or node.state was changed there is at the old one until it is restarted.`, c.config)
	case errors.Is(err, os.ErrPermission) && errors.As(err, &f) && f.Op == "call daemon":
		return command.Suggest(err, "Run this as the daemon's user or as root.")
	}
	return err
}

// readable refuses what no daemon can be told: a text that is no UTF-8.
func readable(cmd *cobra.Command, args []string) (err error) {
	check := func(what, text string) {
		if err == nil && !utf8.ValidString(text) {
			err = fault.New("read "+what, fault.Invalid, "%q is no UTF-8: names of files are, here and at partners; rename it", text)
		}
	}
	for _, a := range args {
		check("arguments", a)
	}
	cmd.Flags().Visit(func(f *pflag.Flag) { check("flags", f.Value.String()) })
	return err
}

// run is RunE of a command that needs a daemon.
func (c *console) run(do func(ctx context.Context, cmd *cobra.Command, client *admin.Client, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		c.messages = cmd.ErrOrStderr()
		if err := readable(cmd, args); err != nil {
			return err
		}
		return c.with(cmd.Context(), func(ctx context.Context, client *admin.Client) error { return do(ctx, cmd, client, args) })
	}
}
