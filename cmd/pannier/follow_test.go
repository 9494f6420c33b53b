package main

import (
	"bytes"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spf13/cobra"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/spec/adminpb"
)

// TestAgain: what counts as a second Ctrl-C.
func TestAgain(t *testing.T) {
	all := []*adminpb.Request{{Id: "aabbccdd00", State: adminpb.Request_RUNNING}, {Id: "eeff001122", State: adminpb.Request_DONE}}
	for _, c := range []struct {
		what    string
		at      []time.Duration // of interrupts
		lasts   time.Duration
		cancels bool
	}{
		{"another signal", nil, signalSettles, false},
		{"one", []time.Duration{0}, signalEchoes + secondWithin, false},
		{"one that comes late", []time.Duration{50 * time.Millisecond}, 50*time.Millisecond + signalEchoes + secondWithin, false},
		{"one that comes twice", []time.Duration{0, 0}, signalEchoes + secondWithin, false},
		{"its echo", []time.Duration{0, 200 * time.Millisecond}, signalEchoes + secondWithin, false},
		{"two", []time.Duration{0, 2 * time.Second}, 2 * time.Second, true},
		{"a second one too late", []time.Duration{0, 3 * time.Second}, signalEchoes + secondWithin, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			interrupts := make(chan os.Signal, 2)
			for _, at := range c.at {
				if at == 0 {
					interrupts <- syscall.SIGINT
				} else {
					time.AfterFunc(at, func() { interrupts <- syscall.SIGINT })
				}
			}
			cancelled := false
			var said bytes.Buffer
			cmd := &cobra.Command{}
			cmd.SetErr(&said)
			began := time.Now()
			cancel := func(*adminpb.Request) error { cancelled = true; return nil }
			err := again(cmd, all, interrupts, cancel)
			if command.Code(t.Context(), err) != command.Interrupted || cancelled != c.cancels || time.Since(began) != c.lasts {
				t.Errorf("%s: cancelled %v after %v: %v", c.what, cancelled, time.Since(began), err)
			}
			if text := said.String(); strings.Contains(text, "aabbccdd is cancelled.") != c.cancels {
				t.Errorf("%s: %q", c.what, text)
			}
			time.Sleep(time.Minute) // for interrupts that nobody waits for
		})
	}
}
