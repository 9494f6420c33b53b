package host_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
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
		case "lines":
			plugins.Serve(lineServer{}, dialNode)
		case "host":
			beHost(os.Args[2])
		case "mover":
			beMover(os.Args[2])
		case "noise":
			fmt.Fprintln(os.Stderr, "what is this")
			fmt.Println("this is no handshake")
			os.Exit(3)
		}
	}
	os.Exit(m.Run())
}

// huge is a session that says more of itself than fits into a message.
type huge struct{ plugins.Session }

func (huge) Capabilities() plugins.Capabilities {
	return plugins.Capabilities{Notes: []string{strings.Repeat("x", 5<<20)}}
}

func (huge) Close() error { return nil }

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
	case "odd:certificate":
		block, _ := pem.Decode([]byte(os.Getenv("PLUGIN_CLIENT_CERT")))
		if block == nil {
			return nil, fault.New("open", fault.Refused, "no certificate")
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		key, _ := c.PublicKey.(*ecdsa.PublicKey)
		return nil, fault.New("open", fault.Refused, "curve %s", fault.Shown(key.Params().Name))
	case "odd:eat": // 2 GiB, as fast as it can
		var all [][]byte
		for range 2048 {
			b := make([]byte, 1<<20)
			for i := 0; i < len(b); i += 4096 {
				b[i] = 1
			}
			all = append(all, b)
		}
		return nil, fault.New("open", fault.Refused, "has eaten %d MiB", len(all))
	case "odd:limits":
		text, err := os.ReadFile("/proc/self/limits")
		if err != nil {
			return nil, err
		}
		var has []string
		for line := range strings.Lines(string(text)) {
			if f := strings.Fields(line); f[1] == "open" || f[1] == "core" || f[1] == "data" {
				has = append(has, strings.Join(f, " "))
			}
		}
		return nil, fault.New("open", fault.Refused, "%s", strings.Join(has, "; "))
	case "odd:panic":
		panic("odd")
	case "odd:block":
		select {}
	case "odd:exit":
		os.Exit(4)
	case "odd:huge":
		return huge{}, nil
	case "odd:late":
		s, err := odd{}.Driver.Open(ctx, plugins.Endpoint{URL: "dir://" + os.TempDir()})
		return late{s}, err
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
	return host.Config{Name: "odd", Path: os.Args[0], Args: []string{"plugin"}, Log: slog.New(slog.NewTextHandler(r, nil)), Drain: 200 * time.Millisecond}, r
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

// TestUnlisted: a session has the interfaces of its capabilities and no others.
func TestUnlisted(t *testing.T) {
	p := host.InProcess(host.Config{}, reader{})
	defer p.Close(t.Context())
	s := open(t, p, t.TempDir())
	if _, ok := s.(plugins.Writer); ok {
		t.Error("a writer, which the capabilities do not list")
	}
	if _, ok := s.(plugins.Copier); ok {
		t.Error("a copier")
	}
	if _, ok := s.(plugins.Limiter); !ok {
		t.Error("no limiter")
	}
	_, err := s.Read(t.Context(), "/a", 1)
	kindOf(t, err, fault.Unsupported)
	r, err := s.(plugins.Renamer), error(nil)
	err = r.Rename(t.Context(), "/a", "/b") // listed, and not there
	kindOf(t, err, fault.Unsupported)
}

// reader is a driver that can do nothing but read, and claims to rename.
type reader struct{ dir.Driver }

func (reader) Open(ctx context.Context, to plugins.Endpoint) (plugins.Session, error) {
	s, err := dir.Driver{}.Open(ctx, to)
	return only{s}, err
}

type only struct{ plugins.Session }

func (only) Capabilities() plugins.Capabilities { return plugins.Capabilities{Rename: true} }

// TestErrors: what a driver says comes with kind, side, words and code.
func TestErrors(t *testing.T) {
	cfg, said := config(t)
	p := run(t, cfg)
	s := open(t, p, t.TempDir())
	_, err := s.Read(t.Context(), "/no", 0)
	kindOf(t, err, fault.NotFound)
	_, err = s.Stat(t.Context(), "/a\r\nDELE b")
	kindOf(t, err, fault.Invalid)
	within(t, time.Minute, func() { _, err = p.Open(t.Context(), plugins.Endpoint{URL: "odd:flood"}) }) // 320 KiB without an end of line
	kindOf(t, err, fault.Unauthenticated)
	if n, ok := errors.AsType[plugins.Native](err); !ok || n.Code != "530" || err.Error() != `log in "odd:flood": peer reports: not authenticated: 530 Login incorrect.` {
		t.Errorf("%#v: %v", n, err)
	}
	_, err = p.Open(t.Context(), plugins.Endpoint{URL: "odd:panic"})
	kindOf(t, err, fault.Internal)
	if _, err := s.Stat(t.Context(), "/"); err != nil {
		t.Errorf("after a panic of the driver: %v", err)
	}
	_, err = p.Open(t.Context(), plugins.Endpoint{URL: "ftp://x"})
	kindOf(t, err, fault.Invalid)
	if e, ok := errors.AsType[*fault.Error](err); !ok || e.Advice != "write it as dir:///PATH" {
		t.Errorf("advice is lost: %v", err)
	}
	eventually(t, func() bool {
		return strings.Contains(said.String(), "the driver has panicked") && strings.Contains(said.String(), "plugin=odd")
	})
}

// TestLog: what a plugin prints becomes records, whatever it is.
func TestLog(t *testing.T) {
	cfg, said := config(t)
	p := run(t, cfg)
	_, err := p.Open(t.Context(), plugins.Endpoint{URL: "odd:log"})
	kindOf(t, err, fault.Refused)
	for _, want := range []string{`level=INFO msg="{\"@message\":1}"`, `level=WARN msg="of hclog" plugin=odd n=1`, `level=ERROR msg="of log"`, `level=INFO msg="of slog" plugin=odd size=3`, `msg="of standard output"`} {
		eventually(t, func() bool { return strings.Contains(said.String(), want) })
		if t.Failed() {
			t.Fatalf("no %s in\n%s", want, said)
		}
	}
}

// TestEnvironment: nothing of the host's but four, and what is configured.
func TestEnvironment(t *testing.T) {
	t.Setenv("PANNIER_TEST_SECRET", "s3cret")
	cfg, _ := config(t)
	cfg.Env = []string{"CONFIGURED=yes"}
	_, err := run(t, cfg).Open(t.Context(), plugins.Endpoint{URL: "odd:env"})
	kindOf(t, err, fault.Refused)
	if strings.Contains(err.Error(), "s3cret") || !strings.Contains(err.Error(), "CONFIGURED=yes") || !strings.Contains(err.Error(), "PATH=") {
		t.Errorf("the environment: %v", err)
	}
}

// TestHugeMessage: the host does not take a message of any size.
func TestHugeMessage(t *testing.T) {
	cfg, _ := config(t)
	_, err := run(t, cfg).Open(t.Context(), plugins.Endpoint{URL: "odd:huge"})
	kindOf(t, err, fault.TooLong)
}

// TestCertificate: the host's is of the one kind that the gRPC of every language verifies.
func TestCertificate(t *testing.T) {
	cfg, _ := config(t)
	_, err := run(t, cfg).Open(t.Context(), plugins.Endpoint{URL: "odd:certificate"})
	if err == nil || !strings.Contains(err.Error(), "curve P-256") {
		t.Error(err)
	}
}

// TestRuntimeDirectory: sockets are made where a service manager wants them.
func TestRuntimeDirectory(t *testing.T) {
	sockets := t.TempDir()
	t.Setenv("RUNTIME_DIRECTORY", sockets+":/other")
	cfg, _ := config(t)
	describe(t, run(t, cfg))
	if entries, err := os.ReadDir(sockets); err != nil || len(entries) != 1 {
		t.Error(entries, err)
	} else if fi, err := entries[0].Info(); err != nil || fi.Mode().Perm() != 0o700 {
		t.Error(fi, err)
	}
}

// TestRefused: programs that are not started, or are none, and what is said of them.
func TestRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	script, text := filepath.Join(t.TempDir(), "script"), filepath.Join(t.TempDir(), "text")
	if err := errors.Join(os.WriteFile(text, []byte("x"), 0o700), os.WriteFile(file, []byte("x"), 0o600), os.WriteFile(script, []byte("#!/bin/sh\n"), 0o700)); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		set  func(*host.Config)
		kind fault.Kind
		says string
	}{
		"wrong sha256":  {func(c *host.Config) { c.SHA256 = strings.Repeat("0", 64) }, fault.Refused, "its sha256 is "},
		"no program":    {func(c *host.Config) { c.Path = file + "no" }, fault.NotFound, "say where its program is"},
		"no executable": {func(c *host.Config) { c.Path = file }, fault.Permission, "chmod +x"},
		"text":          {func(c *host.Config) { c.Path = text }, fault.Unsupported, "it has to be a program for this system"},
		"script":        {func(c *host.Config) { c.Path = script }, fault.Invalid, "interpreter"},
		"long TMPDIR":   {func(c *host.Config) { c.Dir = "/" + strings.Repeat("x", 90) }, fault.TooLong, "set TMPDIR"},
		"no TMPDIR":     {func(c *host.Config) { c.Dir = file + "no" }, fault.NotFound, "no such directory"},
		"no plugin":     {func(c *host.Config) { c.Args = []string{"noise"} }, fault.Protocol, "what is this"},
	} {
		t.Run(name, func(t *testing.T) {
			sockets := t.TempDir()
			cfg, _ := config(t)
			cfg.Dir = sockets
			c.set(&cfg)
			_, err := run(t, cfg).Describe(t.Context())
			kindOf(t, err, c.kind)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v does not say %q", err, c.says)
			}
			if left, _ := os.ReadDir(sockets); len(left) > 0 {
				t.Errorf("left are %v", left)
			}
		})
	}
	cfg, _ := config(t)
	program, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(program)
	cfg.SHA256 = hex.EncodeToString(sum[:])
	if s, err := run(t, cfg).Describe(t.Context()); err != nil || s.SHA256 != cfg.SHA256 {
		t.Errorf("the right sha256: %+v, %v", s, err)
	}
}

