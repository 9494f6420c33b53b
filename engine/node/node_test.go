package node_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/engine/boltstore"
	"github.com/pannier/pannier/engine/config"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/node"
	"github.com/pannier/pannier/engine/peer"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/flow/flowtest"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/relpath"
)

// host is a node with its directories.
type host struct {
	t    testing.TB
	name string
	dir  string // short: sockets are in it
	node *node.Node
	stop context.CancelFunc
	over chan error
	log  *flowtest.Log
	o    node.Options
}

func newHost(t testing.TB, name string) *host {
	t.Helper()
	dir, err := os.MkdirTemp("", "node")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Mkdir(filepath.Join(dir, "files"), 0o755); err != nil {
		t.Fatal(err)
	}
	return &host{t: t, name: name, dir: dir, log: &flowtest.Log{}}
}

// config is the file of a node with rules "push" and "pull" for everyone, listening on
// a socket, and whatever is added.
func (h *host) config(more string) *config.Config {
	h.t.Helper()
	cfg, err := config.Parse(h.name+".toml", []byte(h.text(more)))
	if err != nil {
		h.t.Fatal(err)
	}
	return cfg
}

// text is what config reads.
func (h *host) text(more string) string {
	return fmt.Sprintf(`
node = { name = %q, state = %q, listen = ["unix://%s/peer"], log = "debug", drain = "5s" }
[[rule]]
name = "push"
direction = "send"
partners = ["*"]
root = %q
retry = { delay = "1s" }
[[rule]]
name = "pull"
direction = "receive"
partners = ["*"]
root = %q
`, h.name, h.dir+"/state", h.dir, h.dir+"/files", h.dir+"/files") + more
}

// partner is the section about h in another node's file: they call each other
// over sockets, as the user of this process.
func (h *host) partner() string {
	u, err := user.Current()
	if err != nil {
		h.t.Fatal(err)
	}
	return fmt.Sprintf("[[partner]]\nname = %q\naddress = \"unix://%s/peer\"\nuser = %q\n", h.name, h.dir, u.Uid)
}

func (h *host) open(cfg *config.Config) error {
	h.o.Output = h.log
	n, err := node.Open(context.Background(), cfg, h.o)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	h.node, h.stop, h.over = n, stop, make(chan error, 1)
	go func() { h.over <- n.Run(ctx) }()
	return nil
}

func (h *host) start(cfg *config.Config) {
	h.t.Helper()
	if err := h.open(cfg); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { h.end() })
}

// end stops the node and returns what Run has returned.
func (h *host) end() error {
	if h.node == nil {
		return nil
	}
	h.node = nil
	h.stop()
	err := <-h.over
	if h.t.Failed() {
		h.t.Logf("log of %s:\n%s", h.name, h.log)
	}
	return err
}

func (h *host) write(name, text string) {
	h.t.Helper()
	if err := os.WriteFile(filepath.Join(h.dir, "files", name), []byte(text), 0o644); err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) read(name string) string {
	h.t.Helper()
	b, err := os.ReadFile(filepath.Join(h.dir, "files", name))
	if err != nil {
		h.t.Fatal(err)
	}
	return string(b)
}

func (h *host) submit(partner, rule, source, target string) store.Ref {
	h.t.Helper()
	from, err := relpath.Parse(source)
	if err != nil {
		h.t.Fatal(err)
	}
	to, err := relpath.Parse(target)
	if err != nil {
		h.t.Fatal(err)
	}
	return h.ordered(engine.Order{Partner: partner, Rule: rule, Source: from, Target: to})
}

func (h *host) ordered(o engine.Order) store.Ref {
	h.t.Helper()
	r, _, err := h.node.Engine().Submit(context.Background(), o)
	if err != nil {
		h.t.Fatal(err)
	}
	return store.RefOf(&r)
}

