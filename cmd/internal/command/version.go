package command

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print version, revision and platform",
		Args:  Arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), versionOf(cmd.Root()))
			return err
		},
	}
}

// versionFlag has a program's root take --version, which is its command version.
func versionFlag(root *cobra.Command) {
	root.Flags().Bool("version", false, "print version, revision and platform") // else cobra takes -v, too
	root.Version = versionOf(root)
	root.SetVersionTemplate("{{.Version}}\n")
}

func versionOf(root *cobra.Command) string {
	info, _ := debug.ReadBuildInfo()
	return fmt.Sprintf("%s %s %s %s/%s", root.Name(), full(info), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// Version is that of this program.
func Version() string {
	info, _ := debug.ReadBuildInfo()
	return version(info)
}

// release is the version of a package, which .ci/package has the linker put in.
var release string

// full is the version with the revision, whether the one has the other or not.
func full(info *debug.BuildInfo) string {
	if release != "" {
		return release
	}
	v, rev := version(info), revision(info)
	if rev == "" {
		return v + " revision unknown"
	}
	if strings.Contains(v, rev) {
		return v
	}
	return v + " revision " + rev
}

// revision is the commit that a build from a checkout is of; "" when it is not known.
func revision(info *debug.BuildInfo) string {
	if info == nil {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value[:min(12, len(s.Value))]
		}
	}
	return ""
}

// version is the module's version, and of a build from a checkout the revision
// where the version does not say it.
func version(info *debug.BuildInfo) string {
	if release != "" {
		return release
	}
	if info == nil {
		return "unknown"
	}
	modified := ""
	for _, s := range info.Settings {
		if s.Key == "vcs.modified" && s.Value == "true" {
			modified = "+dirty"
		}
	}
	v := cmp.Or(info.Main.Version, "(devel)")
	if rev := revision(info); v == "(devel)" && rev != "" {
		v += " " + rev + modified
	}
	return v
}