// TestCrash: what runs is lost, the next use starts it again, five crashes are enough.
func TestCrash(t *testing.T) {
	cfg, _ := config(t)
	p := run(t, cfg)
	for i := range 5 {
		s := open(t, p, t.TempDir())
		_, err := p.Open(t.Context(), plugins.Endpoint{URL: "odd:exit"})
		kindOf(t, err, fault.Lost)
		_, err = s.Stat(t.Context(), "/")
		kindOf(t, err, fault.Lost)
		if err := s.Close(); err != nil {
			t.Errorf("closing a session that is lost: %v", err)
		}
		if i == 0 {
			put(t, open(t, p, t.TempDir()), "/again", []byte("x"))
		}
		waitGone(t, p, s)
	}
	_, err := p.Open(t.Context(), plugins.Endpoint{URL: "dir:///"})
	kindOf(t, err, fault.Overloaded)
	if err == nil || !strings.Contains(err.Error(), "crashed 5 times") {
		t.Error(err)
	}
}

// waitGone waits until the host has seen that a session's process has ended.
func waitGone(t *testing.T, p *host.Plugin, s plugins.Session) {
	eventually(t, func() bool { _, err := s.Stat(t.Context(), "/"); return errors.Is(err, fault.Lost) })
}

func TestHung(t *testing.T) {
	t.Run("stopping", func(t *testing.T) {
		cfg, _ := config(t)
		cfg.Drain, cfg.Grace = 200*time.Millisecond, 200*time.Millisecond
		p := run(t, cfg)
		pid := describe(t, p).PID
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		within(t, time.Minute, func() {
			if err := p.Close(t.Context()); err != nil {
				t.Error(err)
			}
		})
		gone(t, pid)
	})
	t.Run("one call", func(t *testing.T) {
		cfg, _ := config(t)
		cfg.Call = 2 * time.Second
		p := run(t, cfg)
		_, err := p.Open(t.Context(), plugins.Endpoint{URL: "odd:block"})
		kindOf(t, err, fault.DeadPeer)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		_, err = p.Open(ctx, plugins.Endpoint{URL: "odd:block"})
		kindOf(t, err, fault.Deadline)
		if _, err := open(t, p, t.TempDir()).Stat(t.Context(), "/"); err != nil {
			t.Errorf("other calls: %v", err)
		}
	})
	t.Run("reading and writing", func(t *testing.T) {
		cfg, said := config(t)
		cfg.Answer = 2 * time.Second
		p := run(t, cfg)
		at := t.TempDir()
		s := open(t, p, at)
		put(t, s, "/a", nil)
		if err := os.Truncate(filepath.Join(at, "a"), 4<<30); err != nil { // more than its threads can send until all have stopped
			t.Fatal(err)
		}
		r, err := s.Read(t.Context(), "/a", 0)
		if err != nil {
			t.Fatal(err)
		}
		w, err := s.(plugins.Writer).Write(t.Context(), "/b", plugins.WriteRequest{Size: -1})
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(describe(t, p).PID, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		within(t, time.Minute, func() {
			_, err := io.Copy(io.Discard, r)
			kindOf(t, err, fault.Lost)
			for err = nil; err == nil; {
				_, err = w.Write(make([]byte, 1<<20))
			}
			kindOf(t, err, fault.Lost)
		})
		if !strings.Contains(said.String(), "plugin does not answer, killed") {
			t.Error(said)
		}
		kindOf(t, r.Close(), fault.Lost)
	})
}

// TestCanceled: who waits for a plugin need not, and the plugin lives on.
func TestCanceled(t *testing.T) {
	cfg, _ := config(t)
	p := run(t, cfg)
	s := open(t, p, t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	put(t, s, "/a", make([]byte, 8<<20))
	r, err := s.Read(ctx, "/a", 0)
	if err != nil {
		t.Fatal(err)
	}
	w, err := s.(plugins.Writer).Write(ctx, "/b", plugins.WriteRequest{Size: -1})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	within(t, time.Minute, func() {
		_, err := io.Copy(io.Discard, r)
		kindOf(t, err, fault.Canceled)
		_, err = w.Write(make([]byte, 8<<20))
		kindOf(t, err, fault.Canceled)
	})
	_ = r.Close()
	kept, err := w.Abort(t.Context(), true)
	if err != nil || len(kept) == 0 {
		t.Error(kept, err)
	}
	if _, err := s.Stat(t.Context(), "/b"); !errors.Is(err, fault.NotFound) {
		t.Errorf("of an aborted file: %v", err)
	}
}

// TestHostKilled: the plugin and what it has started go with the host, and leave nothing.
func TestHostKilled(t *testing.T) {
	sockets := t.TempDir()
	cmd := exec.Command(os.Args[0], "host", sockets)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pids struct{ Plugin, Child int }
	if err := json.NewDecoder(out).Decode(&pids); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(sockets); len(left) != 1 {
		t.Fatalf("the sockets' directory has %v", left)
	}
	if err := syscall.Kill(pids.Plugin, syscall.SIGTERM); err != nil { // as a service manager does first
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond)
	if err := syscall.Kill(pids.Plugin, 0); err != nil {
		t.Fatalf("SIGTERM has ended a plugin that is leased: %v", err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	gone(t, pids.Plugin)
	gone(t, pids.Child)
	if left, _ := os.ReadDir(sockets); len(left) > 0 {
		t.Errorf("left are %v", left)
	}
}

// beHost is the host that is killed.
func beHost(sockets string) {
	p := host.New(host.Config{Name: "odd", Path: os.Args[0], Args: []string{"plugin"}, Dir: sockets})
	s, err := p.Describe(context.Background())
	if err != nil {
		panic(err)
	}
	var child int
	_, err = p.Open(context.Background(), plugins.Endpoint{URL: "odd:child"})
	if _, bad := fmt.Sscanf(err.Error()[strings.Index(err.Error(), "child "):], "child %d", &child); bad != nil {
		panic(err)
	}
	_ = json.NewEncoder(os.Stdout).Encode(map[string]int{"Plugin": s.PID, "Child": child})
	select {}
}

// TestHostStopped: a host that is stopped in the middle of files goes on with the same process when it
// is continued, and has all of them.
func TestHostStopped(t *testing.T) {
	at := t.TempDir()
	b := bytes.Repeat([]byte("0123456789abcdef"), 1<<18) // more than is on its way
	if err := os.WriteFile(filepath.Join(at, "in"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "mover", at)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = cmd.Process.Kill(), cmd.Wait() }()
	said := json.NewDecoder(out)
	var before, after struct {
		Plugin int
		Error  string
	}
	if err := said.Decode(&before); err != nil || before.Error != "" {
		t.Fatal(before.Error, err)
	}
	if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid))
		return err != nil || bytes.Contains(stat, []byte(") T ")) // other systems have no such file
	})
	if _, err := io.WriteString(in, "go on\n"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(300 * time.Millisecond)
	if err := cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err := said.Decode(&after); err != nil || after != before {
		t.Fatalf("%+v, %+v, %v", before, after, err)
	}
	for _, name := range []string{"out", "copy"} {
		if got, err := os.ReadFile(filepath.Join(at, name)); err != nil || !bytes.Equal(got, b) {
			t.Errorf("%s has %d bytes, %v", name, len(got), err)
		}
	}
}

// beMover is the host that is stopped: it reads "in" of a plugin and writes it as "copy" here, and "out"
// there, says so after a quarter, and goes on after a line.
func beMover(at string) {
	p := host.New(host.Config{Name: "odd", Path: os.Args[0], Args: []string{"plugin"}, Answer: time.Minute})
	status := func(err error) {
		s, failed := p.Describe(context.Background())
		text := ""
		if err = errors.Join(err, failed); err != nil {
			text = err.Error()
		}
		_ = json.NewEncoder(os.Stdout).Encode(map[string]any{"Plugin": s.PID, "Error": text})
	}
	move := func() error {
		ctx := context.Background()
		s, err := p.Open(ctx, plugins.Endpoint{URL: "dir://" + at})
		if err != nil {
			return err
		}
		from, err := s.Read(ctx, "/in", 0)
		if err != nil {
			return err
		}
		to, err := s.(plugins.Writer).Write(ctx, "/out", plugins.WriteRequest{Size: -1})
		if err != nil {
			return err
		}
		f, err := os.Create(filepath.Join(at, "copy"))
		if err != nil {
			return err
		}
		both := io.MultiWriter(f, to)
		_, err = io.CopyN(both, from, 1<<20)
		status(err)
		if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
			return err
		}
		if _, err := io.Copy(both, from); err != nil {
			return err
		}
		_, err = to.Commit(ctx)
		return errors.Join(err, from.Close(), f.Close())
	}
	status(move())
	_ = p.Close(context.Background())
	os.Exit(0)
}

