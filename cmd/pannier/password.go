package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/engine/guest"
	"github.com/pannier/pannier/spec/fault"
)

func passwordCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "password",
		Short: "Hash a password for a user of a listener",
		Long: `Hash a password for a user of a listener.

The password is asked for, or is the first line of standard input. What is printed is what
the file has that the user's "password" names in the configuration.`,
		Example: `  pannier password > /etc/pannier/acme.password
  pwgen 24 1 | tee /dev/tty | pannier password > /etc/pannier/acme.password`,
		Args: command.Arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			password, err := readPassword(cmd)
			if err != nil {
				return err
			}
			hash, err := guest.Hash(password)
			if err == nil {
				_, err = fmt.Fprintln(cmd.OutOrStdout(), hash)
			}
			return err
		},
	}
}

func readPassword(cmd *cobra.Command) (string, error) {
	in := cmd.InOrStdin()
	if f, ok := in.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		fmt.Fprint(cmd.ErrOrStderr(), "Password: ")
		b, err := term.ReadPassword(int(f.Fd()))
		fmt.Fprintln(cmd.ErrOrStderr())
		return string(b), fault.Wrap("read password", "", err)
	}
	line, err := bufio.NewReader(in).ReadString('\n')
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return strings.TrimRight(line, "\r\n"), fault.Wrap("read password", "", err)
}
