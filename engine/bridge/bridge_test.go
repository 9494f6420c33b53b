package bridge_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/boltstore"
	"github.com/pannier/pannier/engine/bridge"
	"github.com/pannier/pannier/engine/enginetest"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/engine/task"
	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/plugins/dir"
	"github.com/pannier/pannier/plugins/host"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/relpath"
)

// server is a directory as a server, at which things go wrong.
type server struct {
	t    *testing.T
	root string
	dir.Driver

	mu       sync.Mutex
	can      func(*plugins.Capabilities) // changes them; nil: as dir's
	breakAt  int64                       // bytes of a write after which the connection is lost, once; 0: never
	lose     string                      // "commit": its answer is lost, once. "before": it is not done. "gone": neither, and what was sent is gone
	lost     func()                      // called when it is not done
	always   bool                        // and not once
	creating sync.RWMutex
	dies     atomic.Int32  // so many writes are the last that a plugin does: nobody gives up the file
	hang     chan struct{} // logins but the first say so, and take for ever
	logins   atomic.Int32
	cutRead  func()                      // a reading is cut off after 2 MiB, once, when this was called
	timeless bool                        // it says no times
	blind    bool                        // nobody may look at files
	refuses  error                       // what Commit says of files that have got their names all the same; nil: that they have
	begins   func()                      // called before the next file is begun, once
	naming   func(context.Context) error // called when a file has got its name; an error is the answer
	taken    bool                        // who waits for files takes each that gets its name
	sumFails error
	busy     func() error // instead of the first copy
	sumless  bool         // its checksums are of something else
	less     int64        // Copy says that it has copied so many bytes less
	commits  int
	written  int64
	copies   int
	copying  func(ctx context.Context, copies int, at int64) error // before each piece of a copy, and before it has its name; an error ends it, and what was written is kept
}

func (s *server) Open(ctx context.Context, to plugins.Endpoint) (plugins.Session, error) {
	if hang := s.hang; hang != nil && s.logins.Add(1) > 1 {
		hang <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	}
	inner, err := s.Driver.Open(ctx, to)
	if err != nil {
		return nil, err
	}
	return &session{all: inner.(all), server: s}, nil
}

// all is what sessions of dir can do.
type all interface {
	plugins.Session
	plugins.Writer
	plugins.Lister
	plugins.Renamer
	plugins.Remover
	plugins.Maker
	plugins.Checksummer
}

type session struct {
	all
	server *server
}

func (s *session) Capabilities() plugins.Capabilities {
	c := s.all.Capabilities()
	if s.server.can != nil {
		s.server.can(&c)
	}
	return c
}

func (s *session) Stat(ctx context.Context, name string) (plugins.Attr, error) {
	if s.server.blind {
		return plugins.Attr{}, fault.FromPeer("stat", fault.Permission, "not you")
	}
	a, err := s.all.Stat(ctx, name)
	if s.server.timeless {
		a.Modified = time.Time{}
	}
	return a, err
}

func (s *session) Read(ctx context.Context, name string, offset int64) (io.ReadCloser, error) {
	r, err := s.all.Read(ctx, name, offset)
	if cut := s.server.cutRead; err == nil && cut != nil {
		s.server.cutRead = nil
		return cutOff{io.MultiReader(io.LimitReader(r, 2<<20), readerFunc(func([]byte) (int, error) {
			cut()
			return 0, fault.FromPeer("read", fault.Lost, "the server is gone")
		})), r}, nil
	}
	return r, err
}

