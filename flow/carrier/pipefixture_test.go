package carrier

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// childEnv says what this test binary does as a child; see child.
const childEnv = "PANNIER_CARRIER_CHILD"

// child is the life of a child: "relay PATH" joins stdin and stdout with a
// unix socket, "stdio DIR KEY" serves lanes of that key over them, echoing.
func child(what string) int {
	verb, arg, _ := strings.Cut(what, " ")
	var err error
	switch verb {
	case "relay":
		err = relayChild(arg)
	case "stdio":
		err = stdioChild(arg)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 3
	}
	return 0
}

func relayChild(path string) error {
	c, err := net.Dial("unix", path)
	if err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(c, os.Stdin)
		_ = c.(*net.UnixConn).CloseWrite()
	}()
	_, err = io.Copy(os.Stdout, c)
	return err
}

func stdioChild(arg string) error {
	dir, key, _ := strings.Cut(arg, " ")
	o := Options{Protocols: []string{ProtocolLane}, ExposePlaintext: true}
	address := plainly + "stdio:"
	if key != "" {
		id, err := LoadOrCreateIdentity(dir)
		if err != nil {
			return err
		}
		o.Identity, o.Pins, address = id, Pins{key}, "stdio:"
	}
	l, err := Listen(address, o)
	if err != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, "ready")
	err = l.Serve(func(c net.Conn) {
		fmt.Println("this is not for the peer")
		_, _ = io.Copy(c, c)
		_ = c.Close()
	}, nil)
	_ = l.Close()
	return err
}

// childAddress is the address of this test binary as a child.
func childAddress(what string) string {
	return ExecAddress("env", childEnv+"="+what, os.Args[0])
}

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

// openPTY makes a pseudo-terminal: its master, and the path of its slave.
func openPTY(t testing.TB) (master *os.File, slave string) {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Skip("SKIPPED: no pseudo-terminals here: ", err)
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	master = os.NewFile(uintptr(fd), "/dev/ptmx")
	t.Cleanup(func() { _ = master.Close() })
	return master, fmt.Sprint("/dev/pts/", n)
}

// nullModem joins two pseudo-terminals, as a cable joins two serial ports. It
// carries bytes while both devices are open or not.
func nullModem(t testing.TB) (a, b string) {
	t.Helper()
	x, a := openPTY(t)
	y, b := openPTY(t)
	var hold []*os.File // a pseudo-terminal that nobody has open fails its master's reads
	for _, path := range []string{a, b} {
		f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY, 0)
		if err != nil {
			t.Fatal(err)
		}
		hold = append(hold, f)
		if err := control(f, func(fd int) error { return setRaw(fd, 0) }); err != nil {
			t.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = io.Copy(x, onlyReader{y}) })
	wg.Go(func() { _, _ = io.Copy(y, onlyReader{x}) })
	t.Cleanup(func() {
		_, _ = x.Close(), y.Close()
		wg.Wait()
		for _, f := range hold {
			_ = f.Close()
		}
	})
	return "tty://" + a, "tty://" + b
}

type onlyReader struct{ io.Reader }

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
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
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
