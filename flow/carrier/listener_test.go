package carrier

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pannier/pannier/spec/fault"
)

func closed(t *testing.T, c net.Conn) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(time.Minute))
	var timeout net.Error
	if _, err := c.Read(make([]byte, 1)); err == nil || errors.As(err, &timeout) && timeout.Timeout() {
		t.Errorf("not closed: %v", err)
	}
}

// A source that says half of something holds its places and not one more; another gets in.
func TestFloodFromOneSource(t *testing.T) {
	id := newIdentity(t)
	l := serve(t, "tls://127.0.0.1:0", Options{Identity: id, Pins: Pins{id.Key()}, MaxPending: 40, MaxPerSource: 4})
	for i := range 100 {
		c := halfDial(t, l)
		if i >= 4 {
			closed(t, c)
		}
	}
	if s := l.Stats(); s.Pending != 4 || s.Refused != 96 {
		t.Errorf("%+v, want 4 pending and 96 refused", s)
	}
	from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	c, err := from.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Skipf("no second loopback address: %v", err)
	}
	defer c.Close()
	if l.Stats().Lanes != 0 {
		t.Error("a lane before any handshake")
	}
	becomesLane(t, l, c, id)
}

// becomesLane runs the handshake of a good lane over c.
func becomesLane(t *testing.T, l *running, c net.Conn, id *Identity) {
	t.Helper()
	cfg, err := Options{Identity: id, Pins: Pins{id.Key()}, Protocols: []string{ProtocolLane}}.clientConfig("peer")
	if err != nil {
		t.Fatal(err)
	}
	raw := newBatcher(c.(HalfCloser))
	client := tls.Client(raw, cfg)
	if err := client.HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	lane := <-l.lane
	_ = lane.Close()
}

