package carrier

import (
	"bytes"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pannier/pannier/spec/fault"
)

// heard is a log that tests read while it is written.
type heard struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (h *heard) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.b.Write(p)
}

func (h *heard) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.b.String()
}

// TestStrangerIsTold: the log has the key and the address of who is refused, what
// to do about it, and that once.
func TestStrangerIsTold(t *testing.T) {
	server, client := newIdentity(t), newIdentity(t)
	var log heard
	l := serve(t, "tls://127.0.0.1:0", Options{
		Identity: server, Logger: slog.New(slog.NewTextHandler(&log, nil)),
		AuthorizeKey: func(string) error {
			return fault.New("find caller", fault.Unauthenticated, "who is that").Advise("write it down")
		},
	})
	pins := Pins{server.Key()}
	for range 3 {
		if c, err := dial(t, l, Options{Identity: client, Pins: pins}); err == nil {
			_, _ = c.Read(make([]byte, 1)) // refused, which tls 1.3 tells late
			c.Close()
		}
	}
	for end := time.Now().Add(30 * time.Second); l.Stats().Failed < 3 || log.String() == "" && time.Now().Before(end); { // it is told after it is counted
		time.Sleep(time.Millisecond)
	}
	text := log.String()
	for _, want := range []string{"level=WARN", client.Key(), "remote=127.0.0.1:", "who is that; write it down"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in %s", want, text)
		}
	}
	if n := strings.Count(text, "unknown key"); n != 1 {
		t.Errorf("it is told %d times", n)
	}
}

func TestStrangersAreBounded(t *testing.T) {
	var s strangers
	now := time.Now()
	source := func(i int) netip.Prefix {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 32)
	}
	told := 0
	for i := range 1000 {
		if _, ok := s.tell(source(i), now); ok {
			told++
		}
		s.tell(source(0), now)
	}
	if told != maxStrangers || len(s.last) != maxStrangers {
		t.Errorf("%d warnings, %d sources", told, len(s.last))
	}
	if more, ok := s.tell(source(0), now.Add(strangerEvery)); !ok || more != 1000 {
		t.Errorf("after a while: %d more, %v", more, ok)
	}
	if _, ok := s.tell(source(999), now.Add(strangerEvery)); !ok || len(s.last) > maxStrangers {
		t.Errorf("a new one after a while is not told of; %d sources", len(s.last))
	}
}
