package ftpd_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// TestVerdict: the final reply to STOR comes when the node's Commit has returned, not before,
// and is what that says. Meanwhile the control connection answers.
func TestVerdict(t *testing.T) {
	asked, answer := make(chan bool), make(chan error)
	n := &node{commit: func(ctx context.Context, st plugins.Staged) (plugins.Attr, error) {
		asked <- true
		if err := <-answer; err != nil {
			return plugins.Attr{}, err
		}
		a, err := st.Commit(ctx)
		a.Verified = "sha256"
		return a, err
	}}
	s := serve(t, n)
	r := s.login()
	b := randomBytes(300_000)
	c := r.begin("STOR f")
	_, _ = c.Write(b)
	_ = c.Close()
	<-asked
	if got := r.is("STAT", "211"); !strings.Contains(got, "300000 bytes came, and are being handed on") {
		t.Errorf("%q", got)
	}
	r.is("NOOP", "200")
	r.send("ABOR\r\nPWD\r\n") // too late: the answer is the node's
	r.is("NOOP", "200")
	n.absent(t, "f")
	answer <- nil
	if got := r.wants("226"); !strings.Contains(got, "300000 bytes, compared by sha256") {
		t.Errorf("%q", got)
	}
	r.wants("226 The transfer is over")
	r.wants("257")
	n.holds(t, "f", b)

	c = r.begin("STOR f")
	_, _ = c.Write(b[:10])
	_ = c.Close()
	<-asked
	answer <- fault.New("hand on", fault.NoSpace, "the disk is full")
	r.wants("452 /f: hand on: no space: the disk is full")
	n.holds(t, "f", b)
	if _, commits, aborts := n.counts(); commits != 1 || aborts != 1 {
		t.Errorf("%d commits, %d aborts", commits, aborts)
	}
}

// TestLeavingDuringCommit: a client that leaves ends its wait, and not the node's work.
func TestLeavingDuringCommit(t *testing.T) {
	asked, answer := make(chan context.Context), make(chan bool)
	n := &node{commit: func(ctx context.Context, st plugins.Staged) (plugins.Attr, error) {
		asked <- ctx
		<-answer
		return st.Commit(ctx)
	}}
	s := serve(t, n, "connections", "1")
	r := s.login()
	c := r.begin("STOR f")
	_, _ = c.Write([]byte("123"))
	_ = c.Close()
	ctx := <-asked
	_ = r.c.Close()
	late := s.connectFrom("127.0.0.1") // its place is taken as long as the work goes on
	late.wants("421")
	if ctx.Err() != nil {
		t.Error("the node's work is ended")
	}
	close(answer)
	eventually(t, "the session is over", func() bool { sessions, _, _ := n.counts(); return sessions == 0 })
	n.holds(t, "f", []byte("123"))
}

// TestNothingHalf: of a file whose end nobody has confirmed, nothing is published or left.
func TestNothingHalf(t *testing.T) {
	for name, end := range map[string]func(r *raw, c *net.TCPConn){
		"client killed": func(r *raw, c *net.TCPConn) { _, _ = c.Close(), r.c.Close() },
		"control first": func(r *raw, c *net.TCPConn) { _, _ = r.c.Close(), c.Close() },
		"data reset": func(r *raw, c *net.TCPConn) {
			_ = c.SetLinger(0)
			_ = c.Close()
			r.wants("426")
		},
		"silence": func(r *raw, _ *net.TCPConn) { r.wants("426") },
		"abort": func(r *raw, _ *net.TCPConn) {
			r.is("ABOR", "426")
			r.wants("226")
			r.is("NOOP", "200")
		},
		"abort, then leaving": func(r *raw, c *net.TCPConn) {
			r.send("ABOR\r\n")
			_, _ = r.c.Close(), c.Close()
		},
		"quota": func(r *raw, c *net.TCPConn) {
			_, _ = c.Write(make([]byte, 1<<20))
			r.wants("552")
			if _, err := c.Write(make([]byte, 64<<20)); err == nil {
				r.t.Error("the server takes what it has refused")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := &node{written: func(n int64) error {
				if n > 1<<20 {
					return fault.New("write", fault.QuotaExceeded, "it is too long")
				}
				return nil
			}}
			s := serve(t, n, "timeout", "300ms", "settle", "300ms")
			r := s.login()
			c := r.begin("STOR f")
			_, _ = c.Write([]byte("half of it"))
			eventually(t, "some bytes came", func() bool { return strings.Contains(r.is("STAT", "211"), " 10 bytes") })
			end(r, c)
			eventually(t, "it is aborted", func() bool { _, _, aborts := n.counts(); return aborts == 1 })
			_ = s.stop()
			if _, commits, _ := n.counts(); commits != 0 {
				t.Error("it is committed")
			}
			n.empty(t)
		})
	}
}

