package ftpd_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/plugins/ftp"
	"github.com/pannier/pannier/spec/fault"
)

// TestBounce: the server connects to nobody but the client, whatever PORT says, and lets
// nobody else have a data connection.
func TestBounce(t *testing.T) {
	s := serve(t, nil)
	s.put(t, "f", []byte("secret"))
	r := s.login()
	victim, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	defer victim.Close()
	p := victim.Addr().(*net.TCPAddr).Port
	for _, command := range []string{fmt.Sprintf("PORT 127,0,0,2,%d,%d", p>>8, p&0xff), fmt.Sprintf("EPRT |1|127.0.0.2|%d|", p)} {
		r.is(command, "504")
		r.is("RETR f", "425")
	}
	_ = victim.(*net.TCPListener).SetDeadline(time.Now().Add(50 * time.Millisecond))
	if _, err := victim.Accept(); err == nil {
		t.Error("the server has connected to the victim")
	}

	at := r.epsv()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP("127.0.0.3")}}
	thief, err := d.Dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer thief.Close()
	r.is("RETR f", "150")
	_ = thief.SetDeadline(time.Now().Add(10 * time.Second))
	if b, _ := io.ReadAll(thief); len(b) > 0 {
		t.Errorf("somebody else gets %q", b)
	}
	c := r.dial(at)
	if b, _ := io.ReadAll(c); string(b) != "secret" {
		t.Errorf("the client gets %q", b)
	}
	r.wants("226")
}

// TestSlowAndEndless: clients that take time, or too much of a line, are ended, each for
// itself.
func TestSlowAndEndless(t *testing.T) {
	s := serve(t, nil, "login-timeout", "300ms", "idle", "400ms")
	other := s.login()
	stop := make(chan bool)
	var drips sync.WaitGroup
	defer drips.Wait()
	defer close(stop)
	drip := func(r *raw) {
		drips.Go(func() {
			for {
				if _, err := r.c.Write([]byte("N")); err != nil {
					return
				}
				select {
				case <-stop:
					return
				case <-time.After(20 * time.Millisecond):
				}
			}
		})
	}
	stranger := s.connect()
	drip(stranger)
	stranger.wants("421 Nobody has logged in")
	stranger.gone()
	known := s.login()
	drip(known)
	known.wants("421 Nothing was said")
	known.gone()
	other.wants("421")

	endless := s.connect()
	endless.send("USER ")
	for range 2000 {
		if _, err := endless.c.Write([]byte(strings.Repeat("a", 1000))); err != nil {
			break
		}
	}
	endless.gone()
	long := s.connect()
	long.send("USER " + strings.Repeat("a", plugins.MaxName+100))
	long.wants("500")
	long.gone()

	s = serve(t, nil, "timeout", "300ms")
	s.put(t, "big", make([]byte, 64<<20))
	r := s.login()
	r.begin("RETR big") // and it is not read
	r.wants("426")
	deaf := s.login()
	for range 1_000_000 { // replies are not read
		if _, err := deaf.c.Write([]byte("HELP\r\nHELP\r\nHELP\r\nHELP\r\n")); err != nil {
			break
		}
	}
	deaf.gone()
	r.is("NOOP", "200")
}

// TestFlood: commands that come one after the other wait in the client's own buffers; during
// a transfer, where they must be read, there may be 64.
func TestFlood(t *testing.T) {
	s := serve(t, nil)
	r := s.login()
	go func() { _, _ = r.c.Write([]byte(strings.Repeat("NOOP\r\n", 20_000))) }()
	for range 20_000 {
		r.wants("200")
	}
	r.begin("STOR f")
	r.send(strings.Repeat("PWD\r\n", 64))
	r.is("STAT", "211")
	r.send("PWD\r\n")
	r.wants("426")
	r.wants("421 Too many commands")
	r.gone()
	s.empty(t)
}

// TestPasswords: wrong ones are slow, end the connection, and are counted by address, also
// those that are tried at the same time; the node is not asked for more.
func TestPasswords(t *testing.T) {
	s := serve(t, nil, "login-tries", "2", "login-failures", "6", "login-delay", "100ms")
	r := s.connect()
	began := time.Now()
	for i, code := range []string{"530", "421"} {
		r.is("USER "+user, "331")
		r.is(fmt.Sprint("PASS wrong", i), code)
	}
	if d := time.Since(began); d < 300*time.Millisecond {
		t.Errorf("two wrong passwords took %v", d)
	}
	r.gone()
	var all sync.WaitGroup
	var asked atomic.Int32
	for range 10 {
		c := s.connect()
		all.Go(func() {
			c.send("USER " + user + "\r\nPASS wrong\r\n")
			_, _ = c.reply()
			if got, _ := c.reply(); strings.HasPrefix(got, "530") {
				asked.Add(1)
			}
		})
	}
	all.Wait()
	s.mu.Lock()
	opened := len(s.opened)
	s.mu.Unlock()
	if asked.Load() != 4 || opened != 6 {
		t.Errorf("%d were tried of 4, %d in all", asked.Load(), opened)
	}
	r = s.connect()
	r.is("USER "+user, "331")
	r.is("PASS "+password, "421 Too many wrong passwords")
	r.gone()
	r = s.connectFrom("127.0.0.9")
	r.wants("220")
	r.login()
	s.mu.Lock()
	defer s.mu.Unlock()
	if last := s.opened[len(s.opened)-1]; !strings.HasPrefix(last.URL, "guest://127.0.0.9:") || last.User != user || last.Password != password {
		t.Errorf("%+v", last)
	}
}

