package host_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/plugins/dir"
	"github.com/pannier/pannier/plugins/host"
	"github.com/pannier/pannier/spec/fault"
)

// lineServer serves a protocol of lines: USER PASSWORD, then PUT NAME TEXT or GET NAME, each
// answered with ok and what was read, or the error's kind.
type lineServer struct{ dir.Driver }

func (lineServer) Listen(ctx context.Context, l net.Listener, options map[string]string, node plugins.Driver) error {
	if options["bad"] != "" {
		return fault.New("listen", fault.Invalid, "a bad option")
	}
	defer context.AfterFunc(ctx, func() { _ = l.Close() })()
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			r := bufio.NewReader(c)
			line, _ := r.ReadString('\n')
			user, password, _ := strings.Cut(strings.TrimSpace(line), " ")
			s, err := node.Open(ctx, plugins.Endpoint{URL: "guest://" + c.RemoteAddr().String(), User: user, Password: password})
			if err != nil {
				fmt.Fprintln(c, fault.KindOf(err))
				return
			}
			fmt.Fprintln(c, "hello")
			defer s.Close()
			for {
				line, err := r.ReadString('\n')
				if err != nil {
					return
				}
				f := strings.Fields(line)
				var said []byte
				if f[0] == "BREAK" {
					breaks()
					return
				}
				if f[0] == "PUT" {
					err = sends(ctx, s, f[1], []byte(f[2]))
				} else {
					said, err = gets(ctx, s, f[1])
				}
				if err != nil && f[0] == "WHY" {
					fmt.Fprintln(c, fault.Text(err))
					continue
				}
				if err != nil {
					fmt.Fprintln(c, fault.KindOf(err))
					continue
				}
				fmt.Fprintln(c, "ok", string(said))
			}
		}()
	}
}

func sends(ctx context.Context, s plugins.Session, name string, b []byte) error {
	w, ok := s.(plugins.Writer)
	if !ok {
		return fault.New("put", fault.Unsupported, "no")
	}
	st, err := w.Write(ctx, name, plugins.WriteRequest{Size: -1})
	if err != nil {
		return err
	}
	if _, err = st.Write(b); err == nil {
		_, err = st.Commit(ctx)
	}
	return err
}

func gets(ctx context.Context, s plugins.Session, name string) ([]byte, error) {
	r, err := s.Read(ctx, name, 0)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(r)
	return b, errors.Join(err, r.Close())
}

// doorman is a node that lets one user into a directory.
type doorman struct {
	dir.Driver
	root   string
	opened chan string
}

func (d *doorman) Open(ctx context.Context, to plugins.Endpoint) (plugins.Session, error) {
	if to.User != "me" || to.Password != "secret" {
		return nil, fault.New("let in", fault.Unauthenticated, "not this one")
	}
	d.opened <- to.URL
	s, err := d.Driver.Open(ctx, plugins.Endpoint{URL: "dir://" + d.root})
	return talkative{s.(writes)}, err
}

// writes is what sessions of dir can do, as far as it is asked for.
type writes interface {
	plugins.Session
	plugins.Writer
}

// talkative says more than foreign clients may read.
type talkative struct{ writes }

func (t talkative) Capabilities() plugins.Capabilities {
	return plugins.Capabilities{Offsets: true, Write: true}
}

func (t talkative) Read(ctx context.Context, name string, offset int64) (io.ReadCloser, error) {
	r, err := t.writes.Read(ctx, name, offset)
	if err != nil {
		err = fault.Wrap("read", "/etc/secret", fault.New("ask the directory", fault.NotFound, "lost %d of %q: %w", 3, "hostb.internal", &fs.PathError{Op: "open", Path: "/etc/secret", Err: syscall.ENOENT}))
	}
	return r, err
}

// toNode is what leads to the node in the process of lineServer.
var toNode atomic.Pointer[net.UnixConn]

func dialNode(conn, descriptors *net.UnixConn) (plugins.Driver, io.Closer, error) {
	toNode.Store(conn)
	return host.Node(conn, descriptors)
}

// comes is what comes, if it comes.
func comes(t *testing.T, c <-chan error) error {
	select {
	case err := <-c:
		return err
	case <-time.After(time.Minute):
		t.Fatal("it does not end")
		return nil
	}
}

// breaks ends it.
func breaks() { _ = toNode.Load().Close() }

