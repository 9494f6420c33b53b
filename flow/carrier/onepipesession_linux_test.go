package carrier

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/flow/flowtest"
)

// sessionConfig finds a dead line soon.
func sessionConfig() flow.Config {
	return flow.Config{HandshakeTimeout: 2 * time.Second, KeepaliveIdle: 500 * time.Millisecond, KeepaliveTimeout: time.Second, ResumeTimeout: 60 * time.Second}
}

// accepting is an Acceptor behind a listener.
func accepting(t testing.TB, address string, o Options) (*flow.Acceptor, *Listener) {
	t.Helper()
	a, err := flow.NewAcceptor(sessionConfig())
	if err != nil {
		t.Fatal(err)
	}
	l, err := Listen(address, o)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- l.Serve(a.Handle, nil) }()
	t.Cleanup(func() {
		if err := errors.Join(a.Close(), l.Close(), <-served); err != nil {
			t.Error(err)
		}
	})
	return a, l
}

// sessionOf waits for the session id. Others that come before it are what attempts
// have left whose dialer never learned that it had a session.
func sessionOf(ctx context.Context, a *flow.Acceptor, id flow.ID) (*flow.Session, error) {
	for {
		s, err := a.Accept(ctx)
		if err != nil || s.ID() == id {
			return s, err
		}
	}
}

// drain receives the one stream of the session id. reached is called with every offset.
func drain(ctx context.Context, a *flow.Acceptor, id flow.ID, reached func(int64)) ([]byte, error) {
	s, err := sessionOf(ctx, a, id)
	if err != nil {
		return nil, err
	}
	in, err := s.AcceptStream(ctx)
	if err != nil {
		return nil, err
	}
	b, err := in.AcceptBlocks(flow.AcceptBlocks{})
	if err != nil {
		return nil, err
	}
	var got bytes.Buffer
	for {
		blk, err := b.Recv(ctx)
		if err == io.EOF {
			return got.Bytes(), b.Finish([]byte("stored"))
		}
		if err != nil {
			b.Reset(err)
			return nil, err
		}
		reached(blk.Offset)
		got.Write(blk.Data)
		blk.Release()
	}
}

// pour sends data over a new stream.
func pour(ctx context.Context, s *flow.Session, data []byte) error {
	b, err := s.OpenBlocks(ctx, flow.Open{Kind: "x", Send: true})
	for err == nil {
		for last := false; !last; {
			blk, err := b.Next(ctx)
			if err != nil {
				return err
			}
			n := copy(blk.Data, data[blk.Offset:])
			last = blk.Offset+int64(n) == int64(len(data))
			if err := b.Send(ctx, blk, n); err != nil {
				return err
			}
		}
		if err = b.End(nil); err == nil {
			var verdict []byte
			if verdict, err = b.Verdict(ctx); err == nil && string(verdict) == "stored" {
				return nil
			}
		}
		if errors.Is(err, flow.ErrRewound) {
			err = nil
		}
	}
	return err
}

// carryOver moves data from d to a, and says what arrived and which ends call it a success.
func carryOver(t testing.TB, d flow.Dialer, a *flow.Acceptor, data []byte, reached func(int64)) (got []byte, sinkErr, sourceErr error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	s, err := flow.Connect(ctx, d, sessionConfig())
	if err != nil {
		return nil, err, err
	}
	var wg sync.WaitGroup
	wg.Go(func() { got, sinkErr = drain(ctx, a, s.ID(), reached) })
	if sourceErr = pour(ctx, s, data); sourceErr != nil {
		cancel()
	}
	wg.Wait()
	_ = s.Close()
	return got, sinkErr, sourceErr
}

func randomBytes(n int) []byte {
	r := rand.NewChaCha8([32]byte{1})
	b := make([]byte, n)
	_, _ = r.Read(b)
	return b
}

