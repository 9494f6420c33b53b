// Command pannier runs a node that sends and receives files, gives it orders, and
// measures files that travel beside gRPC calls.
package main

import (
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/engine/node/nodetest"
)

func main() {
	bePlugin(os.Args)
	nodetest.Tied() // a daemon of a benchmark or the demonstration ends with it
	command.Main(rootCommand())
}

func rootCommand() *cobra.Command {
	c := &console{now: time.Now}
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
	grouped(daily, c.sendCommand(), c.getCommand(), c.copyCommand(), c.runCommand(), c.listCommand(), c.showCommand(), c.eventsCommand(), c.timelineCommand(), c.watchCommand(), c.topCommand(), c.waitCommand(), c.explainCommand())
	grouped(words, c.pauseCommand(), c.resumeCommand(), c.cancelCommand(), c.retryCommand())
	grouped(upkeep,
		serveCommand(&c.config), stdioCommand(&c.config), demoCommand(), c.statusCommand(),
		c.partnerCommand(), c.ruleCommand(), c.folderCommand(), c.scheduleCommand(), c.poolCommand(), c.expectCommand(), c.relayCommand(), c.listenerCommand(),
		c.applyCommand(), c.exportCommand(), c.tokenCommand(), pluginCommand(), passwordCommand(), receiptCommand(),
		c.checkCommand(), c.doctorCommand(), c.backupCommand(), restoreCommand(&c.config), migrateCommand(&c.config), c.purgeCommand(), c.reloadCommand(),
		auditCommand(&c.config), c.historyCommand(), configCommand(&c.config), idCommand(&c.config))
	c.register(root)
	command.Root(root, benchCommand(), genCommand())
	root.AddCommand(command.Topic("formatting", "How results look", formatting))
	command.Environment(root)
	noFiles(root)
	return root
}
