package plugins

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	"github.com/pannier/pannier/plugins/channel"
	"github.com/pannier/pannier/spec/bridgepb"
	"github.com/pannier/pannier/spec/fault"
)

// This test program is also a plugin that nobody hosts.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "plugin" {
		Serve(&memory{})
	}
	os.Exit(m.Run())
}

// memory is a driver with one file, in memory.
type memory struct {
	file    []byte // nil: not there
	part    []byte
	commits int
	broken  error // of Write
}

func (m *memory) Describe() Description {
	return Description{Name: "memory", Version: "1", Schemes: []string{"memory"}}
}
func (m *memory) Open(_ context.Context, to Endpoint) (Session, error) {
	if to.URL == "panic" {
		panic("odd")
	}
	return m, nil
}
func (m *memory) Capabilities() Capabilities                  { return Capabilities{Write: true, List: true} }
func (m *memory) Stat(context.Context, string) (Attr, error)  { return Attr{Size: -1}, nil }
func (m *memory) Remove(context.Context, string) error        { return nil } // not listed
func (m *memory) Close() error                                { return nil }
func (m *memory) Offset() int64                               { return 0 }
func (m *memory) Abort(context.Context, bool) ([]byte, error) { m.part = nil; return nil, nil }
func (m *memory) Write(context.Context, string, WriteRequest) (Staged, error) {
	return written{m}, nil
}
func (m *memory) Read(context.Context, string, int64) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(m.file)), nil
}

type written struct{ *memory }

func (w written) Write(p []byte) (int, error) {
	if w.broken != nil {
		return 0, w.broken
	}
	w.part = append(w.part, p...)
	return len(p), nil
}

func (w written) Commit(context.Context) (Attr, error) {
	w.commits++
	w.file = w.part
	return Attr{Size: int64(len(w.file))}, nil
}

// service is a memory with a session.
func service(t *testing.T) (*memory, *Service, uint64) {
	m := &memory{}
	s := NewService(m, nil)
	s.channels = &channels{waiting: map[uint64]net.Conn{}, wanted: map[uint64]chan net.Conn{}}
	o, err := s.Open(t.Context(), &bridgepb.OpenRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return m, s, o.GetSession()
}

// delivered is a channel that has come.
func delivered(s *Service, number uint64) net.Conn {
	mine, its := net.Pipe()
	s.channels.arrived(number, its)
	return mine
}

func isKind(t *testing.T, err error, want fault.Kind) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("error is %v, want kind %q", err, want)
	}
}

// TestCommitCounts: bytes that did not come are not published, neither are too many or
// those after which the host has given up; what is published is so once.
func TestCommitCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for i, c := range []struct {
			size, sent int64
			kind       fault.Kind
		}{{-1, 5, 0}, {5, 5, 0}, {-1, 6, fault.Corrupt}, {-1, 4, fault.Corrupt}, {6, 5, fault.Corrupt}, {4, 5, fault.Corrupt}, {-1, -1, fault.Lost}} {
			m, s, session := service(t)
			mine := delivered(s, 1)
			w, err := s.Write(t.Context(), &bridgepb.WriteRequest{Session: session, Name: "/a", Size: c.size, Channel: 1})
			if err != nil {
				t.Fatal(err)
			}
			_, _ = mine.Write([]byte("01234"))
			_ = mine.Close()
			for range 2 {
				a, err := s.Commit(t.Context(), &bridgepb.CommitRequest{Write: w.GetWrite(), Bytes: c.sent})
				if c.kind != 0 {
					isKind(t, err, c.kind)
				} else if err != nil || a.GetSize() != 5 {
					t.Errorf("case %d: %v, %v", i, a, err)
				}
			}
			if c.kind == 0 && (m.commits != 1 || string(m.file) != "01234") || c.kind != 0 && m.commits != 0 {
				t.Errorf("case %d: %d commits of %q", i, m.commits, m.file)
			}
			if _, err := s.Abort(t.Context(), &bridgepb.AbortRequest{Write: w.GetWrite()}); c.kind == 0 {
				isKind(t, err, fault.Stale)
			} else if err != nil {
				t.Error(err)
			}
		}
	})
}

