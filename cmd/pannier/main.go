// Command pannier runs a node that sends and receives files, and measures files
// that travel beside gRPC calls.
package main

import (
	"github.com/spf13/cobra"

	"github.com/pannier/pannier/cmd/internal/command"
)

func main() { command.Main(rootCommand()) }

func rootCommand() *cobra.Command {
	return command.Root(&cobra.Command{
		Use:   "pannier",
		Short: "Files that travel beside gRPC calls",
		Long:  "Files that travel beside gRPC calls.",
	}, serveCommand(), idCommand(), configCommand(), benchCommand())
}
