package rpc_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"

	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/rpc"
	"github.com/pannier/pannier/rpc/internal/storepb"
	"github.com/pannier/pannier/sideeffect"
)

// What only one end knows: a word in every name and error there, and numbers of
// its descriptor.
const (
	canary       = "KaNaRiEnVoGeL"
	canaryNumber = 918273645
	canaryQuota  = 87659
)

var canaries = []string{canary, fmt.Sprint(canaryNumber), fmt.Sprint(canaryQuota)}

// birdcage is a folder of the canary's name, full of things that cannot be read
// or written.
func birdcage(t *testing.T) *os.Root {
	t.Helper()
	dir := filepath.Join(t.TempDir(), canary)
	for _, err := range []error{
		os.MkdirAll(filepath.Join(dir, canary+"-dir"), 0o700),
		os.WriteFile(filepath.Join(dir, canary), content(300<<10), 0o600),
		os.WriteFile(filepath.Join(dir, canary+"-locked"), nil, 0o600),
		os.Symlink("/etc/"+canary, filepath.Join(dir, canary+"-out")),
		os.Symlink(canary+"-loop", filepath.Join(dir, canary+"-loop")),
		syscall.Mkfifo(filepath.Join(dir, canary+"-fifo"), 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return root
}

// singing are errors of readers and writers of the user's.
var singing = []error{
	errors.New(canary), fmt.Errorf("in %s: %w", canary, syscall.EIO),
	&fs.PathError{Op: "write", Path: "/" + canary, Err: syscall.ENOSPC},
	&os.LinkError{Op: "link", Old: canary, New: canary, Err: syscall.EXDEV},
	errors.Join(errors.New(canary), os.NewSyscallError(canary, syscall.EDQUOT)),
}

type singer struct {
	n   int
	err error
}

func (s *singer) Read(p []byte) (int, error) {
	if s.n <= 0 {
		return 0, s.err
	}
	n := min(s.n, len(p))
	s.n -= n
	return n, nil
}

func (s *singer) Write(p []byte) (int, error) {
	if s.n -= len(p); s.n < 0 {
		return 0, s.err
	}
	return len(p), nil
}

// badSources and badSinks are descriptors of the canary's end that fail.
func badSources(t *testing.T, n int) map[string]*sideeffect.Descriptor {
	root := birdcage(t)
	dir, err := root.Open(canary + "-dir")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	closed, _ := root.Open(canary)
	closed.Close()
	all := map[string]*sideeffect.Descriptor{
		"closed":       up(sideeffect.FD(closed)),
		"folder":       up(sideeffect.FD(dir)),
		"short reader": up(sideeffect.Reader(bytes.NewReader(content(n/2)), int64(n))),
		"shared":       up(sideeffect.Shared(sideeffect.File(root, canary+"-missing"), 1<<20)),
		"no mount":     up(sideeffect.Handle(nil, sideeffect.FileHandle{Ino: canaryNumber})),
		"bad inode":    up(sideeffect.Inode(dir, canaryNumber, canaryNumber)),
		"wrong way":    up(sideeffect.Writer(io.Discard)),
		"duplex":       up(sideeffect.Duplex(strings.NewReader(canary), io.Discard)),
		"rootless":     up(sideeffect.File(nil, canary)),
		"memory":       up(sideeffect.Memory(content(100))),
		"behind":       up(sideeffect.File(root, canary)),
		"quota":        up(sideeffect.File(root, canary)),
	}
	for _, name := range []string{"-missing", "-missing/x", "-out", "-loop", "-fifo", "-dir", "/../x", "\x01", strings.Repeat("x", 300)} {
		all["file "+name] = up(sideeffect.File(root, canary+name))
	}
	for i, err := range singing {
		all[fmt.Sprint("reader at once ", i)] = up(sideeffect.Reader(&singer{0, err}, int64(n)))
		all[fmt.Sprint("reader ", i)] = up(sideeffect.Reader(&singer{n / 2, err}, int64(n)))
	}
	all["behind"].Offset, all["memory"].Offset = canaryNumber, canaryNumber
	all["quota"].Quota = canaryQuota
	return all
}

func badSinks(t *testing.T, n int) map[string]*sideeffect.Descriptor {
	root := birdcage(t)
	locked, err := root.OpenFile(canary+"-locked", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { locked.Close() })
	if err := syscall.Flock(int(locked.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	closed, _ := root.OpenFile(canary, os.O_RDWR, 0)
	closed.Close()
	full := new(bytes.Buffer)
	full.WriteString(canary)
	all := map[string]*sideeffect.Descriptor{
		"taken":        up(sideeffect.File(root, canary)),
		"taken buffer": up(sideeffect.Buffer(full)),
		"locked":       up(sideeffect.File(root, canary+"-locked")),
		"offset":       up(sideeffect.File(root, canary)),
		"fd offset":    up(sideeffect.FD(locked)),
		"closed":       up(sideeffect.FD(closed)),
		"nameless":     up(sideeffect.FD(locked)),
		"memory":       up(sideeffect.Memory(make([]byte, n/2))),
		"past memory":  up(sideeffect.Memory(make([]byte, n))),
		"wrong way":    up(sideeffect.Reader(strings.NewReader(canary), -1)),
		"late":         up(sideeffect.Writer(&lateSinger{})),
		"kept memory":  up(sideeffect.Memory(make([]byte, n))),
	}
	for _, name := range []string{"-missing/x", "-out", "-fifo", "-dir", "-loop/x", "/../x", "\x01", "/"} {
		all["file "+name] = up(sideeffect.File(root, canary+name))
		all["in place "+name] = up(sideeffect.File(root, canary+name))
		all["in place "+name].Mode = sideeffect.AtOffset
	}
	for i, err := range singing {
		all[fmt.Sprint("writer at once ", i)] = up(sideeffect.Writer(&singer{0, err}))
		all[fmt.Sprint("writer ", i)] = up(sideeffect.Writer(&singer{n / 2, err}))
	}
	all["taken"].Mode, all["taken buffer"].Mode = sideeffect.CreateNew, sideeffect.CreateNew
	all["locked"].Mode, all["closed"].Mode = sideeffect.Append, sideeffect.Truncate
	all["offset"].Offset, all["fd offset"].Offset = canaryNumber, canaryNumber
	all["past memory"].Mode, all["past memory"].Offset = sideeffect.AtOffset, canaryNumber
	all["kept memory"].Resume = true
	return all
}

type lateSinger struct{ bytes.Buffer }

func (*lateSinger) Flush() error { return singing[2] }

// listener hears what gRPC says on the wire in plain words: headers, trailers,
// statuses and their details.
type listener struct {
	mu    sync.Mutex
	heard strings.Builder
}

func (l *listener) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (l *listener) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (l *listener) HandleConn(context.Context, stats.ConnStats)                       {}

func (l *listener) HandleRPC(_ context.Context, s stats.RPCStats) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch s := s.(type) {
	case *stats.InHeader:
		fmt.Fprintln(&l.heard, s.Header)
	case *stats.InTrailer:
		fmt.Fprintln(&l.heard, s.Trailer)
	case *stats.End:
		if s.Client && s.Error != nil {
			fmt.Fprintln(&l.heard, status.Convert(s.Error).Proto())
		}
	}
}

func (l *listener) said() string { l.mu.Lock(); defer l.mu.Unlock(); return l.heard.String() }

// TestNothingLocalTravels: whatever fails at one end, nothing that only this end
// knows crosses the wire, and no error at the other end has it. The errors here
// do have it.
func TestNothingLocalTravels(t *testing.T) {
	for _, r := range roads {
		if r.carrier == "pipe" {
			continue
		}
		for _, atClient := range []bool{true, false} {
			for _, source := range []bool{true, false} {
				t.Run(fmt.Sprint(r.name, " at client ", atClient, " source ", source), func(t *testing.T) {
					var ear listener
					p := start(t, r.carrier, setup{
						withoutClient: true, server: []grpc.ServerOption{grpc.StatsHandler(&ear)}, client: []grpc.DialOption{grpc.WithStatsHandler(&ear)},
					})
					wire := newTap(t, p)
					stub := storepb.NewStoreClient(p.dial())
					bad := badSinks(t, r.n)
					if source {
						bad = badSources(t, r.n)
					}
					sung := 0
					for name, d := range bad {
						l := leak{p: p, stub: stub, n: r.n, bad: d, atClient: atClient, source: source, words: len(name)%2 == 0}
						here, there := l.run(t, name)
						for _, text := range there {
							mute(t, name+": the other end reads", text)
						}
						for _, c := range canaries {
							if strings.Contains(here, c) {
								sung++
								break
							}
						}
					}
					mute(t, "on the wire", string(wire.all()))
					mute(t, "gRPC says", ear.said())
					if sung < len(bad)/2 {
						t.Errorf("only %d of %d errors here say what it was about", sung, len(bad))
					}
				})
			}
		}
	}
}

func mute(t *testing.T, where, text string) {
	t.Helper()
	for _, c := range canaries {
		if i := strings.Index(text, c); i >= 0 {
			t.Errorf("%s: ...%q...", where, text[max(0, i-150):min(len(text), i+50)])
		}
	}
}

type leak struct {
	p                       *pair
	stub                    storepb.StoreClient
	n                       int
	bad                     *sideeffect.Descriptor
	atClient, source, words bool
}

// run makes one call and returns the error of the bad end, and what the other
// end has been told.
func (l leak) run(t *testing.T, name string) (here string, there []string) {
	good := sideeffect.Identity(sideeffect.Writer(io.Discard))
	if !l.source {
		good = sideeffect.Memory(content(l.n))
	}
	other := up(good)
	if l.source != l.atClient {
		l.bad.Direction, other.Direction = sideeffect.ServerToClient, sideeffect.ServerToClient
	}
	mine, theirs := other, l.bad
	if l.atClient {
		mine, theirs = l.bad, other
	}
	var handled error
	l.p.store.call = func(ctx context.Context, i *storepb.Item) (*storepb.Receipt, error) {
		_, handled = run(func() *sideeffect.Descriptor { return theirs }, sideeffect.AwaitLocal)(ctx, i)
		switch {
		case handled == nil:
			return &storepb.Receipt{}, nil
		case l.words && l.n > rpc.MaxInline:
			return nil, fmt.Errorf("%w: the handler's own words: %w", status.Error(codes.DataLoss, "mine"), errors.Join(handled, handled))
		case l.words:
			return nil, fmt.Errorf("the handler's own words: %w", handled)
		}
		return nil, handled
	}
	_, err := l.stub.Call(within(t), &storepb.Item{}, rpc.With(mine))
	if err == nil {
		t.Errorf("%s: no error", name)
		return "", nil
	}
	if handled != nil && l.words && !strings.Contains(status.Convert(err).Message(), "the handler's own words") {
		t.Errorf("%s: the handler's words are lost: %v", name, status.Convert(err).Message())
	}
	if l.atClient {
		return fmt.Sprint(err, mine.Err), []string{fmt.Sprint(handled), fmt.Sprint(theirs.Err)}
	}
	return fmt.Sprint(handled), []string{err.Error(), fmt.Sprint(mine.Err), fmt.Sprint(status.Convert(err).Proto())}
}

// TestRefusalSaysLittle: why a peer was not let in is the node's own business.
func TestRefusalSaysLittle(t *testing.T) {
	p := start(t, "tcp", setup{withoutClient: true, flow: flow.Config{Authorize: func(flow.Peer) error {
		return &fs.PathError{Op: "open", Path: "/etc/" + canary, Err: syscall.ENOENT}
	}}})
	p.client.Flow = flow.Config{}
	wire := newTap(t, p)
	_, err := storepb.NewStoreClient(p.dial()).Call(within(t), &storepb.Item{}, rpc.With(up(sideeffect.Memory(content(100)))))
	if err == nil {
		t.Fatal("it was let in")
	}
	mute(t, "the peer reads", err.Error())
	mute(t, "on the wire", string(wire.all()))
}
