package main

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

func TestWatchdogEvery(t *testing.T) {
	for _, c := range []struct {
		usec, pid string
		want      time.Duration
	}{
		{"", "", 0}, {"2000000", "", time.Second}, {"2000000", strconv.Itoa(os.Getpid()), time.Second}, {"2000000", "1", 0}, {"soon", "", 0}, {"-1", "", 0}, {"0", "", 0},
	} {
		t.Setenv("WATCHDOG_USEC", c.usec)
		t.Setenv("WATCHDOG_PID", c.pid)
		if got := watchdogEvery(); got != c.want {
			t.Errorf("%q of %q: %v, want %v", c.usec, c.pid, got, c.want)
		}
	}
}

// TestWatchdog: the service manager hears from a node that answers, and not from one that hangs or
// has failed.
func TestWatchdog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	hears := func(within time.Duration) bool {
		_ = manager.SetReadDeadline(time.Now().Add(within))
		b := make([]byte, 100)
		n, err := manager.Read(b)
		if err == nil && string(b[:n]) != "WATCHDOG=1" {
			t.Errorf("%q", b[:n])
		}
		return err == nil
	}
	for _, c := range []struct {
		name  string
		pulse func(context.Context) error
		want  bool
	}{
		{"answers", func(context.Context) error { return nil }, true},
		{"hangs", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, false},
		{"has failed", func(context.Context) error { return errors.New("no store") }, false},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		over := make(chan struct{})
		beats := make(chan struct{}, 1000)
		go func() {
			watchdog(ctx, 10*time.Millisecond, func(ctx context.Context) error { beats <- struct{}{}; return c.pulse(ctx) })
			close(over)
		}()
		<-beats
		<-beats // so that what comes of the first is there
		wait := time.Minute
		if !c.want {
			wait = time.Millisecond
		}
		if got := hears(wait); got != c.want {
			t.Errorf("of a node that %s it hears: %v", c.name, got)
		}
		cancel()
		<-over
		for hears(time.Millisecond) { // what is left
			continue
		}
	}
}