// done waits until a request is DONE.
func (h *host) done(ref store.Ref) {
	h.t.Helper()
	r, err := h.node.Engine().Wait(context.Background(), ref)
	if err != nil || r.State != lifecycle.Done {
		h.t.Fatalf("%v, %v: %+v\n%s", err, r.State, r.Failure, h.log)
	}
}

// TestTwoNodes: two nodes in a process, over sockets, both ways.
func TestTwoNodes(t *testing.T) {
	a, b := newHost(t, "a"), newHost(t, "b")
	a.start(a.config(b.partner()))
	b.start(b.config(a.partner()))
	a.write("x", "from a")
	b.write("y", "from b")
	a.done(a.submit("b", "push", "x", "x2"))
	a.done(a.submit("b", "pull", "y", "y2"))
	if b.read("x2") != "from a" || a.read("y2") != "from b" {
		t.Error("the files differ")
	}
}

// TestTLS: over tls, with the keys of the state directories; a node whose key the
// other does not know gets nowhere.
func TestTLS(t *testing.T) {
	a, b := newHost(t, "a"), newHost(t, "b")
	ca, cb := a.config(""), b.config("")
	ca.Node.Listen, cb.Node.Listen = []string{"tls://127.0.0.1:0"}, []string{"tls://127.0.0.1:0"}
	b.start(cb)
	keyOfA, err := node.Identity(ca)
	if err != nil {
		t.Fatal(err)
	}
	meet := func(key string) {
		t.Helper()
		known := *cb
		known.Book.Partners = map[string]*engine.Partner{"a": {Name: "a", Keys: []string{key}}}
		if _, err := b.node.Reload(&known); err != nil {
			t.Fatal(err)
		}
	}
	ca.Book.Partners = map[string]*engine.Partner{"b": {Name: "b", Address: b.node.Addresses()[0], Keys: []string{b.node.Key()}}}
	a.start(ca)
	if a.node.Key() != keyOfA.Key() {
		t.Error("Identity and the node differ")
	}
	meet("sha256:" + strings.Repeat("0", 64))
	if _, err := a.node.Engine().Reach(context.Background(), "b"); err == nil {
		t.Error("b lets a stranger in")
	}
	meet(a.node.Key())
	a.write("x", "over tls")
	a.done(a.submit("b", "push", "x", "x2"))
	if b.read("x2") != "over tls" {
		t.Error("the files differ")
	}
}

// TestSelf: a node is its own partner without being told so.
func TestSelf(t *testing.T) {
	a := newHost(t, "a")
	a.start(a.config(""))
	a.write("x", "own")
	a.done(a.submit("a", "push", "x", "x2"))
	if a.read("x2") != "own" {
		t.Error("the files differ")
	}
}

// TestPipes: a pair of nodes over connections in memory, in a bubble: seven
// days pass until the requested end gives up.
func TestPipes(t *testing.T) {
	a, b := newHost(t, "a"), newHost(t, "b")
	a.write("x", "in memory")
	synctest.Test(t, func(t *testing.T) {
		pipe := carrier.NewPipe()
		defer pipe.Close()
		ca, cb := a.config(""), b.config("")
		for _, c := range []*config.Config{ca, cb} {
			c.Node.Listen, c.Node.Admin = nil, "" // sockets block for real
		}
		ca.Book.Partners = map[string]*engine.Partner{"b": {Name: "b", Address: "pipe:"}}
		cb.Book.Partners = map[string]*engine.Partner{"a": {Name: "a"}}
		a.o.Dial = func(string) *carrier.Pipe { return pipe }
		b.o.Pipe, b.o.PipePartner = pipe, "a"
		for _, h := range []struct {
			*host
			*config.Config
		}{{b, cb}, {a, ca}} {
			if err := h.open(h.Config); err != nil {
				t.Fatal(err)
			}
			defer h.end()
		}
		began := time.Now()
		a.done(a.submit("b", "push", "x", "x2"))
		if took := time.Since(began); took > time.Second {
			t.Errorf("it took %v of a bubble's time", took)
		}
	})
	if b.read("x2") != "in memory" {
		t.Error("the files differ")
	}
}

