package carrier

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/pannier/pannier/spec/fault"
)

func TestUnixNamesThePeer(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l := serve(t, "unix://"+path, Options{})
	c, err := dial(t, l, Options{})
	if err != nil {
		t.Fatal(err)
	}
	writePreface(t, c)
	lane := <-l.lane
	defer lane.Close()
	readPreface(t, lane)
	for _, end := range []net.Conn{c, lane} {
		if uid := end.(Conn).PeerUID(); uid != os.Getuid() {
			t.Errorf("peer is user %d, want %d", uid, os.Getuid())
		}
	}
	tcp := serve(t, "tcp://127.0.0.1:0", Options{})
	if c, err = dial(t, tcp, Options{}); err != nil || c.(Conn).PeerUID() != -1 || c.(Conn).PeerKey() != "" {
		t.Errorf("tcp names a peer: %v", err)
	}
}

// TestUnixHasRoomForABlock: what is asked for, or as much as the system allows,
// at both ends.
func TestUnixHasRoomForABlock(t *testing.T) {
	l := serve(t, "unix://"+filepath.Join(t.TempDir(), "s"), Options{})
	c, err := dial(t, l, Options{})
	if err != nil {
		t.Fatal(err)
	}
	writePreface(t, c)
	lane := <-l.lane
	defer lane.Close()
	text, err := os.ReadFile("/proc/sys/net/core/wmem_max")
	if err != nil {
		t.Skip(err)
	}
	most, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	for _, end := range []net.Conn{c, lane} {
		raw, err := end.(*plainConn).HalfCloser.(*net.UnixConn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		var size int
		if err := raw.Control(func(fd uintptr) {
			size, err = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_SNDBUF)
		}); err != nil {
			t.Fatal(err)
		}
		if want := 2 * min(unixBuffer, most); err != nil || size != want {
			t.Errorf("send buffer of %d bytes, %v; want %d", size, err, want)
		}
	}
}

func TestUnixMode(t *testing.T) {
	for want, o := range map[fs.FileMode]Options{0o600: {}, 0o660: {Mode: 0o660}} {
		path := filepath.Join(t.TempDir(), "s")
		l, err := Listen("unix://"+path, o)
		if err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("mode %v, %v; want %v", info.Mode(), err, want)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 0 {
			t.Errorf("left behind: %v", left)
		}
	}
}

// stale leaves the socket of a process that has died at path.
func stale(t *testing.T, path string) {
	t.Helper()
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	ln.SetUnlinkOnClose(false)
	_ = ln.Close()
}

func TestStaleSocketIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	stale(t, path)
	l := serve(t, "unix://"+path, Options{})
	if _, err := dial(t, l, Options{}); err != nil {
		t.Error(err)
	}
	_, err := Listen("unix://"+path, Options{})
	if !errors.Is(err, fault.Exists) {
		t.Errorf("a second listener: %v", err)
	}
	if _, err := dial(t, l, Options{}); err != nil {
		t.Errorf("the second listener broke the first: %v", err)
	}
}

// TestNoFolder: the error names the address, and no name that only this package knows.
func TestNoFolder(t *testing.T) {
	address := "unix://" + filepath.Join(t.TempDir(), "none", "s")
	_, err := Listen(address, Options{})
	if !errors.Is(err, fault.NotFound) || !strings.Contains(err.Error(), address) || strings.Contains(err.Error(), ".pn-") {
		t.Error(err)
	}
}

func TestFileIsNotReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen("unix://"+path, Options{}); !errors.Is(err, fault.Exists) {
		t.Errorf("listen over a file: %v", err)
	}
	if text, err := os.ReadFile(path); string(text) != "precious" {
		t.Errorf("%q, %v", text, err)
	}
}

// Two processes at once find the same dead socket: one becomes the listener.
func TestStaleSocketHasOneHeir(t *testing.T) {
	for range 50 {
		path := filepath.Join(t.TempDir(), "s")
		stale(t, path)
		won := make(chan *Listener, 2)
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				l, err := Listen("unix://"+path, Options{})
				if err == nil {
					won <- l
				} else if !errors.Is(err, fault.Exists) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if len(won) != 1 {
			t.Fatalf("%d listeners", len(won))
		}
		if err := (<-won).Close(); err != nil {
			t.Error(err)
		}
		if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 0 {
			t.Errorf("left behind: %v", left)
		}
	}
}

// A listener that lost its name to another leaves the other's name alone.
func TestCloseLeavesTheSuccessorsSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	first, err := Listen("unix://"+path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	_ = os.Remove(path)
	second := serve(t, "unix://"+path, Options{})
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	if _, err := dial(t, second, Options{}); err != nil {
		t.Error(err)
	}
}