// slow is a driver whose logins and writes take until they are let go.
type slow struct {
	*memory
	came, let       chan struct{}
	closed, aborted int
	kept            bool // in the last Abort
}

func (s *slow) wait() { s.came <- struct{}{}; <-s.let }

// slowDriver, slowSession and slowStaged are its parts, as the interfaces have them.
type (
	slowDriver  struct{ *slow }
	slowSession struct{ *slow }
	slowStaged  struct{ *slow }
)

func (s slowDriver) Open(context.Context, Endpoint) (Session, error) {
	s.wait()
	return slowSession(s), nil
}

func (s slowSession) Write(context.Context, string, WriteRequest) (Staged, error) {
	s.wait()
	return slowStaged(s), nil
}

func (s slowSession) Capabilities() Capabilities { return Capabilities{Write: true, Resume: true} }
func (s slowSession) Close() error               { s.closed++; return nil }

func (s slowStaged) Write(p []byte) (int, error)          { return len(p), nil }
func (s slowStaged) Commit(context.Context) (Attr, error) { return Attr{}, nil }
func (s slowStaged) Abort(_ context.Context, keep bool) ([]byte, error) {
	s.aborted++
	s.kept = keep
	return nil, nil
}

// TestEndMeanwhile: a login and a write that succeed after the other end has gone leave nothing.
func TestEndMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &slow{memory: &memory{}, came: make(chan struct{}), let: make(chan struct{})}
		s := NewService(slowDriver{d}, nil)
		done := make(chan error)
		open := func() { _, err := s.Open(t.Context(), &bridgepb.OpenRequest{}); done <- err }
		go open()
		<-d.came
		d.let <- struct{}{}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		go func() {
			_, err := s.Write(t.Context(), &bridgepb.WriteRequest{Session: s.last, Name: "/x", Size: -1})
			done <- err
		}()
		<-d.came
		go open()
		<-d.came
		s.End()
		d.let <- struct{}{}
		d.let <- struct{}{}
		for range 2 {
			if err := <-done; err == nil {
				t.Error("it has succeeded")
			}
		}
		if d.closed != 2 || d.aborted != 1 || len(s.writes)+len(s.sessions) > 0 {
			t.Errorf("%d closed, %d aborted", d.closed, d.aborted)
		}
	})
}

// TestKeptMeanwhile: a write that goes on with what an earlier one has left, and succeeds after its caller or the session has
// gone, leaves that; one that has begun leaves nothing.
func TestKeptMeanwhile(t *testing.T) {
	for _, resume := range [][]byte{nil, []byte("at 5")} {
		for _, ends := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				d := &slow{memory: &memory{}, came: make(chan struct{}), let: make(chan struct{})}
				s := NewService(slowDriver{d}, nil)
				done := make(chan error)
				go func() { _, err := s.Open(t.Context(), &bridgepb.OpenRequest{}); done <- err }()
				<-d.came
				d.let <- struct{}{}
				if err := <-done; err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				go func() {
					_, err := s.Write(ctx, &bridgepb.WriteRequest{Session: s.last, Name: "/x", Size: -1, Resume: resume})
					done <- err
				}()
				<-d.came
				if ends {
					s.End()
				} else {
					cancel()
				}
				synctest.Wait()
				d.let <- struct{}{}
				if err := <-done; err == nil || d.aborted != 1 || d.kept != (resume != nil) {
					t.Errorf("resume %q, ends %v: %v, %d aborted, kept %v", resume, ends, err, d.aborted, d.kept)
				}
			})
		}
	}
}

// TestWriteBroken: what the driver says while it takes bytes is what Commit says.
func TestWriteBroken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, s, session := service(t)
		m.broken = Failure("write", fault.NoSpace, "/a", "452", "Insufficient storage")
		mine := delivered(s, 1)
		w, err := s.Write(t.Context(), &bridgepb.WriteRequest{Session: session, Name: "/a", Size: -1, Channel: 1})
		if err != nil {
			t.Fatal(err)
		}
		for err == nil { // it closes the channel
			_, err = mine.Write([]byte("01234"))
		}
		_, err = s.Commit(t.Context(), &bridgepb.CommitRequest{Write: w.GetWrite(), Bytes: -1})
		isKind(t, err, fault.NoSpace)
	})
}