// Who shares its address with a flood gets in all the same.
func TestFloodBehindOneAddress(t *testing.T) {
	id := newIdentity(t)
	l := serve(t, "tls://127.0.0.1:0", Options{Identity: id, Pins: Pins{id.Key()}, MaxPerSource: 4, HandshakeTimeout: time.Hour})
	for range 8 {
		halfDial(t, l)
	}
	for range 6000 { // refused until the flood has taken too long
		if _, err := dial(t, l, Options{Identity: id, Pins: Pins{id.Key()}}); err == nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("no place in a minute")
}

func TestFloodInTotal(t *testing.T) {
	l := serve(t, "tcp://127.0.0.1:0", Options{MaxPending: 8, MaxPerSource: 100})
	var held []net.Conn
	for i := range 50 {
		c := halfDial(t, l)
		if i < 8 {
			held = append(held, c)
			continue
		}
		closed(t, c)
	}
	if s := l.Stats(); s.Pending != 8 || s.Refused != 42 {
		t.Errorf("%+v, want 8 pending and 42 refused", s)
	}
	// Who has a place can still use it.
	if _, err := held[7].Write(preface()[1:]); err != nil {
		t.Fatal(err)
	}
	lane := <-l.lane
	readPreface(t, lane)
	_ = lane.Close()
}

// A flood that says nothing keeps nobody out: its places are overdue soon, and
// whoever has proved a key once has places of its own.
func TestFloodGivesWay(t *testing.T) {
	id := newIdentity(t)
	l := serve(t, "tls://127.0.0.1:0", Options{Identity: id, Pins: Pins{id.Key()}, MaxPending: 8, MaxPerSource: 100, HandshakeTimeout: time.Hour})
	from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	if _, err := from.Dial("tcp", l.Addr().String()); err != nil {
		t.Skipf("no second loopback address: %v", err)
	}
	flood := func() {
		for range 8 {
			halfDial(t, l)
		}
	}
	flood()
	cfg := laneClient(id)
	var lane net.Conn
	for range 6000 { // refused until the flood is overdue
		c, err := from.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if err = tls.Client(c, cfg).Handshake(); err == nil {
			lane = <-l.lane
			break
		}
		c.Close()
		time.Sleep(10 * time.Millisecond)
	}
	if lane == nil {
		t.Fatal("no place for a newcomer in a minute")
	}
	_ = lane.Close()
	flood()
	c, err := from.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	becomesLane(t, l, c, id) // at once
}

// optionsFor are what a listener at address needs to let id in.
func optionsFor(address string, id *Identity) Options {
	if strings.HasPrefix(address, TLS) {
		return Options{Identity: id, Pins: Pins{id.Key()}}
	}
	return Options{}
}

// Idle and slow connections are closed after HandshakeTimeout, whatever they send.
func TestHandshakeTimeout(t *testing.T) {
	for _, address := range []string{"tcp://127.0.0.1:0", "tls://127.0.0.1:0"} {
		id := newIdentity(t)
		o := optionsFor(address, id)
		o.HandshakeTimeout = 50 * time.Millisecond
		l := serve(t, address, o)
		idle, slow := rawDial(t, l), rawDial(t, l)
		_, _ = slow.Write(preface()[:1])
		closed(t, idle)
		closed(t, slow)
	}
}

func TestStrangersAreClosed(t *testing.T) {
	l := serve(t, "tcp://127.0.0.1:0", Options{})
	for _, text := range []string{"G", "SSH-2.0-OpenSSH", "PRI * HTTP/1", "\x16\x03\x01"} {
		c := rawDial(t, l)
		_, _ = io.WriteString(c, text)
		closed(t, c)
	}
	if s := l.Stats(); s.Lanes+s.HTTP2 != 0 {
		t.Errorf("accepted: %+v", s)
	}
}

func TestCloseBreaksOffHandshakes(t *testing.T) {
	id := newIdentity(t)
	for _, address := range []string{"tcp://127.0.0.1:0", "tls://127.0.0.1:0", "unix://" + t.TempDir() + "/s"} {
		o := optionsFor(address, id)
		o.HandshakeTimeout = time.Hour
		l, err := Listen(address, o)
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- l.Serve(func(net.Conn) {}, nil) }()
		c, err := net.Dial(l.Addr().Network(), l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = c.Write(preface()[:1]) // otherwise the kernel keeps it
		for l.Stats().Pending == 0 {
			runtime.Gosched()
		}
		if err := l.Serve(nil, nil); !errors.Is(err, fault.Invalid) {
			t.Errorf("a second Serve: %v", err)
		}
		if err := errors.Join(l.Close(), l.Close(), <-done); err != nil {
			t.Error(err)
		}
		if s := l.Stats(); s.Pending != 0 {
			t.Errorf("%d pending after Close", s.Pending)
		}
		closed(t, c)
		_ = c.Close()
		if err := l.Serve(nil, nil); err != nil {
			t.Errorf("serve after close: %v", err)
		}
	}
}

func TestCloseWithoutServe(t *testing.T) {
	l, err := Listen("tcp://127.0.0.1:0", Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(l.Close(), l.Close()); err != nil {
		t.Error(err)
	}
}

// exhausted is a listener without descriptors for a while.
type exhausted struct {
	net.Listener
	left  int
	calls atomic.Int64
	err   error
}

func (e *exhausted) Accept() (net.Conn, error) {
	e.calls.Add(1)
	if e.left > 0 {
		e.left--
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: e.err}
	}
	return e.Listener.Accept()
}

func TestAcceptBacksOff(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ECONNABORTED} {
		synctest.Test(t, func(t *testing.T) {
			p := NewPipe()
			l, err := Listen("pipe:", Options{Pipe: p})
			if err != nil {
				t.Fatal(err)
			}
			broken := &exhausted{Listener: p, left: 12, err: errno}
			l.ln = broken
			lanes := make(chan net.Conn, 1)
			go func() { _ = l.Serve(func(c net.Conn) { lanes <- c }, nil) }()
			begin := time.Now()
			c, err := p.Dial(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			// 5 ms doubled eight times, then four pauses of a second.
			if d := time.Since(begin); d != 5275*time.Millisecond || broken.calls.Load() > 14 {
				t.Errorf("%v: accepted after %v and %d calls", errno, d, broken.calls.Load())
			}
			_, _ = c.Write(preface())
			_ = (<-lanes).Close()
			_ = c.Close()
			_ = l.Close()
		})
	}
}

func TestCloseEndsBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPipe()
		l, err := Listen("pipe:", Options{Pipe: p})
		if err != nil {
			t.Fatal(err)
		}
		l.ln = &exhausted{Listener: p, left: 1 << 30, err: syscall.EMFILE}
		done := make(chan error, 1)
		go func() { done <- l.Serve(nil, nil) }()
		time.Sleep(time.Minute)
		begin := time.Now()
		if err := errors.Join(l.Close(), <-done); err != nil || time.Since(begin) != 0 {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
	})
}

