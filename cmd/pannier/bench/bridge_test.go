package bench

import (
	"bytes"
	"context"
	"flag"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pannier/pannier/flow/flowtest/ftpserver"
	"github.com/pannier/pannier/flow/flowtest/s3server"
	"github.com/pannier/pannier/flow/flowtest/sshserver"
	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/plugins/host"
	"github.com/pannier/pannier/spec/fault"
)

// What TestBridgeServers moves: as a test little, and with these flags what figures are
// made of.
var (
	bridgeSize  = flag.Int64("bridge.size", 1<<20+17, "bytes of the large file")
	bridgeFiles = flag.Int("bridge.files", 20, "small files")
	bridgeRuns  = flag.Int("bridge.runs", 1, "rounds")
	bridgeOnly  = flag.String("bridge.cases", "", "only these")
)

// bridging is a Config of a plugin's driver for servers.
func bridging(t *testing.T, driver string, ends ...plugins.Endpoint) BridgeConfig {
	t.Helper()
	cfg := BridgeConfig{Runs: *bridgeRuns, Size: *bridgeSize, Files: *bridgeFiles, Dir: t.TempDir(), Zeros: host.Bundled("zeros"), Plugin: host.Bundled(driver), Progress: t.Output()}
	cfg.Zeros.Log, cfg.Plugin.Log = slog.New(slog.DiscardHandler), slog.New(slog.DiscardHandler)
	if *bridgeOnly != "" {
		cfg.Cases = strings.Split(*bridgeOnly, ",")
	}
	for i, e := range ends {
		*[]*plugins.Endpoint{&cfg.Endpoint, &cfg.CopyTo}[i] = e
	}
	return cfg
}

