package ftp

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/pannier/pannier/flow/flowtest/ftpserver"
	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/plugins/host"
	"github.com/pannier/pannier/plugins/plugintest"
)

// TestContract holds the driver against the contract of bridges, at each real server.
func TestContract(t *testing.T) {
	for _, kind := range ftpserver.Kinds {
		t.Run(kind, func(t *testing.T) {
			f := ftpserver.Start(t, kind)
			p := host.InProcess(host.Config{Name: "ftp", Drain: time.Second}, Driver{})
			defer func() { _ = p.Close(context.Background()) }()
			plugintest.Run(t, plugintest.Harness{
				Levels: []string{plugintest.Core, plugintest.Write, plugintest.Resume, plugintest.Server}, // processes are package host's
				Open: func(ctx context.Context) (plugins.Session, error) {
					return p.Open(ctx, endpoint(f, "timeout", "5s"))
				},
				Entries: 2000,
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
					p = host.InProcess(host.Config{Name: "ftp", Drain: time.Second}, Driver{})
					return old.Close(ctx)
				},
				Cut: func() error { f.Kill(); f.Restart(); return nil },
			})
		})
	}
}
