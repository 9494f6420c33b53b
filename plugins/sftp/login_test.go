package sftp

import (
	"crypto/ed25519"
	"crypto/rand"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/pannier/pannier/flow/flowtest/freeport"
	"github.com/pannier/pannier/flow/flowtest/sshserver"
	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// TestHostKey: nobody is told a password who does not show the right key, and errors say
// what to set.
func TestHostKey(t *testing.T) {
	f := fakes(t, nil)
	print := ssh.FingerprintSHA256(f.keys[0].PublicKey())
	other := ssh.FingerprintSHA256(newKey(t, "ed25519").PublicKey())
	file := func(lines ...string) string {
		name := filepath.Join(t.TempDir(), "known")
		if err := os.WriteFile(name, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	mine := knownhosts.Line([]string{f.address}, f.keys[0].PublicKey())
	wrong := knownhosts.Line([]string{f.address}, newKey(t, "ed25519").PublicKey())
	for name, c := range map[string]struct {
		pins, file string
		has        []string
	}{
		"nothing":       {"", "", []string{f.address, print, "set hostkey=" + print, mine}},
		"wrong pin":     {other, "", []string{f.address, print, other, "somebody may"}},
		"empty file":    {"", file(), []string{f.address, print, "add to", mine}},
		"wrong in file": {"", file(wrong), []string{f.address, print, "somebody may"}},
		"revoked":       {"", file("@revoked * "+strings.SplitN(mine, " ", 2)[1], mine), []string{f.address, "revoked"}},
	} {
		_, err := Driver{}.Open(t.Context(), f.endpoint("hostkey", c.pins, "known-hosts", c.file))
		isKind(t, err, fault.Unauthenticated, c.has...)
		if n := f.tried.Load(); n != 0 {
			t.Fatalf("%s: the user has tried to log in %d times", name, n)
		}
	}
	for _, c := range [][2]string{{print, ""}, {other + ", " + print, ""}, {"", file(mine)}} {
		opens(t, f.endpoint("hostkey", c[0], "known-hosts", c[1]))
	}
	for _, bad := range []string{"MD5:00", "SHA256:abc", print[7:]} {
		_, err := configure(f.endpoint("hostkey", bad))
		isKind(t, err, fault.Invalid, "ssh-keygen -lf")
	}
	_, err := configure(f.endpoint("hostkey", "", "known-hosts", "/nothing"))
	isKind(t, err, fault.NotFound, "/nothing")
}

// TestHostKeyTypes: a server with keys of several types is known by any of them.
func TestHostKeyTypes(t *testing.T) {
	f := fakes(t, func(f *fake) { f.keys = append(f.keys, newKey(t, "ecdsa")) })
	for _, k := range f.keys {
		opens(t, f.endpoint("hostkey", ssh.FingerprintSHA256(k.PublicKey())))
		known := filepath.Join(t.TempDir(), "known")
		if err := os.WriteFile(known, []byte(knownhosts.Line([]string{f.address}, k.PublicKey())+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		opens(t, f.endpoint("hostkey", "", "known-hosts", known))
	}
	tried := f.tried.Load()
	_, err := Driver{}.Open(t.Context(), f.endpoint("hostkey", ssh.FingerprintSHA256(newKey(t, "ecdsa").PublicKey())))
	isKind(t, err, fault.Unauthenticated, ssh.FingerprintSHA256(f.keys[0].PublicKey()))
	if f.tried.Load() != tried {
		t.Error("the user has tried to log in")
	}
}

// TestLogin: with a password, asked for in either way and told once; with keys; and what
// is wrong with them is said.
func TestLogin(t *testing.T) {
	f, asks := fakes(t, nil), fakes(t, func(f *fake) { f.asks = true })
	for _, f := range []*fake{f, asks} {
		opens(t, f.endpoint())
		f.tried.Store(0)
		e := f.endpoint()
		e.Password = "of somebody else"
		_, err := Driver{}.Open(t.Context(), e)
		isKind(t, err, fault.Unauthenticated, f.address, "credentials")
		if strings.Contains(err.Error(), e.Password) {
			t.Error("the error tells the password")
		}
		if n := f.tried.Load(); n != 1 {
			t.Errorf("a wrong password was told %d times", n)
		}
	}
	both := fakes(t, func(f *fake) {
		f.config = func(c *ssh.ServerConfig) {
			c.KeyboardInteractiveCallback = func(_ ssh.ConnMetadata, ask ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
				if said, err := ask("", "", []string{"Password: "}, []bool{false}); err != nil || said[0] == "" {
					return nil, err
				}
				f.tried.Add(1)
				return nil, io.EOF
			}
		}
	})
	e := both.endpoint()
	e.Password = "wrong"
	_, err := Driver{}.Open(t.Context(), e)
	isKind(t, err, fault.Unauthenticated)
	if n := both.tried.Load(); n != 1 {
		t.Errorf("a wrong password was told %d times to a server that takes it in two ways", n)
	}

	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	f.user = signed(t, private)
	locked := pemOf(t, private, "open sesame")
	login := func(secrets ...string) error {
		e := f.endpoint()
		e.Password, e.Secrets = "", map[string]string{}
		for i := 0; i < len(secrets); i += 2 {
			e.Secrets[secrets[i]] = secrets[i+1]
		}
		s, err := Driver{}.Open(t.Context(), e)
		if err == nil {
			_ = s.Close()
		}
		return err
	}
	for _, err := range []error{login("key", pemOf(t, private, "")), login("key", locked, "passphrase", "open sesame")} {
		if err != nil {
			t.Error(err)
		}
	}
	isKind(t, login("key", f.pem), fault.Unauthenticated, f.address) // of another
	isKind(t, login("key", locked), fault.Invalid, "passphrase")
	isKind(t, login("key", locked, "passphrase", "no"), fault.Invalid, "passphrase")
	isKind(t, login("key", "no key"), fault.Invalid, "ssh-keygen")
	isKind(t, login("kye", "x"), fault.Invalid, "kye")
	isKind(t, login(), fault.Invalid, "neither a password nor a key")
}

// TestRefusedOnce: a session whose connections have broken, and whose user is not let in any more,
// asks once, however many transfers there are.
func TestRefusedOnce(t *testing.T) {
	var no atomic.Bool
	f := fakes(t, func(f *fake) {
		f.config = func(c *ssh.ServerConfig) {
			let := c.PasswordCallback
			c.PasswordCallback = func(m ssh.ConnMetadata, p []byte) (*ssh.Permissions, error) {
				perms, err := let(m, p)
				if no.Load() {
					time.Sleep(50 * time.Millisecond) // so that all of them wait
					return nil, io.EOF
				}
				return perms, err
			}
		}
	})
	s := f.opens("connections", "4")
	no.Store(true)
	f.tried.Store(0)
	c := s.all[0]
	f.cut()
	<-c.over
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			_, err := s.Stat(t.Context(), "/")
			isKind(t, err, fault.Unauthenticated, "credentials")
		})
	}
	all.Wait()
	_, err := s.Stat(t.Context(), "/")
	isKind(t, err, fault.Unauthenticated, "credentials")
	if n := f.tried.Load(); n != 1 {
		t.Errorf("a password that is refused was told %d times", n)
	}
}

// TestOtherKeyForAWhile: that a server has shown another key to a further connection is forgotten when it
// has the right one again.
func TestOtherKeyForAWhile(t *testing.T) {
	var wrong atomic.Bool
	other := newKey(t, "ed25519")
	f := fakes(t, func(f *fake) {
		f.config = func(c *ssh.ServerConfig) {
			if wrong.Load() {
				c.AddHostKey(other) // in the place of its own
			}
		}
	})
	s := f.opens("connections", "2")
	wrong.Store(true)
	s.mu.Lock()
	made := s.changed
	s.mu.Unlock()
	var first *conn
	for range 2 { // the second has another connection made
		c, err := s.take(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer s.give(c)
		first = c
	}
	<-made
	f.cut()
	<-first.over
	_, err := s.Stat(t.Context(), "/")
	isKind(t, err, fault.Unauthenticated, "hostkey")
	wrong.Store(false)
	if _, err := s.Stat(t.Context(), "/"); err != nil {
		t.Error("with the right key:", err)
	}
}

// TestEndpoint: what cannot be one is said before anybody is reached.
func TestEndpoint(t *testing.T) {
	ok := plugins.Endpoint{URL: "sftp://host", User: "me", Password: "x"}
	if c, err := configure(ok); err != nil || c.address != "host:22" || c.connections < 1 {
		t.Fatalf("%+v, %v", c, err)
	}
	for _, url := range []string{"ftp://host", "sftp://", "sftp://me@host", "sftp://host/?x", "sftp://host/#x", "sftp://host/a/../b", "sftp://host/a%0ab", "host", "sftp://ho st"} {
		e := ok
		e.URL = url
		_, err := configure(e)
		isKind(t, err, fault.Invalid)
	}
	for name, value := range map[string]string{"none": "x", "timeout": "0s", "keepalive": "2h", "connections": "17", "verify": "no", "replace": "x", "algorithms": "all", "max-entries": "0"} {
		e := ok
		e.Options = map[string]string{name: value}
		_, err := configure(e)
		isKind(t, err, fault.Invalid, name)
	}
	ok.User = ""
	_, err := configure(ok)
	isKind(t, err, fault.Invalid, "no user")
}

// TestNoSFTP: servers that have something else to say.
func TestNoSFTP(t *testing.T) {
	endless := func(c io.Writer) {
		for line := []byte(strings.Repeat("x", 200) + "\r\n"); ; {
			if _, err := c.Write(line); err != nil {
				return
			}
		}
	}
	for name, c := range map[string]struct {
		set  func(*fake)
		kind fault.Kind
		has  []string
	}{
		"endless lines": {func(f *fake) { f.first = func(c net.Conn) { endless(c) } }, fault.Protocol, []string{"no SSH server"}},
		"web server": {func(f *fake) {
			f.first = func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.0 400 Bad Request\r\n\r\n") }
		}, fault.Lost, nil},
		"silence": {func(f *fake) { f.first = func(c net.Conn) { _, _ = io.Copy(io.Discard, c) } }, fault.DeadPeer, nil},
		"ends":    {func(f *fake) { f.first = func(net.Conn) {} }, fault.Lost, nil},
		"endless banner": {func(f *fake) {
			f.config = func(c *ssh.ServerConfig) {
				c.PreAuthConnCallback = func(c ssh.ServerPreAuthConn) {
					for c.SendAuthBanner(strings.Repeat("x", 10000)) == nil {
					}
				}
			}
		}, fault.Protocol, []string{"nobody is logged in"}},
		"no subsystem": {func(f *fake) { f.nothing = true }, fault.Unsupported, []string{"Subsystem sftp internal-sftp"}},
		"shell's text": {func(f *fake) {
			f.instead = func(c io.ReadWriter) { _, _ = io.WriteString(c, "Welcome to the machine!\n") }
		}, fault.Protocol, []string{"Welco", "shell"}},
		"no VERSION": {func(f *fake) { f.instead = func(c io.ReadWriter) { _, _ = io.Copy(io.Discard, c) } }, fault.DeadPeer, nil},
		"ended":      {func(f *fake) { f.instead = func(io.ReadWriter) {} }, fault.Lost, []string{"its log says why"}},
		"version 2": {func(f *fake) {
			f.instead = func(c io.ReadWriter) { _, _ = c.Write([]byte{0, 0, 0, 5, fxVersion, 0, 0, 0, 2}) }
		}, fault.Unsupported, []string{"version 2"}},
		"cut off": {func(f *fake) {
			f.instead = func(c io.ReadWriter) { _, _ = c.Write([]byte{0, 0, 0, 9, fxVersion, 0, 0, 0, 3, 0, 0, 1, 0}) }
		}, fault.Protocol, nil},
		"old algorithms": {func(f *fake) {
			f.config = func(c *ssh.ServerConfig) { c.Ciphers = []string{ssh.InsecureCipherAES128CBC} }
		}, fault.Unsupported, []string{"cipher", "algorithms=old"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := fakes(t, c.set)
			_, err := Driver{}.Open(t.Context(), f.endpoint("timeout", untilSilent(c.kind)))
			isKind(t, err, c.kind, append(c.has, f.address)...)
		})
	}
	f := fakes(t, func(f *fake) {
		f.config = func(c *ssh.ServerConfig) { c.Ciphers = []string{ssh.InsecureCipherAES128CBC} }
	})
	f.opens("algorithms", "old")
	f.address = freeport.For(t, "127.0.0.1")
	_, err := Driver{}.Open(t.Context(), f.endpoint())
	isKind(t, err, fault.Lost, f.address)
}

// TestRealUnasked: OpenSSH without PAM, that takes keys only, offers keyboard-interactive, and refuses it without a question.
// That is a login that was refused.
func TestRealUnasked(t *testing.T) {
	s := sshserver.Start(t)
	e := plugins.Endpoint{URL: "sftp://" + s.Address(), User: s.User, Password: "x", Options: map[string]string{"hostkey": s.HostKey}}
	_, err := Driver{}.Open(t.Context(), e)
	isKind(t, err, fault.Unauthenticated, s.Address(), "takes no password", "use a key")
}
