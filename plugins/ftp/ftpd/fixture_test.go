package ftpd_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/plugins/dir"
	"github.com/pannier/pannier/plugins/ftp"
	"github.com/pannier/pannier/spec/fault"
)

func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	goleak.VerifyTestMain(m)
}

// full is a session of package dir.
type full interface {
	plugins.Session
	plugins.Writer
	plugins.Lister
	plugins.Renamer
	plugins.Remover
	plugins.Maker
}

// node is a directory behind a password. What the fields say happens instead of what a
// directory does.
type node struct {
	root    string
	can     func(*plugins.Capabilities)
	login   func(ctx context.Context) error
	begin   func(name string) error                                            // of Write
	written func(n int64) error                                                // after n bytes
	commit  func(ctx context.Context, st plugins.Staged) (plugins.Attr, error) // instead
	read    func(r io.ReadCloser) io.ReadCloser
	list    func(yield func(plugins.Attr, error) bool)

	mu       sync.Mutex
	opened   []plugins.Endpoint
	sessions int // open
	commits  int // that have returned without an error
	aborts   int
}

const (
	user     = "partner"
	password = "of the partner"
)

func (n *node) Describe() plugins.Description { return dir.Driver{}.Describe() }

func (n *node) Open(ctx context.Context, to plugins.Endpoint) (plugins.Session, error) {
	n.mu.Lock()
	n.opened = append(n.opened, to)
	n.mu.Unlock()
	if n.login != nil {
		if err := n.login(ctx); err != nil {
			return nil, err
		}
	}
	if to.User != user || to.Password != password {
		return nil, fault.New("login", fault.Unauthenticated, "no")
	}
	s, err := dir.Driver{}.Open(ctx, plugins.Endpoint{URL: "dir://" + n.root})
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	n.sessions++
	n.mu.Unlock()
	return guest{s.(full), n}, nil
}

type guest struct {
	full
	n *node
}

func (g guest) Close() error {
	g.n.mu.Lock()
	g.n.sessions--
	g.n.mu.Unlock()
	return g.full.Close()
}

func (g guest) Capabilities() plugins.Capabilities {
	c := g.full.Capabilities()
	if g.n.can != nil {
		g.n.can(&c)
	}
	return c
}

func (g guest) Read(ctx context.Context, name string, offset int64) (io.ReadCloser, error) {
	r, err := g.full.Read(ctx, name, offset)
	if err == nil && g.n.read != nil {
		r = g.n.read(r)
	}
	return r, err
}

func (g guest) List(ctx context.Context, name string) iter.Seq2[plugins.Attr, error] {
	if g.n.list != nil {
		return g.n.list
	}
	return g.full.List(ctx, name)
}

func (g guest) Write(ctx context.Context, name string, w plugins.WriteRequest) (plugins.Staged, error) {
	if g.n.begin != nil {
		if err := g.n.begin(name); err != nil {
			return nil, err
		}
	}
	st, err := g.full.Write(ctx, name, w)
	if err != nil {
		return nil, err
	}
	return &staged{Staged: st, n: g.n}, nil
}

type staged struct {
	plugins.Staged
	n     *node
	bytes int64
}

func (s *staged) Write(p []byte) (int, error) {
	n, err := s.Staged.Write(p)
	s.bytes += int64(n)
	if err == nil && s.n.written != nil {
		err = s.n.written(s.bytes)
	}
	return n, err
}

func (s *staged) Commit(ctx context.Context) (a plugins.Attr, err error) {
	if s.n.commit != nil {
		a, err = s.n.commit(ctx, s.Staged)
	} else {
		a, err = s.Staged.Commit(ctx)
	}
	if err == nil {
		s.n.mu.Lock()
		s.n.commits++
		s.n.mu.Unlock()
	}
	return a, err
}

func (s *staged) Abort(ctx context.Context, keep bool) ([]byte, error) {
	defer func() {
		s.n.mu.Lock()
		s.n.aborts++
		s.n.mu.Unlock()
	}()
	return s.Staged.Abort(ctx, keep)
}

// counts are what the node has seen until now.
func (n *node) counts() (sessions, commits, aborts int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.sessions, n.commits, n.aborts
}

func (n *node) put(t testing.TB, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(n.root, name), b, 0o666); err != nil {
		t.Fatal(err)
	}
}

func (n *node) holds(t testing.TB, name string, want []byte) {
	t.Helper()
	got, err := os.ReadFile(filepath.Join(n.root, name))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s has %d bytes, %v; want %d", name, len(got), err, len(want))
	}
}

// empty fails when there is a file, also one that is not finished.
func (n *node) empty(t testing.TB) {
	t.Helper()
	entries, err := os.ReadDir(n.root)
	if err != nil || len(entries) > 0 {
		t.Errorf("there is %v, %v", entries, err)
	}
}

// served is a server that runs until the test ends.
type served struct {
	*node
	t       testing.TB
	address string
	stop    func() error // ends it, and is what Listen says
}

// serve runs one; options are name, value, name, value. Without any, it has no TLS.
func serve(t testing.TB, n *node, options ...string) *served {
	t.Helper()
	return serveAt(t, "127.0.0.1:0", n, options...)
}