// TestNodeGreeted: the way to the node is greeted before anybody comes: a server closes what has said nothing for two minutes.
func TestNodeGreeted(t *testing.T) {
	var ends [2]*net.UnixConn
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "")
		c, err := net.FileConn(f)
		_ = f.Close()
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		ends[i] = c.(*net.UnixConn)
	}
	_, end, err := host.Node(ends[0], ends[0])
	if err != nil {
		t.Fatal(err)
	}
	defer end.Close()
	_ = ends[1].SetReadDeadline(time.Now().Add(20 * time.Second))
	if line, err := bufio.NewReader(ends[1]).ReadString('\n'); err != nil || line != "PRI * HTTP/2.0\r\n" {
		t.Errorf("%q, %v", line, err)
	}
}

// client talks to the line server.
type client struct {
	t *testing.T
	net.Conn
	r *bufio.Reader
}

func (c client) ask(line, want string) {
	c.t.Helper()
	fmt.Fprintln(c, line)
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
	if got, err := c.r.ReadString('\n'); err != nil || strings.TrimSpace(got) != want {
		c.t.Errorf("%s: %q, not %q, %v", line, got, want, err)
	}
}

func dial(t *testing.T, l net.Listener) client {
	t.Helper()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return client{t, c, bufio.NewReader(c)}
}

// TestListen: foreign clients of a plugin get what the node lets them have, in a plugin of this
// process and in one of its own, which the socket outlives.
func TestListen(t *testing.T) {
	for _, own := range []bool{false, true} {
		t.Run(fmt.Sprint("own process ", own), func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			p := host.InProcess(host.Config{Name: "lines"}, lineServer{})
			if own {
				p = host.New(host.Config{Name: "lines", Path: os.Args[0], Args: []string{"lines"}, Drain: 200 * time.Millisecond})
			}
			defer p.Close(context.Background())
			node := &doorman{root: t.TempDir(), opened: make(chan string, 10)}
			ctx, stop := context.WithCancel(t.Context())
			ended, started := make(chan error, 1), make(chan struct{}, 2)
			serve := func() {
				ended <- p.Listen(ctx, l.(*net.TCPListener), nil, node, func() { started <- struct{}{} })
			}
			go serve()
			<-started
			c := dial(t, l)
			c.ask("me wrong", "not authenticated")
			c = dial(t, l)
			c.ask("me secret", "hello")
			if url := <-node.opened; url != "guest://"+c.LocalAddr().String() {
				t.Errorf("it comes from %q", url)
			}
			c.ask("PUT /x "+strings.Repeat("a", 5000), "ok")
			c.ask("GET /x", "ok "+strings.Repeat("a", 5000))
			c.ask("GET /none", "not found")
			c.ask("WHY /none", "read: not found: ask the directory: not found: lost 3 of ...: no such file or directory")
			if b, err := os.ReadFile(filepath.Join(node.root, "x")); err != nil || !bytes.Equal(b, bytes.Repeat([]byte("a"), 5000)) {
				t.Errorf("%d bytes, %v", len(b), err)
			}
			if own {
				st, err := p.Describe(t.Context())
				if err != nil || !st.Server {
					t.Fatal(st, err)
				}
				_ = syscall.Kill(-st.PID, syscall.SIGKILL)
				if err := <-ended; !errors.Is(err, fault.Lost) {
					t.Errorf("when it was killed: %v", err)
				}
				late := dial(t, l) // waits in the socket
				go serve()
				<-started
				late.ask("me secret", "hello")
				late.ask("GET /none", "not found")
				fmt.Fprintln(late, "BREAK") // the way to the node: it is served by a new one
				if err := comes(t, ended); !errors.Is(err, fault.Lost) {
					t.Errorf("when the node could not be asked: %v", err)
				}
				go serve()
				<-started
				dial(t, l).ask("me secret", "hello")
			}
			stop()
			if err := <-ended; !errors.Is(err, fault.Canceled) {
				t.Errorf("when it was ended: %v", err)
			}
			if err := p.Listen(t.Context(), l.(*net.TCPListener), map[string]string{"bad": "1"}, node, func() {}); !errors.Is(err, fault.Invalid) {
				t.Errorf("with a bad option: %v", err)
			}
		})
	}
}

// TestListenUnsupported: a driver that is no Server.
func TestListenUnsupported(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	p := host.InProcess(host.Config{Name: "dir"}, dir.Driver{})
	defer p.Close(context.Background())
	if err := p.Listen(t.Context(), l.(*net.TCPListener), nil, dir.Driver{}, func() {}); !errors.Is(err, fault.Unsupported) {
		t.Error(err)
	}
}
