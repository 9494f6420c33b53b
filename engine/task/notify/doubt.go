package notify

import (
	"fmt"
	"sync"
	"time"
)

// probeTime is how long the one try takes that a server in doubt is given, and how long it is
// until the next.
const probeTime = time.Second

// doubts are the servers that have not taken a message in all its tries. Until one takes
// one again a message is tried once a second, and the others are given up at once: requests
// do not wait in line for a server that is away, and keep no place from others.
type doubts struct {
	mu sync.Mutex
	of map[string]*doubt // by the server of a configuration
}

type doubt struct {
	since time.Time // when the first message was given up
	next  time.Time // when another may be tried
}

// tries is how a message may be tried at that time: once, or not at all, while its server is
// in doubt.
func (d *doubts) tries(server string, now time.Time) (in *doubt, probe bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	in = d.of[server]
	if in == nil || now.Before(in.next) {
		return in, false
	}
	in.next = now.Add(probeTime)
	return in, true
}

// has reports whether a server is in doubt.
func (d *doubts) has(server string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.of[server] != nil
}

// taken notes that a server has answered.
func (d *doubts) taken(server string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.of, server)
}

// given notes that a message to a server was given up.
func (d *doubts) given(server string, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.of[server] == nil {
		d.of[server] = &doubt{since: now, next: now.Add(probeTime)}
	}
}

// gaveUp is why a message was not tried.
func (in *doubt) gaveUp(server string) string {
	return fmt.Sprintf("not told: %s has taken nothing since %s, and one message a second is tried", server, in.since.UTC().Format(time.RFC3339))
}
