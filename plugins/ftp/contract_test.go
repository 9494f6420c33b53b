package ftp

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/pannier/pannier/flow/flowtest/ftpserver"
	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/plugins/host"
	"github.com/pannier/pannier/plugins/plugintest"
)

// TestMain makes the test program the plugin that package host runs, too.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "plugin" {
		plugins.Serve(Driver{})
	}
	os.Exit(m.Run())
}

// TestContract holds the driver against the contract of bridges, in a process of its own, at each
// real server: in clear, and with TLS as the server has it by default. The other server of direct
// copies is the next kind, in clear; with TLS one that has SSCN, or whose partner has.
func TestContract(t *testing.T) {
	for i, kind := range ftpserver.Kinds {
		next := ftpserver.Kinds[(i+1)%len(ftpserver.Kinds)]
		levels := plugintest.AllLevels()
		if kind != "vsftpd" { // what becomes of a process does not depend on the server: once will do
			levels = slices.DeleteFunc(levels, func(l string) bool { return l == plugintest.Process })
		}
		t.Run(kind, func(t *testing.T) { contract(t, kind, next, 10_000, levels, ftpserver.FXP) })
		if kind == "vsftpd" || kind == "pure-ftpd" {
			next = "proftpd"
		}
		levels = slices.DeleteFunc(slices.Clone(levels), func(l string) bool { return l == plugintest.Process })
		t.Run(kind+" with TLS", func(t *testing.T) { contract(t, kind, next, 1000, levels, ftpserver.FXP, ftpserver.TLS) })
	}
}

func contract(t *testing.T, kind, next string, entries int, levels []string, o ...ftpserver.Option) {
	f, other := ftpserver.Start(t, kind, o...), ftpserver.Start(t, next, o...)
	cfg := host.Config{Name: "ftp", Path: os.Args[0], Args: []string{"plugin"}, Drain: time.Second, Answer: 5 * time.Second}
	p := host.New(cfg)
	defer func() { _ = p.Close(context.Background()) }()
	open := func(f *ftpserver.Server) func(context.Context) (plugins.Session, error) {
		options := []string{"timeout", "10s", "fxp", "any"}
		if f.CA != "" {
			options = append(options, "tls", "require", "ca", f.CA)
		}
		return func(ctx context.Context) (plugins.Session, error) { return p.Open(ctx, endpoint(f, options...)) }
	}
	signal := func(how syscall.Signal) func() error {
		return func() error {
			s, err := p.Describe(context.Background())
			if err != nil {
				return err
			}
			return syscall.Kill(s.PID, how)
		}
	}
	plugintest.Run(t, plugintest.Harness{
		Open: open(f), Other: open(other), Entries: entries, Levels: levels,
		Sparse: func(name string, size int64) error {
			at := filepath.Join(f.Data, name)
			file, err := os.Create(at)
			if err != nil {
				return err
			}
			return errors.Join(file.Truncate(size), file.Close(), os.Chmod(at, 0o666))
		},
		Restart: func(ctx context.Context) error {
			old := p
			p = host.New(cfg)
			return old.Close(ctx)
		},
		Kill: signal(syscall.SIGKILL),
		Hang: signal(syscall.SIGSTOP),
		Cut:  func() error { f.Kill(); f.Restart(); return nil },
	})
}
