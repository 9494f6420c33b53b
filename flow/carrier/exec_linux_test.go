package carrier

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pannier/pannier/flow/flowtest"
	"github.com/pannier/pannier/spec/fault"
)

// sh is the address of a shell command without tls.
func sh(script string) string { return plain(ExecAddress("sh", "-c", script)) }

// lane is the preface as printf of a shell writes it.
const lane = `printf '\361PAN\r\n\000\032'`

func dialExec(t testing.TB, address string, o Options) (net.Conn, error) {
	t.Helper()
	d, err := NewDialer(address, o)
	if err != nil {
		t.Fatal(err)
	}
	c, err := d.Dial(t.Context())
	if err == nil {
		t.Cleanup(func() { _ = c.Close() })
	}
	return c, err
}

// TestExecCarriesLanes: a command that leads to an ordinary listener, with keys.
func TestExecCarriesLanes(t *testing.T) {
	no, fo := pinned(t)
	dir := t.TempDir()
	id, err := LoadOrCreateIdentity(dir)
	if err != nil {
		t.Fatal(err)
	}
	fo.Identity, no.Pins = id, Pins{id.Key()}
	for name, address := range map[string]string{
		"stdio":  childAddress("stdio " + dir + " " + no.Identity.Key()),
		"banner": ExecAddress("sh", "-c", "echo Welcome to hostb; echo Last login: never; exec env '"+childEnv+"=stdio "+dir+" "+no.Identity.Key()+"' "+os.Args[0]),
	} {
		t.Run(name, func(t *testing.T) {
			log := &logged{}
			o := no
			o.Logger = log.logger()
			c, err := dialExec(t, address, o)
			if err != nil {
				t.Fatal(err)
			}
			if key := c.(Conn).PeerKey(); key != id.Key() {
				t.Errorf("key %q", key)
			}
			writePreface(t, c)
			readPreface(t, c)
			go func() { _, _ = c.Write([]byte("again")) }()
			got := make([]byte, 5)
			if _, err := io.ReadFull(c, got); err != nil || string(got) != "again" {
				t.Errorf("%q, %v", got, err)
			}
			if err := c.Close(); err != nil {
				t.Error(err)
			}
			if text := log.String(); !strings.Contains(text, "line=ready") || !strings.Contains(text, "this is not for the peer") {
				t.Errorf("the log has %s", text)
			}
		})
	}
}

// TestBanner: what comes before the handshake is skipped, within limits.
func TestBanner(t *testing.T) {
	c, err := dialExec(t, sh(`echo "Welcome PAN"; printf '\361PA'; `+lane+`; cat`), Options{})
	if err != nil {
		t.Fatal(err)
	}
	readPreface(t, c)
	writePreface(t, c)
	readPreface(t, c)
	for script, want := range map[string]string{
		`yes login: | head -c 70000; sleep 60`: `begin with "login:`,
		`echo no such user`:                    `begins with "no such user\n"`,
		`exit 0`:                               "EOF",
	} {
		c, err := dialExec(t, sh(script), Options{})
		if err == nil {
			_, err = c.Read(make([]byte, 1))
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", script, err)
		}
	}
	no, _ := pinned(t)
	if _, err := dialExec(t, ExecAddress("sh", "-c", "echo Permission denied, please try again.; exit 5"), no); !errors.Is(err, fault.Lost) ||
		!strings.Contains(err.Error(), "exit status 5") || !strings.Contains(err.Error(), "Permission denied") {
		t.Errorf("tls: %v", err)
	}
}

// TestExitIsTheError: how the command ended, and the last it said.
func TestExitIsTheError(t *testing.T) {
	log := &logged{}
	c, err := dialExec(t, sh(lane+`; read x; i=0; while [ $i -lt 150 ]; do echo line $i >&2; i=$((i+1)); done; head -c 2000 /dev/zero | tr '\0' x >&2; echo >&2; echo "host key has changed" >&2; exit 7`), Options{Logger: log.logger()})
	if err != nil {
		t.Fatal(err)
	}
	readPreface(t, c)
	if _, err := c.Write([]byte("go on\n")); err != nil {
		t.Fatal(err)
	}
	_, err = c.Read(make([]byte, 1))
	if !errors.Is(err, fault.Lost) || !strings.Contains(err.Error(), "exit status 7") || !strings.Contains(err.Error(), "host key has changed") {
		t.Errorf("read: %v", err)
	}
	_, err = c.Write([]byte("more"))
	if !errors.Is(err, fault.Lost) || !strings.Contains(err.Error(), "exit status 7") {
		t.Errorf("write: %v", err)
	}
	if n := strings.Count(log.String(), "command says"); n != maxLines+1 || !strings.Contains(log.String(), `line="line 99"`) {
		t.Errorf("%d lines in the log:\n%s", n, log)
	}
	_, err = dialExec(t, plain(ExecAddress("/none/such")), Options{})
	if !errors.Is(err, fault.NotFound) {
		t.Errorf("no command: %v", err)
	}
}