func describe(t *testing.T, p *host.Plugin) host.Status {
	t.Helper()
	s, err := p.Describe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// gone waits until there is no such process; a zombie is none.
func gone(t *testing.T, pid int) {
	t.Helper()
	eventually(t, func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		return err != nil || bytes.Contains(stat, []byte(") Z "))
	})
}

func eventually(t *testing.T, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not come true")
		}
	}
}

// within fails if f hangs.
func within(t *testing.T, most time.Duration, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(most):
		t.Fatalf("not over after %v", most)
	}
}

// The digest of this very program is taken once, beside a start; one that is configured
// is still held against it before anything runs.
func TestOwnDigest(t *testing.T) {
	b, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("%x", sha256.Sum256(b))
	for range 2 {
		cfg, _ := config(t)
		cfg.Path = host.Bundled("odd").Path
		s, err := run(t, cfg).Describe(t.Context())
		if err != nil || s.SHA256 != want {
			t.Errorf("%q, want %q; %v", s.SHA256, want, err)
		}
		cfg.SHA256 = want
		if _, err := run(t, cfg).Describe(t.Context()); err != nil {
			t.Error(err)
		}
		cfg.SHA256 = strings.Repeat("0", 64)
		_, err = run(t, cfg).Describe(t.Context())
		kindOf(t, err, fault.Refused)
	}
}