func (s *session) Checksum(ctx context.Context, name, algorithm string, length int64) ([]byte, error) {
	if err := s.server.sumFails; err != nil {
		return nil, err
	}
	h := plugins.NewChecksum(algorithm)
	if h == nil || length != -1 {
		return nil, fault.New("checksum", fault.Unsupported, "%s of %d bytes", algorithm, length)
	}
	b, err := os.ReadFile(filepath.Join(s.server.root, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.FromPeer("checksum", fault.NotFound, "it is not there")
	}
	h.Write(b)
	if s.server.sumless {
		h.Write([]byte("and more"))
	}
	return h.Sum(nil), err
}

type cutOff struct {
	io.Reader
	io.Closer
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func (s *session) Write(ctx context.Context, name string, r plugins.WriteRequest) (plugins.Staged, error) {
	if begins := s.server.begins; begins != nil {
		s.server.begins = nil
		begins()
	}
	s.server.creating.RLock() // also for who has given up waiting
	defer s.server.creating.RUnlock()
	st, err := s.all.Write(ctx, name, r)
	if err != nil {
		return nil, err
	}
	return &staged{Staged: st, session: s, name: name}, nil
}

// idle waits until no file is being begun.
func (s *server) idle() {
	s.creating.Lock()
	defer s.creating.Unlock()
}

// Copy implements plugins.Copier, as two servers would that name it after each piece.
func (s *session) Copy(ctx context.Context, name string, to plugins.Session, toName string, r plugins.CopyRequest) (plugins.CopyResult, error) {
	s.server.mu.Lock()
	s.server.copies++
	copies := s.server.copies
	s.server.mu.Unlock()
	if busy := s.server.busy; copies == 1 && busy != nil {
		return plugins.CopyResult{}, busy()
	}
	a, err := s.Stat(ctx, name)
	if err != nil {
		return plugins.CopyResult{}, err
	}
	from, err := s.Read(ctx, name, 0)
	if err != nil {
		return plugins.CopyResult{}, err
	}
	defer from.Close()
	w, err := to.(plugins.Writer).Write(ctx, toName, plugins.WriteRequest{Size: a.Size, Resume: r.Resume})
	if err != nil {
		return plugins.CopyResult{}, err
	}
	at := w.Offset()
	b := make([]byte, a.Size)
	n, _ := from.Read(b)
	hold := func() error { return nil }
	if copying := s.server.copying; copying != nil {
		hold = func() error { return copying(ctx, copies, at) }
	}
	stop := func(err error) (plugins.CopyResult, error) {
		kept, _ := w.Abort(context.WithoutCancel(ctx), true)
		return plugins.CopyResult{Bytes: at, Resume: kept}, err
	}
	r.Progress(at, nil)
	for at < int64(n) {
		if err := hold(); err != nil {
			return stop(err)
		}
		m, err := w.Write(b[at:min(at+1<<20, int64(n))])
		if err != nil {
			return stop(err)
		}
		at += int64(m)
		kept, err := w.(plugins.Checkpointer).Checkpoint(ctx)
		if err != nil {
			return plugins.CopyResult{}, err
		}
		r.Progress(at, kept)
	}
	if err := hold(); err != nil {
		return stop(err)
	}
	_, err = w.Commit(ctx)
	return plugins.CopyResult{Bytes: at - s.server.less, Verified: "size"}, err
}

type staged struct {
	plugins.Staged
	session *session
	name    string
	n       int64
	dead    bool // the process that was writing
}

func (st *staged) Write(p []byte) (int, error) {
	s := st.session.server
	s.mu.Lock()
	cut := s.breakAt > 0 && st.n+int64(len(p)) > s.breakAt
	if cut {
		s.breakAt = 0
	}
	s.mu.Unlock()
	if cut {
		return 0, fault.FromPeer("write", fault.Lost, "the server is gone")
	}
	n, err := st.Staged.Write(p)
	if err == nil && s.dies.Add(-1) >= 0 {
		st.dead = true
		return n, fault.FromPeer("write", fault.Lost, "the plugin has died")
	}
	st.n += int64(n)
	s.mu.Lock()
	s.written += int64(n)
	s.mu.Unlock()
	return n, err
}

func (st *staged) Abort(ctx context.Context, keep bool) ([]byte, error) {
	if st.dead {
		return nil, fault.FromPeer("abort", fault.Lost, "the plugin has died")
	}
	return st.Staged.Abort(ctx, keep)
}

func (st *staged) Commit(ctx context.Context) (plugins.Attr, error) {
	s := st.session.server
	s.mu.Lock()
	lose := s.lose
	if !s.always {
		s.lose = ""
	}
	s.mu.Unlock()
	if lose == "gone" {
		_, _ = st.Staged.Abort(ctx, false)
	}
	if lose == "before" || lose == "gone" {
		if s.lost != nil {
			s.lost()
		}
		return plugins.Attr{}, fault.FromPeer("commit", fault.Lost, "the server is gone")
	}
	a, err := st.Staged.Commit(ctx)
	if err != nil {
		return a, err
	}
	s.mu.Lock()
	s.commits++
	s.mu.Unlock()
	if s.taken {
		if err := os.Rename(filepath.Join(s.root, st.name), filepath.Join(s.root, "taken")); err != nil {
			s.t.Error(err)
		}
	}
	if naming := s.naming; naming != nil {
		if err := naming(ctx); err != nil {
			return plugins.Attr{}, err
		}
	}
	if refuses := s.refuses; refuses != nil {
		return plugins.Attr{}, refuses
	}
	if lose == "commit" {
		return plugins.Attr{}, fault.FromPeer("commit", fault.Lost, "the server is gone")
	}
	return a, nil
}

func (st *staged) Checkpoint(ctx context.Context) ([]byte, error) {
	return st.Staged.(plugins.Checkpointer).Checkpoint(ctx)
}

// world is a node and its servers.
type world struct {
	t       *testing.T
	dir     string
	root    string
	servers map[string]*server
	plugins map[string]*host.Plugin
	direct  error
	shut    error // of logins
	log     lines
	rules   map[string]*engine.Rule
	digest  sideeffect.Algorithm

	store  *boltstore.Store
	gate   *enginetest.Gate
	line   *bridge.Line
	engine *engine.Engine
}

func (w *world) Has(name string) bool { return w.servers[name] != nil }

func (w *world) Login(ctx context.Context, name string) (plugins.Session, func(error), error) {
	if w.shut != nil {
		return nil, nil, w.shut
	}
	s, err := w.plugins[name].Open(ctx, plugins.Endpoint{URL: "dir://" + w.servers[name].root})
	if err != nil {
		return nil, nil, err
	}
	return s, func(error) { _ = s.Close() }, nil
}

func (w *world) File(server, dir string, p relpath.Path) sideeffect.Identity {
	return bridge.File(w, server, dir, p)
}

func (w *world) Send(context.Context, string, string, task.Outgoing) (string, error) {
	return "", errors.New("no task does")
}

func (w *world) Fetch(context.Context, string, string, io.Writer) (int64, string, error) {
	return 0, "", errors.New("no task does")
}

func (w *world) Direct(string, string) error { return w.direct }

func newWorld(t *testing.T, servers ...string) *world {
	w := &world{t: t, dir: t.TempDir(), servers: map[string]*server{}, plugins: map[string]*host.Plugin{}, digest: sideeffect.SHA256,
		direct: fault.New("direct", fault.Permission, "they do not name each other")}
	w.root = filepath.Join(w.dir, "files")
	if err := os.Mkdir(w.root, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range servers {
		s := &server{t: t, root: t.TempDir()}
		w.servers[name], w.plugins[name] = s, host.InProcess(host.Config{Name: name}, s)
		t.Cleanup(func() { _ = w.plugins[name].Close(context.Background()) })
	}
	retry := engine.Retry{Delay: 5 * time.Millisecond}
	w.rules = map[string]*engine.Rule{
		"push": {Name: "push", Direction: engine.Send, Partners: []string{"*"}, Root: w.root, Quota: sideeffect.NoQuota, Digest: w.digest, Retry: retry},
		"pull": {Name: "pull", Direction: engine.Receive, Partners: []string{"*"}, Root: w.root, Quota: sideeffect.NoQuota, Digest: w.digest, Retry: retry},
		"copy": {Name: "copy", Direction: engine.Send, Partners: []string{"*"}, Bridge: "one:/", Quota: sideeffect.NoQuota, Retry: retry},
	}
	t.Cleanup(w.stop)
	return w
}

// start opens everything. The store fails at that commit, if it is not 0.
func (w *world) start(at int, after bool) {
	w.t.Helper()
	var err error
	if w.store, err = boltstore.Open(boltstore.Config{Path: filepath.Join(w.dir, "store.db")}); err != nil {
		w.t.Fatal(err)
	}
	w.gate = enginetest.NewGate(w.store, at, after)
	book := engine.Book{Rules: w.rules, Partners: map[string]*engine.Partner{}}
	for name := range w.servers {
		book.Partners[name] = &engine.Partner{Name: name, Address: "dir:", Bridge: true}
	}
	w.line, err = bridge.NewLine(bridge.Options{Servers: w, Notes: filepath.Join(w.dir, "bridges.db"), Log: slog.New(slog.NewTextHandler(&w.log, nil)), Rule: book.Rule})
	if err != nil {
		w.t.Fatal(err)
	}
	w.engine, err = engine.Open(w.t.Context(), engine.Config{Node: "a", Store: w.gate, Line: w.line, Book: book, Bridges: w, SyncEvery: 1 << 20})
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) stop() {
	if w.engine == nil {
		return
	}
	_ = w.engine.Close()
	_ = w.line.Close()
	_ = w.store.Close()
	w.engine = nil
	for _, s := range w.servers { // plugins end with their node, these do not
		s.idle()
	}
}

// put makes a file.
func (w *world) put(root, name string, size int) []byte {
	w.t.Helper()
	b := make([]byte, size)
	r := rand.New(rand.NewPCG(uint64(size), 1))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	path := filepath.Join(root, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, b, 0o644)); err != nil {
		w.t.Fatal(err)
	}
	return b
}

func (w *world) submit(rule, partner, source, target string) store.Ref {
	w.t.Helper()
	o := engine.Order{Rule: rule, Partner: partner, Source: path(w.t, source), Target: path(w.t, target)}
	r, _, err := w.engine.Submit(w.t.Context(), o)
	if err != nil {
		w.t.Fatal(err)
	}
	return store.RefOf(&r)
}

func path(t *testing.T, s string) relpath.Path {
	t.Helper()
	p, err := relpath.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// ends waits for a state.
func (w *world) ends(ref store.Ref, want lifecycle.State) lifecycle.Record {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 30*time.Second)
	defer cancel()
	r, err := w.engine.Wait(ctx, ref)
	if err != nil {
		w.t.Fatal(err)
	}
	if r.State != want {
		w.t.Fatalf("it is %v, not %v: %+v", r.State, want, r.Failure)
	}
	return r
}

// is compares a file, and says that nothing unfinished is beside it.
func (w *world) is(root, name string, want []byte) {
	w.t.Helper()
	got, err := os.ReadFile(filepath.Join(root, name))
	if err != nil || !bytes.Equal(got, want) {
		w.t.Errorf("%s has %d bytes, not the %d that were sent: %v", name, len(got), len(want), err)
	}
	left, _ := filepath.Glob(filepath.Join(root, filepath.Dir(name), ".pannier-*"))
	if len(left) > 0 {
		w.t.Errorf("left over: %q", left)
	}
}

var sizes = []int{0, 1, 300_000, 1 << 20, 3<<20 + 7}

func TestPush(t *testing.T) {
	w := newWorld(t, "one")
	w.start(0, false)
	for _, size := range sizes {
		name := fmt.Sprint("f", size)
		b := w.put(w.root, name, size)
		when := time.Date(2011, 12, 13, 14, 15, 16, 0, time.UTC)
		if err := os.Chtimes(filepath.Join(w.root, name), when, when); err != nil {
			t.Fatal(err)
		}
		r := w.ends(w.submit("push", "one", name, "deep/in/"+name), lifecycle.Done)
		w.is(w.servers["one"].root, "deep/in/"+name, b)
		if fi, err := os.Stat(filepath.Join(w.servers["one"].root, "deep/in", name)); err != nil || !fi.ModTime().Equal(when) {
			t.Errorf("%d bytes: the server's file has not the time of its source: %v, %v", size, fi, err)
		}
		if r.Verified != "sha256" || r.Proof == "" || r.Size != int64(size) {
			t.Errorf("%d bytes: compared %q, proof %q, size %d", size, r.Verified, r.Proof, r.Size)
		}
	}
}

func TestPull(t *testing.T) {
	w := newWorld(t, "one")
	w.start(0, false)
	for _, size := range sizes {
		name := fmt.Sprint("f", size)
		b := w.put(w.servers["one"].root, "out/"+name, size)
		r := w.ends(w.submit("pull", "one", "out/"+name, "in/"+name), lifecycle.Done)
		w.is(w.root, "in/"+name, b)
		if r.Verified != "size+sha256" {
			t.Errorf("%d bytes: compared %q", size, r.Verified)
		}
	}
}

// TestPullAlone: a server that computes no digest is believed no more than it says.
func TestPullAlone(t *testing.T) {
	w := newWorld(t, "one")
	w.servers["one"].can = func(c *plugins.Capabilities) { c.Checksums = nil }
	w.start(0, false)
	b := w.put(w.servers["one"].root, "x", 2<<20)
	r := w.ends(w.submit("pull", "one", "x", "x"), lifecycle.Done)
	w.is(w.root, "x", b)
	if r.Verified != "size" || r.Proof == "" {
		t.Errorf("compared %q, proof %q", r.Verified, r.Proof)
	}
}

// TestPullOtherDigest: where the rule has no digest, or one that the server does not compute, what
// came is held against the best that it does.
func TestPullOtherDigest(t *testing.T) {
	for _, c := range []struct {
		rule sideeffect.Algorithm
		can  []string
		want string
	}{
		{sideeffect.None, []string{"md5", "sha256"}, "size+sha256"},
		{sideeffect.None, []string{"md5"}, "size+md5"},
		{sideeffect.SHA512, []string{"sha256"}, "size+sha256"},
		{sideeffect.SHA256, []string{"sha512", "sha256"}, "size+sha256"},
		{sideeffect.None, []string{"whirlpool"}, "size"},
	} {
		w := newWorld(t, "one")
		s := w.servers["one"]
		s.can = func(k *plugins.Capabilities) { k.Checksums = c.can }
		w.rules["pull"].Digest = c.rule
		w.rules["pull"].Retry.Attempts = 1
		w.start(0, false)
		for _, size := range sizes {
			name := fmt.Sprint("f", size)
			b := w.put(s.root, name, size)
			r := w.ends(w.submit("pull", "one", name, name), lifecycle.Done)
			w.is(w.root, name, b)
			if r.Verified != c.want {
				t.Errorf("%v, %q, %d bytes: compared %q, not %q", c.rule, c.can, size, r.Verified, c.want)
			}
		}
		if s.sumless = true; c.want != "size" {
			if r := w.ends(w.submit("pull", "one", "f1", "other"), lifecycle.InError); r.Failure.Kind != fault.Corrupt {
				t.Errorf("%v, %q: %+v", c.rule, c.can, r.Failure)
			}
			if _, err := os.Stat(filepath.Join(w.root, "other")); err == nil {
				t.Errorf("%v, %q: it has its name", c.rule, c.can)
			}
		}
		w.stop()
	}
}

// TestPullDigestFails: a digest that nobody has asked for, and that does not come, fails nothing.
func TestPullDigestFails(t *testing.T) {
	w := newWorld(t, "one")
	s := w.servers["one"]
	s.sumFails = fault.FromPeer("checksum", fault.DeadPeer, "no reply")
	s.timeless = true // another attempt would begin anew
	s.can = func(c *plugins.Capabilities) { c.Checksums = []string{"md5"} }
	w.rules["pull"].Digest = sideeffect.None
	w.rules["pull"].Retry.Attempts = 1
	w.start(0, false)
	b := w.put(s.root, "x", 2<<20)
	if r := w.ends(w.submit("pull", "one", "x", "x"), lifecycle.Done); r.Verified != "size" {
		t.Errorf("compared %q", r.Verified)
	}
	w.is(w.root, "x", b)
}

// oneServer are bridge.Servers of one session, whose Stat ends the opening and yet succeeds.
type oneServer struct {
	plugins.Session
	end  context.CancelFunc
	over int
}

func (*oneServer) Has(string) bool             { return true }
func (*oneServer) Direct(string, string) error { return nil }

func (o *oneServer) Login(context.Context, string) (plugins.Session, func(error), error) {
	return o, func(error) { o.over++ }, nil
}

func (o *oneServer) Stat(context.Context, string) (plugins.Attr, error) {
	o.end()
	return plugins.Attr{Size: 1}, nil
}

// TestOpeningEndsLate: a source whose context is over is not returned as one that is open.
func TestOpeningEndsLate(t *testing.T) {
	opening, end := context.WithCancel(t.Context())
	o := &oneServer{end: end}
	_, err := bridge.File(o, "one", "", path(t, "x")).OpenSource(sideeffect.SourceSpec{Opening: opening})
	if fault.KindOf(err) != fault.Canceled || o.over != 1 {
		t.Errorf("%v; the session was given back %d times", err, o.over)
	}
}

// TestNotBegunNotOurs: a copy that has not begun leaves nothing by which a file of somebody else, as
// large as it, is taken for it.
func TestNotBegunNotOurs(t *testing.T) {
	w := newWorld(t, "one", "two")
	w.direct = nil
	w.rules["copy"].Exists = engine.Refuse
	s := w.servers["one"]
	s.can = func(c *plugins.Capabilities) { c.Copy = true }
	w.plugins["two"] = w.plugins["one"]
	w.put(s.root, "x", 1000)
	theirs := bytes.Repeat([]byte("t"), 1000)
	s.busy = func() error {
		if err := os.WriteFile(filepath.Join(w.servers["two"].root, "y"), theirs, 0o644); err != nil {
			t.Error(err)
		}
		return fault.FromPeer("copy", fault.Overloaded, "come again")
	}
	w.start(0, false)
	if r := w.ends(w.submit("copy", "two", "x", "y"), lifecycle.InError); r.Failure.Kind != fault.Exists {
		t.Errorf("%+v", r.Failure)
	}
	w.is(w.servers["two"].root, "y", theirs)
}

func TestCopy(t *testing.T) {
	for _, direct := range []bool{false, true} {
		w := newWorld(t, "one", "two")
		if direct {
			w.direct = nil
			w.servers["one"].can = func(c *plugins.Capabilities) { c.Copy = true }
			// sessions of one process
			w.plugins["two"] = w.plugins["one"]
		}
		w.start(0, false)
		for _, size := range sizes {
			name := fmt.Sprint("f", size)
			b := w.put(w.servers["one"].root, name, size)
			r := w.ends(w.submit("copy", "two", name, "to/"+name), lifecycle.Done)
			w.is(w.servers["two"].root, "to/"+name, b)
			if want := map[bool]string{false: "size", true: "direct+size"}[direct]; r.Verified != want {
				t.Errorf("%d bytes, direct %v: compared %q, not %q", size, direct, r.Verified, want)
			}
		}
		if got := w.servers["one"].copies > 0; got != direct {
			t.Errorf("direct %v: %v", direct, got)
		}
		w.stop()
	}
}

// newDirect is a world of two servers that send to each other. Their sessions are of one process, and
// what is copied is counted at "one".
func newDirect(t *testing.T) (w *world, one *server) {
	w = newWorld(t, "one", "two")
	w.direct, w.plugins["two"], one = nil, w.plugins["one"], w.servers["one"]
	one.can = func(c *plugins.Capabilities) { c.Copy = true }
	return w, one
}

// leaves waits until nothing unfinished is at the server.
func (w *world) leaves(server string) {
	w.t.Helper()
	for began := time.Now(); ; time.Sleep(time.Millisecond) {
		left, _ := filepath.Glob(filepath.Join(w.servers[server].root, ".pannier-*"))
		if len(left) == 0 {
			return
		}
		if time.Since(began) > 30*time.Second {
			w.t.Fatalf("left over: %q", left)
		}
	}
}

// TestCopyStopped: a direct copy that ends with the node goes on in its next life, and of one that is
// cancelled nothing stays. The driver can say nothing more in either case.
func TestCopyStopped(t *testing.T) {
	for _, canceled := range []bool{false, true} {
		t.Run(fmt.Sprint("canceled ", canceled), func(t *testing.T) {
			w, s := newDirect(t)
			held := make(chan struct{})
			s.copying = func(ctx context.Context, copies int, at int64) error {
				if copies > 1 || at < 1<<20 {
					return nil
				}
				close(held)
				<-ctx.Done()
				return ctx.Err()
			}
			w.start(0, false)
			b := w.put(s.root, "x", 4<<20)
			ref := w.submit("copy", "two", "x", "y")
			<-held
			for { // until the node has heard how to go on, which the driver has said before
				is, err := w.engine.Get(t.Context(), ref)
				if err != nil {
					t.Fatal(err)
				}
				if is.Live != nil && is.Live.Received >= 1<<20 {
					break
				}
				time.Sleep(time.Millisecond)
			}
			if canceled {
				if _, err := w.engine.Cancel(t.Context(), ref, "not wanted"); err != nil {
					t.Fatal(err)
				}
				w.ends(ref, lifecycle.InError)
				w.leaves("two")
				return
			}
			w.stop()
			w.start(0, false)
			r := w.ends(ref, lifecycle.Done)
			w.is(w.servers["two"].root, "y", b)
			if s.written != 4<<20 || !strings.HasPrefix(r.Verified, "direct") {
				t.Errorf("%d bytes were written, compared %q", s.written, r.Verified)
			}
		})
	}
}

// TestCopyForbidden: servers that do not send to each other any more, or may not, leave nothing of
// what they had copied when the file comes through this node; and what was copied and must not have
// its name is not sent a second time.
func TestCopyForbidden(t *testing.T) {
	const size = 4 << 20
	lost := fault.FromPeer("copy", fault.Lost, "the server is gone")
	run := func(name string, want lifecycle.State, written int64, copying func(w *world, copies int, at int64) error) {
		t.Run(name, func(t *testing.T) {
			w, s := newDirect(t)
			s.copying = func(_ context.Context, copies int, at int64) error { return copying(w, copies, at) }
			w.start(0, false)
			b := w.put(s.root, "x", size)
			r := w.ends(w.submit("copy", "two", "x", "y"), want)
			w.leaves("two")
			if s.written != written {
				t.Errorf("%d bytes were written, not %d", s.written, written)
			}
			switch {
			case want == lifecycle.InError:
				if r.Failure.Kind != fault.Permission {
					t.Errorf("%+v", r.Failure)
				}
			case name == "another source":
				b = w.put(t.TempDir(), "x", size+1)
				fallthrough
			default:
				w.is(w.servers["two"].root, "y", b)
			}
		})
	}
	half := func(copies int, at int64) bool { return copies == 1 && at == 2<<20 }
	run("afterwards", lifecycle.Done, size+2<<20, func(_ *world, copies int, at int64) error {
		switch {
		case half(copies, at):
			return lost
		case copies > 1:
			return fault.FromPeer("copy", fault.Refused, "not to that address")
		}
		return nil
	})
	run("to name it", lifecycle.InError, size, func(_ *world, copies int, at int64) error {
		if at == size {
			return fault.FromPeer("copy", fault.Permission, "no renaming here")
		}
		return nil
	})
	run("by the configuration", lifecycle.Done, size+2<<20, func(w *world, copies int, at int64) error {
		if half(copies, at) {
			w.direct = fault.New("direct", fault.Permission, "they do not name each other any more")
			return lost
		}
		return nil
	})
	run("another source", lifecycle.Done, size+1+2<<20, func(w *world, copies int, at int64) error {
		if half(copies, at) {
			w.put(w.servers["one"].root, "x", size+1)
			return lost
		}
		return nil
	})
}

// TestCopyOfNothing: of a source that has gone in the moment before the copy, the destination gets no
// directories.
func TestCopyOfNothing(t *testing.T) {
	w, s := newDirect(t)
	w.put(s.root, "x", 10)
	s.busy = func() error {
		return errors.Join(os.Remove(filepath.Join(s.root, "x")), fault.FromPeer("copy", fault.NotFound, "no such file"))
	}
	w.start(0, false)
	if r := w.ends(w.submit("copy", "two", "x", "deep/y"), lifecycle.InError); r.Failure.Kind != fault.NotFound {
		t.Errorf("%+v", r.Failure)
	}
	if all, _ := os.ReadDir(w.servers["two"].root); len(all) > 0 {
		t.Errorf("the destination has %v", all)
	}
}

// TestBroken: what a connection that is lost has cost is sent again, and no more.
func TestBroken(t *testing.T) {
	const size = 8 << 20
	t.Run("in the bytes", func(t *testing.T) {
		w := newWorld(t, "one")
		s := w.servers["one"]
		s.breakAt = 5 << 20
		w.start(0, false)
		b := w.put(w.root, "x", size)
		w.ends(w.submit("push", "one", "x", "x"), lifecycle.Done)
		w.is(s.root, "x", b)
		if s.written > size+1<<20 || s.commits != 1 {
			t.Errorf("%d bytes were written, %d commits", s.written, s.commits)
		}
	})
	for _, lose := range []string{"commit", "before"} {
		t.Run(lose, func(t *testing.T) {
			w := newWorld(t, "one")
			s := w.servers["one"]
			s.lose = lose
			s.can = func(c *plugins.Capabilities) { c.Checksums = nil } // then the digest does not tell
			w.start(0, false)
			b := w.put(w.root, "x", size)
			w.ends(w.submit("push", "one", "x", "x"), lifecycle.Done)
			w.is(s.root, "x", b)
			if s.written != size || s.commits != 1 {
				t.Errorf("%d bytes were written, %d commits", s.written, s.commits)
			}
		})
	}
}

// TestVerdictNotGuessed: a server that hands files on has named one before it knows whether that goes well. A name
// there is no success of the request, whatever is known of the file.
func TestVerdictNotGuessed(t *testing.T) {
	for _, sums := range []bool{false, true} {
		w := newWorld(t, "one")
		s := w.servers["one"]
		s.refuses = fault.FromPeer("commit", fault.Overloaded, "try again later")
		s.can = func(c *plugins.Capabilities) {
			if c.Verdict = true; !sums {
				c.Checksums = nil
			}
		}
		w.rules["push"].Retry.Attempts = 3
		w.start(0, false)
		w.put(w.root, "x", 2<<20)
		if r := w.ends(w.submit("push", "one", "x", "x"), lifecycle.InError); r.Failure.Kind != fault.Overloaded || s.commits < 2 {
			t.Errorf("sums %v: %+v after %d commits", sums, r.Failure, s.commits)
		}
		w.stop()
	}
}

// TestBlind: a server where nobody may look takes files, also after one attempt was cut off at its end.
func TestBlind(t *testing.T) {
	for _, lose := range []string{"", "before", "commit"} {
		w := newWorld(t, "one")
		s := w.servers["one"]
		s.blind, s.lose = true, lose
		s.sumFails = fault.FromPeer("checksum", fault.Permission, "not you")
		w.start(0, false)
		b := w.put(w.root, "x", 2<<20)
		w.ends(w.submit("push", "one", "x", "x"), lifecycle.Done)
		w.is(s.root, "x", b)
		w.stop()
	}
}

// TestTaken: a file that somebody at the server takes away as soon as it has its name was delivered, once.
func TestTaken(t *testing.T) {
	w := newWorld(t, "one")
	s := w.servers["one"]
	s.taken = true
	w.start(0, false)
	b := w.put(w.root, "x", 2<<20)
	r := w.ends(w.submit("push", "one", "x", "x"), lifecycle.Done)
	w.is(s.root, "taken", b)
	if s.commits != 1 || r.Verified != "size" {
		t.Errorf("%d commits, compared %q", s.commits, r.Verified)
	}
}

// TestCancelTooLate: a file that gets its name while somebody cancels the request was delivered, and the request says so.
func TestCancelTooLate(t *testing.T) {
	w := newWorld(t, "one")
	s := w.servers["one"]
	named := make(chan struct{})
	s.naming = func(ctx context.Context) error {
		close(named)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(200 * time.Millisecond):
			return nil
		}
	}
	w.start(0, false)
	b := w.put(w.root, "x", 2<<20)
	ref := w.submit("push", "one", "x", "x")
	<-named
	if _, err := w.engine.Cancel(t.Context(), ref, "no more"); err == nil || !strings.Contains(err.Error(), "too late") {
		t.Error(err)
	}
	w.ends(ref, lifecycle.Done)
	w.is(s.root, "x", b)
}

// TestOlderFile: that what was sent is gone does not say that the file under the name, of the same
// size, is it.
func TestOlderFile(t *testing.T) {
	for _, timeless := range []bool{false, true} {
		w := newWorld(t, "one")
		s := w.servers["one"]
		s.lose, s.timeless = "gone", timeless
		s.can = func(c *plugins.Capabilities) { c.Checksums = nil }
		w.start(0, false)
		b := w.put(w.root, "x", 2<<20)
		if err := os.WriteFile(filepath.Join(s.root, "x"), make([]byte, 2<<20), 0o644); err != nil {
			t.Fatal(err)
		}
		w.ends(w.submit("push", "one", "x", "x"), lifecycle.Done)
		w.is(s.root, "x", b)
		w.stop()
	}
}

// TestNotOurs: a file that somebody else has put under the name meanwhile is not replaced where
// the rule replaces none, not even if it is as large: before it is looked at, or after that.
func TestNotOurs(t *testing.T) {
	for _, size := range []int{5, 2 << 20} {
		for _, after := range []bool{false, true} {
			w := newWorld(t, "one")
			s, theirs := w.servers["one"], bytes.Repeat([]byte("t"), size)
			comes := sync.OnceFunc(func() {
				if err := os.WriteFile(filepath.Join(s.root, "x"), theirs, 0o644); err != nil {
					t.Error(err)
				}
			})
			w.rules["push"].Exists = engine.Refuse
			s.lose = "before"
			s.lost = func() {
				if !after {
					comes()
				}
			}
			s.can = func(c *plugins.Capabilities) {
				if c.Checksums = nil; after && s.lose == "" && s.written > 0 {
					comes()
				}
			}
			w.start(0, false)
			w.put(w.root, "x", 2<<20)
			if r := w.ends(w.submit("push", "one", "x", "x"), lifecycle.InError); r.Failure.Kind != fault.Exists {
				t.Errorf("%d bytes, after %v: %+v", size, after, r.Failure)
			}
			if b, err := os.ReadFile(filepath.Join(s.root, "x")); err != nil || !bytes.Equal(b, theirs) { // what is unfinished goes beside this
				t.Errorf("%d bytes, after %v: it has %d, %v", size, after, len(b), err)
			}
			w.stop()
		}
	}
}

// TestNotSpliced: a server that says no time does not say that a file is still the same.
func TestNotSpliced(t *testing.T) {
	for _, rule := range []string{"pull", "copy"} {
		w := newWorld(t, "one", "two")
		s := w.servers["one"]
		s.timeless = true
		for _, s := range w.servers {
			s.can = func(c *plugins.Capabilities) { c.Checksums = nil }
		}
		now := bytes.Repeat([]byte("new"), 1<<20)
		s.cutRead = func() {
			if err := os.WriteFile(filepath.Join(s.root, "x"), now, 0o644); err != nil {
				t.Error(err)
			}
		}
		w.put(s.root, "x", len(now))
		w.start(0, false)
		partner, root := "one", w.root
		if rule == "copy" {
			partner, root = "two", w.servers["two"].root
		}
		w.ends(w.submit(rule, partner, "x", "x"), lifecycle.Done)
		w.is(root, "x", now)
		w.stop()
	}
}

// TestCopiedLess: a plugin that says to have copied less than there is has not copied the file.
func TestCopiedLess(t *testing.T) {
	w := newWorld(t, "one", "two")
	w.direct, w.servers["one"].less = nil, 1
	w.servers["one"].can = func(c *plugins.Capabilities) { c.Copy = true }
	w.plugins["two"] = w.plugins["one"]
	w.rules["copy"].Retry.Attempts = 3
	w.start(0, false)
	w.put(w.servers["one"].root, "x", 2<<20) // gone on with, if anything were left
	if r := w.ends(w.submit("copy", "two", "x", "x"), lifecycle.InError); r.Failure.Kind != fault.SourceChanged {
		t.Errorf("%+v", r.Failure)
	}
}

// TestSweep: what a request has left that failed, and is forgotten later, goes without another
// start of the node.
func TestSweep(t *testing.T) {
	w := newWorld(t, "one")
	s := w.servers["one"]
	s.lose, s.always = "before", true
	w.rules["push"].Retry.Attempts = 1
	w.start(0, false)
	w.put(w.root, "x", 4<<20)
	ref := w.submit("push", "one", "x", "x")
	w.ends(ref, lifecycle.InError)
	left := func() int {
		all, _ := filepath.Glob(filepath.Join(s.root, ".pannier-*"))
		return len(all)
	}
	if left() != 1 {
		t.Fatalf("%d unfinished files are kept for a retry", left())
	}
	var forgotten atomic.Bool
	asked := make(chan lifecycle.Key)
	w.line.Sweep(func(k lifecycle.Key) bool {
		select {
		case asked <- k:
		default:
		}
		return forgotten.Load()
	}, time.Millisecond)
	if k := <-asked; k != ref.Key || left() != 1 {
		t.Errorf("%v, and %d files", k, left())
	}
	forgotten.Store(true)
	for began := time.Now(); left() > 0 && time.Since(began) < 30*time.Second; time.Sleep(time.Millisecond) {
	}
	if left() != 0 {
		t.Error("it is still there")
	}
}

// TestSweepGivenUp: what a cancelled request has left at a server that cannot be reached then goes when it can be, and not
// while an operator's retry goes on with it.
func TestSweepGivenUp(t *testing.T) {
	for _, retried := range []bool{false, true} {
		t.Run(fmt.Sprint("retried ", retried), func(t *testing.T) {
			w := newWorld(t, "one")
			s := w.servers["one"]
			s.breakAt = 3 << 20
			w.rules["push"].Retry = engine.Retry{Delay: time.Hour}
			w.start(0, false)
			b := w.put(w.root, "x", 4<<20)
			ref := w.submit("push", "one", "x", "x")
			for began := time.Now(); ; time.Sleep(time.Millisecond) {
				r, err := w.engine.Get(t.Context(), ref)
				if err != nil || time.Since(began) > 30*time.Second {
					t.Fatal(err)
				}
				if r.State == lifecycle.Interrupted {
					break
				}
			}
			w.shut = fault.FromPeer("log in", fault.Lost, "connection refused")
			if _, err := w.engine.Cancel(t.Context(), ref, "it is down"); err != nil {
				t.Fatal(err)
			}
			w.ends(ref, lifecycle.InError)
			for began := time.Now(); w.log.with("an unfinished file stays at a bridge") == ""; time.Sleep(time.Millisecond) {
				if time.Since(began) > 30*time.Second {
					t.Fatal("nobody has tried to remove it")
				}
			}
			w.shut = nil
			sweep := func() { w.line.Sweep(func(lifecycle.Key) bool { return false }, time.Millisecond) }
			if !retried {
				sweep()
				w.leaves("one")
				return
			}
			s.begins = func() {
				sweep()
				time.Sleep(100 * time.Millisecond)
			}
			if _, err := w.engine.Retry(t.Context(), ref); err != nil {
				t.Fatal(err)
			}
			w.ends(ref, lifecycle.Done)
			w.is(s.root, "x", b)
			if s.commits != 1 || s.written > 5<<20 {
				t.Errorf("%d commits, %d bytes were written", s.commits, s.written)
			}
		})
	}
}

// TestSmallLeft: what a plugin that has died has left of a small file, of which there is no note, goes with
// the next attempt, or when the request ends without one: also in another process than it was begun in.
func TestSmallLeft(t *testing.T) {
	const ever = 1 << 20
	for name, end := range map[string]func(w *world, s *server, ref store.Ref, b []byte){
		"next attempt": func(w *world, s *server, ref store.Ref, b []byte) {
			s.dies.Store(0)
			w.ends(ref, lifecycle.Done)
			w.is(s.root, "in/x", b)
		},
		"next process": func(w *world, s *server, ref store.Ref, b []byte) {
			w.stop()
			s.dies.Store(0)
			w.start(0, false)
			w.ends(ref, lifecycle.Done)
			w.is(s.root, "in/x", b)
		},
		"cancel": func(w *world, s *server, ref store.Ref, _ []byte) {
			if _, err := w.engine.Cancel(w.t.Context(), ref, ""); err != nil {
				w.t.Error(err)
			}
			w.ends(ref, lifecycle.InError)
		},
		"no source in the next process": func(w *world, s *server, ref store.Ref, _ []byte) {
			w.stop()
			if err := os.Remove(filepath.Join(w.root, "x")); err != nil {
				w.t.Error(err)
			}
			w.start(0, false)
			w.ends(ref, lifecycle.InError)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, "one")
			s := w.servers["one"]
			s.dies.Store(ever)
			w.start(0, false)
			b := w.put(w.root, "x", 300_000)
			ref := w.submit("push", "one", "x", "in/x")
			left := func() int {
				all, _ := filepath.Glob(filepath.Join(s.root, "in/.pannier-*"))
				return len(all)
			}
			for began := time.Now(); s.dies.Load() > ever-2; time.Sleep(time.Millisecond) {
				if time.Since(began) > 30*time.Second {
					t.Fatal("nobody tries")
				}
			}
			if left() > 1 {
				t.Errorf("two attempts have left %d files", left())
			}
			end(w, s, ref, b)
			for began := time.Now(); left() > 0 && time.Since(began) < 30*time.Second; time.Sleep(time.Millisecond) {
			}
			if left() > 0 {
				t.Errorf("%d files are left", left())
			}
		})
	}
}

