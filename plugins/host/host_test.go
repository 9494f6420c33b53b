package host_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/plugins/dir"
	"github.com/pannier/pannier/plugins/host"
	"github.com/pannier/pannier/spec/fault"
)

// This test program is also the plugin, and a host that is to be killed.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "plugin":
			plugins.Serve(odd{})
		case "host":
			beHost(os.Args[2])
		case "noise":
			fmt.Println("this is no handshake")
			fmt.Fprintln(os.Stderr, "what is this")
			os.Exit(3)
		}
	}
	os.Exit(m.Run())
}

// odd is the driver dir with names at which it behaves as none should.
type odd struct{ dir.Driver }

func (odd) Open(ctx context.Context, to plugins.Endpoint) (plugins.Session, error) {
	switch to.URL {
	case "odd:log":
		fmt.Fprintln(os.NewFile(2, "stderr"), `{"@message":1}`)
		fmt.Fprintln(os.NewFile(2, "stderr"), `{"@message":"of hclog","@level":"warn","@timestamp":"x","n":1}`)
		fmt.Fprintln(os.NewFile(2, "stderr"), "[ERROR] of log")
		slog.Info("of slog", "size", 3)
		fmt.Println("of standard output")
		return nil, fault.New("open", fault.Refused, "no")
	case "odd:flood":
		if _, err := os.NewFile(1, "stdout").Write(bytes.Repeat([]byte{'x'}, 320<<10)); err != nil {
			return nil, err
		}
		return nil, plugins.Failure("log in", fault.Unauthenticated, to.URL, "530", "Login incorrect.")
	case "odd:env":
		return nil, fault.New("open", fault.Refused, "%s", fault.Shown(strings.Join(os.Environ(), "\n")))
	case "odd:panic":
		panic("odd")
	case "odd:exit":
		os.Exit(4)
	case "odd:child":
		c := exec.Command("sleep", "1000")
		if err := c.Start(); err != nil {
			return nil, err
		}
		return nil, fault.New("open", fault.Refused, "child %d", c.Process.Pid)
	}
	return odd{}.Driver.Open(ctx, to)
}

// record is a handler that remembers.
type record struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (r *record) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.buf.Write(p)
}

func (r *record) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.buf.String()
}

func config(t testing.TB) (host.Config, *record) {
	r := &record{}
	return host.Config{Name: "odd", Path: os.Args[0], Args: []string{"plugin"}, Log: slog.New(slog.NewTextHandler(r, nil))}, r
}

func run(t testing.TB, cfg host.Config) *host.Plugin {
	p := host.New(cfg)
	t.Cleanup(func() { _ = p.Close(context.Background()) })
	return p
}

func kindOf(t *testing.T, err error, want fault.Kind) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("error is %v, want kind %q", err, want)
	}
}

func open(t testing.TB, p *host.Plugin, at string) plugins.Session {
	t.Helper()
	s, err := p.Open(t.Context(), plugins.Endpoint{URL: "dir://" + at})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func put(t testing.TB, s plugins.Session, name string, content []byte) {
	t.Helper()
	w, err := s.(plugins.Writer).Write(t.Context(), name, plugins.WriteRequest{Size: int64(len(content))})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if a, err := w.Commit(t.Context()); err != nil || a.Size != int64(len(content)) {
		t.Fatal(a, err)
	}
}

func get(t testing.TB, s plugins.Session, name string) []byte {
	t.Helper()
	r, err := s.Read(t.Context(), name, 0)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := io.Copy(&b, r); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestRoundTrip: a file there and back, by descriptors, by messages, and in process.
func TestRoundTrip(t *testing.T) {
	content := make([]byte, 3<<20+17)
	_, _ = rand.Read(content)
	cfg, _ := config(t)
	messages := cfg
	messages.Messages = true
	for name, p := range map[string]*host.Plugin{"descriptors": run(t, cfg), "messages": run(t, messages), "in process": host.InProcess(host.Config{}, dir.Driver{})} {
		t.Run(name, func(t *testing.T) {
			at := t.TempDir()
			s := open(t, p, at)
			put(t, s, "/a", content)
			put(t, s, "/empty", nil)
			if got := get(t, s, "/a"); !bytes.Equal(got, content) {
				t.Errorf("%d bytes came back of %d", len(got), len(content))
			}
			if got := get(t, s, "/empty"); len(got) != 0 {
				t.Errorf("%d bytes of an empty file", len(got))
			}
			if entries, _ := os.ReadDir(at); len(entries) != 2 {
				t.Errorf("in the directory are %v", entries)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			_, err := s.Stat(t.Context(), "/a")
			kindOf(t, err, fault.Stale)
			if err := p.Close(t.Context()); err != nil {
				t.Error(err)
			}
			_, err = p.Open(t.Context(), plugins.Endpoint{})
			kindOf(t, err, fault.Draining)
		})
	}
}

var _ = []any{sha256.New, hex.EncodeToString, json.Marshal, filepath.Join, syscall.Kill, time.Now}

func beHost(string) {}
