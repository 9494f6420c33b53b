package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/pannier/pannier/engine/node/nodetest"
)

// descriptors is how many a node has open.
func descriptors(t *testing.T, n *nodetest.Node) int {
	t.Helper()
	all, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", n.PID()))
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// TestRelayKilled: the process at one end is killed in the middle of hundreds of connections,
// idle ones and busy ones: the other end closes all of them, with the reason in a record of
// each, and keeps no descriptor; what it listens at serves the next process.
func TestRelayKilled(t *testing.T) {
	const number = 200
	for _, victim := range []string{"hosta", "hostb"} {
		t.Run(victim, func(t *testing.T) {
			c := newConduit(t)
			c.write(relaySection("echo", freePort, "here", toEcho)+relaySection("back", freePort, "there", toEcho), allowEcho+allowListen)
			c.start(c.b, c.a)
			killed, other, log := c.a, c.b, c.logB
			if victim == "hostb" {
				killed, other, log = c.b, c.a, c.logA
			}
			for _, name := range []string{"echo", "back"} {
				c.say(c.dial(c.at(c.a, name)), "hello")
			}
			c.until("the first ones are there", func() bool { return len(c.list(other).GetConnections()) == 2 })
			before := descriptors(t, other) - 2
			var reading sync.WaitGroup
			for i := range number {
				conn := c.dial(c.at(c.a, []string{"echo", "back"}[i%2]))
				c.say(conn, "hello")
				if i%5 == 0 {
					go io.Copy(conn, endless{})
				}
				reading.Go(func() {
					if _, err := io.Copy(io.Discard, conn); err != nil && isTimeout(err) {
						t.Errorf("client %d still waits", i)
					}
					conn.Close()
				})
			}
			c.until("all are there", func() bool { return len(c.list(other).GetConnections()) == number+2 })
			killed.Kill()
			c.until("none is left", func() bool { return len(c.list(other).GetConnections()) == 0 })
			reading.Wait()
			c.until("all have a record", func() bool {
				n := 0
				for line := range strings.Lines(log.String()) {
					if strings.Contains(line, "msg=relayed") && strings.Contains(line, `kind="connection lost"`) && strings.Contains(line, "cause=") {
						n++
					}
				}
				return n == number+2
			})
			c.until("no descriptor is left", func() bool { return descriptors(t, other) <= before })
			c.start(killed)
			for _, name := range []string{"echo", "back"} {
				c.say(c.dial(c.at(c.a, name)), "hello again")
			}
		})
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func isTimeout(err error) bool {
	e, ok := err.(net.Error)
	return ok && e.Timeout()
}
