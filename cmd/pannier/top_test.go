package main

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"

	"github.com/pannier/pannier/engine/node/nodetest"
	"github.com/pannier/pannier/flow/flowtest"
	"github.com/pannier/pannier/spec/adminpb"
)

// screen is all that a program has written to a terminal.
type screen struct{ flowtest.Log }

func (s *screen) has(text string) bool {
	return strings.Contains(s.String(), text)
}

// TestTop: pannier top under a terminal, beside a real node: a request that waits is shown,
// paused, resumed, cancelled and retried by keys; the terminal may shrink to nothing.
func TestTop(t *testing.T) {
	dir, err := os.MkdirTemp("", "top")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	a, b, err := nodetest.Pair(dir, "pannier") // b is away
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if err := a.Write(nil, nil, "[[rule]]\nname = \"out\"\ndirection = \"send\"\npartners = [\"*\"]\nroot = \"%ROOT%\"\n", b); err != nil {
		t.Fatal(err)
	}
	const hostile = "\u202egnp.exe"
	if err := os.WriteFile(filepath.Join(a.Root, hostile), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	if err := a.Start(ctx); err != nil {
		t.Fatal(err)
	}
	client, err := a.Client()
	if err != nil {
		t.Fatal(err)
	}
	made, err := client.Submit(ctx, &adminpb.SubmitRequest{Partner: b.Name, Rule: "out", Source: hostile})
	if err != nil {
		t.Fatal(err)
	}
	ref := &adminpb.Ref{Id: made.GetRequest().GetId()}

	cmd := exec.Command("pannier", "top", "--config", a.Config())
	cmd.Env = append(os.Environ(), "TERM=xterm-256color")
	tty, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 24, Cols: 120})
	if err != nil {
		t.Fatal(err)
	}
	defer tty.Close()
	seen := &screen{}
	read := make(chan struct{})
	go func() { defer close(read); _, _ = io.Copy(seen, tty) }()
	wait := func(what string, holds func() bool) {
		t.Helper()
		for range 2000 {
			if holds() {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		cmd.Process.Kill()
		t.Fatalf("%s; the terminal has\n%q", what, seen.String())
	}
	is := func(state adminpb.Request_State, reason string) func() bool {
		return func() bool {
			r, err := client.Get(ctx, ref)
			return err == nil && r.GetState() == state && (reason == "" || r.GetReason() == reason)
		}
	}
	press := func(keys string) {
		if _, err := tty.WriteString(keys); err != nil {
			t.Fatal(err)
		}
	}
	wait("the request is not shown", func() bool { return seen.has("gnp.exe") && seen.has(ref.Id[:8]) && seen.has("DOWN") })
	if seen.has(hostile) {
		t.Error("a name turns the screen round")
	}
	press("p")
	wait("p does not pause", is(adminpb.Request_INTERRUPTED, "stopped"))
	press("g")
	wait("g does not go on", is(adminpb.Request_TOSUBMIT, ""))
	press("c")
	wait("nobody asks", func() bool { return seen.has("What has arrived is removed") })
	press("y")
	wait("c and y do not cancel", is(adminpb.Request_INERROR, ""))
	for _, size := range []pty.Winsize{{Rows: 1, Cols: 1}, {Rows: 3, Cols: 10}, {Rows: 60, Cols: 200}} {
		if err := pty.Setsize(tty, &size); err != nil {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
	}
	press("r")
	wait("r does not retry", is(adminpb.Request_TOSUBMIT, ""))
	press("q")
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("it ends with %v", err)
		}
	case <-time.After(20 * time.Second):
		cmd.Process.Kill()
		t.Error("q does not leave")
	}
	tty.Close()
	<-read
}