// bridged measures, and fails unless there is a figure of every case that is named, and
// nothing is left here and in the servers' directories.
func bridged(t *testing.T, cfg BridgeConfig, cases []string, dirs ...string) {
	t.Helper()
	if len(cfg.Cases) == 0 {
		cfg.Cases = cases
	}
	results, err := Bridge(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range results {
		if r.Rate <= 0 && r.P50 <= 0 && r.FirstCall <= 0 {
			t.Errorf("no figure: %+v", r)
		}
		if r.Against != "" && r.AgainstBy <= 0 {
			t.Errorf("no ratio: %+v", r)
		}
		t.Logf("%-22s %v  %s %.2f", r.Case, r, r.Against, r.AgainstBy)
	}
	if len(results) != len(cfg.Cases) {
		t.Errorf("%d results for %q", len(results), cfg.Cases)
	}
	for _, d := range append(dirs, cfg.Dir) {
		empty(t, d)
	}
}

func TestBridgeMemory(t *testing.T) {
	cfg := bridging(t, "dir")
	bridged(t, cfg, Names(memoryCases()))
}

func TestBridgeDir(t *testing.T) {
	box := t.TempDir()
	bridged(t, bridging(t, "dir", plugins.Endpoint{URL: "dir://" + box}), []string{"upload", "upload-many", "download", "download-many"}, box)
}

// serverCaseNames are those of a rival and the plugin's.
func serverCaseNames(rivals ...string) (names []string) {
	for _, c := range serverCases() {
		if c.rival == nil || slices.ContainsFunc(rivals, func(r string) bool { return strings.HasSuffix(c.name, r) }) {
			names = append(names, c.name)
		}
	}
	return names
}

func TestBridgeSFTP(t *testing.T) {
	s, box := sshserver.Start(t), t.TempDir()
	key, err := os.ReadFile(s.Key)
	if err != nil {
		t.Fatal(err)
	}
	to := plugins.Endpoint{URL: "sftp://" + s.Address() + "/" + box, User: s.User, Secrets: map[string]string{"key": string(key)}, Options: map[string]string{"hostkey": s.HostKey}}
	cases := serverCaseNames("load-sftp")
	if installed("rclone") == "" {
		cases = serverCaseNames("load-sftp", "-many-rclone")
	}
	bridged(t, bridging(t, "sftp", to), cases, box)
}

func TestBridgeS3(t *testing.T) {
	s := s3server.Start(t, false)
	cases := serverCaseNames()
	if installed("rclone") == "" {
		cases = serverCaseNames("-rclone")
	}
	bridged(t, bridging(t, "s3", plugins.Endpoint{URL: s.URL + "/base", User: s3server.AccessKey, Password: s3server.SecretKey}), cases)
	left, err := filepath.Glob(filepath.Join(s.Data, "base", "*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left: %q, %v", left, err)
	}
}

// ftpEnd is a server's directory of its own.
func ftpEnd(t *testing.T, s *ftpserver.Server) (to plugins.Endpoint, dir string) {
	t.Helper()
	dir = filepath.Join(s.Data, "box")
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	to = plugins.Endpoint{URL: "ftp://" + s.Address + "/box", User: s.User, Password: s.Password, Options: map[string]string{"fxp": "any", "verify": "size", "connections": "16"}}
	if s.Kind == "proftpd" { // whose login leads elsewhere
		to.URL = "ftp://" + s.Address + "/" + dir
	}
	return to, dir
}

func TestBridgeFTP(t *testing.T) {
	for _, kind := range ftpserver.Kinds {
		t.Run(kind, func(t *testing.T) {
			to, dir := ftpEnd(t, ftpserver.Start(t, kind))
			cases := serverCaseNames()
			if installed("lftp") == "" {
				cases = serverCaseNames("-lftp")
			}
			bridged(t, bridging(t, "ftp", to), cases, dir)
		})
	}
}

func TestBridgeFXP(t *testing.T) {
	for _, from := range ftpserver.Kinds {
		for _, to := range ftpserver.Kinds {
			if from == to {
				continue
			}
			t.Run(from+" to "+to, func(t *testing.T) {
				a, dirA := ftpEnd(t, ftpserver.Start(t, from, ftpserver.FXP))
				b, dirB := ftpEnd(t, ftpserver.Start(t, to, ftpserver.FXP))
				cases := Names(copyCases())
				if installed("lftp") != "" {
					cases = slices.DeleteFunc(cases, func(n string) bool { return strings.HasSuffix(n, "-lftp") })
				}
				bridged(t, bridging(t, "ftp", a, b), cases, dirA, dirB)
			})
		}
	}
}

func TestBridgeErrors(t *testing.T) {
	box := t.TempDir()
	for _, c := range []struct {
		name   string
		change func(*BridgeConfig)
		kind   fault.Kind
		says   string
	}{
		{"no such case", func(c *BridgeConfig) { c.Cases = []string{"carrier-pigeon"} }, fault.Invalid, "read-channel"},
		{"no server", func(c *BridgeConfig) { c.Cases, c.Endpoint.URL = []string{"upload"}, "" }, fault.Invalid, "--endpoint"},
		{"no second server", func(c *BridgeConfig) { c.Cases = []string{"copy"} }, fault.Invalid, "--copy-to"},
		{"second server only", func(c *BridgeConfig) { c.Endpoint.URL, c.CopyTo.URL = "", "dir:///" }, fault.Invalid, "--endpoint"},
		{"two schemes", func(c *BridgeConfig) { c.CopyTo.URL = "ftp://x" }, fault.Invalid, "--copy-to"},
		{"no runs", func(c *BridgeConfig) { c.Runs = 0 }, fault.Invalid, "--runs"},
		{"no size", func(c *BridgeConfig) { c.Size = 0 }, fault.Invalid, "--size"},
		{"no files", func(c *BridgeConfig) { c.Files = 1 }, fault.Invalid, "--files"},
		{"too large", func(c *BridgeConfig) { c.Size = 1 << 60 }, fault.NoSpace, "--size"},
		{"absent", func(c *BridgeConfig) { c.Endpoint.URL += "/absent" }, fault.NotFound, "absent"},
		{"rival only", func(c *BridgeConfig) { c.Cases = []string{"upload-lftp"} }, fault.Unsupported, ""},
		{"no copies", func(c *BridgeConfig) { c.Cases, c.CopyTo.URL = []string{"copy"}, c.Endpoint.URL }, fault.Unsupported, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := bridging(t, "dir", plugins.Endpoint{URL: "dir://" + box})
			dir := cfg.Dir
			cfg.Cases = []string{"upload"}
			c.change(&cfg)
			results, err := Bridge(t.Context(), cfg)
			if fault.KindOf(err) != c.kind || len(results) != 0 || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v: %v, want %v with %q", results, err, c.kind, c.says)
			}
			empty(t, dir)
			empty(t, box)
		})
	}
}

// Who is not there is not compared with, and it says so once.
func TestBridgeWithoutRivals(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	for url, want := range map[string]string{"ftp://host": "no lftp: not compared\n", "s3://host/b": "no rclone: not compared\n", "dir:///box": "",
		"sftp://host": "no \"key\" in the credentials, and sftp takes no password from a program: not compared\nno rclone: not compared\n"} {
		var said bytes.Buffer
		cfg := BridgeConfig{Runs: 1, Size: 1, Files: 2, Endpoint: plugins.Endpoint{URL: url}, Progress: io.Writer(&said)}
		chosen, err := cfg.choose()
		if err != nil || said.String() != want || slices.ContainsFunc(chosen, func(c bridgeCase) bool { return c.rival != nil }) {
			t.Errorf("%s: %q, want %q; %v, %v", url, said.String(), want, Names(chosen), err)
		}
	}
}

// An interruption leaves nothing at the server either.
func TestBridgeInterrupted(t *testing.T) {
	box := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cfg := bridging(t, "dir", plugins.Endpoint{URL: "dir://" + box})
	cfg.Cases, cfg.Runs, cfg.Progress = []string{"upload-many"}, 1000, writerFunc(func([]byte) { cancel() }) // after the first round
	if results, err := Bridge(ctx, cfg); fault.KindOf(err) != fault.Canceled || len(results) != 0 {
		t.Errorf("%v, %v", results, err)
	}
	empty(t, cfg.Dir)
	empty(t, box)
}

type writerFunc func([]byte)

func (f writerFunc) Write(p []byte) (int, error) {
	f(p)
	return len(p), nil
}