// TestRefusedInTheMiddle: a client that sends all of its file before it reads a reply gets the reply, and no reset instead; its
// connection goes on. Who goes on sending is cut off, and so is who sends nothing more and does not close.
func TestRefusedInTheMiddle(t *testing.T) {
	n := &node{written: func(n int64) error {
		if n > 1000 {
			return fault.New("write", fault.QuotaExceeded, "it is too long")
		}
		return nil
	}}
	r := serve(t, n).login()
	for range 3 {
		c := r.begin("STOR f")
		for range 24 { // with pauses: the file is refused long before the last of it
			if _, err := c.Write(make([]byte, 256<<10)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Millisecond)
		}
		if err := c.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		r.wants("552")
		if _, err := c.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("the data connection ends with %v", err)
		}
	}
	c := r.begin("STOR f")
	_, _ = c.Write(make([]byte, 2000))
	r.wants("552")
	r.is("NOOP", "200")
	if _, err := c.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("a silent client's data connection ends with %v", err)
	}
	n.empty(t)
}

// TestAbortAnywhere: ABOR at each point of a transfer ends it, and the connection is as good
// as before.
func TestAbortAnywhere(t *testing.T) {
	n := &node{}
	s := serve(t, n)
	s.put(t, "big", make([]byte, 64<<20))
	r := s.login()
	both := func() {
		t.Helper()
		r.is("\xff\xf4\xff\xf2ABOR", "426")
		r.wants("226")
		r.is("PWD", "257")
	}
	r.is("ABOR", "226")
	for _, command := range []string{"STOR f", "RETR big", "LIST"} {
		r.epsv() // nobody connects
		r.is(command, "150")
		both()
		l, err := net.Listen("tcp", "127.0.0.1:0") // nobody accepts
		if err != nil {
			t.Fatal(err)
		}
		r.is("EPRT |1|127.0.0.1|"+l.Addr().String()[len("127.0.0.1:"):]+"|", "200")
		r.send(command + "\r\nABOR\r\n")
		for n := 0; n < 2; { // done, or aborted
			got, err := r.reply()
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(got, "150") {
				n++
			}
		}
		r.is("PWD", "257")
		_ = l.Close()
	}
	r.begin("RETR big")
	r.urgent("\xff\xf4\xff")
	r.is("\xf2ABOR", "426")
	r.wants("226")
	c := r.begin("RETR big")
	if _, err := io.ReadFull(c, make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	both()
	if _, err := io.Copy(io.Discard, c); err == nil {
		t.Error("what was aborted ends like what is whole")
	}
	r.epsv()
	r.is("ABOR", "226")
	r.is("LIST", "425")
	if got := r.stor("f", []byte("1")); !strings.HasPrefix(got, "226") {
		t.Error(got)
	}
	r.begin("STOR f2") // twice
	r.send("ABOR\r\nABOR\r\n")
	r.wants("426")
	r.wants("226")
	r.wants("226")
	r.is("PWD", "257")
}

// urgent sends bytes of which TCP takes the last for urgent.
func (r *raw) urgent(b string) {
	r.t.Helper()
	rc, err := r.tcp.(*net.TCPConn).SyscallConn()
	if err == nil {
		err = rc.Write(func(fd uintptr) bool {
			_, err = syscall.SendmsgN(int(fd), []byte(b), nil, nil, syscall.MSG_OOB)
			return true
		})
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

// TestOrder: what came with STOR is answered after it, what came since at once; so NOOP's
// reply is never taken for STOR's.
func TestOrder(t *testing.T) {
	s := serve(t, nil)
	r := s.login()
	c := r.dial(r.epsv())
	r.send("STOR f\r\n" + strings.Repeat("NOOP\r\n", 50) + "PWD\r\n")
	r.wants("150")
	r.is("STAT", "211")
	r.is("NOOP", "200") // this one
	r.is("STAT", "211")
	r.send("SYST\r\nQUIT\r\nPWD\r\n")
	_, _ = c.Write([]byte("12"))
	_ = c.Close()
	r.wants("226")
	for range 50 {
		r.wants("200")
	}
	for _, code := range []string{"257", "215", "221"} {
		r.wants(code)
	}
	r.gone()
	s.holds(t, "f", []byte("12"))
}

// TestUnused: a port that nobody has come to is given up.
func TestUnused(t *testing.T) {
	s := serve(t, nil, "timeout", "50ms")
	r := s.login()
	at := r.epsv()
	eventually(t, "nobody listens", func() bool {
		c, err := net.Dial("tcp", at)
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	})
	r.is("LIST", "150")
	r.wants("425")
}

// TestRetrieve: whole, from offsets, in both types.
func TestRetrieve(t *testing.T) {
	s := serve(t, nil)
	b := append(randomBytes(3<<20+1), "\n\r\n"...)
	s.put(t, "f", b)
	r := s.login()
	for _, typ := range []string{"I", "A"} {
		r.is("TYPE "+typ, "200")
		for _, at := range []int{0, 1, len(b) - 1, len(b)} {
			r.is(fmt.Sprint("REST ", at), "350")
			if got, said := r.retr("RETR f"); !bytes.Equal(got, b[at:]) || !strings.HasPrefix(said, "226") {
				t.Errorf("from %d: %d bytes, %s", at, len(got), said)
			}
		}
		if got, said := r.retr("RETR f"); !bytes.Equal(got, b) { // REST is of one transfer
			t.Errorf("%d bytes, %s", len(got), said)
		}
		if got := r.stor("g", b); !strings.HasPrefix(got, "226") {
			t.Error(got)
		}
		s.holds(t, "g", b)
	}
	r.is(fmt.Sprint("REST ", len(b)+1), "350")
	r.epsv()
	r.is("RETR f", "501")
	r.epsv()
	r.is("RETR nothing", "550")
}

// cutOff is a file whose end the node does not confirm.
type cutOff struct {
	io.ReadCloser
	fails error
	left  int
}

func (c *cutOff) Read(p []byte) (int, error) {
	if c.left == 0 {
		return 0, c.fails
	}
	n, err := c.ReadCloser.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}

func (c *cutOff) Close() error {
	_ = c.ReadCloser.Close()
	return fault.New("close", fault.Lost, "the other node is gone")
}

// TestRetrieveUnconfirmed: bytes that end without the node's word for it do not end for the
// client like a whole file.
func TestRetrieveUnconfirmed(t *testing.T) {
	var fails atomic.Pointer[error]
	n := &node{read: func(r io.ReadCloser) io.ReadCloser { return &cutOff{r, *fails.Load(), 1000} }}
	s := serve(t, n)
	s.put(t, "f", make([]byte, 2000))
	r := s.login()
	for _, err := range []error{io.EOF, fault.New("read", fault.Lost, "the other node is gone")} {
		fails.Store(&err)
		if b, said := r.retr("RETR f"); b != nil || !strings.HasPrefix(said, "451") {
			t.Errorf("%v: %d bytes, %s", err, len(b), said)
		}
	}
}

// TestActive: PORT and EPRT.
func TestActive(t *testing.T) {
	s := serve(t, nil)
	s.put(t, "f", []byte("123"))
	r := s.login()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	p := l.Addr().(*net.TCPAddr).Port
	for _, command := range []string{fmt.Sprintf("PORT 127,0,0,1,%d,%d", p>>8, p&0xff), fmt.Sprintf("EPRT |1|127.0.0.1|%d|", p)} {
		r.is(command, "200")
		r.is("RETR f", "150")
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(c)
		_ = c.Close()
		if string(b) != "123" || err != nil {
			t.Errorf("%q, %v", b, err)
		}
		r.wants("226")
	}
	_ = l.Close()
	r.is(fmt.Sprintf("EPRT |1|127.0.0.1|%d|", p), "200")
	r.is("RETR f", "150")
	r.wants("425")

	s = serve(t, nil, "active", "off")
	r = s.login()
	r.is("PORT 127,0,0,1,200,1", "502")
	r.is("EPRT |1|127.0.0.1|2000|", "502")
}

// TestStopping: who is idle is told at once, a transfer may end, one that takes too long is
// cut off, and nothing of it is left.
func TestStopping(t *testing.T) {
	n := &node{}
	s := serve(t, n, "drain", "10s")
	idle, busy := s.login(), s.login()
	stranger := s.connect()
	c := busy.begin("STOR f")
	_, _ = c.Write([]byte("12"))
	stopped := make(chan error, 1)
	go func() { stopped <- s.stop() }()
	idle.wants("421")
	idle.gone()
	stranger.wants("421")
	_, _ = c.Write([]byte("3"))
	_ = c.Close()
	busy.wants("226")
	busy.wants("421")
	busy.gone()
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	n.holds(t, "f", []byte("123"))

	n = &node{}
	s = serve(t, n, "drain", "100ms")
	busy = s.login()
	c = busy.begin("STOR f")
	_, _ = c.Write([]byte("12"))
	go func() { stopped <- s.stop() }()
	busy.wants("426")
	busy.wants("421")
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	n.empty(t)

	committing := make(chan bool)
	n = &node{commit: func(ctx context.Context, _ plugins.Staged) (plugins.Attr, error) {
		close(committing)
		<-ctx.Done()
		return plugins.Attr{}, ctx.Err()
	}}
	s = serve(t, n, "drain", "100ms")
	busy = s.login()
	c = busy.begin("STOR f")
	_ = c.Close()
	<-committing
	go func() { stopped <- s.stop() }()
	busy.wants("451")
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	n.empty(t)
}
