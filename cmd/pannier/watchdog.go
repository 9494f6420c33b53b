package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"time"
)

// watchdogEvery is how often the service manager wants to hear from this process; 0: it does
// not. It is sd_watchdog_enabled(3).
func watchdogEvery() time.Duration {
	if pid := os.Getenv("WATCHDOG_PID"); pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return 0
	}
	usec, err := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 64)
	if err != nil || usec <= 0 {
		return 0
	}
	return time.Duration(usec) * time.Microsecond / 2
}

// stoppingNote says that the node goes down, and how long it may take: longer than it gives what
// runs.
func stoppingNote(drain time.Duration) string {
	return fmt.Sprintf("STOPPING=1\nEXTEND_TIMEOUT_USEC=%d", (drain + stoppingMargin).Microseconds())
}

const stoppingMargin = 20 * time.Second

// watchdog tells the service manager that the node lives, for as long as it does: that its engine
// answers, and its store. One that hangs is then ended and started again, which loses nothing.
func watchdog(ctx context.Context, every time.Duration, pulse func(context.Context) error) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		limited, cancel := context.WithTimeout(ctx, every)
		err := pulse(limited)
		cancel()
		switch {
		case err == nil:
			notify("WATCHDOG=1")
		case ctx.Err() == nil:
			slog.Error("the node does not answer itself", "error", err)
		}
	}
}
