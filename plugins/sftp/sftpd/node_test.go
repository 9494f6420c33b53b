package sftpd

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/plugins/dir"
	"github.com/pannier/pannier/spec/fault"
)

func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.NewTextHandler(io.Discard, nil)))
	goleak.VerifyTestMain(m)
}

// node is a directory whose users have passwords and keys, and which notes what was done.
type node struct {
	root string
	hooks

	mu                            sync.Mutex // of hooks, once it is in use
	asked                         []plugins.Endpoint
	kept                          map[string][]byte // by name and mark: what Abort has returned
	sessions, commits, aborts     atomic.Int64
	committing, reading, writings atomic.Int64
	took                          atomic.Int64 // bytes
}

// hooks are how a node behaves.
type hooks struct {
	password string
	key      string // line of authorized_keys

	commit func(context.Context, plugins.Staged) (plugins.Attr, error) // nil: as the directory does
	read   func(io.ReadCloser) io.ReadCloser                           // nil: as the directory does
	change func(*plugins.Capabilities)
	wrap   func(plugins.Session) plugins.Session
	think  func(plugins.Endpoint) // before an answer about a login
	stuck  bool                   // bytes and entries come and go no more, until their context ends
}

// set changes them.
func (n *node) set(change func(h *hooks)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	change(&n.hooks)
}

func (n *node) now() hooks {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.hooks
}

const (
	user     = "partner"
	password = "correct horse"
)

func newNode(t testing.TB) *node {
	return &node{root: t.TempDir(), kept: map[string][]byte{}, hooks: hooks{password: password}}
}

func (n *node) Describe() plugins.Description { return dir.Driver{}.Describe() }

func (n *node) Open(ctx context.Context, e plugins.Endpoint) (plugins.Session, error) {
	n.mu.Lock()
	n.asked = append(n.asked, e)
	n.mu.Unlock()
	if think := n.now().think; think != nil {
		think(e)
	}
	h := n.now()
	good := e.User == user && (e.Password != "" && e.Password == h.password || h.key != "" && (e.Secrets["key"] == h.key || e.Secrets["offered"] == h.key))
	if !good {
		return nil, fault.New("log in", fault.Unauthenticated, "user, password or key are wrong")
	}
	s, err := dir.Driver{}.Open(ctx, plugins.Endpoint{URL: (&url.URL{Scheme: "dir", Path: n.root}).String()})
	if err != nil {
		return nil, err
	}
	n.sessions.Add(1)
	all := &session{s.(everything), n}
	if h.wrap != nil {
		return h.wrap(all), nil
	}
	return all, nil
}

type everything interface {
	plugins.Session
	plugins.Writer
	plugins.Lister
	plugins.Renamer
	plugins.Remover
	plugins.Maker
}

type session struct {
	everything
	n *node
}

func (s *session) Close() error {
	s.n.sessions.Add(-1)
	return s.everything.Close()
}

func (s *session) Capabilities() plugins.Capabilities {
	c := s.everything.Capabilities()
	if change := s.n.now().change; change != nil {
		change(&c)
	}
	return c
}

func (s *session) Read(ctx context.Context, name string, offset int64) (io.ReadCloser, error) {
	if offset > 0 && !s.Capabilities().Offsets {
		return nil, fault.New("read", fault.Unsupported, "from the beginning only")
	}
	r, err := s.everything.Read(ctx, name, offset)
	if err == nil && s.n.now().stuck {
		r = struct {
			io.Reader
			io.Closer
		}{stuck{ctx}, r}
	}
	if err == nil {
		s.n.reading.Add(1)
		if read := s.n.now().read; read != nil {
			r = read(r)
		}
	}
	return r, err
}

func (s *session) Write(ctx context.Context, name string, w plugins.WriteRequest) (plugins.Staged, error) {
	whose := name
	if mark, err := plugins.Marked(w.Resume); err == nil {
		whose += " " + mark
		s.n.mu.Lock()
		w.Resume = s.n.kept[whose]
		s.n.mu.Unlock()
		if w.Resume == nil && mark == "" {
			return nil, fault.New("write", fault.NotFound, "nothing is left of it")
		}
	} else {
		whose += " "
	}
	t, err := s.everything.Write(ctx, name, w)
	if err != nil {
		return nil, err
	}
	s.n.writings.Add(1)
	return &staged{t.(plugins.Checkpointer), s.n, ctx, whose}, nil
}

