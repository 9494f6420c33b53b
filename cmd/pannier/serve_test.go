package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/flow/flowtest"
	"github.com/pannier/pannier/spec/adminpb"
)

// messages is what a command says while it runs.
type messages struct{ flowtest.Log }

// until waits for something that will be said.
func (m *messages) until(t *testing.T, text string) {
	t.Helper()
	for !strings.Contains(m.String(), text) {
		if t.Context().Err() != nil {
			t.Fatalf("%q is not said, but\n%s", text, m)
		}
		time.Sleep(time.Millisecond)
	}
}

// TestConfigCodes: the exit code says what is wrong with a file.
func TestConfigCodes(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"good": "node.name = \"a\"\n", "bad": "nmae = 1\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]int{"good": command.Done, "bad": command.Usage, "absent": command.NotFound} {
		for _, args := range [][]string{{"config", "check"}, {"serve"}} {
			if args[0] == "serve" && want == command.Done {
				continue
			}
			args = append(args, "--config", filepath.Join(dir, name))
			if got := command.Run(t.Context(), rootCommand(), args, nil, &bytes.Buffer{}, &messages{}); got != want {
				t.Errorf("%q ends with %d, want %d", args, got, want)
			}
		}
	}
}

// TestServe: a node runs, tells its manager so, reads its file again at SIGHUP,
// and ends well when it is told to.
func TestServe(t *testing.T) {
	dir, err := os.MkdirTemp("", "serve") // short: sockets are in it
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "p.toml")
	write := func(more string) {
		t.Helper()
		text := fmt.Sprintf("[node]\nname = \"a\"\nstate = %q\nlisten = [\"tls://127.0.0.1:0\"]\n%s", dir+"/state", more)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: dir + "/notify", Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	t.Setenv("NOTIFY_SOCKET", dir+"/notify")
	hears := func(want string) {
		t.Helper()
		b := make([]byte, 256)
		if n, err := manager.Read(b); err != nil || !strings.HasPrefix(string(b[:n]), want) {
			t.Errorf("the manager hears %q, %v", b[:n], err)
		}
	}

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	said, code := &messages{}, make(chan int, 1)
	go func() {
		code <- command.Run(ctx, rootCommand(), []string{"serve", "--config", path}, nil, &bytes.Buffer{}, said)
	}()
	hears("READY=1")

	write("[[rule]]\nname = \"r\"\ndirection = \"send\"\npartners = [\"a\"]\nroot = \"/srv/r\"\n")
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	said.until(t, "rule r is new")
	write("nmae = 1\n")
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	said.until(t, `did you mean`)
	operator, err := admin.Dial("unix://" + dir + "/state/admin.sock")
	if err != nil {
		t.Fatal(err)
	}
	defer operator.Close()
	if rules, err := operator.ListRules(t.Context(), &adminpb.ListRulesRequest{}); err != nil || len(rules.GetRules()) != 1 {
		t.Errorf("after a bad file: %v, %v", rules, err)
	}

	var second messages
	write("")
	if got := command.Run(t.Context(), rootCommand(), []string{"serve", "--config", path}, nil, &bytes.Buffer{}, &second); got != command.Failed || !strings.Contains(second.String(), "stop it first") {
		t.Errorf("a second node ends with %d\n%s", got, &second)
	}

	stop()
	hears("STOPPING=1\nEXTEND_TIMEOUT_USEC=50000000") // the default of node.drain, and more
	if got := <-code; got != command.Done {
		t.Errorf("exit code %d\n%s", got, said)
	}
	if !strings.Contains(said.String(), "draining") {
		t.Errorf("it did not drain\n%s", said)
	}
}
