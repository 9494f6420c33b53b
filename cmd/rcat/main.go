// Command rcat is a remote cat: it copies files from and to a server as side
// effects of gRPC calls. It is the worked example of Pannier: read rcatpb/rcat.proto,
// server.go and client.go in that order, then run "rcat demo".
package main

import (
	"github.com/spf13/cobra"

	"github.com/pannier/pannier/cmd/internal/command"
)

func main() { command.Main(rootCommand()) }

func rootCommand() *cobra.Command {
	return command.Root(&cobra.Command{
		Use:   "rcat",
		Short: "A remote cat: files as side effects of gRPC calls",
		Long:  "A remote cat: files as side effects of gRPC calls.",
		Example: `  # See what it does
  rcat demo
  # Give the files of this folder to yourself, then, in another terminal, show one
  rcat serve --root . --allow "$(rcat key)"
  rcat get --key "$(rcat key)" --trust localhost:notes.txt`,
	}, serveCommand(), getCommand(), putCommand(), keyCommand(), demoCommand())
}
