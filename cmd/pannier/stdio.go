package main

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"

	"github.com/spf13/cobra"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/spec/fault"
)

func stdioCommand(path *string) *cobra.Command {
	return &cobra.Command{
		Use:   "stdio",
		Short: "Join stdin and stdout with the node of this host",
		Long: `Join stdin and stdout with the node of this host, for partners that come over a command,
as ssh. The node asks for their keys as ever: nobody gets in who could not by the network.

It leads to the first address of node.listen that begins with tls://, or else to the first
unix socket.`,
		Example: `  # In the configuration of a partner that reaches this host by ssh
  address = 'exec:["ssh","-oBatchMode=yes","hostb","pannier","stdio"]'`,
		Args: command.Arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error { return stdio(cmd.Context(), *path) },
	}
}

// stdio joins stdin and stdout with the node of a configuration.
func stdio(ctx context.Context, path string) error {
	cfg, err := load(path)
	if err != nil {
		return err
	}
	network, address, err := door(cfg.Node.Listen)
	if err != nil {
		return err
	}
	var d net.Dialer
	node, err := d.DialContext(ctx, network, address)
	if err != nil {
		return command.Suggest(fault.Wrap("reach node", address, err), "Is it running? It is started with: pannier serve")
	}
	defer node.Close()
	defer context.AfterFunc(ctx, func() { _ = node.Close() })()
	own, err := carrier.OpenStdio()
	if err != nil {
		return err
	}
	return join(own, node.(carrier.HalfCloser))
}

// join copies both ways until the node has said all that it will. It closes own.
func join(own, node carrier.HalfCloser) error {
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		_, _ = io.Copy(node, own)
		_ = node.CloseWrite()
	}()
	_, err := io.Copy(own, node)
	err = errors.Join(err, own.Close())
	<-sent
	return fault.Wrap("join node", "", err)
}

// door is where to reach a node that listens at some addresses, as package net wants it.
func door(listen []string) (network, address string, err error) {
	for _, scheme := range []string{carrier.TLS, carrier.Unix} {
		i := slices.IndexFunc(listen, func(text string) bool {
			a, err := carrier.ParseAddress(text)
			return err == nil && a.Scheme == scheme
		})
		if i < 0 {
			continue
		}
		a, _ := carrier.ParseAddress(listen[i]) // parsed above
		if scheme == carrier.Unix {
			return "unix", a.Path, nil
		}
		return "tcp", net.JoinHostPort(a.Host, a.Port), nil // without a host, package net takes this one
	}
	return "", "", command.Suggest(fault.New("find node", fault.Invalid, "the node listens nowhere that stdio could lead to"),
		`Add to the configuration, as an example: node.listen = ["tls://127.0.0.1:%s"]`, carrier.DefaultPort)
}