// TestOneProcess: a state directory is one node's at a time, and free after it.
func TestOneProcess(t *testing.T) {
	a := newHost(t, "a")
	cfg := a.config("")
	a.start(cfg)
	second := *a
	second.node = nil
	if err := second.open(cfg); !errors.Is(err, fault.Exists) || !strings.Contains(err.Error(), "stop it first") {
		t.Errorf("a second node: %v", err)
	}
	if err := a.end(); err != nil {
		t.Error(err)
	}
	a.start(cfg)
}

func TestStateDirectory(t *testing.T) {
	a := newHost(t, "a")
	cfg := a.config("")
	a.start(cfg)
	for name, want := range map[string]os.FileMode{".": 0o700, "identity.pem": 0o600, "store.db": 0o600, "admin.sock": 0o600, "../peer": 0o666} {
		fi, err := os.Stat(filepath.Join(cfg.Node.State, name))
		if err != nil || fi.Mode().Perm() != want {
			t.Errorf("%s: %v, %v; want %04o", name, fi.Mode().Perm(), err, want)
		}
	}
	a.end()
	if err := os.Chmod(cfg.Node.State, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := a.open(cfg); !errors.Is(err, fault.Permission) || !strings.Contains(err.Error(), "chmod 0700") {
		t.Errorf("a directory that others may write: %v", err)
	}
}

// TestLog: it is as the configuration says, and says whose it is.
func TestLog(t *testing.T) {
	a := newHost(t, "a")
	cfg := a.config("")
	cfg.Node.LogFormat = "json"
	a.start(cfg)
	a.end()
	for line := range strings.Lines(a.log.String()) {
		var said struct{ Node string }
		if err := json.Unmarshal([]byte(line), &said); err != nil || said.Node != "a" {
			t.Errorf("%v: %s", err, line)
		}
	}
	if a.log.String() == "" {
		t.Error("nothing is logged")
	}
}

// TestLogOfRequests: each line about a request has its id and that of the first one of its chain.
func TestLogOfRequests(t *testing.T) {
	a, b := newHost(t, "a"), newHost(t, "b")
	hosts := map[*host]*host{a: b, b: a}
	for h, other := range hosts {
		cfg := h.config(other.partner())
		cfg.Node.LogFormat, cfg.Node.Log = "json", slog.LevelDebug
		h.start(cfg)
	}
	a.write("x", "content")
	a.done(a.submit("b", "push", "x", "x2"))
	for h := range hosts {
		if err := h.end(); err != nil {
			t.Error(err)
		}
		lines := 0
		for line := range strings.Lines(h.log.String()) {
			var said struct{ ID, Follow string }
			if err := json.Unmarshal([]byte(line), &said); err != nil {
				t.Errorf("%v: %s", err, line)
			}
			if said.ID == "" {
				continue
			}
			if lines++; said.Follow != said.ID {
				t.Errorf("it does not say which chain it is of: %s", line)
			}
		}
		if lines == 0 {
			t.Errorf("%s says nothing of the request:\n%s", h.name, h.log.String())
		}
	}
}

// TestRestart: what has not been carried out when a node ends is carried out
// after it has begun again.
func TestRestart(t *testing.T) {
	a, b := newHost(t, "a"), newHost(t, "b")
	cfg := a.config(b.partner())
	a.start(cfg)
	a.write("x", "later")
	ref := a.submit("b", "push", "x", "x2")
	if err := a.end(); err != nil {
		t.Fatal(err)
	}
	b.start(b.config(a.partner()))
	a.start(cfg)
	a.done(ref)
	if b.read("x2") != "later" {
		t.Error("the files differ")
	}
}

// TestDrain: what runs when the node is told to end may finish, and nothing new
// begins.
func TestDrain(t *testing.T) {
	a := newHost(t, "a")
	gate := filepath.Join(a.dir, "files", "gate")
	a.start(a.config(fmt.Sprintf(`
[[rule]]
name = "slow"
direction = "send"
partners = ["a"]
root = %q
sender = { pre = [ { task = "exec", argv = ["/bin/sh", "-c", "touch began; until test -e gate; do sleep 0.01; done; touch ended"] } ] }
`, a.dir+"/files")))
	a.write("x", "slowly")
	a.submit("a", "slow", "x", "x2")
	for !a.exists("began") {
		time.Sleep(time.Millisecond)
	}
	n := a.node
	a.stop()
	for !strings.Contains(a.log.String(), "draining") {
		time.Sleep(time.Millisecond)
	}
	for { // draining begins a moment after it is announced
		_, _, err := n.Engine().Submit(context.Background(), engine.Order{Partner: "a", Rule: "push", Source: must(relpath.Parse("x")), Target: must(relpath.Parse("x3"))})
		if errors.Is(err, fault.Draining) {
			break
		}
	}
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := a.end(); err != nil {
		t.Error(err)
	}
	if !a.exists("ended") {
		t.Error("the task was cut off")
	}
}

func (h *host) exists(name string) bool {
	_, err := os.Stat(filepath.Join(h.dir, "files", name))
	return err == nil
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// TestReload: partners and rules change as a whole, what cannot change is named,
// and a file that is refused changes nothing.
func TestReload(t *testing.T) {
	a, b := newHost(t, "a"), newHost(t, "b")
	b.start(b.config(a.partner()))
	a.start(a.config(""))
	a.write("x", "new")
	book := func() []string {
		b := a.node.Engine().Book()
		return slices.Sorted(maps.Keys(b.Partners))
	}
	before := book()

	next := a.config(b.partner())
	next.Node.Concurrent, next.Node.Listen = 7, nil
	_, err := a.node.Reload(next)
	if !errors.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "node.listen, node.concurrent can only change when the node starts") {
		t.Errorf("what cannot change: %v", err)
	}
	next = a.config(b.partner())
	next.Users = map[string]string{"nobody of this name": "b"}
	if _, err = a.node.Reload(next); !errors.Is(err, fault.Invalid) || !strings.Contains(err.Error(), `no user "nobody of this name"`) {
		t.Errorf("a user that is none: %v", err)
	}
	next = a.config(b.partner())
	next.Book.Rules["bad"] = &engine.Rule{Name: "bad"}
	if _, err = a.node.Reload(next); !errors.Is(err, fault.Invalid) {
		t.Errorf("a bad rule: %v", err)
	}
	if now := book(); !slices.Equal(before, now) {
		t.Errorf("a configuration that was refused has changed the partners from %q to %q", before, now)
	}

	next = a.config(b.partner())
	delete(next.Book.Rules, "pull")
	next.Book.Rules["push"].Priority = 3
	next.Node.Log, next.Node.Drain = slog.LevelError, next.Node.Drain+time.Second
	is, err := a.node.Reload(next)
	if want := []string{"partner b is new", "rule push has changed", "rule pull is gone", "node.log has changed", "node.drain has changed"}; err != nil || !slices.Equal(is.Notes, want) || is.Problems != nil {
		t.Errorf("%q, %v; want %q", is, err, want)
	}
	said := a.log.String()
	a.done(a.submit("b", "push", "x", "x2"))
	if now := a.log.String(); now != said {
		t.Errorf("it is still logged: %s", strings.TrimPrefix(now, said))
	}
}

// TestOperators: the socket's service has what the node knows.
func TestOperators(t *testing.T) {
	a, b := newHost(t, "a"), newHost(t, "b")
	read, wrong := a.config(b.partner()), error(nil)
	a.o.Version, a.o.Read = "1.2.3", func() (*config.Config, error) { return read, wrong }
	a.start(a.config(""))
	b.start(b.config(a.partner()))
	c, err := admin.Dial(a.config("").Node.Admin)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx := context.Background()
	info, err := c.NodeInfo(ctx, &adminpb.NodeInfoRequest{})
	if err != nil || info.GetName() != "a" || info.GetVersion() != "1.2.3" || info.GetKey() != a.node.Key() || len(info.GetAddresses()) != 1 {
		t.Errorf("%v, %v", info, err)
	}
	if r, err := c.Reload(ctx, &adminpb.ReloadRequest{}); err != nil || !slices.Equal(r.GetNotes(), []string{"partner b is new"}) {
		t.Errorf("%v, %v", r, err)
	}
	_, wrong = config.Parse("a.toml", []byte("[node]\nnmae = \"a\"\n"))
	if _, err := c.Reload(ctx, &adminpb.ReloadRequest{}); !errors.Is(admin.FromStatus(err), fault.Invalid) || !strings.Contains(a.log.String(), `a.toml:2:1: unknown key`) {
		t.Errorf("a bad file: %v", err)
	}

	b.write("x", "1")
	b.write("y", "22")
	if err := os.Mkdir(filepath.Join(b.dir, "files", "z"), 0o755); err != nil {
		t.Fatal(err)
	}
	names := browse(t, c, "")
	if want := []string{"x 1 false", "y 2 false"}; len(names) != 3 || !slices.Equal(names[:2], want) || !strings.HasSuffix(names[2], "true") {
		t.Errorf("%q", names)
	}
	for i := range peer.MaxPage + 1 {
		b.write(fmt.Sprintf("z/%04d", i), "")
	}
	if names := browse(t, c, "z"); len(names) != peer.MaxPage+1 {
		t.Errorf("%d names in two pages", len(names))
	}
	backup, err := c.Backup(ctx, &adminpb.BackupRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if chunk, err := backup.Recv(); err != nil || len(chunk.GetData()) == 0 {
		t.Errorf("backup: %v", err)
	}
	for err == nil {
		_, err = backup.Recv()
	}
}

// browse is what an operator sees of b's directory.
func browse(t *testing.T, c *admin.Client, dir string) (names []string) {
	t.Helper()
	stream, err := c.Browse(context.Background(), &adminpb.BrowseRequest{Partner: "b", Rule: "pull", Path: dir})
	if err != nil {
		t.Fatal(err)
	}
	for {
		e, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, fmt.Sprintf("%s %d %v", e.GetName(), e.GetSize(), e.GetDirectory()))
	}
}

// failing is a store that fails for good when it is told to.
type failing struct {
	store.Store
	now chan struct{}
}

func (f *failing) Apply(ctx context.Context, ref store.Ref, now time.Time, events ...lifecycle.Event) (lifecycle.Record, error) {
	select {
	case <-f.now:
		return lifecycle.Record{}, fault.New("commit", fault.IO, "the disk is gone")
	default:
		return f.Store.Apply(ctx, ref, now, events...)
	}
}

// TestStoreFails: a node whose memory has failed ends, with an error.
func TestStoreFails(t *testing.T) {
	a := newHost(t, "a")
	memory, err := boltstore.Open(boltstore.Config{Path: filepath.Join(a.dir, "store")})
	if err != nil {
		t.Fatal(err)
	}
	defer memory.Close()
	broken := &failing{memory, make(chan struct{})}
	a.o.Store = broken
	a.start(a.config(""))
	a.write("x", "1")
	a.done(a.submit("a", "push", "x", "x2"))
	close(broken.now)
	a.submit("a", "push", "x", "x3")
	if err := <-a.over; !errors.Is(err, fault.IO) || !strings.Contains(err.Error(), "the disk is gone") {
		t.Errorf("Run returned %v", err)
	}
	a.node = nil
	a.stop()
}
