package sftpd

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/pannier/pannier/flow/flowtest"
	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// login connects with SSH as somebody.
func login(conn net.Conn, name string, methods ...ssh.AuthMethod) (*ssh.Client, error) {
	c, chans, requests, err := ssh.NewClientConn(conn, "", &ssh.ClientConfig{User: name, Auth: methods, HostKeyCallback: ssh.InsecureIgnoreHostKey()})
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return ssh.NewClient(c, chans, requests), nil
}

func dial(t testing.TB, r *running) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", r.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// in logs in with the password.
func in(t testing.TB, r *running) *ssh.Client {
	t.Helper()
	c, err := login(dial(t, r), user, ssh.Password(password))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// apart runs a test of a server on a network and a clock of its own.
func apart(t *testing.T, n *node, options []string, test func(t *testing.T, dial func() net.Conn)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := flowtest.NewLink(flowtest.LinkConfig{})
		r := serveOn(t, l, n, options...)
		test(t, func() net.Conn {
			c, err := l.Dial(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			return c
		})
		r.stop()
		synctest.Wait()
	})
}

// TestRefusedAlike: from a refusal nobody learns whether there is such a user.
func TestRefusedAlike(t *testing.T) {
	for _, kind := range []string{"password", "key"} {
		took := map[time.Duration]bool{}
		said := map[string]bool{}
		for name, c := range map[string]struct {
			user  string
			think time.Duration
			err   error
		}{
			"nobody": {user: "nobody"}, "somebody": {user: user, think: 90 * time.Millisecond}, "thinking of nobody": {user: "nobody", think: 200 * time.Millisecond},
			"strange": {user: "a\x00b"}, "long": {user: strings.Repeat("x", 10_000)}, "not a text": {user: "\xff"}, "broken": {user: "broken", err: errors.New("the database is gone")},
		} {
			n := newNode(t)
			n.think = func(plugins.Endpoint) { time.Sleep(c.think) }
			apart(t, n, nil, func(t *testing.T, dial func() net.Conn) {
				method := ssh.Password("wrong")
				if kind == "key" {
					key, _, _ := newKey(t)
					method = ssh.PublicKeys(key)
				}
				began := time.Now()
				_, err := login(dial(), c.user, method)
				if err == nil {
					t.Fatalf("%s is let in", name)
				}
				took[time.Since(began)], said[err.Error()] = true, true
			})
		}
		if len(took) != 1 || len(said) != 1 {
			t.Errorf("%s: refusals differ: %v %v", kind, took, said)
		}
	}
}

// TestPenalty: each failure of an address makes the next answer come later, and is
// forgotten.
func TestPenalty(t *testing.T) {
	n := newNode(t)
	apart(t, n, nil, func(t *testing.T, dial func() net.Conn) {
		var all []time.Duration
		for range 6 {
			began := time.Now()
			if _, err := login(dial(), user, ssh.Password("wrong")); err == nil {
				t.Fatal("a wrong password")
			}
			all = append(all, time.Since(began).Round(time.Second))
		}
		if !slices.Equal(all, []time.Duration{1e9, 2e9, 4e9, 8e9, 8e9, 8e9}) {
			t.Errorf("refusals take %v", all)
		}
		began := time.Now()
		c, err := login(dial(), user, ssh.Password(password))
		if err != nil || time.Since(began) > 100*time.Millisecond {
			t.Errorf("the right one takes %v: %v", time.Since(began), err)
		}
		_ = c.Close()
		time.Sleep(10 * forgiven)
		began = time.Now()
		_, _ = login(dial(), user, ssh.Password("wrong"))
		if took := time.Since(began).Round(time.Second); took != time.Second {
			t.Errorf("after a time %v", took)
		}
	})
}

// TestAddresses: the failures of one address count for no other, and of no more than some are any remembered.
func TestAddresses(t *testing.T) {
	var f failures
	at := func(s string) netip.Prefix { return source(net.TCPAddrFromAddrPort(netip.MustParseAddrPort(s))) }
	a, b := at("1.2.3.4:1"), at("1.2.3.5:1")
	if f.failed(a) != time.Second || f.failed(a) != 2*time.Second || f.failed(b) != time.Second {
		t.Error("the failures of one count for another")
	}
	for i := range 3 * maxAddresses {
		f.failed(at(fmt.Sprintf("10.%d.%d.%d:1", i>>16, i>>8&255, i&255)))
	}
	if len(f.of) > maxAddresses {
		t.Errorf("%d addresses are remembered", len(f.of))
	}
}