// TestNodeAway: that the node cannot be asked is nobody's wrong password.
func TestNodeAway(t *testing.T) {
	n := &node{login: func(context.Context) error { return fault.New("open", fault.Lost, "the node is gone") }}
	s := serve(t, n, "login-failures", "1")
	for range 3 {
		r := s.connect()
		r.is("USER "+user, "331")
		r.is("PASS "+password, "421 Nobody can be let in now")
		r.gone()
	}
}

// TestPlaces: of one address there are not too many; when all places are taken, strangers make
// room, and those who have logged in do not.
func TestPlaces(t *testing.T) {
	s := serve(t, nil, "connections", "4", "connections-per-address", "2")
	first := s.login()
	second := s.connect()
	third := s.connectFrom("127.0.0.1")
	third.wants("421 There are too many connections from your address")
	third.gone()
	strangers := []*raw{s.connectFrom("127.0.0.2"), s.connectFrom("127.0.0.2")}
	for _, r := range strangers {
		r.wants("220")
	}
	r := s.connectFrom("127.0.0.3") // in place of one of two
	r.wants("220")
	strangers[0].gone()
	r.login()
	for i, stranger := range []*raw{second, strangers[1]} {
		r := s.connectFrom(fmt.Sprint("127.0.0.", 4+i))
		r.wants("220")
		stranger.gone()
		r.login()
	}
	r = s.connectFrom("127.0.0.6")
	r.wants("421 There are too many connections.")
	first.is("QUIT", "221")
	first.gone()
	eventually(t, "the place is free", func() bool {
		r := s.connectFrom("127.0.0.6")
		got, _ := r.reply()
		return strings.HasPrefix(got, "220")
	})
}

// TestThousand: so many who say nothing cost little, and keep nobody out.
func TestThousand(t *testing.T) {
	s := serve(t, nil, "connections", "1000", "connections-per-address", "1000")
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for range 1000 {
		s.connect()
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	each := (after.HeapInuse + after.StackInuse - before.HeapInuse - before.StackInuse) / 1000
	t.Logf("a connection takes %d bytes, with the client's end", each)
	if each > 64<<10 {
		t.Errorf("a connection takes %d bytes", each)
	}
	r := s.connectFrom("127.0.0.2")
	r.wants("220")
	r.login()
	if got := r.stor("f", []byte("1")); !strings.HasPrefix(got, "226") {
		t.Error(got)
	}
}

// TestPanics of a node end what they happen in.
func TestPanics(t *testing.T) {
	n := &node{begin: func(string) error { panic("on purpose") }}
	s := serve(t, n)
	r := s.login()
	r.epsv()
	r.is("STOR f", "451")
	r.is("NOOP", "200")
	n.list = func(func(plugins.Attr, error) bool) { panic("on purpose") }
	r.epsv()
	r.is("LIST", "451")
	bad := s.connect()
	n.login = func(context.Context) error { panic("on purpose") }
	bad.is("USER "+user, "331")
	bad.send("PASS " + password + "\r\n")
	bad.gone()
	r.is("NOOP", "200")
}

// limping is a listener that fails now and then.
type limping struct {
	net.Listener
	fails []error
}

type temporary struct{ error }

func (temporary) Temporary() bool { return true }
func (temporary) Timeout() bool   { return false }

func (l *limping) Accept() (net.Conn, error) {
	if len(l.fails) > 0 {
		err := l.fails[0]
		l.fails = l.fails[1:]
		return nil, err
	}
	return l.Listener.Accept()
}

// TestAccepting goes on after errors that pass, and ends with those that do not.
func TestAccepting(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	passes := temporary{errors.New("too many open files")}
	o := map[string]string{"tls": "off"}
	go func() {
		done <- ftp.Driver{}.Listen(context.Background(), &limping{l, []error{passes, passes}}, o, &node{root: t.TempDir()})
	}()
	s := &served{t: t, address: l.Addr().String()}
	s.connect().is("QUIT", "221")
	_ = l.Close()
	if err := <-done; err == nil {
		t.Error("it ends without a word")
	}
}
