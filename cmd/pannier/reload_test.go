package main

import (
	"errors"
	"net"
	"os/exec"
	"strings"
	"testing"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/flow/flowtest/freeport"
)

// reloads runs pannier reload, which is to end with that code.
func (c *conduit) reloads(want int) (said string) {
	c.t.Helper()
	stdout, stderr, err := c.pannier("reload")
	if code := exitOf(err); code != want {
		c.t.Errorf("exit code %d, want %d: %s%s", code, want, stdout, stderr)
	}
	return stdout + stderr
}

// exitOf is the exit code of a command that has ended with err, -1 if it has none.
func exitOf(err error) int {
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode()
	} else if err != nil {
		return -1
	}
	return 0
}

// TestReloadListener: a listener whose port is somebody else's keeps the old configuration, whose
// listeners go on; without it the new one is served, and one that the node gives up may be had.
func TestReloadListener(t *testing.T) {
	c := newConduit(t)
	somebody, err := net.Listen("tcp", freeport.For(t, "127.0.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	defer somebody.Close()
	taken := somebody.Addr().String()
	one, two := freeport.For(t, "127.0.0.1"), freeport.For(t, "127.0.0.1")
	listener := func(address, options string) string {
		return c.listens("ftp", address, options, `partner = "hostb", rule = "out"`)
	}
	first := listener(one, `"tls=off"`)
	reachable := func(address string) bool {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	}
	c.write(bridgeRules+first, bridgeRules)
	c.start(c.a)
	c.reachable(one)

	second := listener(two, `"tls=off"`)
	for bad, says := range map[string]string{
		second + listener(taken, `"tls=off"`): "listener " + taken + ": cannot listen: ",
		listener(two, `"color=blue"`):         `listener ` + two + `: ftp server option color: invalid argument: there is no such option; `,
	} {
		c.write(bridgeRules+first+bad, bridgeRules)
		if out := c.reloads(command.Usage); !strings.Contains(out, says) || !strings.Contains(out, c.a.Config()+":") {
			t.Errorf("reload says %q, want %q", out, says)
		}
		if !reachable(one) || reachable(two) {
			t.Errorf("it was refused: the listener of before is reachable %v, the new one %v", reachable(one), reachable(two))
		}
		if out := c.does("listener", "list"); !strings.Contains(out, one) || strings.Contains(out, two) || strings.Contains(out, taken) {
			t.Errorf("listeners are %s", out)
		}
	}
	c.write(bridgeRules+first+second, bridgeRules)
	if out := c.reloads(command.Done); !strings.Contains(out, "listeners have changed") {
		t.Errorf("reload says %q", out)
	}
	if !reachable(one) || !reachable(two) {
		t.Error("not both are reachable")
	}
}

// TestReloadPartly: what does not work of a configuration that holds is told, with a code of its own.
func TestReloadPartly(t *testing.T) {
	c := newConduit(t)
	somebody, err := net.Listen("tcp", freeport.For(t, "127.0.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	defer somebody.Close()
	c.write(bridgeRules, bridgeRules)
	c.start(c.a)
	c.write(bridgeRules+relaySection("late", "tcp://"+somebody.Addr().String(), "here", toEcho), bridgeRules)
	out := c.reloads(command.Some)
	for _, want := range []string{"relay late is new", "warning: relay late does not listen, and is tried again: "} {
		if !strings.Contains(out, want) {
			t.Errorf("reload says %q, without %q", out, want)
		}
	}
	c.logged(c.logA, "this of it does not work", "relay late does not listen")
}
