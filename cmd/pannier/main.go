// Command pannier runs a node's transfers from the command line: it talks to the
// daemon of this host. It also measures.
package main

import (
	"io/fs"
	"time"

	"github.com/spf13/cobra"

	"github.com/pannier/pannier/cmd/internal/command"
)

func main() {
	command.Main(rootCommand(&console{adminOf: noConfiguration, now: time.Now}))
}

// noConfiguration is the configuration of a program that reads none: the daemon
// is where it is by default.
func noConfiguration(string) (string, error) { return "", fs.ErrNotExist }

func rootCommand(c *console) *cobra.Command {
	const daily, words, upkeep = "daily", "words", "upkeep"
	root := &cobra.Command{
		Use:   "pannier",
		Short: "Files that travel beside gRPC calls",
		Long: `Files that travel beside gRPC calls.

Transfers are requests to the daemon of this host, which sees them through.`,
	}
	root.AddGroup(&cobra.Group{ID: daily, Title: "Transfers:"}, &cobra.Group{ID: words, Title: "A request, by an operator's word:"},
		&cobra.Group{ID: upkeep, Title: "The node:"})
	grouped := func(id string, all ...*cobra.Command) {
		for _, cmd := range all {
			cmd.GroupID = id
		}
		root.AddCommand(all...)
	}
	grouped(daily, c.sendCommand(), c.getCommand(), c.listCommand(), c.showCommand(), c.eventsCommand(), c.watchCommand(), c.waitCommand(), c.explainCommand())
	grouped(words, c.pauseCommand(), c.resumeCommand(), c.cancelCommand(), c.retryCommand())
	grouped(upkeep, c.statusCommand(), c.partnerCommand(), c.ruleCommand(), c.checkCommand(), c.backupCommand(), c.purgeCommand(), c.reloadCommand())
	c.register(root)
	command.Root(root, benchCommand(), genCommand())
	root.AddCommand(command.Topic("formatting", "How results look", formatting))
	command.Environment(root)
	return root
}