// TestCancelInLogin: an operator's word does not wait for a server that says nothing.
func TestCancelInLogin(t *testing.T) {
	for _, rule := range []string{"push", "pull", "copy"} {
		w := newWorld(t, "one", "two")
		w.servers["one"].hang = make(chan struct{}, 10)
		w.start(0, false)
		w.put(w.root, "x", 2<<20)
		ref := w.submit(rule, map[string]string{"copy": "two"}[rule]+map[string]string{"push": "one", "pull": "one"}[rule], "x", "x")
		<-w.servers["one"].hang
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		if _, err := w.engine.Cancel(ctx, ref, ""); err != nil {
			t.Errorf("%s: %v", rule, err)
		}
		cancel()
		w.ends(ref, lifecycle.InError)
		w.stop()
	}
}

// TestOpeningEnds: who waits for a file of a server that says nothing need not wait for the login.
func TestOpeningEnds(t *testing.T) {
	w := newWorld(t, "one")
	s := w.servers["one"]
	w.put(s.root, "x", 10)
	s.hang = make(chan struct{}, 1)
	f := w.File("one", "", path(t, "x"))
	src, err := f.OpenSource(sideeffect.SourceSpec{Opening: t.Context()})
	if err != nil {
		t.Fatal(err)
	}
	_ = src.Close()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-s.hang
		cancel()
	}()
	ended := make(chan error, 1)
	go func() {
		_, err := f.OpenSource(sideeffect.SourceSpec{Opening: ctx})
		ended <- err
	}()
	select {
	case err := <-ended:
		if fault.KindOf(err) != fault.Canceled {
			t.Error(err)
		}
	case <-time.After(30 * time.Second):
		t.Error("it waits for the login")
	}
}

