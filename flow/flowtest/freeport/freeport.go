// Package freeport finds addresses for servers that must know theirs before they
// listen: nodes that are started again, programs of others. It takes them from below
// the range that the system gives to outgoing connections, which would otherwise
// take one now and then between the finding and the listening.
package freeport

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"sync"
)

const (
	lowest = 10000 // below it are the ports that programs have by name
	least  = 1000  // a smaller range than this is no range
	tries  = 1000
)

var (
	mu    sync.Mutex
	given = map[string]bool{} // each address once in a process
)

// Address is one of the host, as "127.0.0.1:20001", where nobody listens by TCP or UDP.
func Address(host string) (string, error) {
	end := outgoing()
	if end < lowest+least {
		return "", fmt.Errorf("find free port: the system gives ports from %d on to outgoing connections, which leaves none from %d on: raise net.ipv4.ip_local_port_range", end, lowest)
	}
	mu.Lock()
	defer mu.Unlock()
	var last error
	for range tries {
		at := net.JoinHostPort(host, strconv.Itoa(lowest+rand.IntN(end-lowest)))
		if given[at] {
			continue
		}
		if last = free(at); last == nil {
			given[at] = true
			return at, nil
		}
	}
	return "", fmt.Errorf("find free port of %s: none in %d tries: %w", host, tries, last)
}

// TB is what For needs of a test.
type TB interface {
	Helper()
	Fatal(args ...any)
}

// For is Address for a test.
func For(t TB, host string) string {
	t.Helper()
	at, err := Address(host)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// Port is the port of For alone.
func Port(t TB, host string) string {
	t.Helper()
	_, port, _ := net.SplitHostPort(For(t, host))
	return port
}

func free(at string) error {
	l, err := net.Listen("tcp", at)
	if err != nil {
		return err
	}
	defer func() { _ = l.Close() }()
	u, err := net.ListenPacket("udp", at)
	if err != nil {
		return err
	}
	return u.Close()
}

// outgoing is the first port of outgoing connections, where the system says it, and
// otherwise that of most systems.
func outgoing() int {
	first := 32768
	if b, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range"); err == nil {
		_, _ = fmt.Sscan(string(b), &first)
	}
	return first
}
