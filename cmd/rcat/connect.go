package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/rpc"
	"github.com/pannier/pannier/spec/fault"
)

// connectFlags say how a client reaches a server.
type connectFlags struct {
	state string
	key   string
	trust bool
	plain plainFlags
}

func (f *connectFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	registerState(cmd, &f.state)
	flags.StringVar(&f.key, "key", "", "the key the server must have, as it prints it (default: the known one)")
	flags.BoolVar(&f.trust, "trust", false, "remember --key for this server once it has proved it")
	f.plain.register(cmd)
}

func registerState(cmd *cobra.Command, dir *string) {
	cmd.Flags().StringVar(dir, "state", "", "folder of identity.pem and known_keys (default: rcat in the user's configuration folder)")
}

// stateDir is the folder given by --state, or its default.
func stateDir(given string) (string, error) {
	if given != "" {
		return given, nil
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", command.Suggest(fault.New("find state", fault.Invalid, "%w", err), "Say where it is: --state DIR")
	}
	return filepath.Join(dir, "rcat"), nil
}

// keyCommand prints the key that servers ask for.
func keyCommand() *cobra.Command {
	var state string
	cmd := &cobra.Command{
		Use:   "key",
		Short: "Print this user's key, for rcat serve --allow",
		Args:  command.Arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			id, _, err := loadIdentity(state)
			if err == nil {
				fmt.Fprintln(cmd.OutOrStdout(), id.Key())
			}
			return err
		},
	}
	registerState(cmd, &state)
	return cmd
}

// loadIdentity reads or makes the identity in the state folder.
func loadIdentity(state string) (*carrier.Identity, string, error) {
	dir, err := stateDir(state)
	if err != nil {
		return nil, "", err
	}
	id, err := carrier.LoadOrCreateIdentity(dir)
	return id, dir, err
}

// link is the way to one server.
type link struct {
	*client
	target target
	pin    string // the key the server must have; "": the carrier proves none
	own    string // this end's
	state  string
	trust  bool
}

// connect finds out which key the server must have and makes a client. verb is
// the command, for what the error tells the user to run.
func (f *connectFlags) connect(verb, text string) (*link, error) {
	t, err := parseTarget(text, f.plain)
	if err != nil {
		return nil, err
	}
	if f.trust && f.key == "" {
		return nil, command.Suggest(fault.New("connect", fault.Invalid, "--trust remembers the key given with --key"),
			"The server prints its key when it starts: give that, too.")
	}
	l := &link{target: t, trust: f.trust}
	var cfg rpc.ClientConfig
	if t.address.Proves() {
		id, dir, err := loadIdentity(f.state)
		if err != nil {
			return nil, err
		}
		if l.pin, err = f.pin(dir, verb, t); err != nil {
			return nil, err
		}
		cfg.Identity, cfg.Pins = id, carrier.Pins{l.pin}
		l.own, l.state = id.Key(), dir
	} else if f.key != "" {
		return nil, command.Suggest(fault.New("connect", fault.Invalid, "%s proves no key", t.address), "Leave out --key.")
	}
	l.client, err = dial(t.address.String(), cfg)
	return l, err
}

// pin is the key given, or else the known one.
func (f *connectFlags) pin(dir, verb string, t target) (string, error) {
	if f.key != "" {
		pins, err := carrier.ParsePins(f.key)
		if err != nil {
			return "", err
		}
		return pins[0], nil
	}
	known, err := loadKnownKeys(dir)
	if err != nil {
		return "", err
	}
	if key := known.of(t.address.String()); key != "" {
		return key, nil
	}
	e := fault.New("connect", fault.Unauthenticated, "no key is known for this server")
	e.Subject = t.address.String()
	return "", command.Suggest(e, `It prints its key when it starts; with that, run once:
rcat %s --key sha256:... --trust %s`, verb, shellWord(t.text))
}

// shellWord is text as a shell reads it back.
func shellWord(text string) string {
	if strings.Trim(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:[]@+,=") == "" {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

// conclude ends the use of the link: it remembers a key that held, as it did where a session has moved something,
// and adds to err what to do about keys.
func (l *link) conclude(moved bool, err error) error {
	_ = l.close() // what it could report is in err
	var f *fault.Error
	reached := err == nil || moved || errors.As(err, &f) && f.Side == fault.Peer && f.Kind != fault.Refused
	if reached && l.trust && l.pin != "" {
		err = errors.Join(err, rememberKey(l.state, l.target.address.String(), l.pin))
	}
	if err == nil || l.pin == "" {
		return err
	}
	switch {
	case command.KindOf(err) == fault.Unauthenticated:
		return command.Suggest(err, `The key that was asked for is %s.
If the server's owner confirms the other one, run again with it as --key, and --trust to remember it.`, l.pin)
	case command.KeyRefused(err):
		return command.Suggest(err, `The server does not let this key in; its owner does with:
rcat serve --allow %s`, l.own)
	}
	return err
}