// TestKeys: the node is asked about a key before it is proved and after, and only then is
// the client in.
func TestKeys(t *testing.T) {
	n := newNode(t)
	r := serve(t, n)
	good, line, _ := newKey(t)
	bad, other, _ := newKey(t)
	n.set(func(h *hooks) { h.key = line })
	c, err := login(dial(t, r), user, ssh.PublicKeys(bad, good))
	if err != nil {
		t.Fatal(err)
	}
	if n.sessions.Load() != 1 {
		t.Errorf("%d sessions", n.sessions.Load())
	}
	_ = c.Close()
	var asked []string
	for _, e := range n.asked {
		if !strings.HasPrefix(e.URL, "guest://127.0.0.1:") || e.User != user || e.Password != "" || len(e.Secrets) != 1 {
			t.Errorf("the node is asked %+v", e)
		}
		for what, key := range e.Secrets {
			asked = append(asked, what+" "+key)
		}
	}
	if want := []string{"offered " + other, "offered " + line, "key " + line}; !slices.Equal(asked, want) {
		t.Errorf("the node is asked %q", asked)
	}
	until(t, "no session", func() bool { return n.sessions.Load() == 0 })
	if _, err := login(dial(t, r), "nobody", ssh.PublicKeys(good)); err == nil {
		t.Error("a key of another user")
	}
	n.set(func(h *hooks) {
		h.think = func(e plugins.Endpoint) {
			if e.Secrets["key"] != "" {
				n.set(func(h *hooks) { h.key = "" }) // between the question and the proof
			}
		}
	})
	if _, err := login(dial(t, r), user, ssh.PublicKeys(good)); err == nil {
		t.Error("a key that was taken away")
	}
	if n.sessions.Load() != 0 {
		t.Errorf("%d sessions", n.sessions.Load())
	}
}

// unproved is a key whose signatures are another's.
type unproved struct {
	ssh.Signer
	key ssh.PublicKey
}

func (u unproved) PublicKey() ssh.PublicKey { return u.key }

// TestNotAskedFor: what cannot be a user's never gets to the node.
func TestNotAskedFor(t *testing.T) {
	n := newNode(t)
	r := serve(t, n)
	key, line, _ := newKey(t)
	n.set(func(h *hooks) { h.key = line })
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	small, _ := ssh.NewSignerFromKey(weak)
	cert := &ssh.Certificate{Key: key.PublicKey(), CertType: ssh.UserCert, ValidBefore: ssh.CertTimeInfinity, ValidPrincipals: []string{user}}
	if err := cert.SignCert(rand.Reader, key); err != nil {
		t.Fatal(err)
	}
	signed, _ := ssh.NewCertSigner(cert, key)
	for name, m := range map[string]ssh.AuthMethod{
		"weak": ssh.PublicKeys(small), "a certificate": ssh.PublicKeys(signed), "a long password": ssh.Password(strings.Repeat("x", maxPassword+1)), "no text": ssh.Password("\xff"),
	} {
		if _, err := login(dial(t, r), user, m); err == nil {
			t.Errorf("%s is let in", name)
		}
	}
	if len(n.asked) != 0 {
		t.Errorf("the node is asked %+v", n.asked)
	}
	other, _, _ := newKey(t)
	if _, err := login(dial(t, r), user, ssh.PublicKeys(unproved{other, key.PublicKey()})); err == nil {
		t.Error("a signature of another key")
	}
	if len(n.asked) != 1 || n.asked[0].Secrets["offered"] != line || n.sessions.Load() != 0 {
		t.Errorf("the node is asked %+v", n.asked)
	}
}

func TestMethods(t *testing.T) {
	n := newNode(t)
	key, line, _ := newKey(t)
	n.set(func(h *hooks) { h.key = line })
	if _, err := login(dial(t, serve(t, n, "login", "key")), user, ssh.Password(password)); err == nil {
		t.Error("a password, where keys are wanted")
	}
	if _, err := login(dial(t, serve(t, n, "login", "password")), user, ssh.PublicKeys(key)); err == nil {
		t.Error("a key, where passwords are wanted")
	}
	if len(n.asked) != 0 {
		t.Errorf("the node is asked %+v", n.asked)
	}
}

func TestTries(t *testing.T) {
	n := newNode(t)
	apart(t, n, []string{"login-tries", "3", "login-time", "5m"}, func(t *testing.T, dial func() net.Conn) {
		_, err := login(dial(), user, ssh.RetryableAuthMethod(ssh.Password("wrong"), 100))
		if err == nil || len(n.asked) != 3 {
			t.Errorf("%d tries: %v", len(n.asked), err)
		}
	})
}