// TestSessionSurvivesItsPipe: the command is killed, the FIFOs are closed, in the middle of
// a transfer, several times; the session dials again and the transfer goes on.
func TestSessionSurvivesItsPipe(t *testing.T) {
	data := randomBytes(16 << 20)
	t.Run("exec", func(t *testing.T) {
		t.Parallel()
		no, fo := pinned(t)
		dir := shortTemp(t)
		// The relay leads to a socket that asks for keys behind it.
		a, l := accepting(t, "tls://127.0.0.1:0", fo)
		relayToTCP(t, dir+"/s", l.Addr().String())
		log := &logged{}
		no.Logger = log.logger()
		d, err := NewDialer(ExecAddress("sh", "-c", "echo Welcome; echo pid $$ >&2; exec env '"+childEnv+"=relay "+dir+"/s' "+os.Args[0]), no)
		if err != nil {
			t.Fatal(err)
		}
		kills := 0
		killAt := func(off int64) {
			if off < int64(kills+1)*(4<<20) || kills == 3 {
				return
			}
			text := log.String()
			text = text[strings.LastIndex(text, `line="pid `)+len(`line="pid `):]
			pid, err := strconv.Atoi(text[:strings.Index(text, `"`)])
			if err != nil {
				t.Error(err)
			}
			if err := syscall.Kill(pid, syscall.SIGKILL); err == nil {
				kills++
			}
		}
		got, sinkErr, err := carryOver(t, d, a, data, killAt)
		if err := errors.Join(sinkErr, err); err != nil || !bytes.Equal(got, data) || kills != 3 {
			t.Errorf("%d kills, %d bytes, the same: %v, %v", kills, len(got), bytes.Equal(got, data), err)
		}
		if n := strings.Count(log.String(), "pid "); n < 4 {
			t.Errorf("%d commands were started", n)
		}
	})
	t.Run("fifo", func(t *testing.T) {
		t.Parallel()
		near, far := fifos(t)
		no, fo := pinned(t)
		a, _ := accepting(t, far, fo)
		d := &closing{}
		var err error
		if d.Dialer, err = NewDialer(near, no); err != nil {
			t.Fatal(err)
		}
		closes := 0
		got, sinkErr, err := carryOver(t, d, a, data, func(off int64) {
			if off >= int64(closes+1)*(4<<20) && closes < 3 && d.closeLast() {
				closes++
			}
		})
		if err := errors.Join(sinkErr, err); err != nil || !bytes.Equal(got, data) || closes != 3 {
			t.Errorf("%d closes, %d bytes, the same: %v, %v", closes, len(got), bytes.Equal(got, data), err)
		}
	})
}

// closing closes the connection it has made last.
type closing struct {
	*Dialer
	mu   sync.Mutex
	last net.Conn
}

func (d *closing) Dial(ctx context.Context) (net.Conn, error) {
	c, err := d.Dialer.Dial(ctx)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.last = c
	return c, err
}

func (d *closing) closeLast() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.last == nil {
		return false
	}
	_ = d.last.Close()
	d.last = nil
	return true
}

// shortTemp is a folder whose name leaves room for a socket's.
func shortTemp(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "pn")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// relayToTCP joins a unix socket with a TCP address until the test ends.
func relayToTCP(t testing.TB, path, address string) {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s, err := net.Dial("tcp", address)
			if err != nil {
				_ = c.Close()
				continue
			}
			for _, pair := range [][2]net.Conn{{c, s}, {s, c}} {
				wg.Go(func() {
					_, _ = io.Copy(pair[0], pair[1])
					_, _ = c.Close(), s.Close()
				})
			}
		}
	})
}

// vandals is a pair of FIFOs at each end and what joins them, which harms what
// passes and never tells an end that the other has gone: a bad serial line.
func vandals(t testing.TB, harm flowtest.Corruption) (near, far string) {
	t.Helper()
	var pairs [2][2]string // of each end the FIFO it reads and the one it writes
	var files [2][2]*os.File
	dir := t.TempDir()
	for i := range pairs {
		for j := range pairs[i] {
			path := fmt.Sprintf("%s/%d%d", dir, i, j)
			if err := unix.Mkfifo(path, 0o600); err != nil {
				t.Fatal(err)
			}
			f, err := os.OpenFile(path, os.O_RDWR|unix.O_NONBLOCK, 0)
			if err != nil {
				t.Fatal(err)
			}
			pairs[i][j], files[i][j] = path, f
		}
	}
	var wg sync.WaitGroup
	for i, dir := range []flowtest.Direction{flowtest.FromDialer, flowtest.FromAcceptor} {
		wg.Go(func() {
			buf := make([]byte, 4<<10)
			for at := int64(0); ; {
				n, err := files[i][1].Read(buf)
				if err != nil {
					return
				}
				if _, err := files[1-i][0].Write(harm(dir, 0, at, bytes.Clone(buf[:n]))); err != nil {
					return
				}
				at += int64(n)
			}
		})
	}
	t.Cleanup(func() {
		for _, f := range files {
			_, _ = f[0].Close(), f[1].Close()
		}
		wg.Wait()
	})
	return "fifo://" + pairs[0][0] + "," + pairs[0][1], "fifo://" + pairs[1][0] + "," + pairs[1][1]
}

