package main

import (
	"log/slog"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/cmd/pannier/bench"
	"github.com/pannier/pannier/plugins/host"
	"github.com/pannier/pannier/spec/fault"
)

// bridgeServers are the servers of "bench bridge", as its flags have them.
type bridgeServers struct {
	endpoint, credentials, copyTo, copyCredentials string
	options                                        map[string]string
}

func benchBridgeCommand() *cobra.Command {
	var f benchFlags
	var servers bridgeServers
	var files int
	cmd := &cobra.Command{
		Use:   "bridge",
		Short: "Move files through plugins, and compare with other clients",
		Long: `Move files through plugins, and compare with other clients.

Without a server: what the way between a node and its plugin's process costs, from memory
to memory, on channels and in messages; small files and calls, one after the other; the
time from nothing to the first call's answer, and the memory of a process then.

With --endpoint, files to and from a server, by a plugin and by lftp (FTP), sftp (OpenSSH,
with a key) or rclone (S3; of SFTP many files), whichever this host has. One large file,
and 1000 of 250 kB, 16 at a time. Each run begins with the start of the plugin, or of the
other program, and its login. With --copy-to, from that server to another, without a byte
through this host: the large file, and 500 of 10 kB, serially and 4 at a time.

Processor time is of all processes on this side. What is made at the servers begins with
/pannier-bench- and is removed. The files of credentials are JSON, for nobody else to read:
{"user": "me", "password": "secret", "secrets": {"key": "..."}}`,
		Example: `  # What needs no server
  pannier bench bridge
  # A server, and the field's client beside it
  pannier bench bridge --endpoint sftp://host/dir --credentials me.json --option hostkey=SHA256:... --cases upload,upload-sftp
  # Two servers
  pannier bench bridge --endpoint ftp://a/dir --credentials a.json --copy-to ftp://b/dir --copy-credentials b.json --option fxp=any`,
		Args: command.Arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg := bench.BridgeConfig{Cases: f.Cases, Runs: f.Runs, Size: f.Size, Files: files, Dir: f.Dir, Progress: cmd.ErrOrStderr()}
			if err := servers.into(&cfg); err != nil {
				return advised(err)
			}
			log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelWarn}))
			cfg.Zeros = host.Bundled(zeros)
			cfg.Zeros.Log, cfg.Plugin.Log = log, log
			results, err := bench.Bridge(cmd.Context(), cfg)
			return showFigures(cmd, f.json, results, bridgeTable, advised(err))
		},
	}
	flags := cmd.Flags()
	flags.StringSliceVar(&f.Cases, "cases", nil, "only these: "+strings.Join(bench.BridgeCases(), ","))
	f.registerCommon(cmd)
	f.registerSize(cmd, "bytes of the large file")
	flags.IntVar(&files, "files", 1000, "how many small files; half as many are copied between servers")
	flags.StringVar(&servers.endpoint, "endpoint", "", "a server, as ftp://HOST/DIR")
	flags.StringVar(&servers.credentials, "credentials", "", "file with user and password, as JSON")
	flags.StringVar(&servers.copyTo, "copy-to", "", "a server that the other copies to")
	flags.StringVar(&servers.copyCredentials, "copy-credentials", "", "file with user and password of that one")
	flags.StringToStringVar(&servers.options, "option", nil, "of the plugin at both servers, as NAME=VALUE")
	return cmd
}

// into sets the servers, and the plugin of this program that speaks with them.
func (s bridgeServers) into(cfg *bench.BridgeConfig) (err error) {
	if s.copyCredentials != "" && s.copyTo == "" {
		return command.Suggest(fault.New("check flags", fault.Invalid, "--copy-credentials without --copy-to"), "Give the server that they are of: --copy-to URL")
	}
	if s.endpoint == "" && (s.credentials != "" || len(s.options) > 0) {
		return command.Suggest(fault.New("check flags", fault.Invalid, "--credentials or --option without --endpoint"), "Give the server that they are of: --endpoint URL")
	}
	cfg.Endpoint.URL, cfg.CopyTo.URL = s.endpoint, s.copyTo
	cfg.Endpoint.Options, cfg.CopyTo.Options = s.options, s.options
	if s.endpoint == "" {
		return nil
	}
	if err := cfg.Endpoint.ReadCredentials(s.credentials); err != nil {
		return err
	}
	if err := cfg.CopyTo.ReadCredentials(s.copyCredentials); err != nil {
		return err
	}
	scheme, _, _ := strings.Cut(s.endpoint, "://")
	var schemes []string
	for _, name := range slices.Sorted(maps.Keys(bundled)) {
		has := bundled[name].Describe().Schemes
		if slices.Contains(has, scheme) {
			cfg.Plugin = host.Bundled(name)
			return nil
		}
		schemes = append(schemes, has...)
	}
	return command.Suggest(fault.New("check flags", fault.Invalid, "no plugin of this program speaks %q", s.endpoint),
		"Write --endpoint as SCHEME://HOST/DIR; schemes are %s", strings.Join(schemes, ", "))
}
