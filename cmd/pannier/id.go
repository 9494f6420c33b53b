package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/engine/httpd"
	"github.com/pannier/pannier/engine/node"
	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/spec/fault"
)

func idCommand(path *string) *cobra.Command {
	var http bool
	cmd := &cobra.Command{
		Use:   "id",
		Short: "Print the node's key, which partners write into their configuration",
		Long: `Print the node's key, which partners write into their configuration as key. It is
made, with the state directory, if there is none. Run this as the user of the node, or as
root: what it makes in a state directory is the owner's of that.

With --http it is the key by which the node proves itself at its addresses of [http], which
--server-key takes: that of http.certificate, or the node's where there is none.`,
		Args: command.Arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error { return id(*path, http, cmd.OutOrStdout()) },
	}
	cmd.Flags().BoolVar(&http, "http", false, "print the key of the certificate in http.certificate, for --server-key")
	return cmd
}

// id prints the key of the node of a file; with http, that of its addresses of [http].
func id(path string, http bool, out io.Writer) error {
	cfg, err := load(path)
	if err != nil {
		return err
	}
	if err := asOwner(cfg.Node.State); err != nil {
		return err
	}
	if http && cfg.HTTP.Certificate != "" {
		get, err := httpd.Files(cfg.HTTP.Certificate, cfg.HTTP.Key)
		if err != nil {
			return err
		}
		cert, err := get(nil)
		if err != nil {
			return err
		}
		identity, err := carrier.IdentityOf(*cert)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(out, identity.Key())
		return fault.Wrap("write key", "", err)
	}
	identity, err := node.Identity(cfg)
	if err != nil {
		return whose(err, cfg.Node.State)
	}
	_, err = fmt.Fprintln(out, identity.Key())
	return fault.Wrap("write key", "", err)
}