// One port over a pipe, in virtual time: lanes, and strangers that say nothing.
func TestPipePort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPipe()
		l := serve(t, "pipe:", Options{Pipe: p})
		d, err := NewDialer("pipe:", Options{Pipe: p})
		if err != nil || !d.Single() {
			t.Fatal(err)
		}
		begin := time.Now()
		c, err := d.Dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 1)); err != io.EOF || time.Since(begin) != DefaultHandshakeTimeout {
			t.Errorf("silent for %v: %v", time.Since(begin), err)
		}
		_ = c.Close()
		if c, err = d.Dial(t.Context()); err != nil {
			t.Fatal(err)
		}
		writePreface(t, c)
		lane := <-l.lane
		readPreface(t, lane)
		go func() {
			time.Sleep(time.Hour) // the handshake's deadline is gone
			_, _ = c.Write([]byte("x"))
		}()
		if n, err := lane.Read(make([]byte, 2)); n != 1 || err != nil {
			t.Errorf("read: %d, %v", n, err)
		}
		_ = lane.Close()
		_ = c.Close()
	})
}

// TestPlaintextStaysOnLoopback: a tcp address that others can reach is opened
// only on demand. Ports are 0 and nothing is served, so nothing is exposed.
func TestPlaintextStaysOnLoopback(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		address string
		allowed bool // without ExposePlaintext
	}{
		{"tcp://127.0.0.1:0", true},
		{"tcp://127.9.9.9:0", true},
		{"tcp://localhost:0", true},
		{"tcp://[::1]:0", true},
		{"tcp://[::ffff:127.0.0.1]:0", true},
		{"tcp://:0", false},
		{"tcp://0.0.0.0:0", false},
		{"tcp://[::]:0", false},
		{"tcp://[::ffff:0.0.0.0]:0", false},
		{"tcp://192.0.2.1:0", false},
		{"tcp://[::ffff:192.0.2.1]:0", false},
		{"tcp://[2001:db8::1]:0", false},
		{"tcp://[fe80::1%lo]:0", false},
		{"tcp://[::%lo]:0", false},
	} {
		l, err := Listen(c.address, Options{})
		if l != nil {
			if tcp := l.Addr().(*net.TCPAddr); !tcp.IP.IsLoopback() {
				t.Errorf("%s: listens on %v", c.address, tcp)
			}
			l.Close()
		}
		ipv6 := strings.Contains(c.address, "::1]") && errors.Is(err, syscall.EADDRNOTAVAIL)
		if (err == nil) != c.allowed && !ipv6 {
			t.Errorf("%s: %v", c.address, err)
		}
		if !c.allowed && (fault.KindOf(err) != fault.Invalid || !strings.Contains(err.Error(), "tls://") || !strings.Contains(err.Error(), "ExposePlaintext")) {
			t.Errorf("%s: the error does not say what to do: %v", c.address, err)
		}
	}
	for _, address := range []string{"tcp://:0", "tcp://0.0.0.0:0"} {
		l, err := Listen(address, Options{ExposePlaintext: true})
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
	}
}