// TestTrusted: memory that the other end can change is not taken from one that is not trusted,
// whatever it says.
func TestTrusted(t *testing.T) {
	s := NewService(&memory{}, &net.UnixConn{})
	for _, trusted := range []bool{false, true} {
		if trusted {
			s.ShareMemory()
		}
		d, err := s.Describe(t.Context(), &bridgepb.DescribeRequest{})
		if want := trusted && channel.Shares; err != nil || d.GetMemory() != want || (s.mode(true) == channel.Accept) != want || s.mode(false) != channel.Socket {
			t.Errorf("trusted %v: it announces %v, and takes by mode %d, %v", trusted, d.GetMemory(), s.mode(true), err)
		}
	}
}

// TestQuota: no byte beyond it.
func TestQuota(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, s, session := service(t)
		m.file = []byte("01234")
		for i, c := range []struct {
			quota int64
			kind  fault.Kind
			came  string
		}{{-1, 0, "01234"}, {6, 0, "01234"}, {5, 0, "01234"}, {4, fault.QuotaExceeded, "0123"}, {0, fault.QuotaExceeded, ""}} {
			mine := delivered(s, uint64(i+1))
			came := make(chan string)
			go func() { b, _ := io.ReadAll(mine); came <- string(b) }()
			r, err := s.Read(t.Context(), &bridgepb.ReadRequest{Session: session, Name: "/a", Quota: c.quota, Channel: uint64(i + 1)})
			if got := <-came; got != c.came {
				t.Errorf("with quota %d come %q", c.quota, got)
			}
			if c.kind != 0 {
				isKind(t, err, c.kind)
			} else if err != nil || r.GetBytes() != 5 {
				t.Error(r, err)
			}
		}
	})
}

// TestChannels: a descriptor that comes twice, or that nobody calls for, is closed; a
// call that comes first waits, and not for ever.
func TestChannels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, s, _ := service(t)
		closed := func(c net.Conn) bool {
			_ = c.SetReadDeadline(time.Now().Add(time.Millisecond))
			_, err := c.Read(make([]byte, 1))
			return errors.Is(err, io.EOF)
		}
		first, again := delivered(s, 7), delivered(s, 7)
		if closed(first) || !closed(again) {
			t.Error("number 7 came twice: the first has to stay and the second to go")
		}
		time.Sleep(channelWait + time.Second)
		if !closed(first) {
			t.Error("nobody has called for a descriptor, and it is open")
		}
		_, err := s.channels.take(t.Context(), 7)
		isKind(t, err, fault.Stale)
		_, err = s.channels.take(t.Context(), 8)
		isKind(t, err, fault.Protocol)
		go func() { time.Sleep(time.Second); delivered(s, 9) }()
		if c, err := s.channels.take(t.Context(), 9); err != nil || c == nil {
			t.Error("a descriptor that comes after its call:", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = s.channels.take(ctx, 10)
		isKind(t, err, fault.Deadline)
		_, err = s.channels.take(ctx, 0)
		isKind(t, err, fault.Invalid)
	})
}

// TestListed: capabilities decide, and what they claim has to be there.
func TestListed(t *testing.T) {
	_, s, session := service(t)
	_, err := s.Remove(t.Context(), &bridgepb.RemoveRequest{Session: session, Name: "/a"})
	isKind(t, err, fault.Unsupported)
	if !strings.Contains(err.Error(), "this server cannot") {
		t.Error(err)
	}
	_, err = optional[Lister](s.sessions[session], "list", true)
	isKind(t, err, fault.Unsupported)
	if !strings.Contains(err.Error(), "the capabilities list it") {
		t.Error(err)
	}
	_, err = s.Stat(t.Context(), &bridgepb.StatRequest{Session: session, Name: "/a\r\nDELE b"})
	isKind(t, err, fault.Invalid)
	_, err = s.Stat(t.Context(), &bridgepb.StatRequest{Session: 99, Name: "/a"})
	isKind(t, err, fault.Stale)
	_, err = s.Write(t.Context(), &bridgepb.WriteRequest{Session: session, Name: "/a", Resume: []byte("x")})
	isKind(t, err, fault.Unsupported)
	_, err = s.Read(t.Context(), &bridgepb.ReadRequest{Session: session, Name: "/a", Offset: 1})
	isKind(t, err, fault.Invalid) // no channel
	_, err = s.read(t.Context(), &bridgepb.ReadRequest{Session: session, Name: "/a", Offset: 1}, chunks{})
	isKind(t, err, fault.Unsupported)
}

