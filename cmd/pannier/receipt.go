package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/engine/task/crypt"
	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/spec/fault"
)

func receiptCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "receipt",
		Short: "Check the signed receipts that the task receipt writes",
		Args:  command.Arguments(0),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var keys []string
	var file string
	verify := &cobra.Command{
		Use:   "verify FILE",
		Short: "Say whether a receipt is as it was signed, and by whom",
		Long: `Say whether a receipt is as it was signed, and by whom: all of it, to the byte. No
node is needed, and none is asked.

A receipt has the key it is signed with, so that anybody can make one: with --key it
has to be that of a node you know, as "pannier id" prints it there.

With --file that file, under whatever name, has to be the one the receipt is about: it is
read, and its size and SHA-256 compared. They are those of the receiver's file after the
tasks before the receipt's: where one of these has changed it, as decrypt does, what was
sent is another file.`,
		Example: `  pannier receipt verify 1f0e.receipt --key sha256:9f2c...
  pannier receipt verify 1f0e.receipt --key sha256:9f2c... --file orders.csv`,
		Args: command.Arguments(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return verifyReceipt(args[0], keys, file, cmd.OutOrStdout())
		},
	}
	verify.Flags().StringArrayVar(&keys, "key", nil, "key of the receiver, sha256:...; can be repeated")
	verify.Flags().StringVar(&file, "file", "", "a copy of the received file, which is compared with the receipt")
	show := &cobra.Command{
		Use:   "show FILE",
		Short: "Print what a receipt says, if it is as it was signed",
		Args:  command.Arguments(1),
		RunE:  func(cmd *cobra.Command, args []string) error { return showReceipt(args[0], cmd.OutOrStdout()) },
	}
	cmd.AddCommand(verify, show)
	return cmd
}

// mostReceipt is more than any receipt has.
const mostReceipt = 1 << 20

// readReceipt reads and checks one.
func readReceipt(path string, keys ...string) (crypt.Statement, string, error) {
	pins, err := carrier.ParsePins(keys...)
	if err != nil {
		return crypt.Statement{}, "", err
	}
	f, err := os.Open(path)
	if err != nil {
		return crypt.Statement{}, "", fault.Wrap("read receipt", path, withoutPath(err))
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, mostReceipt))
	if err != nil {
		return crypt.Statement{}, "", fault.Wrap("read receipt", path, withoutPath(err))
	}
	s, key, err := crypt.Verify(text, pins...)
	return s, key, fault.Wrap("verify receipt", path, err)
}

// withoutPath is an error of a file without its name, which is said already.
func withoutPath(err error) error {
	if p, ok := errors.AsType[*os.PathError](err); ok {
		return p.Err
	}
	return err
}

func verifyReceipt(path string, keys []string, file string, out io.Writer) error {
	s, key, err := readReceipt(path, keys...)
	if err != nil {
		return err
	}
	whose := "known by --key"
	if len(keys) == 0 {
		whose = "whether that is its key, compare with what it prints as pannier id, or say --key"
	}
	text := fmt.Sprintf("%s: signed by %s, as %q: %s\n%s received %q, %d bytes, %s, at %s\n", path, key, s.Receiver.Name, whose, s.Receiver.Name, s.File.Name, s.File.Size, s.File.Digest, s.Signed)
	if file != "" {
		if err := compareFile(s.File, file); err != nil {
			return err
		}
		text += fmt.Sprintf("%s is that file: its size and digest are these\n", file)
	}
	_, err = io.WriteString(out, command.Printable(text))
	return fault.Wrap("write result", "", err)
}

// compareFile holds a file against what a receipt says of one.
func compareFile(said crypt.File, path string) error {
	const op = "compare with receipt"
	f, err := os.Open(path)
	if err != nil {
		return fault.Wrap(op, path, withoutPath(err))
	}
	defer f.Close()
	return fault.Wrap(op, path, withoutPath(said.Compare(f)))
}

func showReceipt(path string, out io.Writer) error {
	s, key, err := readReceipt(path)
	if err != nil {
		return err
	}
	for _, line := range [][2]string{
		{"request", s.ID}, {"requester", s.Requester}, {"rule", s.Rule}, {"information", s.Info},
		{"sender", s.Sender.Name + " " + strings.Join(s.Sender.Keys, " ")}, {"receiver", s.Receiver.Name + " " + key},
		{"source", s.Source}, {"target", s.Target}, {"transferred", fmt.Sprintf("%d bytes", s.Size)}, {"compared", s.Verified},
		{"file", s.File.Name}, {"size", fmt.Sprintf("%d bytes", s.File.Size)}, {"digest", s.File.Digest},
		{"registered", s.Registered}, {"signed", s.Signed},
	} {
		if _, err := fmt.Fprintf(out, "%-12s %s\n", line[0], command.Printable(strings.ReplaceAll(strings.TrimSpace(line[1]), "\n", `\n`))); err != nil {
			return fault.Wrap("write result", "", err)
		}
	}
	return nil
}
