package sftpd

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"

	"github.com/pannier/pannier/flow/flowtest"
	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// files is a client of the kept library on a connection.
func files(t testing.TB, c *ssh.Client) *sftp.Client {
	t.Helper()
	f, err := sftp.NewClient(c)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// ended waits for the end of a connection, and says how long it took: an hour at most, of the
// clock of a bubble.
func ended(t *testing.T, c *ssh.Client) time.Duration {
	t.Helper()
	began := time.Now()
	over := make(chan struct{})
	go func() { defer close(over); _ = c.Wait() }()
	select {
	case <-over:
	case <-time.After(time.Hour):
		t.Error("the connection does not end")
		_ = c.Close()
	}
	return time.Since(began).Round(time.Second)
}

// TestIdle: who asks for nothing is gone after a time, who does is not.
func TestIdle(t *testing.T) {
	n := newNode(t)
	apart(t, n, []string{"idle", "10m"}, func(t *testing.T, dial func() net.Conn) {
		c, err := login(dial(), user, ssh.Password(password))
		if err != nil {
			t.Fatal(err)
		}
		f := files(t, c)
		for range 20 {
			time.Sleep(9 * time.Minute)
			if _, err := f.Stat("/"); err != nil {
				t.Fatal(err)
			}
		}
		if took := ended(t, c); took < 10*time.Minute || took > 12*time.Minute {
			t.Errorf("it ends after %v", took)
		}
	})
}

// TestLongCommit: however long the node takes, the connection is there, and the client's
// questions whether it is are answered.
func TestLongCommit(t *testing.T) {
	n := newNode(t)
	n.commit = func(ctx context.Context, s plugins.Staged) (plugins.Attr, error) {
		time.Sleep(3 * time.Hour)
		return s.Commit(ctx)
	}
	apart(t, n, nil, func(t *testing.T, dial func() net.Conn) {
		c, err := login(dial(), user, ssh.Password(password))
		if err != nil {
			t.Fatal(err)
		}
		f := files(t, c)
		w, err := f.Create("/f")
		if err != nil {
			t.Fatal(err)
		}
		_, _ = w.Write([]byte("content"))
		closed := make(chan error, 1)
		go func() { closed <- w.Close() }()
		time.Sleep(2 * time.Hour)
		began := time.Now()
		_, _, err = c.SendRequest("keepalive@openssh.com", true, nil)
		if err != nil || time.Since(began) > time.Second {
			t.Errorf("a keepalive takes %v: %v", time.Since(began), err)
		}
		if err := <-closed; err != nil {
			t.Error(err)
		}
		n.has(t, "f", []byte("content"))
		_ = c.Close()
	})
}

// TestSilent: a client that answers nothing is gone after twice keepalive; one that
// answers is not.
func TestSilent(t *testing.T) {
	for _, answers := range []bool{true, false} {
		n := newNode(t)
		apart(t, n, []string{"idle", "1h"}, func(t *testing.T, dial func() net.Conn) {
			conn := dial()
			c, chans, requests, err := ssh.NewClientConn(conn, "", &ssh.ClientConfig{User: user, Auth: []ssh.AuthMethod{ssh.Password(password)}, HostKeyCallback: ssh.InsecureIgnoreHostKey()})
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				for range chans {
				}
			}()
			if answers {
				go ssh.DiscardRequests(requests)
			} else {
				go func() {
					for range requests {
					}
				}()
			}
			began := time.Now()
			_ = c.Wait()
			took := time.Since(began)
			if answers != (took > 30*time.Minute) || took < 59*time.Second || took > 90*time.Second && !answers {
				t.Errorf("answers %v: it ends after %v", answers, took)
			}
			_ = conn.Close()
		})
	}
}

// deaf is a connection that is not read from any more.
type deaf struct {
	net.Conn
	deaf   atomic.Bool
	closed chan struct{}
}

func (d *deaf) Read(b []byte) (int, error) {
	if d.deaf.Load() {
		<-d.closed
		return 0, net.ErrClosed
	}
	return d.Conn.Read(b)
}