// TestLoginTime: who is not in by then is out, at whatever point.
func TestLoginTime(t *testing.T) {
	for name, c := range map[string]func(conn net.Conn, n *node){
		"silent":        func(net.Conn, *node) {},
		"half a line":   func(conn net.Conn, _ *node) { _, _ = conn.Write([]byte("SSH-2.0")) },
		"a line":        func(conn net.Conn, _ *node) { _, _ = conn.Write([]byte("SSH-2.0-x\r\n")) },
		"without proof": func(conn net.Conn, _ *node) { go func() { _, _ = login(conn, user) }() },
		"an answer late": func(conn net.Conn, n *node) {
			n.think = func(plugins.Endpoint) { time.Sleep(time.Hour) }
			go func() { _, _ = login(conn, user, ssh.Password(password)) }()
		},
		"proof late": func(conn net.Conn, _ *node) {
			go func() {
				_, _ = login(conn, user, ssh.PasswordCallback(func() (string, error) { time.Sleep(time.Hour); return password, nil }))
			}()
		},
	} {
		n := newNode(t)
		apart(t, n, nil, func(t *testing.T, dial func() net.Conn) {
			conn := dial()
			began := time.Now()
			c(conn, n)
			if name == "silent" || strings.Contains(name, "line") {
				_, _ = io.Copy(io.Discard, conn)
				if took := time.Since(began); took < 29*time.Second || took > 31*time.Second {
					t.Errorf("%s: it ends after %v", name, took)
				}
			} else {
				time.Sleep(31 * time.Second)
				if _, err := conn.Write([]byte("x")); err == nil {
					time.Sleep(time.Second)
					if _, err = conn.Write([]byte("x")); err == nil {
						t.Errorf("%s: it goes on", name)
					}
				}
				time.Sleep(2 * time.Hour)
			}
			if n.sessions.Load() != 0 {
				t.Errorf("%s: %d sessions", name, n.sessions.Load())
			}
			_ = conn.Close()
		})
	}
}

// counting is a listener that knows how much was read from those who came.
type counting struct {
	net.Listener
	read atomic.Int64
}

type counted struct {
	net.Conn
	l *counting
}

func (c *counting) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return counted{conn, c}, nil
}

func (c counted) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.l.read.Add(int64(n))
	return n, err
}

// TestStrangerSaysMuch: before the login little is taken from a client, and after it as much as
// it sends.
func TestStrangerSaysMuch(t *testing.T) {
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l, n := &counting{Listener: tcp}, newNode(t)
	r := serveOn(t, l, n)
	r.address = tcp.Addr().String()
	cfg, err := configure(map[string]string{"hostkey": "none"})
	if err != nil {
		t.Fatal(err)
	}
	for _, bytes := range []int{100_000, 240_000} {
		l.read.Store(0)
		conn := dial(t, r)
		if _, err := login(conn, user, ssh.Password(strings.Repeat("x", bytes))); err == nil {
			t.Fatal("a wrong password")
		}
		if got := l.read.Load(); got > cfg.strangerBytes() {
			t.Errorf("%d bytes were read of a client that is not let in, and %d may be", got, cfg.strangerBytes())
		}
	}
	want := content(1 << 20)
	if err := sendFile(dial(t, r), want); err != nil {
		t.Fatal(err)
	}
	n.has(t, "f", want)
}

// TestManyTries: who uses all tries, each with the proof of a large key, says no more than may be
// said.
func TestManyTries(t *testing.T) {
	private, err := rsa.GenerateKey(rand.Reader, 4096)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	const tries = 20
	proofs := 0
	n := newNode(t)
	n.think = func(e plugins.Endpoint) {
		n.set(func(h *hooks) { h.key = e.Secrets["offered"] })
		if e.Secrets["key"] == "" {
			return
		}
		if proofs++; proofs == tries {
			n.set(func(h *hooks) { h.key = e.Secrets["key"] })
		}
	}
	apart(t, n, []string{"login-tries", strconv.Itoa(tries), "login-time", "5m"}, func(t *testing.T, dial func() net.Conn) {
		c, err := login(dial(), user, ssh.PublicKeys(slices.Repeat([]ssh.Signer{key}, tries)...))
		if err != nil {
			t.Fatalf("the last of %d proofs, of %d: %v", proofs, tries, err)
		}
		_ = c.Close()
	})
}

