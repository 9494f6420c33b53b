package carrier

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pannier/pannier/flow/flowtest"
	"github.com/pannier/pannier/spec/fault"
)

// swap sends some bytes each way, more than a FIFO holds.
func swap(t testing.TB, c, s net.Conn) {
	t.Helper()
	block := bytes.Repeat([]byte("0123456789abcdef"), 16<<10)
	for _, pair := range [][2]net.Conn{{c, s}, {s, c}} {
		wrote := make(chan error, 1)
		go func() { _, err := pair[0].Write(block); wrote <- err }()
		got := make([]byte, len(block))
		if _, err := io.ReadFull(pair[1], got); err != nil || !bytes.Equal(got, block) {
			t.Fatalf("%d bytes came, %v, the same: %v", len(got), err, bytes.Equal(got, block))
		}
		if err := <-wrote; err != nil {
			t.Fatal(err)
		}
	}
}

// onePipes are both ends of every carrier whose pipe outlives a connection.
var onePipes = map[string]func(testing.TB) (near, far string){"fifo": fifos, "tty": nullModem}

// TestOnePipeConnects: with keys and without, whoever is there first, one
// connection after the other.
func TestOnePipeConnects(t *testing.T) {
	for name, ends := range onePipes {
		for _, secure := range []bool{true, false} {
			for _, dialerFirst := range []bool{true, false} {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					near, far := ends(t)
					no, fo := pinned(t)
					if !secure {
						near, far, no, fo = plain(near), plain(far), Options{}, Options{ExposePlaintext: true}
					}
					d, err := NewDialer(near, no)
					if err != nil || !d.Single() {
						t.Fatal(d.Single(), err)
					}
					dialed := make(chan net.Conn, 1)
					dial := func() {
						c, err := d.Dial(t.Context())
						if err != nil {
							t.Error(err)
						}
						dialed <- c
					}
					var l *running
					if dialerFirst {
						go dial()
						time.Sleep(20 * time.Millisecond) // it may just as well not have begun
						l = serve(t, far, fo)
					} else {
						l = serve(t, far, fo)
						go dial()
					}
					for i := range 5 {
						c := <-dialed
						if c == nil {
							t.FailNow()
						}
						writePreface(t, c)
						s := <-l.lane
						readPreface(t, s)
						if key := s.(Conn).PeerKey(); secure != (key != "") || secure && key != no.Identity.Key() {
							t.Errorf("the peer's key is %q", key)
						}
						swap(t, c, s)
						if _, err := d.Dial(t.Context()); !errors.Is(err, fault.Overloaded) {
							t.Errorf("a second connection: %v", err)
						}
						if name == "fifo" {
							endsAtOnce(t, c, s, i%2 == 0)
						}
						_, _ = c.Close(), s.Close()
						go dial()
					}
					_ = (<-dialed).Close()
				})
			}
		}
	}
}

// endsAtOnce: an end that closes ends the other's Read.
func endsAtOnce(t testing.TB, c, s net.Conn, nearFirst bool) {
	t.Helper()
	if !nearFirst {
		c, s = s, c
	}
	read := make(chan error, 1)
	go func() { _, err := s.Read(make([]byte, 1)); read <- err }()
	_ = c.Close()
	if err := <-read; !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the other end has closed: %v", err)
	}
}

// TestOnePipeBeginsAnew: the other end does not know that this one has begun anew, and
// what an earlier connection has left in the pipe, greetings and whole handshakes included,
// is not taken for the new one.
func TestOnePipeBeginsAnew(t *testing.T) {
	near, far := fifos(t)
	na, err := ParseAddress(near)
	if err != nil {
		t.Fatal(err)
	}
	var held [2]*os.File // so that nobody sees an end of file
	for i, path := range []string{na.Out, na.Path} {
		if held[i], err = os.OpenFile(path, os.O_RDWR, 0); err != nil {
			t.Fatal(err)
		}
		defer held[i].Close()
	}
	stale := greeting{kind: greetCall, from: [16]byte{1}}.append([]byte("the end of something"))
	stale = greeting{kind: greetGo, to: [16]byte{2}, from: [16]byte{1}}.append(stale)
	stale = append(append(stale, preface()...), "a whole HELLO"...)
	damaged := greeting{kind: greetCall, from: [16]byte{3}}.append(nil)
	damaged[20] ^= 1
	if _, err := held[0].Write(append(stale, damaged...)); err != nil {
		t.Fatal(err)
	}
	answer := greeting{kind: greetAnswer, to: [16]byte{1}, from: [16]byte{2}}.append([]byte("\xf1PIP"))
	if _, err := held[1].Write(append(answer, preface()...)); err != nil {
		t.Fatal(err)
	}
	l := serve(t, plain(far), Options{})
	for range 3 {
		c := mustDial(t, plain(near), Options{})
		writePreface(t, c)
		s := <-l.lane
		readPreface(t, s)
		swap(t, c, s)
		_, _ = c.Write([]byte("left in the pipe"))
		_, _ = s.Write([]byte("this, too"))
		_, _ = c.Close(), s.Close()
	}
}