// TestCrash: the node dies at each commit of its store, before or behind it. The file gets
// its name once, and hardly anything is sent twice.
func TestCrash(t *testing.T) {
	const size = 4 << 20
	for at := 1; at < 12; at++ {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprint(at, after), func(t *testing.T) {
				w := newWorld(t, "one")
				s := w.servers["one"]
				s.can = func(c *plugins.Capabilities) { c.Checksums = nil }
				b := w.put(w.root, "x", size)
				w.start(at, after)
				o := engine.Order{ID: lifecycle.ID{1}, Rule: "push", Partner: "one", Source: path(t, "x")}
				w.survives(o)
				w.is(s.root, "x", b)
				if s.commits != 1 || s.written > size {
					t.Errorf("%d commits, %d bytes", s.commits, s.written)
				}
			})
		}
	}
}

// survives submits an order to a node that dies at the commit it was started for, or not at all, and
// once more to the one that comes after it, where it has to end DONE.
func (w *world) survives(o engine.Order) {
	w.t.Helper()
	if _, _, err := w.engine.Submit(w.t.Context(), o); err == nil {
		e, done := w.engine, make(chan struct{})
		go func() {
			_, _ = e.Wait(w.t.Context(), store.Ref{Key: lifecycle.Key{Requester: "a", ID: o.ID}, Role: lifecycle.Requester})
			close(done)
		}()
		select {
		case <-done:
		case <-w.gate.Dead:
		}
	}
	w.stop()
	w.start(0, false)
	r, _, err := w.engine.Submit(w.t.Context(), o)
	if err != nil {
		w.t.Fatal(err)
	}
	w.ends(store.RefOf(&r), lifecycle.Done)
}

