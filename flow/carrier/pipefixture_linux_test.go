package carrier

import (
	"bytes"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pannier/pannier/flow/flowtest"
)

// fifos makes two FIFOs and gives the addresses of both ends.
func fifos(t testing.TB) (near, far string) {
	t.Helper()
	ab, ba := filepath.Join(t.TempDir(), "ab"), filepath.Join(t.TempDir(), "ba")
	for _, path := range []string{ab, ba} {
		if err := unix.Mkfifo(path, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return "fifo://" + ba + "," + ab, "fifo://" + ab + "," + ba
}

// nullModem gives the addresses of both ends of a serial line.
func nullModem(t testing.TB) (near, far string) {
	t.Helper()
	m, err := flowtest.NewNullModem()
	if err != nil {
		t.Skip("SKIPPED: no pseudo-terminals here: ", err)
	}
	t.Cleanup(func() { _ = m.Close() })
	return "tty://" + m.Near, "tty://" + m.Far
}

// logged is a log that tests look at.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *logged) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// eventually waits for something that takes an unknown time.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(what, " did not come about")
		}
	}
}

// pinned are options of two ends that know each other's keys.
func pinned(t testing.TB) (near, far Options) {
	t.Helper()
	a, b := newIdentity(t), newIdentity(t)
	return Options{Identity: a, Pins: Pins{b.Key()}}, Options{Identity: b, Pins: Pins{a.Key()}}
}

// plain is an address without tls.
func plain(address string) string { return plainly + address }

// mustDial dials once.
func mustDial(t testing.TB, address string, o Options) net.Conn {
	t.Helper()
	d, err := NewDialer(address, o)
	if err != nil {
		t.Fatal(err)
	}
	c, err := d.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}
