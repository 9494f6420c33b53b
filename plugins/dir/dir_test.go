package dir_test

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/plugins/dir"
	"github.com/pannier/pannier/plugins/host"
	"github.com/pannier/pannier/plugins/plugintest"
	"github.com/pannier/pannier/spec/fault"
)

// This test program is also the plugin.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == host.EntryArgument {
		plugins.Serve(dir.Driver{})
	}
	os.Exit(m.Run())
}

// harness is of a directory, which the checks can reach beside the plugin.
func harness(at string, p func() *host.Plugin) plugintest.Harness {
	return plugintest.Harness{
		Open: func(ctx context.Context) (plugins.Session, error) {
			return p().Open(ctx, plugins.Endpoint{URL: "dir://" + at})
		},
		Entries: 2000, // several messages
		Sparse: func(name string, size int64) error {
			f, err := os.Create(filepath.Join(at, name))
			if err != nil {
				return err
			}
			defer f.Close()
			return f.Truncate(size)
		},
	}
}

func TestInProcess(t *testing.T) { inProcess(t, host.Config{Name: "dir", Drain: time.Second}) }

func TestMessages(t *testing.T) {
	inProcess(t, host.Config{Name: "dir", Drain: time.Second, Messages: true})
}

func inProcess(t *testing.T, cfg host.Config) {
	p := host.InProcess(cfg, dir.Driver{})
	defer func() { p.Close(context.Background()) }()
	h := harness(t.TempDir(), func() *host.Plugin { return p })
	h.Levels = []string{plugintest.Core, plugintest.Write, plugintest.Resume}
	h.Restart = func(ctx context.Context) error {
		old := p
		p = host.InProcess(cfg, dir.Driver{})
		return old.Close(ctx)
	}
	plugintest.Run(t, h)
}

func TestProcess(t *testing.T) {
	cfg := host.Bundled("dir")
	cfg.Answer, cfg.Drain = 2*time.Second, time.Second
	p := host.New(cfg)
	defer func() { p.Close(context.Background()) }()
	h := harness(t.TempDir(), func() *host.Plugin { return p })
	h.Levels = []string{plugintest.Core, plugintest.Write, plugintest.Resume, plugintest.Process} // there is no server to cut
	h.Restart = func(ctx context.Context) error {
		old := p
		p = host.New(cfg)
		return old.Close(ctx)
	}
	signal := func(s syscall.Signal) func() error {
		return func() error {
			st, err := p.Describe(context.Background())
			if err != nil {
				return err
			}
			return syscall.Kill(st.PID, s)
		}
	}
	h.Kill, h.Hang = signal(syscall.SIGKILL), signal(syscall.SIGSTOP)
	plugintest.Run(t, h)
}

// TestConfined: links do not lead out of the directory.
func TestConfined(t *testing.T) {
	at := t.TempDir()
	if err := os.Symlink("/etc", filepath.Join(at, "out")); err != nil {
		t.Fatal(err)
	}
	s, err := dir.Driver{}.Open(t.Context(), plugins.Endpoint{URL: "dir://" + at})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Read(t.Context(), "/out/hostname", 0); err == nil {
		t.Error("a link leads out")
	}
	for _, url := range []string{"dir:relative", "dir://host/x", "ftp:///x", "dir:///\x00"} {
		if _, err := (dir.Driver{}).Open(t.Context(), plugins.Endpoint{URL: url}); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%q: %v", url, err)
		}
	}
}
