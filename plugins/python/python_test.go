// Package python_test holds the bridge in Python beside it against the contract, as its
// documentation says how to run it.
package python_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/plugins/host"
	"github.com/pannier/pannier/plugins/plugintest"
	"github.com/pannier/pannier/spec/fault"
)

// interpreter is that of the system, for which the packages are installed.
const interpreter = "/usr/bin/python3"

// installed is the bridge in a directory of its own, with what protoc makes beside it.
func installed(t *testing.T) host.Config {
	t.Helper()
	if out, err := exec.Command(interpreter, "-c", "import grpc, cryptography, google.protobuf").CombinedOutput(); err != nil {
		t.Skipf("no %s with grpcio, cryptography and protobuf: %v %s", interpreter, err, bytes.TrimSpace(out[max(0, len(out)-200):]))
	}
	if _, err := exec.LookPath("protoc"); err != nil {
		t.Skip("there is no protoc: the bridge in Python is not tested; apt-get install protobuf-compiler")
	}
	dir := t.TempDir()
	for _, name := range []string{"pannier_bridge.py", "pydir.py"} {
		b, err := os.ReadFile(name)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("protoc", "-I", "../../spec/bridgepb", "--python_out="+dir, "bridge.proto").CombinedOutput(); err != nil {
		t.Fatalf("protoc: %v %s", err, out)
	}
	return host.Config{Name: "pydir", Path: interpreter, Args: []string{filepath.Join(dir, "pydir.py")}, Start: time.Minute, Drain: time.Second}
}

func TestContract(t *testing.T) {
	cfg := installed(t)
	cfg.Answer = 2 * time.Second
	p := host.New(cfg)
	defer func() { p.Close(context.Background()) }()
	signal := func(s syscall.Signal) func() error {
		return func() error {
			st, err := p.Describe(context.Background())
			if err != nil {
				return err
			}
			return syscall.Kill(st.PID, s)
		}
	}
	at := t.TempDir()
	plugintest.Run(t, plugintest.Harness{
		Open: func(ctx context.Context) (plugins.Session, error) {
			return p.Open(ctx, plugins.Endpoint{URL: "pydir://" + at})
		},
		Sparse: func(name string, size int64) error {
			f, err := os.Create(filepath.Join(at, name))
			if err != nil {
				return err
			}
			defer f.Close()
			return f.Truncate(size)
		},
		Restart: func(ctx context.Context) error {
			old := p
			p = host.New(cfg)
			return old.Close(ctx)
		},
		Entries: 1000,
		Kill:    signal(syscall.SIGKILL), Hang: signal(syscall.SIGSTOP),
		Levels: []string{plugintest.Core, plugintest.Write, plugintest.Resume, plugintest.Process}, // there is no server to cut
	})
}

// TestManners: what it says becomes records, its errors come whole, links do not lead
// out, and its end is the lease's, with nothing left.
func TestManners(t *testing.T) {
	cfg := installed(t)
	var said bytes.Buffer
	cfg.Log, cfg.Dir, cfg.Grace = slog.New(slog.NewTextHandler(&said, nil)), t.TempDir(), time.Minute
	p := host.New(cfg)
	defer func() { p.Close(context.Background()) }()
	st, err := p.Describe(t.Context())
	if err != nil || st.Name != "pydir" || st.Channels {
		t.Fatalf("%+v, %v", st, err)
	}
	_, err = p.Open(t.Context(), plugins.Endpoint{URL: "pydir://host/x"})
	if e, ok := errors.AsType[*fault.Error](err); !ok || e.Kind != fault.Invalid || e.Advice != "write it as pydir:///PATH" {
		t.Errorf("%+v", err)
	}
	at := t.TempDir()
	if err := os.Symlink("/etc", filepath.Join(at, "out")); err != nil {
		t.Fatal(err)
	}
	s, err := p.Open(t.Context(), plugins.Endpoint{URL: "pydir://" + at})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Read(t.Context(), "/out/hostname", 0); !errors.Is(err, fault.Permission) {
		t.Errorf("a link leads out: %v", err)
	}
	if _, err := s.Read(t.Context(), "/out", 0); err == nil {
		t.Error("a link is read")
	}
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} { // which a service manager sends to all of a service
		if err := syscall.Kill(st.PID, signal); err != nil {
			t.Error(err)
		}
		if _, err := s.Stat(t.Context(), "/"); err != nil {
			t.Errorf("after %v: %v", signal, err)
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := p.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if strings.Contains(said.String(), "killed") {
		t.Errorf("it has not ended with its lease:\n%s", said.String())
	}
	if left, _ := os.ReadDir(cfg.Dir); len(left) > 0 {
		t.Errorf("left are %v", left)
	}
}

// TestCheckpoint: a write goes on in another process after the first was killed.
func TestCheckpoint(t *testing.T) {
	p := host.New(installed(t))
	defer func() { p.Close(context.Background()) }()
	to, content := plugins.Endpoint{URL: "pydir://" + t.TempDir()}, bytes.Repeat([]byte("0123456789"), 200_000)
	begin := func(resume []byte) plugins.Staged {
		t.Helper()
		s, err := p.Open(t.Context(), to)
		if err != nil {
			t.Fatal(err)
		}
		w, err := s.(plugins.Writer).Write(t.Context(), "/a", plugins.WriteRequest{Size: int64(len(content)), Resume: resume})
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	w := begin(nil)
	if _, err := w.Write(content[:1_500_000]); err != nil {
		t.Fatal(err)
	}
	var resume []byte
	for resume == nil || bytes.HasSuffix(resume, []byte("\n0")) { // until some of it has come
		var err error
		if resume, err = w.(plugins.Checkpointer).Checkpoint(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	st, err := p.Describe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(st.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Commit(t.Context()); !errors.Is(err, fault.Lost) {
		t.Errorf("after a kill: %v", err)
	}
	w = begin(resume)
	if w.Offset() <= 0 || w.Offset() > 1_500_000 {
		t.Errorf("it goes on at %d", w.Offset())
	}
	if _, err := w.Write(content[w.Offset():]); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(strings.TrimPrefix(to.URL, "pydir://"), "a")); err != nil || !bytes.Equal(got, content) {
		t.Errorf("%d bytes of %d, or others, %v", len(got), len(content), err)
	}
}

// TestUsage: without a host it says what it is.
func TestUsage(t *testing.T) {
	cfg := installed(t)
	out, err := exec.Command(cfg.Path, cfg.Args...).CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 2 || !strings.Contains(string(out), "is the plugin pydir 1 of Pannier") {
		t.Errorf("%v, %s", err, out)
	}
}