// A plugin's certificate is of P-256, which every start makes and verifies quickly, and its
// first line has it; a host without one is spoken with in clear.
func TestFirstLine(t *testing.T) {
	own, err := plugins.Certificate()
	if err != nil {
		t.Fatal(err)
	}
	for _, secure := range []bool{true, false} {
		cmd := exec.Command(os.Args[0], "plugin")
		cmd.Env = append(os.Environ(), plugins.CookieKey+"="+plugins.CookieValue, "PLUGIN_UNIX_SOCKET_DIR="+t.TempDir())
		if secure {
			cmd.Env = append(cmd.Env, "PLUGIN_CLIENT_CERT="+string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: own.Certificate[0]})))
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // which it ends with itself
		lease, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(out).ReadString('\n')
		_ = lease.Close()
		_ = cmd.Wait()
		fields := strings.Split(strings.TrimSpace(line), "|")
		if err != nil || len(fields) != 6 || fields[4] != "grpc" {
			t.Fatalf("%q, %v", line, err)
		}
		if !secure {
			if fields[5] != "" {
				t.Errorf("a certificate for nobody: %q", line)
			}
			continue
		}
		der, err := base64.RawStdEncoding.DecodeString(fields[5])
		if err != nil {
			t.Fatal(err)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		if key, ok := c.PublicKey.(*ecdsa.PublicKey); !ok || key.Params().Name != "P-256" || c.VerifyHostname("localhost") != nil {
			t.Errorf("%T %v", c.PublicKey, c.DNSNames)
		}
	}
}

