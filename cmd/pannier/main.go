// Command pannier measures, and will send and receive, files that travel beside
// gRPC calls.
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
	}, benchCommand())
}