// TestDeaf: a client that does not take its replies is gone after a minute.
func TestDeaf(t *testing.T) {
	n := newNode(t)
	n.put(t, "f", content(1<<20))
	synctest.Test(t, func(t *testing.T) {
		l := flowtest.NewLink(flowtest.LinkConfig{SendBuffer: 64 << 10, RecvBuffer: 64 << 10})
		r := serveOn(t, l, n, "keepalive", "0s", "idle", "1h")
		conn, err := l.Dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		d := &deaf{Conn: conn, closed: make(chan struct{})}
		c, err := login(d, user, ssh.Password(password))
		if err != nil {
			t.Fatal(err)
		}
		f, err := files(t, c).Open("/f")
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // it is in the Read that has the size: without that it asks for no content
		d.deaf.Store(true)
		go func() { _, _ = f.WriteTo(io.Discard) }()
		time.Sleep(50 * time.Second)
		if n.sessions.Load() != 1 {
			t.Error("it is gone too early")
		}
		time.Sleep(20 * time.Second)
		if n.sessions.Load() != 0 {
			t.Error("it is served for ever")
		}
		close(d.closed)
		_ = c.Close()
		r.stop()
	})
}

// door is a listener whose end is not that of its connections, as that of a link is.
type door struct {
	*flowtest.Link
	come   chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newDoor() *door {
	d := &door{Link: flowtest.NewLink(flowtest.LinkConfig{}), come: make(chan net.Conn), closed: make(chan struct{})}
	go func() {
		for {
			c, err := d.Link.Accept()
			if err != nil {
				return
			}
			select {
			case d.come <- c:
			case <-d.closed:
				_ = c.Close()
			}
		}
	}()
	return d
}

func (d *door) Accept() (net.Conn, error) {
	select {
	case c := <-d.come:
		return c, nil
	case <-d.closed:
		return nil, net.ErrClosed
	}
}

func (d *door) Close() error {
	d.once.Do(func() { close(d.closed) })
	return nil
}

// TestDrain: at the end nobody begins anything; who has begun gets the verdict within the
// time there is.
func TestDrain(t *testing.T) {
	n := newNode(t)
	synctest.Test(t, func(t *testing.T) {
		l := newDoor()
		defer l.Link.Close()
		r := serveOn(t, l, n, "drain", "1m", "idle", "1h")
		enter := func() (*ssh.Client, *sftp.Client) {
			conn, err := l.Dial(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			c, err := login(conn, user, ssh.Password(password))
			if err != nil {
				t.Fatal(err)
			}
			return c, files(t, c)
		}
		idle, _ := enter()
		busy, f := enter()
		stuck, g := enter()
		good, err := f.Create("/good")
		if err != nil {
			t.Fatal(err)
		}
		bad, err := g.Create("/bad")
		if err != nil {
			t.Fatal(err)
		}
		_, _ = bad.Write([]byte("content"))
		r.end()
		if took := ended(t, idle); took != 0 {
			t.Errorf("an idle client is there for %v", took)
		}
		if conn, err := l.Dial(t.Context()); err == nil && !turnedAway(conn) {
			t.Error("a client is accepted")
		}
		time.Sleep(20 * time.Second)
		if _, err := f.Create("/more"); err == nil || !strings.Contains(err.Error(), "being stopped") {
			t.Errorf("more is begun: %v", err)
		}
		_, err = good.Write([]byte("content"))
		if err := errors.Join(err, good.Close()); err != nil {
			t.Error(err)
		}
		if took := ended(t, busy); took != 0 {
			t.Errorf("a client that has done all is there for %v", took)
		}
		if took := ended(t, stuck); took != 40*time.Second {
			t.Errorf("a client that does not end is there for %v", took)
		}
		r.stop()
		n.has(t, "good", []byte("content"))
		if got := n.files(t); len(got) != 1 || n.sessions.Load() != 0 {
			t.Errorf("there is %q, %d sessions", got, n.sessions.Load())
		}
	})
}

// TestCommitEnds: a commit that the end of the server does not wait for is told.
func TestCommitEnds(t *testing.T) {
	n := newNode(t)
	n.commit = func(ctx context.Context, _ plugins.Staged) (plugins.Attr, error) {
		<-ctx.Done()
		return plugins.Attr{}, ctx.Err()
	}
	synctest.Test(t, func(t *testing.T) {
		l := newDoor()
		defer l.Link.Close()
		r := serveOn(t, l, n, "drain", "1m")
		conn, err := l.Dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		c, err := login(conn, user, ssh.Password(password))
		if err != nil {
			t.Fatal(err)
		}
		w, err := files(t, c).Create("/f")
		if err != nil {
			t.Fatal(err)
		}
		closed := make(chan error, 1)
		go func() { closed <- w.Close() }()
		synctest.Wait()
		began := time.Now()
		r.stop()
		if took := time.Since(began).Round(time.Second); took != time.Minute || <-closed == nil || n.aborts.Load() != 1 || len(n.files(t)) != 0 {
			t.Errorf("it ends after %v, with %d aborts", took, n.aborts.Load())
		}
		_ = c.Close()
	})
}

// TestListenerGone: an end of the listener that nobody wanted is an error.
func TestListenerGone(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := newNode(t)
	done := make(chan error, 1)
	key := filepath.Join(t.TempDir(), "key")
	go func() { done <- Serve(t.Context(), l, map[string]string{"hostkey": key}, n) }()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c, err := login(conn, user, ssh.Password(password))
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	if err := <-done; err == nil {
		t.Error("it ends well")
	}
	_ = c.Wait()
	if n.sessions.Load() != 0 {
		t.Errorf("%d sessions", n.sessions.Load())
	}
}

// moody is a listener that has not enough files now and then.
type moody struct {
	net.Listener
	mu sync.Mutex
	n  int
}

func (m *moody) Accept() (net.Conn, error) {
	m.mu.Lock()
	m.n++
	n := m.n
	m.mu.Unlock()
	if n <= 3 {
		return nil, &net.OpError{Op: "accept", Err: os.ErrDeadlineExceeded}
	}
	return m.Listener.Accept()
}

func TestAcceptGoesOn(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := serveOn(t, &moody{Listener: l}, newNode(t))
	r.address = l.Addr().String()
	in(t, r)
}

// closed says whether the server closes a connection before it says anything.
func turnedAway(c net.Conn) bool {
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
	var b [4]byte
	_, err := io.ReadFull(c, b[:])
	return err != nil && !errors.Is(err, os.ErrDeadlineExceeded)
}

// TestLimits: each limit holds, and those who leave make room.
func TestLimits(t *testing.T) {
	for _, option := range []string{"connections", "connections-per-address"} {
		r := serve(t, newNode(t), option, "3")
		var all []io.Closer
		for range 3 {
			c := in(t, r)
			all = append(all, c)
			files(t, c) // it is no stranger then
		}
		if !turnedAway(dial(t, r)) {
			t.Errorf("%s: there is no limit", option)
		}
		_ = all[0].Close()
		until(t, "room", func() bool { return !turnedAway(dial(t, r)) })
	}
}

// TestStrangersMakeRoom: who connects and says nothing keeps nobody out, neither of the places for logins nor of all: whoever
// has been there longest leaves. Who has logged in stays.
func TestStrangersMakeRoom(t *testing.T) {
	for _, option := range []string{"logins", "connections"} {
		r := serve(t, newNode(t), option, "3")
		first := in(t, r)
		files(t, first)
		var silent []net.Conn
		for range 6 {
			c := dial(t, r)
			if turnedAway(c) {
				t.Fatalf("%s: turned away", option)
			}
			silent = append(silent, c)
		}
		c := in(t, r)
		files(t, c)
		places := map[string]int{"logins": 2, "connections": 1}[option] // for strangers, beside that of the login
		for i, s := range silent {
			_ = s.SetReadDeadline(time.Now().Add(time.Minute))
			if i >= len(silent)-places {
				_ = s.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
			}
			_, err := io.Copy(io.Discard, s)
			if stays := errors.Is(err, os.ErrDeadlineExceeded); stays != (i >= len(silent)-places) {
				t.Errorf("%s: silent client %d of %d stays: %v, %v", option, i, len(silent), stays, err)
			}
		}
		files(t, first)
	}
}

// TestThousand: a thousand connections that want nothing cost what the limits say, and partners come in as ever.
func TestThousand(t *testing.T) {
	n := newNode(t)
	r := serve(t, n, "connections", "2000", "connections-per-address", "2000", "logins", "200", "login-time", "10m")
	before := runtime.NumGoroutine()
	var all []net.Conn
	for range 1000 {
		all = append(all, dial(t, r))
	}
	for _, c := range all[:800] {
		_ = c.SetReadDeadline(time.Now().Add(time.Minute))
		if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal("a client that 200 others have come after stays")
		}
	}
	if got := runtime.NumGoroutine() - before; got > 200*8 {
		t.Errorf("%d goroutines", got)
	}
	_ = in(t, r).Close()
	for _, c := range all {
		_ = c.Close()
	}
}

// TestNothingButSFTP: no forwarding, commands, environment or terminals, and no more than a
// few channels.
func TestNothingButSFTP(t *testing.T) {
	n := newNode(t)
	r := serve(t, n)
	c := in(t, r)
	for _, typ := range []string{"direct-tcpip", "forwarded-tcpip", "x11", "auth-agent@openssh.com", "tun@openssh.com", "direct-streamlocal@openssh.com"} {
		if _, _, err := c.OpenChannel(typ, nil); err == nil || !strings.Contains(err.Error(), "nothing else") {
			t.Errorf("%s: %v", typ, err)
		}
	}
	for _, typ := range []string{"tcpip-forward", "streamlocal-forward@openssh.com", "keepalive@openssh.com"} {
		if ok, _, err := c.SendRequest(typ, true, ssh.Marshal(struct {
			A string
			P uint32
		}{"0.0.0.0", 0})); ok || err != nil {
			t.Errorf("%s: %v, %v", typ, ok, err)
		}
	}
	ch, requests, err := c.OpenChannel("session", nil)
	if err != nil {
		t.Fatal(err)
	}
	go ssh.DiscardRequests(requests)
	for typ, payload := range map[string]any{
		"shell": struct{ N string }{}, "exec": struct{ C string }{"true"}, "pty-req": struct{ T string }{"xterm"}, "env": struct{ N, V string }{"A", "b"}, "x11-req": struct{ N string }{}, "auth-agent-req@openssh.com": struct{ N string }{},
		"subsystem": struct{ N string }{"netconf"},
	} {
		if ok, err := ch.SendRequest(typ, true, ssh.Marshal(payload)); ok || err != nil {
			t.Errorf("%s: %v, %v", typ, ok, err)
		}
	}
	if ok, err := ch.SendRequest("subsystem", true, ssh.Marshal(struct{ N string }{"sftp"})); !ok || err != nil {
		t.Errorf("sftp after all: %v, %v", ok, err)
	}
	if ok, err := ch.SendRequest("subsystem", true, ssh.Marshal(struct{ N string }{"sftp"})); ok || err != nil {
		t.Errorf("sftp in sftp: %v, %v", ok, err)
	}
	for i := 1; i < maxChannels; i++ {
		files(t, c)
	}
	if _, _, err := c.OpenChannel("session", nil); err == nil || !strings.Contains(err.Error(), "as many channels") {
		t.Errorf("one more: %v", err)
	}
	_ = ch.Close()
	until(t, "room for a channel", func() bool { _, _, err := c.OpenChannel("session", nil); return err == nil })
}

// TestChannelLate: a channel that is never one of SFTP is closed.
func TestChannelLate(t *testing.T) {
	apart(t, newNode(t), nil, func(t *testing.T, dial func() net.Conn) {
		c, err := login(dial(), user, ssh.Password(password))
		if err != nil {
			t.Fatal(err)
		}
		ch, requests, err := c.OpenChannel("session", nil)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		for range requests {
		}
		if took := time.Since(began).Round(time.Second); took != subsystemTime {
			t.Errorf("it is closed after %v", took)
		}
		_ = ch.Close()
		_ = c.Close()
	})
}

// TestCut: when the connection breaks, nothing is published, and the session ends.
func TestCut(t *testing.T) {
	n := newNode(t)
	r := serve(t, n)
	conn := dial(t, r)
	c, err := login(conn, user, ssh.Password(password))
	if err != nil {
		t.Fatal(err)
	}
	f := files(t, c)
	w, err := f.Create("/f")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = w.Write(content(1 << 20))
	n.put(t, "big", content(8<<20))
	g, err := f.Open("/big")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = g.Read(make([]byte, 100))
	_ = conn.Close()
	until(t, "the end of the session", func() bool { return n.sessions.Load() == 0 })
	if got := n.files(t); n.aborts.Load() != 1 || n.commits.Load() != 0 || len(got) != 1 {
		t.Errorf("there is %q after %d aborts, %d commits", got, n.aborts.Load(), n.commits.Load())
	}
}

// TestCutAnywhere: wherever a connection breaks, there is the whole file or nothing, and
// the whole one if the client was told so.
func TestCutAnywhere(t *testing.T) {
	want := content(100_000)
	for _, direction := range []flowtest.Direction{flowtest.FromDialer, flowtest.FromAcceptor} {
		whole, nothing := 0, 0
		end := int64(108_000)
		if direction == flowtest.FromAcceptor {
			end = 3400
		}
		for at := int64(0); at < end; at += end / 40 {
			n := newNode(t)
			synctest.Test(t, func(t *testing.T) {
				l := flowtest.NewLink(flowtest.LinkConfig{})
				r := serveOn(t, l, n)
				conn, err := l.Dial(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				l.CutAfter(direction, at)
				told := sendFile(conn, want)
				_ = conn.Close()
				r.stop()
				switch got := n.files(t); {
				case len(got) == 1:
					n.has(t, "f", want)
					whole++
				case len(got) > 1 || told == nil:
					t.Errorf("cut after %d bytes there is %q; the client was told %v", at, got, told)
				default:
					nothing++
				}
				if n.sessions.Load() != 0 || n.writings.Load() != n.commits.Load()+n.aborts.Load() {
					t.Errorf("cut after %d bytes: %d sessions, %d files begun, %d commits, %d aborts", at, n.sessions.Load(), n.writings.Load(), n.commits.Load(), n.aborts.Load())
				}
			})
		}
		if whole == 0 || nothing == 0 {
			t.Errorf("direction %v: %d whole files, %d times nothing", direction, whole, nothing)
		}
	}
}

// sendFile writes a file with a client of its own.
func sendFile(conn net.Conn, b []byte) error {
	c, err := login(conn, user, ssh.Password(password))
	if err != nil {
		return err
	}
	defer c.Close()
	f, err := sftp.NewClient(c)
	if err != nil {
		return err
	}
	defer f.Close()
	w, err := f.Create("/f")
	if err != nil {
		return err
	}
	_, err = w.Write(b)
	return errors.Join(err, w.Close())
}

func TestHostKey(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "key")
	var all sync.WaitGroup
	prints := make([]string, 8)
	for i := range prints {
		all.Go(func() {
			k, err := hostKey(file)
			if err != nil {
				t.Error(err)
				return
			}
			prints[i] = k.PublicKey().Type() + ssh.FingerprintSHA256(k.PublicKey())
		})
	}
	all.Wait()
	for _, p := range prints {
		if p != prints[0] || !strings.HasPrefix(p, ssh.KeyAlgoED25519) {
			t.Errorf("two keys: %q", prints)
		}
	}
	fi, err := os.Stat(file)
	if err != nil || fi.Mode() != 0o600 {
		t.Errorf("the file is %v, %v", fi.Mode(), err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("%d files", len(entries))
	}
	if err := os.Chmod(file, 0o604); err != nil {
		t.Fatal(err)
	}
	if _, err := hostKey(file); !errors.Is(err, fault.Permission) {
		t.Errorf("a key for everybody: %v", err)
	}
	for name, text := range map[string]string{"empty": "", "none": "a key"} {
		at := filepath.Join(dir, name)
		if err := os.WriteFile(at, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := hostKey(at); !errors.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := hostKey(filepath.Join(dir, "no", "dir")); !errors.Is(err, fault.NotFound) {
		t.Errorf("no directory: %v", err)
	}
}