// TestAlgorithms: who has only old ones does not get in.
func TestAlgorithms(t *testing.T) {
	r := serve(t, newNode(t))
	for name, c := range map[string]ssh.Config{
		"key exchange": {KeyExchanges: []string{ssh.InsecureKeyExchangeDH14SHA1, ssh.InsecureKeyExchangeDH1SHA1, ssh.InsecureKeyExchangeDHGEXSHA1}},
		"cipher":       {Ciphers: []string{ssh.InsecureCipherAES128CBC, ssh.InsecureCipherTripleDESCBC, ssh.InsecureCipherRC4}},
		"code":         {Ciphers: []string{ssh.CipherAES128CTR}, MACs: []string{ssh.HMACSHA1, ssh.InsecureHMACSHA196}},
	} {
		_, _, _, err := ssh.NewClientConn(dial(t, r), "", &ssh.ClientConfig{Config: c, User: user, Auth: []ssh.AuthMethod{ssh.Password(password)}, HostKeyCallback: ssh.InsecureIgnoreHostKey()})
		if err == nil || !strings.Contains(err.Error(), "no common algorithm") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestRefusedComesAgain: who could not agree on algorithms, or has been refused, is a stranger like
// any other when it comes again, and keeps no place.
func TestRefusedComesAgain(t *testing.T) {
	r := serve(t, newNode(t), "connections-per-address", "1")
	old := ssh.Config{KeyExchanges: []string{ssh.InsecureKeyExchangeDH14SHA1}}
	if _, _, _, err := ssh.NewClientConn(dial(t, r), "", &ssh.ClientConfig{Config: old, User: user, HostKeyCallback: ssh.InsecureIgnoreHostKey()}); err == nil {
		t.Fatal("there is no common algorithm")
	}
	again := func() bool {
		c, err := login(dial(t, r), user, ssh.Password(password))
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	}
	until(t, "who had no algorithm comes again", again)
	until(t, "the wrong password is refused", func() bool {
		_, err := login(dial(t, r), user, ssh.Password("x"))
		return err != nil && strings.Contains(err.Error(), "unable to authenticate")
	})
	until(t, "who was refused comes again", again)
}

func TestOptions(t *testing.T) {
	for _, o := range []map[string]string{
		{}, {"hostkey": ""}, {"hostkey": "x", "unknown": "1"}, {"hostkey": "x", "login": ""}, {"hostkey": "x", "login": "key,none"}, {"hostkey": "x", "login-tries": "0"},
		{"hostkey": "x", "login-time": "0s"}, {"hostkey": "x", "idle": "-1s"}, {"hostkey": "x", "keepalive": "x"}, {"hostkey": "x", "connections": "1e3"}, {"hostkey": "x", "drain": "48h"},
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if err := Serve(t.Context(), l, o, newNode(t)); !errors.Is(err, fault.Invalid) {
			t.Errorf("%v: %v", o, err)
		}
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("%v: the listener is left open", o)
		}
	}
}

// TestRefusedLog: the log says in words, and by its kind, why somebody was not let in.
func TestRefusedLog(t *testing.T) {
	for _, c := range []struct {
		name, want string
		options    []string
		client     func(dial func() net.Conn)
	}{
		{"refused", `error="login: not authenticated: the client was refused, tries: 1"`, nil, func(dial func() net.Conn) {
			_, _ = login(dial(), user, ssh.Password("wrong"))
		}},
		{"silent", `the client has taken too long`, []string{"login-time", "5s"}, func(dial func() net.Conn) {
			dial()
			time.Sleep(6 * time.Second)
		}},
		{"displaced", `error="` + errDisplaced.Error() + `"`, []string{"logins", "1"}, func(dial func() net.Conn) {
			dial()
			synctest.Wait()
			dial()
			synctest.Wait()
		}},
		{"stopped", `this server is being stopped`, nil, func(dial func() net.Conn) {
			dial()
			synctest.Wait()
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			log := &flowtest.Log{}
			old := slog.Default()
			slog.SetDefault(slog.New(slog.NewTextHandler(log, nil)))
			defer slog.SetDefault(old)
			apart(t, newNode(t), c.options, func(_ *testing.T, dial func() net.Conn) { c.client(dial) })
			said := log.String()
			if first, _, _ := strings.Cut(said[max(0, strings.Index(said, "a client was not let in")):], "\n"); !strings.Contains(first, c.want) || strings.Contains(said, "internal") {
				t.Errorf("the log says %s", said)
			}
		})
	}
}