// TestGarbageIsRefused: bytes without end that are no greeting.
func TestGarbageIsRefused(t *testing.T) {
	near, far := fifos(t)
	na, _ := ParseAddress(near)
	d, err := NewDialer(plain(near), Options{})
	if err != nil {
		t.Fatal(err)
	}
	fa, _ := ParseAddress(far)
	out := make(chan *os.File, 1)
	go func() {
		w, err := os.OpenFile(fa.Out, os.O_WRONLY, 0)
		if err != nil {
			t.Error(err)
		}
		out <- w
		_, _ = w.Write(bytes.Repeat([]byte("login: "), maxNoise/7+2*4096))
	}()
	r, err := os.OpenFile(na.Out, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err = d.Dial(t.Context()); !errors.Is(err, fault.Protocol) || !strings.Contains(err.Error(), `"login: login: `) {
		t.Errorf("%v", err)
	}
	_ = (<-out).Close()
}

func TestFIFOWithoutPeer(t *testing.T) {
	near, far := fifos(t)
	d, err := NewDialer(plain(near), Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { _, err := d.Dial(ctx); done <- err }()
	time.Sleep(5 * time.Millisecond)
	cancel()
	if err := <-done; !errors.Is(err, fault.Canceled) {
		t.Errorf("a dial that was given up: %v", err)
	}
	d.opts.HandshakeTimeout = 20 * time.Millisecond
	if _, err := d.Dial(t.Context()); !errors.Is(err, fault.Deadline) {
		t.Errorf("nobody came: %v", err)
	}
	l, err := Listen(plain(far), Options{})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- l.Serve(nil, nil) }()
	time.Sleep(5 * time.Millisecond)
	if err := errors.Join(l.Close(), <-served); err != nil {
		t.Errorf("a listener that was closed: %v", err)
	}
}

// TestFIFOUnblocks: deadlines and Close end Reads and Writes that wait.
func TestFIFOUnblocks(t *testing.T) {
	near, far := fifos(t)
	l := serve(t, plain(far), Options{})
	c := mustDial(t, plain(near), Options{})
	writePreface(t, c)
	s := <-l.lane
	defer s.Close()
	big := make([]byte, 4<<20)
	_ = c.SetDeadline(time.Now().Add(10 * time.Millisecond))
	if _, err := c.Read(big); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read: %v", err)
	}
	if _, err := c.Write(big); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("write: %v", err)
	}
	_ = c.SetDeadline(time.Time{})
	ended := make(chan error, 2)
	go func() { _, err := c.Read(big); ended <- err }()
	go func() { _, err := c.Write(big); ended <- err }()
	time.Sleep(5 * time.Millisecond)
	_ = c.Close()
	for range 2 {
		if err := <-ended; !errors.Is(err, net.ErrClosed) {
			t.Errorf("closed: %v", err)
		}
	}
}

