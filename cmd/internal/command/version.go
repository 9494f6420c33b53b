package command

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print version, revision and platform",
		Args:  Arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s %s %s %s/%s\n",
				cmd.Root().Name(), Version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
}

// Version is that of this program.
func Version() string {
	info, _ := debug.ReadBuildInfo()
	return version(info)
}

// version is the module's version, and of a build from a checkout the revision
// where the version does not say it.
func version(info *debug.BuildInfo) string {
	if info == nil {
		return "unknown"
	}
	var revision, modified string
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			revision = s.Value[:min(12, len(s.Value))]
		case "vcs.modified":
			if s.Value == "true" {
				modified = "+dirty"
			}
		}
	}
	v := cmp.Or(info.Main.Version, "(devel)")
	if v == "(devel)" && revision != "" {
		v += " " + revision + modified
	}
	return v
}
