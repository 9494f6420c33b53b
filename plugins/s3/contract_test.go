package s3

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pannier/pannier/flow/flowtest/s3server"
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

// TestContract holds the driver against the contract of bridges, at a real server, in a
// process of its own.
func TestContract(t *testing.T) {
	for _, secure := range []bool{false, true} {
		t.Run(map[bool]string{false: "http", true: "tls"}[secure], func(t *testing.T) {
			f := s3server.Start(t, secure)
			if err := os.Mkdir(filepath.Join(f.Root, "other"), 0o755); err != nil {
				t.Fatal(err)
			}
			cfg := host.Config{Name: "s3", Path: os.Args[0], Args: []string{"plugin"}, Drain: time.Second, Answer: 2 * time.Second}
			p := host.New(cfg)
			defer func() { _ = p.Close(context.Background()) }()
			h := plugintest.Harness{
				Open: func(ctx context.Context) (plugins.Session, error) {
					f.Restart() // after Cut
					return p.Open(ctx, endpoint(f, "timeout", "5s"))
				},
				Other: func(ctx context.Context) (plugins.Session, error) {
					e := endpoint(f, "timeout", "5s")
					e.URL = strings.TrimSuffix(e.URL, s3server.Bucket) + "other"
					return p.Open(ctx, e)
				},
				Entries: map[bool]int{false: 10_000, true: 2000}[secure],
				Sparse: func(name string, size int64) error {
					file, err := os.Create(filepath.Join(f.Data, name))
					if err != nil {
						return err
					}
					return errors.Join(file.Truncate(size), file.Close())
				},
				Restart: func(ctx context.Context) error {
					old := p
					p = host.New(cfg)
					return old.Close(ctx)
				},
				Kill: func() error { return signal(p, syscall.SIGKILL) },
				Hang: func() error { return signal(p, syscall.SIGSTOP) },
				// A request that is cut off is made again, and nothing is lost: so the server is
				// gone until the next login.
				Cut: func() error { f.Kill(); return nil },
			}
			plugintest.Run(t, h)
		})
	}
}

func signal(p *host.Plugin, sig syscall.Signal) error {
	s, err := p.Describe(context.Background())
	if err != nil {
		return err
	}
	return syscall.Kill(s.PID, sig)
}