// TestCrashRefuse: the node dies at each commit of its store, and the rule replaces no file: not its
// own either, but the request that has delivered it has succeeded.
func TestCrashRefuse(t *testing.T) {
	for _, c := range []struct {
		rule, partner string
		size          int
		commits       int // at most: what leaves no trace that it was delivered is delivered again
	}{{"push", "one", 10, 2}, {"push", "one", 2 << 20, 1}, {"copy", "two", 10, 2}, {"copy", "two", 2 << 20, 1}} {
		for at := 2; at < 24; at++ {
			t.Run(fmt.Sprint(c.rule, c.size, " ", at), func(t *testing.T) {
				w := newWorld(t, "one", "two")
				w.direct = nil
				for _, s := range w.servers {
					s.can = func(k *plugins.Capabilities) { k.Checksums, k.Copy = nil, true }
				}
				w.plugins["two"] = w.plugins["one"]
				w.rules[c.rule].Exists = engine.Refuse
				to, from := w.servers[c.partner].root, w.root
				if c.rule == "copy" {
					from = w.servers["one"].root
				}
				b := w.put(from, "x", c.size)
				w.start(at/2, at%2 == 1)
				o := engine.Order{ID: lifecycle.ID{1}, Rule: c.rule, Partner: c.partner, Source: path(t, "x"), Target: path(t, "y")}
				w.survives(o)
				w.is(to, "y", b)
				n := 0
				for _, s := range w.servers {
					n += max(s.commits, s.copies)
				}
				if n > c.commits {
					t.Errorf("it was delivered %d times", n)
				}
			})
		}
	}
}

// TestRefused: errors of the server are the request's, and say whose they are.
func TestRefused(t *testing.T) {
	w := newWorld(t, "one")
	w.rules["push"].Exists = engine.Refuse
	w.start(0, false)
	w.put(w.root, "x", 10)
	w.put(w.servers["one"].root, "x", 5)
	if r := w.ends(w.submit("push", "one", "x", "x"), lifecycle.InError); r.Failure.Kind != fault.Exists || r.Failure.Side != fault.Peer {
		t.Errorf("%+v", r.Failure)
	}
	if r := w.ends(w.submit("pull", "one", "none", "none"), lifecycle.InError); r.Failure.Kind != fault.NotFound || r.Failure.Side != fault.Peer ||
		!strings.Contains(r.Failure.Cause, "no such file") || strings.Contains(r.Failure.Told, "none") {
		t.Errorf("%+v", r.Failure)
	}
	w.put(w.root, "big", 2<<20)
	w.servers["one"].can = func(c *plugins.Capabilities) { c.Write = false }
	if r := w.ends(w.submit("push", "one", "big", "big"), lifecycle.InError); r.Failure.Kind != fault.Unsupported {
		t.Errorf("%+v", r.Failure)
	}
}
