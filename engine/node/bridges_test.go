package node

import (
	"context"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pannier/pannier/engine/config"
	"github.com/pannier/pannier/engine/task"
	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/plugins/dir"
	"github.com/pannier/pannier/plugins/host"
	"github.com/pannier/pannier/spec/fault"
)

// TestBridgesShare: bridges share the process of a program with the same arguments.
func TestBridgesShare(t *testing.T) {
	b := &bridges{node: &Node{log: slog.New(slog.DiscardHandler)}}
	defer b.close()
	cfg := &config.Config{Bridges: map[string]config.Bridge{}}
	for name, args := range map[string][]string{"one": {"/a.py"}, "same": {"/a.py"}, "other": {"/b.py"}, "none": nil} {
		cfg.Bridges[name] = config.Bridge{Name: name, Plugin: "/usr/bin/python3", Args: args, Endpoint: "box://a", Memory: 1 << 30, Files: 200}
	}
	more := cfg.Bridges["same"]
	more.Memory, more.Files = 2<<30, 100
	cfg.Bridges["same"] = more
	if err := b.change(cfg, nil); err != nil {
		t.Fatal(err)
	}
	if one := b.all["one"].plugin; one != b.all["same"].plugin || one == b.all["other"].plugin || one == b.all["none"].plugin {
		t.Errorf("%v", b.all)
	}
	for _, name := range []string{"one", "same"} {
		if is := b.all[name]; is.Memory != 2<<30 || is.Files != 200 {
			t.Errorf("%s has %d bytes and %d files", name, is.Memory, is.Files)
		}
	}
	more.Memory = -1
	cfg.Bridges["same"] = more
	if err := b.change(cfg, nil); err != nil || b.all["one"].Memory != -1 {
		t.Errorf("one has %d bytes, %v", b.all["one"].Memory, err)
	}
}

// TestBridgesChange: with another configuration, bridges that stay as they are keep
// their plugins, others get new ones or are gone; one that cannot be changes nothing.
func TestBridgesChange(t *testing.T) {
	n := &Node{o: Options{Bundled: []string{"dir"}}, log: slog.New(slog.DiscardHandler)}
	b := &bridges{node: n}
	defer b.close()
	is := func(all ...config.Bridge) *config.Config {
		cfg := &config.Config{Bridges: map[string]config.Bridge{}}
		for _, one := range all {
			cfg.Bridges[one.Name] = one
		}
		return cfg
	}
	one := config.Bridge{Name: "one", Plugin: "dir", Endpoint: "dir:///a"}
	two := config.Bridge{Name: "two", Plugin: "/usr/lib/pannier-plugin-box", Endpoint: "box://a", Options: map[string]string{"x": "y"}}
	if err := b.change(is(one, two), nil); err != nil {
		t.Fatal(err)
	}
	first, second := b.all["one"], b.all["two"]
	one.Endpoint = "dir:///b"
	if err := b.change(is(one, two), nil); err != nil {
		t.Fatal(err)
	}
	if b.all["one"] == first || b.all["two"] != second {
		t.Error("one has changed and two has not")
	}
	first = b.all["one"]
	if err := b.change(is(one, config.Bridge{Name: "three", Plugin: "ftp"}), nil); fault.KindOf(err) != fault.NotFound || !strings.Contains(err.Error(), `"ftp"`) {
		t.Errorf("a plugin that is not there: %v", err)
	}
	if b.all["one"] != first || b.all["two"] != second || len(b.all) != 2 {
		t.Errorf("after an error: %v", b.all)
	}
	if err := b.change(is(one), nil); err != nil || b.all["one"] != first || len(b.all) != 1 {
		t.Errorf("two is gone: %v, %v", b.all, err)
	}
	if _, err := b.Send(t.Context(), "two", "/x", task.Outgoing{}); fault.KindOf(err) != fault.NotFound {
		t.Errorf("to a bridge that is gone: %v", err)
	}
	if _, err := b.Send(t.Context(), "one", "/x\r\nDELE y", task.Outgoing{}); fault.KindOf(err) != fault.Invalid {
		t.Errorf("a name with a line end: %v", err)
	}
}