func serveAt(t testing.TB, at string, n *node, options ...string) *served {
	t.Helper()
	if n == nil {
		n = &node{}
	}
	if n.root == "" {
		n.root = t.TempDir()
	}
	o := map[string]string{"tls": "off", "login-delay": "1ms", "timeout": "5s", "drain": "1s", "settle": "20ms"}
	for i := 0; i < len(options); i += 2 {
		o[options[i]] = options[i+1]
	}
	l, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- ftp.Driver{}.Listen(ctx, l, o, n) }()
	s := &served{node: n, t: t, address: l.Addr().String()}
	s.stop = sync.OnceValue(func() error {
		cancel()
		select {
		case err := <-done:
			return err
		case <-time.After(30 * time.Second):
			return fmt.Errorf("the server does not end")
		}
	})
	t.Cleanup(func() {
		if err := s.stop(); err != nil {
			t.Error(err)
		}
		if sessions, _, _ := n.counts(); sessions != 0 {
			t.Errorf("%d sessions are left open", sessions)
		}
	})
	return s
}

// raw is a client that says what it is told to.
type raw struct {
	t    testing.TB
	c    net.Conn
	tcp  net.Conn
	r    *bufio.Reader
	data *tls.Config // nil: in clear
}

// connect connects and takes the greeting.
func (s *served) connect() *raw {
	s.t.Helper()
	r := s.connectFrom("127.0.0.1")
	r.wants("220")
	return r
}

func (s *served) connectFrom(ip string) *raw {
	s.t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}, Timeout: 10 * time.Second}
	c, err := d.Dial("tcp", s.address)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = c.Close() })
	return &raw{t: s.t, c: c, tcp: c, r: bufio.NewReader(c)}
}

// login is connect and the login.
func (s *served) login() *raw {
	s.t.Helper()
	r := s.connect()
	r.login()
	return r
}

func (r *raw) login() {
	r.t.Helper()
	r.is("USER "+user, "331")
	r.is("PASS "+password, "230")
}

func (r *raw) send(text string) {
	r.t.Helper()
	if _, err := r.c.Write([]byte(text)); err != nil {
		r.t.Fatalf("sending %.40q: %v", text, err)
	}
}

// reply is the next reply, all lines of it.
func (r *raw) reply() (string, error) {
	_ = r.tcp.SetReadDeadline(time.Now().Add(20 * time.Second))
	all := ""
	for {
		line, err := r.r.ReadString('\n')
		all += line
		if err != nil {
			return all, err
		}
		if len(line) > 4 && line[3] == ' ' && line[0] != ' ' {
			return all, nil
		}
	}
}

// wants takes a reply with that beginning.
func (r *raw) wants(begin string) string {
	r.t.Helper()
	got, err := r.reply()
	if err != nil || !strings.HasPrefix(got, begin) {
		r.t.Fatalf("%q, %v; want %s", got, err, begin)
	}
	return got
}

// is sends a command and wants a reply.
func (r *raw) is(command, begin string) string {
	r.t.Helper()
	r.send(command + "\r\n")
	got, err := r.reply()
	if err != nil || !strings.HasPrefix(got, begin) {
		r.t.Fatalf("%.60q: %q, %v; want %s", command, got, err, begin)
	}
	return got
}

// gone fails unless the server has ended the connection, after the replies that may come.
func (r *raw) gone() {
	r.t.Helper()
	_ = r.tcp.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.Copy(io.Discard, r.r); err != nil && strings.Contains(err.Error(), "timeout") {
		r.t.Fatal("the connection is still there")
	}
}

// epsv is the port of EPSV.
func (r *raw) epsv() string {
	r.t.Helper()
	got := r.is("EPSV", "229")
	p := strings.Trim(got[strings.Index(got, "(|||")+4:], "|).\r\n")
	if _, err := strconv.Atoi(p); err != nil {
		r.t.Fatalf("%q", got)
	}
	return net.JoinHostPort(r.tcp.RemoteAddr().(*net.TCPAddr).IP.String(), p)
}

// dial makes a data connection, without TLS.
func (r *raw) dial(at string) *net.TCPConn {
	r.t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: r.tcp.LocalAddr().(*net.TCPAddr).IP}, Timeout: 10 * time.Second}
	c, err := d.Dial("tcp", at)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return c.(*net.TCPConn)
}

// begin is EPSV and a command, up to its 150. The connection is not TLS yet.
func (r *raw) begin(command string) *net.TCPConn {
	r.t.Helper()
	c := r.dial(r.epsv())
	r.is(command, "150")
	return c
}

// stor sends a file, and is the reply.
func (r *raw) stor(name string, b []byte) string {
	r.t.Helper()
	c := r.begin("STOR " + name)
	if _, err := c.Write(b); err != nil {
		r.t.Fatal(err)
	}
	_ = c.Close()
	got, err := r.reply()
	if err != nil {
		r.t.Fatal(err)
	}
	return got
}

// retr is a file, or a listing.
func (r *raw) retr(command string) ([]byte, string) {
	r.t.Helper()
	c := r.begin(command)
	b, err := io.ReadAll(c)
	got, err2 := r.reply()
	if err2 != nil {
		r.t.Fatal(err2)
	}
	if err != nil {
		b = nil
	}
	_ = c.Close()
	return b, got
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8(sha256.Sum256([]byte("ftpd")))
	_, _ = r.Read(b)
	return b
}

// eventually waits until something is so.
func eventually(t testing.TB, what string, so func() bool) {
	t.Helper()
	for range 6000 {
		if so() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("it never is so: " + what)
}

func mkdir(s *served, name string) error { return os.Mkdir(filepath.Join(s.root, name), 0o777) }

// absent fails when the file has its name.
func (n *node) absent(t testing.TB, name string) {
	t.Helper()
	if _, err := os.Stat(filepath.Join(n.root, name)); err == nil {
		t.Errorf("%s is there already", name)
	}
}