// TestDrain: nothing new, and it waits for sessions as long as it may.
func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, s, session := service(t)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := s.Drain(ctx, &bridgepb.DrainRequest{})
		isKind(t, err, fault.Deadline)
		_, err = s.Open(t.Context(), &bridgepb.OpenRequest{})
		isKind(t, err, fault.Draining)
		go func() {
			time.Sleep(time.Second)
			for range 2 {
				if _, err := s.Close(context.Background(), &bridgepb.CloseRequest{Session: session}); err != nil {
					t.Error(err)
				}
			}
		}()
		if _, err := s.Drain(t.Context(), &bridgepb.DrainRequest{}); err != nil {
			t.Error(err)
		}
	})
}

// TestAlone: a plugin that no host has started says what it is.
func TestAlone(t *testing.T) {
	out, err := exec.Command(os.Args[0], "plugin").CombinedOutput()
	if e, ok := errors.AsType[*exec.ExitError](err); !ok || e.ExitCode() != 2 {
		t.Errorf("it ends with %v", err)
	}
	if text := string(out); strings.Count(text, "\n") != 1 || !strings.Contains(text, `is the plugin "memory" 1 of Pannier, for memory: `) {
		t.Errorf("it says %q", text)
	}
}

// TestCheckName: names that would end a command of a protocol, or lead elsewhere.
func TestCheckName(t *testing.T) {
	for _, name := range []string{"/", "/a", "/ü/ a/-b", "/" + strings.Repeat("a", MaxName-1), "/...", "/a/.b"} {
		if err := CheckName(name); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{"", "a", "//", "/a/", "/a//b", "/.", "/..", "/a/../b", "/a\nb", "/a\x00", "/\x7f", "/\xff", "/" + strings.Repeat("a", MaxName)} {
		isKind(t, CheckName(name), fault.Invalid)
	}
}

// talk is a stream of messages as gRPC's: nothing comes any more when its handler has
// returned.
type talk struct {
	grpc.ServerStream
	come chan *bridgepb.Chunk
	over chan struct{}
}

func (c *talk) SendAndClose(*bridgepb.WriteStreamReply) error { return nil }
func (c *talk) Recv() (*bridgepb.Chunk, error) {
	select {
	case m := <-c.come:
		return m, nil
	case <-c.over:
		return nil, context.Canceled
	}
}

// TestCloseWhileMessagesCome: a session ends, and an Abort is over, though the file's bytes come
// in messages and nobody says that they have ended.
func TestCloseWhileMessagesCome(t *testing.T) {
	for name, end := range map[string]func(ctx context.Context, s *Service, session, write uint64) error{
		"close": func(ctx context.Context, s *Service, session, _ uint64) error {
			_, err := s.Close(ctx, &bridgepb.CloseRequest{Session: session})
			return err
		},
		"abort": func(ctx context.Context, s *Service, _, write uint64) error {
			_, err := s.Abort(ctx, &bridgepb.AbortRequest{Write: write})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, s, session := service(t)
				w, err := s.Write(t.Context(), &bridgepb.WriteRequest{Session: session, Name: "/x", Size: -1})
				if err != nil {
					t.Fatal(err)
				}
				c := &talk{come: make(chan *bridgepb.Chunk, 1), over: make(chan struct{})}
				c.come <- &bridgepb.Chunk{Write: w.GetWrite(), Data: []byte("01234")}
				go func() {
					defer close(c.over)
					isKind(t, s.WriteStream(c), fault.Stale)
				}()
				synctest.Wait()
				began := time.Now()
				if err := end(t.Context(), s, session, w.GetWrite()); err != nil || time.Since(began) > 0 {
					t.Errorf("after %v: %v", time.Since(began), err)
				}
				<-c.over
			})
		})
	}
}