// gate is a driver whose logins wait until they are let in, or fail.
type gate struct {
	came chan struct{}
	let  chan error
	open atomic.Int32
	all  atomic.Int32 // attempts
}

func (g *gate) Describe() plugins.Description { return plugins.Description{Name: "gate"} }

func (g *gate) Open(ctx context.Context, _ plugins.Endpoint) (plugins.Session, error) {
	g.all.Add(1)
	g.came <- struct{}{}
	select {
	case err := <-g.let:
		if err != nil {
			return nil, err
		}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	g.open.Add(1)
	return inside{g}, nil
}

type inside struct{ *gate }

func (i inside) Capabilities() plugins.Capabilities { return plugins.Capabilities{} }
func (i inside) Stat(context.Context, string) (plugins.Attr, error) {
	return plugins.Attr{Size: 10}, nil
}
func (i inside) Read(context.Context, string, int64) (io.ReadCloser, error) {
	return io.NopCloser(endless{}), nil
}
func (i inside) Close() error { i.open.Add(-1); return nil }

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func newGate(t *testing.T) (*gate, *bridges) {
	g := &gate{came: make(chan struct{}, 10), let: make(chan error)}
	p := host.InProcess(host.Config{Name: "gate"}, g)
	b := &bridges{node: &Node{log: slog.New(slog.DiscardHandler)}, all: map[string]*server{"one": {Bridge: config.Bridge{Name: "one"}, plugin: p}}}
	t.Cleanup(func() { _, _ = b.close(), p.Close(context.Background()) })
	return g, b
}

// TestLoginShared: who needs a login while another attempt is made has its outcome, and does not
// wait for one of its own; but not that its beginner has gone.
func TestLoginShared(t *testing.T) {
	g, b := newGate(t)
	ended := make(chan error, 10)
	login := func(ctx context.Context) {
		_, over, err := b.Login(ctx, "one")
		if err == nil {
			over(nil)
		}
		ended <- err
	}
	ctx, leave := context.WithCancel(t.Context())
	go login(ctx)
	<-g.came
	for range 3 {
		go login(t.Context())
	}
	leave()
	if err := <-ended; fault.KindOf(err) != fault.Canceled {
		t.Error(err)
	}
	<-g.came                           // another goes on
	time.Sleep(100 * time.Millisecond) // for the others to wait for it
	waiting := make(chan struct{})
	go func() {
		defer close(waiting)
		for range 3 {
			if err := <-ended; fault.KindOf(err) != fault.DeadPeer {
				t.Error(err)
			}
		}
	}()
	for {
		select {
		case g.let <- fault.New("connect", fault.DeadPeer, "nobody answers"):
			continue // to who has not waited yet
		case <-waiting:
		}
		break
	}
	if n := g.all.Load(); n > 3 {
		t.Errorf("%d attempts were made", n)
	}
	go login(t.Context())
	g.let <- nil
	if err := <-ended; err != nil || g.open.Load() != 1 {
		t.Error(err, g.open.Load())
	}
}

// TestReloadInLogin: a login that succeeds after a reload has taken its bridge away is closed, and
// who has wanted it has that of the new one.
func TestReloadInLogin(t *testing.T) {
	g, b := newGate(t)
	before := b.all["one"]
	ended := make(chan error)
	go func() {
		_, over, err := b.Login(t.Context(), "one")
		if err == nil {
			over(nil)
		}
		ended <- err
	}()
	<-g.came
	b.mu.Lock()
	b.replace(map[string]*server{"one": {Bridge: config.Bridge{Name: "one"}, plugin: before.plugin}}, nil, 0)
	b.mu.Unlock()
	for gone := false; !gone; {
		before.mu.Lock()
		gone = before.gone
		before.mu.Unlock()
	}
	g.let <- nil
	<-g.came
	g.let <- nil
	if err := <-ended; err != nil || b.all["one"].login == nil {
		t.Error("with the new one:", err)
	}
	_ = b.close()
	if left := g.open.Load(); left != 0 {
		t.Errorf("%d logins are left", left)
	}
}

// TestFetchEndless: a server that sends without an end fills no disk.
func TestFetchEndless(t *testing.T) {
	g, b := newGate(t)
	go func() { g.let <- nil }()
	var came count
	if _, _, err := b.Fetch(t.Context(), "one", "/x", &came); fault.KindOf(err) != fault.SourceChanged || came > 11 {
		t.Errorf("%d bytes, %v", came, err)
	}
}

type count int64

func (c *count) Write(p []byte) (int, error) {
	if *c += count(len(p)); *c > 1<<30 {
		return 0, io.ErrShortWrite
	}
	return len(p), nil
}

// unsaid is a server that computes a digest, and not of this name.
type unsaid struct {
	plugins.Session
	plugins.Writer
}

func (unsaid) Checksum(context.Context, string, string, int64) ([]byte, error) {
	return nil, fault.New("checksum", fault.Unsupported, "not of this name")
}

// TestTaskChecksumUnsaid: a file of which the server says no digest is there all the same.
func TestTaskChecksumUnsaid(t *testing.T) {
	s, err := dir.Driver{}.Open(t.Context(), plugins.Endpoint{URL: "dir://" + t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	u := unsaid{s, s.(plugins.Writer)}
	if by, err := send(t.Context(), u, "x", task.Outgoing{Content: strings.NewReader("hello"), Size: 5, ID: "1"}); by != "size" || err != nil {
		t.Errorf("sent: %q, %v", by, err)
	}
	if _, by, err := fetch(t.Context(), u, "x", io.Discard); by != "size" || err != nil {
		t.Errorf("fetched: %q, %v", by, err)
	}
}

// lossy is directories as servers that copy to each other, and lose the connection when they have.
type lossy struct {
	dir.Driver
	keeps string // the endpoint of a server that removes nothing
}

type lossySession struct {
	plugins.Session
	plugins.Writer
	plugins.Remover
	removes bool
}

func (l *lossy) Open(ctx context.Context, to plugins.Endpoint) (plugins.Session, error) {
	s, err := l.Driver.Open(ctx, to)
	if err != nil {
		return nil, err
	}
	return lossySession{s, s.(plugins.Writer), s.(plugins.Remover), to.URL != l.keeps}, nil
}

func (s lossySession) Capabilities() plugins.Capabilities {
	return plugins.Capabilities{Write: true, Remove: s.removes, Copy: true}
}

func (s lossySession) Copy(ctx context.Context, _ string, to plugins.Session, toName string, _ plugins.CopyRequest) (plugins.CopyResult, error) {
	st, err := to.(plugins.Writer).Write(ctx, toName, plugins.WriteRequest{Size: -1})
	if err == nil {
		_, err = st.Commit(ctx)
	}
	if err == nil {
		err = fault.FromPeer("copy", fault.Lost, "the answer to the last command did not come")
	}
	return plugins.CopyResult{}, err
}

// TestProbeLeavesNothing: what partner test writes is removed at both servers whatever comes of the
// direct copy; of what cannot be removed it says where it is.
func TestProbeLeavesNothing(t *testing.T) {
	for _, keeps := range []bool{false, true} {
		at := map[string]string{"one": t.TempDir(), "two": t.TempDir()}
		d := &lossy{}
		if keeps {
			d.keeps = "dir://" + at["two"]
		}
		p := host.InProcess(host.Config{Name: "lossy"}, d)
		b := &bridges{node: &Node{log: slog.New(slog.DiscardHandler)}, all: map[string]*server{}}
		for name, other := range map[string]string{"one": "two", "two": "one"} {
			b.all[name] = &server{Bridge: config.Bridge{Name: name, Endpoint: "dir://" + at[name], FXP: []string{other}}, plugin: p}
		}
		found, err := b.Probe(t.Context(), "one", true)
		said := strings.Join(found, "\n")
		if err != nil || !strings.Contains(said, "direct copy to two failed: ") || !strings.Contains(said, "did not come") || strings.Contains(said, "may stay at two") != keeps || strings.Contains(said, "could not") {
			t.Errorf("%s, %v", said, err)
		}
		for name, dir := range at {
			if left, _ := os.ReadDir(dir); len(left) > 0 != (keeps && name == "two") {
				t.Errorf("left at %s: %v", name, left)
			}
		}
		_, _ = b.close(), p.Close(t.Context())
	}
}