func TestFIFORefuses(t *testing.T) {
	near, far := fifos(t)
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/file", []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	na, _ := ParseAddress(near)
	for _, tc := range []struct {
		address string
		kind    fault.Kind
	}{
		{"plain+fifo://" + dir + "/none," + na.Out, fault.NotFound},
		{"plain+fifo://" + dir + "/file," + na.Out, fault.Invalid},
		{"plain+fifo://" + na.Path + "," + dir + "/file", fault.Invalid},
		{"plain+fifo://" + na.Path, fault.Invalid},
		{"plain+fifo://" + dir + "/file", fault.Invalid},
		{"plain+tty://" + dir + "/file", fault.Invalid},
		{"plain+tty:///dev/null", fault.Invalid},
		{"plain+fifo:///dev/null", fault.Unsupported},
	} {
		d, err := NewDialer(tc.address, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.Dial(t.Context()); fault.KindOf(err) != tc.kind {
			t.Errorf("%s: %v, want %v", tc.address, err, tc.kind)
		}
	}
	if text, err := os.ReadFile(dir + "/file"); string(text) != "precious" {
		t.Errorf("the file has %q, %v", text, err)
	}
	l := serve(t, plain(far), Options{})
	c := mustDial(t, plain(near), Options{})
	writePreface(t, c)
	defer (<-l.lane).Close()
	other, err := NewDialer(plain(near), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Dial(t.Context()); !errors.Is(err, fault.Overloaded) {
		t.Errorf("a FIFO that another connection reads: %v", err)
	}
}

// TestPlainPipesNeedLeave: nothing but its mode says who is at the other end of a FIFO.
func TestPlainPipesNeedLeave(t *testing.T) {
	_, far := fifos(t)
	a, _ := ParseAddress(far)
	for address, open := range map[string]fault.Kind{
		plain(far): 0, "plain+stdio:": fault.Invalid, `plain+exec:["cat"]`: fault.Invalid, "plain+tty:///dev/ttyS0": fault.Invalid,
		"plain+fifo:///dev/ttyS0": fault.Invalid, "plain+fifo:///none/in,/none/out": fault.Invalid,
		far: fault.Invalid, "stdio:": fault.Invalid, // nothing says whose keys are allowed
	} {
		l, err := Listen(address, Options{})
		if open == 0 && err != nil || open != 0 && fault.KindOf(err) != open {
			t.Errorf("%s: %v", address, err)
		}
		if err == nil {
			_ = l.Close()
		}
	}
	if err := os.Chmod(a.Out, 0o620); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(plain(far), Options{}); !errors.Is(err, fault.Invalid) {
		t.Errorf("a FIFO that others may write: %v", err)
	}
	no, fo := pinned(t)
	for _, o := range []Options{{Pins: no.Pins}, {AuthorizeKey: func(string) error { return nil }}} {
		o.ExposePlaintext = true
		if _, err := Listen(plain(far), o); !errors.Is(err, fault.Invalid) {
			t.Errorf("demands that cannot hold: %v", err)
		}
	}
	if _, err := NewDialer(far, Options{Identity: fo.Identity}); !errors.Is(err, fault.Invalid) {
		t.Errorf("dialing whoever is there: %v", err)
	}
	if _, err := NewDialer(far, Options{Identity: fo.Identity, RootCAs: newAuthority(t).pool}); !errors.Is(err, fault.Invalid) {
		t.Errorf("roots without a name: %v", err)
	}
}

// TestStrangersOverFIFO: another key than the pinned one, at either end.
func TestStrangersOverFIFO(t *testing.T) {
	near, far := fifos(t)
	no, fo := pinned(t)
	l := serve(t, far, fo)
	stranger := Options{Identity: newIdentity(t), Pins: no.Pins}
	c := mustDial(t, near, stranger)
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, fault.Refused) {
		t.Errorf("a stranger calls: %v", err)
	}
	_ = c.Close()
	d, err := NewDialer(near, Options{Identity: no.Identity, Pins: Pins{no.Identity.Key()}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Dial(t.Context()); !errors.Is(err, fault.Unauthenticated) {
		t.Errorf("a stranger answers: %v", err)
	}
	if n := l.Stats().Lanes; n != 0 {
		t.Errorf("%d lanes", n)
	}
	c = mustDial(t, near, no) // whoever was refused is not in the way
	writePreface(t, c)
	readPreface(t, <-l.lane)
}

// TestTTYIsRaw: every byte passes, and afterwards the device is as it was.
func TestTTYIsRaw(t *testing.T) {
	master, path, err := flowtest.OpenPTY()
	if err != nil {
		t.Skip("SKIPPED: no pseudo-terminals here: ", err)
	}
	defer master.Close()
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	settings := func() (s unix.Termios) {
		if err := control(f, func(fd int) error {
			t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
			s = *t
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return s
	}
	before := settings()
	a, err := ParseAddress("tty://" + path + "?baud=115200")
	if err != nil {
		t.Fatal(err)
	}
	c, err := openTTY(a)
	if err != nil {
		t.Fatal(err)
	}
	if now := settings(); now.Cflag&unix.CBAUD != unix.B115200 {
		t.Errorf("the speed is %#o", now.Cflag&unix.CBAUD)
	}
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	got := make([]byte, len(all))
	for _, pair := range []struct {
		w io.Writer
		r io.Reader
	}{{c, master}, {master, c}} {
		if _, err := pair.w.Write(all); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(pair.r, got); err != nil || !bytes.Equal(got, all) {
			t.Errorf("%q came, %v", got, err)
		}
	}
	if _, err := openTTY(a); !errors.Is(err, fault.Overloaded) {
		t.Errorf("opened twice: %v", err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if now := settings(); now != before {
		t.Errorf("it was %+v and is %+v", before, now)
	}
	a.Baud = 12345
	if _, err := openTTY(a); !errors.Is(err, fault.Invalid) {
		t.Errorf("an odd speed: %v", err)
	}
}
