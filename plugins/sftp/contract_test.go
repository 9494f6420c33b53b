package sftp

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/pannier/pannier/flow/flowtest/sshserver"
	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/plugins/host"
	"github.com/pannier/pannier/plugins/plugintest"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == host.EntryArgument {
		plugins.Serve(Driver{})
	}
	os.Exit(m.Run())
}

// TestContract holds the driver against the contract of bridges, in a process of its own
// and with the system's sshd.
func TestContract(t *testing.T) {
	s, at := sshserver.Start(t), t.TempDir()
	cfg := host.Bundled("sftp")
	cfg.Answer, cfg.Drain = time.Second, time.Second
	p := host.New(cfg)
	defer func() { _ = p.Close(context.Background()) }()
	restart := func(ctx context.Context) error {
		old := p
		p = host.New(cfg)
		return old.Close(ctx)
	}
	crashes := 0
	signal := func(how syscall.Signal) func() error {
		return func() error {
			crashes++
			st, err := p.Describe(context.Background())
			if err != nil {
				return err
			}
			return syscall.Kill(st.PID, how)
		}
	}
	plugintest.Run(t, plugintest.Harness{
		Open: func(ctx context.Context) (plugins.Session, error) {
			if crashes == 3 { // after five in a minute a plugin is not started for another
				crashes = 0
				if err := restart(ctx); err != nil {
					return nil, err
				}
			}
			return p.Open(ctx, endpoint(t, s, at))
		},
		Sparse: func(name string, size int64) error {
			f, err := os.Create(filepath.Join(at, name))
			if err != nil {
				return err
			}
			return errors.Join(f.Truncate(size), f.Close())
		},
		Restart: restart,
		Kill:    signal(syscall.SIGKILL),
		Hang:    signal(syscall.SIGSTOP),
		Cut:     func() error { s.Cut(); return nil },
	})
}

// endpoint is a directory at a server.
func endpoint(t testing.TB, s *sshserver.Server, dir string, options ...string) plugins.Endpoint {
	t.Helper()
	key, err := os.ReadFile(s.Key)
	if err != nil {
		t.Fatal(err)
	}
	e := plugins.Endpoint{URL: "sftp://" + s.Address() + "/" + dir, User: s.User, Secrets: map[string]string{"key": string(key)}, Options: map[string]string{"hostkey": s.HostKey}}
	for i := 0; i < len(options); i += 2 {
		e.Options[options[i]] = options[i+1]
	}
	return e
}
