package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRelaySocat: two nodes that only a serial line joins, the system's socat being the line,
// relay both ways at once.
func TestRelaySocat(t *testing.T) {
	socat := systemProgram(t, "socat", "socat")
	c := newConduit(t)
	near, far := filepath.Join(c.a.Dir, "tty"), filepath.Join(c.b.Dir, "tty")
	service(t, socat, "pty,raw,echo=0,link="+near, "pty,raw,echo=0,link="+far)
	c.until("socat has made the line", func() bool {
		_, err := os.Stat(near)
		_, more := os.Stat(far)
		return err == nil && more == nil
	})
	c.b.Address, c.fromA = "tty://"+far, "tty://"+near
	c.write(relaySection("echo", freePort, "here", toEcho)+relaySection("back", freePort, "there", toEcho), allowEcho+allowListen)
	c.start(c.b, c.a)
	one, two := c.dial(c.at(c.a, "echo")), c.dial(c.at(c.a, "back"))
	for range 3 {
		c.say(one, strings.Repeat("one ", 1<<15))
		c.say(two, strings.Repeat("two ", 1<<15))
	}
}
