package rpc

import (
	"testing"
	"time"
)

// TestCrew: who comes late is refused, whoever waits then, and nobody has to wait for ever.
func TestCrew(t *testing.T) {
	c := &crew{}
	hold := make(chan struct{})
	if !c.Go(func() { <-hold }) {
		t.Fatal("refused")
	}
	if c.waitFor(time.Millisecond) {
		t.Error("one still runs")
	}
	if c.Go(func() { t.Error("it runs") }) {
		t.Error("one may join while the others are awaited")
	}
	close(hold)
	if !c.waitFor(time.Minute) {
		t.Error("all have ended")
	}
}