// judge is a server that says until when the end of a file may take.
type judge struct {
	dir.Driver
	verdict bool
	until   chan time.Time
}

func (j judge) Open(ctx context.Context, to plugins.Endpoint) (plugins.Session, error) {
	s, err := j.Driver.Open(ctx, to)
	if err != nil {
		return nil, err
	}
	return judging{s.(writes), j}, nil
}

type judging struct {
	writes
	is judge
}

func (j judging) Capabilities() plugins.Capabilities {
	c := j.writes.Capabilities()
	c.Verdict = j.is.verdict
	return c
}

func (j judging) Write(ctx context.Context, name string, r plugins.WriteRequest) (plugins.Staged, error) {
	st, err := j.writes.Write(ctx, name, r)
	return judged{st, j.is.until}, err
}

type judged struct {
	plugins.Staged
	until chan time.Time
}

func (j judged) Commit(ctx context.Context) (plugins.Attr, error) {
	at, _ := ctx.Deadline()
	j.until <- at
	return j.Staged.Commit(ctx)
}

// TestVerdictHasTime: the end of a file has minutes, and a day where it is the verdict of what lies behind the
// server.
func TestVerdictHasTime(t *testing.T) {
	for verdict, most := range map[bool]time.Duration{false: 10 * time.Minute, true: plugins.MaxVerdict} {
		until := make(chan time.Time, 1)
		p := host.InProcess(host.Config{}, judge{verdict: verdict, until: until})
		s := open(t, p, t.TempDir())
		began := time.Now()
		if err := sends(t.Context(), s, "/x", []byte("x")); err != nil {
			t.Fatal(err)
		}
		if left := (<-until).Sub(began); left < most-time.Minute || left > most+time.Hour || s.Capabilities().Verdict != verdict {
			t.Errorf("verdict %v: it may take %v, %+v", verdict, left, s.Capabilities())
		}
	}
}