// TestCommandIsEnded: Close ends and reaps a command that does not care, with its children.
func TestCommandIsEnded(t *testing.T) {
	pids := filepath.Join(t.TempDir(), "pids")
	c, err := dialExec(t, sh(`trap '' TERM HUP PIPE; (trap '' TERM HUP PIPE; while :; do sleep 1; done) & echo $$ $! > `+pids+`; `+lane+`; while :; do sleep 1; done`), Options{})
	if err != nil {
		t.Fatal(err)
	}
	readPreface(t, c)
	text, err := os.ReadFile(pids)
	if err != nil {
		t.Fatal(err)
	}
	blocked := make(chan error, 1)
	go func() { _, err := c.Read(make([]byte, 1)); blocked <- err }()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := <-blocked; !errors.Is(err, net.ErrClosed) {
		t.Errorf("read: %v", err)
	}
	for i, f := range strings.Fields(string(text)) {
		pid, err := strconv.Atoi(f)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			if err := syscall.Kill(pid, 0); err != syscall.ESRCH {
				t.Errorf("process %d: %v", pid, err)
			}
			continue
		}
		eventually(t, "the end of the child's child", func() bool { // init reaps it
			stat, err := os.ReadFile("/proc/" + f + "/stat")
			return err != nil || strings.Contains(string(stat), ") Z ")
		})
	}
}

// TestListenOverCommand: a listener may run the command that leads to whoever calls.
func TestListenOverCommand(t *testing.T) {
	l := serve(t, sh(lane+`; cat >/dev/null`), Options{ExposePlaintext: true})
	for range 3 {
		s := <-l.lane
		readPreface(t, s)
		_ = s.Close()
	}
}

// TestStdioIsOver: there is one connection, and then Serve returns.
func TestStdioIsOver(t *testing.T) {
	a, b := socketPair(t)
	l, err := Listen("plain+stdio:", Options{ExposePlaintext: true, Stdio: [2]*os.File{b, b}})
	if err != nil {
		t.Fatal(err)
	}
	lanes := make(chan net.Conn, 1)
	served := make(chan error, 1)
	go func() { served <- l.Serve(func(c net.Conn) { lanes <- c }, nil) }()
	writePreface(t, a)
	s := <-lanes
	readPreface(t, s)
	_ = s.Close()
	if err := errors.Join(<-served, l.Close()); err != nil {
		t.Error(err)
	}
	a, b = socketPair(t)
	_ = a.Close()
	if l, err = Listen("plain+stdio:", Options{ExposePlaintext: true, Stdio: [2]*os.File{b, b}}); err != nil {
		t.Fatal(err)
	}
	if err := l.Serve(nil, nil); !errors.Is(err, io.EOF) {
		t.Errorf("stdin was empty: %v", err)
	}
	_ = l.Close()
}

// TestStdioTerminal: stdin that is a terminal is not dialled over, and has not been used by
// that: the next dial is told the same.
func TestStdioTerminal(t *testing.T) {
	master, path, err := flowtest.OpenPTY()
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	slave, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer slave.Close()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"=dialtwice")
	cmd.Stdin = slave
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s", err, &said)
	}
	if n := strings.Count(said.String(), "stdin or stdout is a terminal"); n != 2 || strings.Contains(said.String(), "have been used") {
		t.Errorf("the child says %q", &said)
	}
}

// TestStdioHalfClosed: stdin may be a socket, whose peer says that it writes no more and reads on.
func TestStdioHalfClosed(t *testing.T) {
	a, b := socketPair(t)
	c, err := openStdio(Address{Scheme: Stdio, Plain: true}, [2]*os.File{b, b})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := a.(*net.UnixConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("read: %v", err)
	}
	if _, err := c.Write([]byte("verdict")); err != nil {
		t.Error(err)
	}
	got := make([]byte, 7)
	if _, err := io.ReadFull(a, got); err != nil || string(got) != "verdict" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestStdioDialGivenUp: a dial that was given up before it began has not used
// the only connection, and one that has begun has.
func TestStdioDialGivenUp(t *testing.T) {
	a, b := socketPair(t)
	d, err := NewDialer("plain+stdio:", Options{Stdio: [2]*os.File{b, b}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.Dial(ctx); !errors.Is(err, fault.Canceled) {
		t.Errorf("given up: %v", err)
	}
	c, err := d.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	writePreface(t, a)
	readPreface(t, c)
	_ = c.Close()
	if _, err := d.Dial(t.Context()); !errors.Is(err, fault.Lost) || !errors.Is(err, errOver) {
		t.Errorf("a second connection: %v", err)
	}
}

// socketPair is a connection and the file at its other end.
func socketPair(t testing.TB) (net.Conn, *os.File) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		syscall.CloseOnExec(fd)
	}
	if err := syscall.SetNonblock(fds[1], true); err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fds[0]), "near")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c, os.NewFile(uintptr(fds[1]), "far")
}