func (s *session) List(ctx context.Context, dir string) iter.Seq2[plugins.Attr, error] {
	if !s.n.now().stuck {
		return s.everything.List(ctx, dir)
	}
	return func(yield func(plugins.Attr, error) bool) {
		if yield(plugins.Attr{Name: "one"}, nil) {
			_, err := stuck{ctx}.Read(nil)
			yield(plugins.Attr{}, err)
		}
	}
}

// stuck is bytes that do not come.
type stuck struct{ ctx context.Context }

func (s stuck) Read([]byte) (int, error) {
	<-s.ctx.Done()
	return 0, s.ctx.Err()
}

type staged struct {
	plugins.Checkpointer
	n     *node
	ctx   context.Context
	whose string
}

func (t *staged) Write(b []byte) (int, error) {
	if t.n.now().stuck {
		return stuck{t.ctx}.Read(nil)
	}
	t.n.took.Add(int64(len(b)))
	return t.Checkpointer.Write(b)
}

func (t *staged) Commit(ctx context.Context) (plugins.Attr, error) {
	t.n.commits.Add(1)
	t.n.committing.Add(1)
	defer t.n.committing.Add(-1)
	if commit := t.n.now().commit; commit != nil {
		return commit(ctx, t.Checkpointer)
	}
	return t.Checkpointer.Commit(ctx)
}

func (t *staged) Abort(ctx context.Context, keep bool) ([]byte, error) {
	t.n.aborts.Add(1)
	resume, err := t.Checkpointer.Abort(ctx, keep)
	t.n.mu.Lock()
	defer t.n.mu.Unlock()
	delete(t.n.kept, t.whose)
	if resume != nil {
		t.n.kept[t.whose] = resume
	}
	return resume, err
}

// files are those that are there, unfinished ones too.
func (n *node) files(t testing.TB) (names []string) {
	t.Helper()
	err := filepath.WalkDir(n.root, func(p string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			names = append(names, strings.TrimPrefix(p, n.root+"/"))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func (n *node) has(t testing.TB, name string, want []byte) {
	t.Helper()
	if got, err := os.ReadFile(filepath.Join(n.root, name)); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%s has %d bytes and not the %d that were sent: %v", name, len(got), len(want), err)
	}
}

func (n *node) put(t testing.TB, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(n.root, name), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// running is a server of a test.
type running struct {
	address string
	hostkey string // file
	stop    func() // and wait
	end     context.CancelFunc
	done    chan error
}

// serve runs a server until the end of the test.
func serve(t testing.TB, n plugins.Driver, options ...string) *running {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := serveOn(t, l, n, options...)
	r.address = l.Addr().String()
	return r
}

func serveOn(t testing.TB, l net.Listener, n plugins.Driver, options ...string) *running {
	t.Helper()
	r := &running{hostkey: filepath.Join(t.TempDir(), "hostkey"), done: make(chan error, 1)}
	o := map[string]string{"hostkey": r.hostkey, "drain": "0s"}
	for i := 0; i < len(options); i += 2 {
		o[options[i]] = options[i+1]
	}
	ctx, end := context.WithCancel(context.Background())
	r.end = end
	go func() { r.done <- Serve(ctx, l, o, n) }()
	r.stop = sync.OnceFunc(func() {
		end()
		select {
		case err := <-r.done:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(2 * time.Minute): // longer than drain is in any test
			t.Error("the server does not end")
		}
	})
	t.Cleanup(r.stop)
	return r
}

// until waits for what comes true without anybody saying so.
func until(t testing.TB, what string, is func() bool) {
	t.Helper()
	for late := time.Now().Add(time.Minute); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(late) {
			t.Fatal("in vain: " + what)
		}
	}
}

// newKey is a key, and its line of authorized_keys.
func newKey(t testing.TB) (ssh.Signer, string, []byte) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return s, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(s.PublicKey()))), pem.EncodeToMemory(block)
}

// content is bytes that no shorter piece repeats.
func content(n int) []byte {
	b := make([]byte, n)
	x := uint32(n) + 1
	for i := range b {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		b[i] = byte(x)
	}
	return b
}