// insert puts garbage between two bytes.
func insert(dir flowtest.Direction, at int64, garbage []byte) flowtest.Corruption {
	return func(d flowtest.Direction, _ int, offset int64, p []byte) []byte {
		if i := at - offset; d == dir && 0 <= i && i < int64(len(p)) {
			return append(append(bytes.Clone(p[:i]), garbage...), p[i:]...)
		}
		return p
	}
}

// TestSessionLeftBehind: a session that nobody has accepted is not in the way of a later one.
func TestSessionLeftBehind(t *testing.T) {
	near, far := fifos(t)
	a, _ := accepting(t, plain(far), Options{})
	d, err := NewDialer(plain(near), Options{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := flow.Connect(t.Context(), d, sessionConfig())
	if err != nil {
		t.Fatal(err)
	}
	_ = s.Close()
	data := randomBytes(100_000)
	got, sinkErr, err := carryOver(t, d, a, data, func(int64) {})
	if err := errors.Join(sinkErr, err); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes, the same: %v, %v", len(got), bytes.Equal(got, data), err)
	}
}

// TestVandalsOnFIFO: bytes are lost, doubled, flipped and put in, from the greeting to
// the last frame, with tls and without. What is called a success at either end is whole,
// and where an attempt fails a later one on the same pipe succeeds.
func TestVandalsOnFIFO(t *testing.T) {
	t.Parallel() // it waits more than it computes
	data := randomBytes(600_000)
	var mu sync.Mutex
	attempts := map[int]int{}
	t.Run("all", func(t *testing.T) {
		for _, at := range []int64{0, 3, 47, 70, 96, 101, 107, 120, 150, 300, 700, 1000, 2000, 40_000, 300_001, 600_100} {
			for kind := range 4 {
				secure := (at+int64(kind))%2 == 0
				dir := flowtest.FromDialer
				if at < 1000 && (at/2+int64(kind))%2 == 0 {
					dir = flowtest.FromAcceptor
				}
				harm := [...]flowtest.Corruption{
					flowtest.Flip(dir, 0, at), flowtest.Drop(dir, 0, at, 1+int(at%40)), flowtest.Duplicate(dir, 0, at, 1+int(at%40)),
					insert(dir, at, append([]byte("login: root\r\n"), preface()...)),
				}[kind]
				t.Run(fmt.Sprintf("%d at %d of %d", kind, at, dir), func(t *testing.T) {
					t.Parallel()
					n := vandalized(t, harm, secure, data)
					mu.Lock()
					defer mu.Unlock()
					attempts[n]++
				})
			}
		}
	})
	t.Logf("of 64 transfers, by the number of attempts: %v", attempts)
}

// vandalized is the number of attempts a transfer took.
func vandalized(t *testing.T, harm flowtest.Corruption, secure bool, data []byte) int {
	near, far := vandals(t, harm)
	no, fo := pinned(t)
	if !secure {
		near, far, no, fo = plain(near), plain(far), Options{}, Options{}
	}
	no.HandshakeTimeout, fo.HandshakeTimeout = 2*time.Second, 2*time.Second
	a, _ := accepting(t, far, fo)
	d, err := NewDialer(near, no)
	if err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= 4; n++ {
		got, sinkErr, sourceErr := carryOver(t, d, a, data, func(int64) {})
		switch {
		case sinkErr == nil && !bytes.Equal(got, data), sourceErr == nil && sinkErr != nil:
			t.Fatalf("%d bytes; sink: %v, source: %v", len(got), sinkErr, sourceErr)
		case sourceErr == nil:
			return n
		}
		t.Logf("source: %v", sourceErr)
	}
	t.Error("nothing passes any more")
	return 0
}
