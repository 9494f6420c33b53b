package sftp

import (
	"bufio"
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	pkgsftp "github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// fake is a server that lies: package pkg/sftp's, whose messages go through hooks.
type fake struct {
	t       testing.TB
	dir     string
	address string
	keys    []ssh.Signer // of the host
	user    ssh.Signer   // of the user
	pem     string       // the same

	// What it does; set before somebody logs in.
	first    func(net.Conn)                      // instead of SSH
	config   func(*ssh.ServerConfig)             // methods of authentication
	nothing  bool                                // no subsystem
	instead  func(io.ReadWriter)                 // of SFTP
	request  func(*link, byte, []byte) (ok bool) // a message with type and body; false: the server does not get it
	reply    func(*link, byte, []byte) (ok bool) // with the type of the request
	password string
	asks     bool // by keyboard-interactive only

	mu     sync.Mutex
	conns  []net.Conn
	tried  atomic.Int32 // to authenticate
	logins atomic.Int32
	closed atomic.Int32 // CLOSE that came
}

const secret = "correct horse"

// fakes starts one, which lets in whoever has its password or key.
func fakes(t testing.TB, set func(*fake)) *fake {
	t.Helper()
	f := &fake{t: t, dir: t.TempDir(), password: secret}
	f.keys = []ssh.Signer{newKey(t, "ed25519")}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_ = public
	f.user, f.pem = signed(t, private), pemOf(t, private, "")
	if set != nil {
		set(f)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.address = l.Addr().String()
	t.Cleanup(func() { _ = l.Close(); f.cut() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			f.mu.Lock()
			f.conns = append(f.conns, c)
			f.mu.Unlock()
			go f.serve(c)
		}
	}()
	return f
}

// cut ends all connections.
func (f *fake) cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.conns {
		_ = c.Close()
	}
	f.conns = nil
}

func newKey(t testing.TB, typ string) ssh.Signer {
	t.Helper()
	if typ == "ecdsa" {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return signed(t, k)
	}
	_, k, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return signed(t, k)
}

func signed(t testing.TB, key crypto.Signer) ssh.Signer {
	t.Helper()
	s, err := ssh.NewSignerFromSigner(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func pemOf(t testing.TB, key crypto.PrivateKey, phrase string) string {
	t.Helper()
	b, err := ssh.MarshalPrivateKey(key, "")
	if phrase != "" {
		b, err = ssh.MarshalPrivateKeyWithPassphrase(key, "", []byte(phrase))
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(b))
}

func (f *fake) serve(c net.Conn) {
	defer c.Close()
	if f.first != nil {
		f.first(c)
		return
	}
	conf := &ssh.ServerConfig{}
	no := errors.New("no")
	if f.asks {
		conf.KeyboardInteractiveCallback = func(_ ssh.ConnMetadata, ask ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
			f.tried.Add(1)
			if said, err := ask("", "", []string{"Password: "}, []bool{false}); err != nil || len(said) != 1 || said[0] != f.password {
				return nil, no
			}
			return nil, nil
		}
	} else {
		conf.PasswordCallback = func(_ ssh.ConnMetadata, p []byte) (*ssh.Permissions, error) {
			if f.tried.Add(1); string(p) != f.password {
				return nil, no
			}
			return nil, nil
		}
	}
	conf.PublicKeyCallback = func(_ ssh.ConnMetadata, k ssh.PublicKey) (*ssh.Permissions, error) {
		if f.tried.Add(1); !bytes.Equal(k.Marshal(), f.user.PublicKey().Marshal()) {
			return nil, no
		}
		return nil, nil
	}
	for _, k := range f.keys {
		conf.AddHostKey(k)
	}
	if f.config != nil {
		f.config(conf)
	}
	_, channels, requests, err := ssh.NewServerConn(c, conf)
	if err != nil {
		return
	}
	login := f.logins.Add(1)
	go ssh.DiscardRequests(requests)
	for n := range channels {
		ch, requests, err := n.Accept()
		if err != nil {
			return
		}
		go func() {
			for r := range requests {
				_ = r.Reply(r.Type == "subsystem" && !f.nothing, nil)
				if r.Type == "subsystem" && !f.nothing {
					go f.sftp(ch, login)
				}
			}
		}()
	}
}

// link is one user's way to the server.
type link struct {
	f     *fake
	login int32
	mu    sync.Mutex // of what is written to ch
	ch    ssh.Channel
}

// says sends a message to the client.
func (l *link) says(typ byte, body []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := binary.BigEndian.AppendUint32(nil, uint32(len(body)+1))
	_, _ = l.ch.Write(append(append(m, typ), body...))
}

// status answers a request whose body begins with its number.
func (l *link) status(body []byte, code uint32, text string) {
	l.says(fxStatus, message(body[:4:4]).number(code).text(text).text(""))
}

func nextMessage(r io.Reader) (typ byte, body []byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	body = make([]byte, binary.BigEndian.Uint32(head[:])-1)
	_, err = io.ReadFull(r, body)
	return head[4], body, err
}

// sftp passes messages between the client and a server, as far as the hooks let it.
func (f *fake) sftp(ch ssh.Channel, login int32) {
	defer ch.Close()
	if f.instead != nil {
		f.instead(ch)
		return
	}
	mine, its := net.Pipe()
	defer mine.Close()
	server, err := pkgsftp.NewServer(its)
	if err != nil {
		f.t.Error(err)
		return
	}
	go func() { _ = server.Serve(); _ = its.Close() }()
	l := &link{f: f, ch: ch, login: login}
	var mu sync.Mutex
	types := map[uint32]byte{}
	go func() {
		defer ch.Close()
		for r := bufio.NewReader(mine); ; {
			typ, body, err := nextMessage(r)
			if err != nil {
				return
			}
			asked := byte(fxInit)
			if typ != fxVersion {
				mu.Lock()
				asked = types[binary.BigEndian.Uint32(body)]
				mu.Unlock()
			}
			if f.reply != nil && !f.reply(l, asked, append([]byte{typ}, body...)) {
				continue
			}
			l.says(typ, body)
		}
	}()
	for r := bufio.NewReader(ch); ; {
		typ, body, err := nextMessage(r)
		if err != nil {
			return
		}
		if typ != fxInit {
			mu.Lock()
			types[binary.BigEndian.Uint32(body)] = typ
			mu.Unlock()
		}
		if typ == fxClose {
			f.closed.Add(1)
		}
		if f.request != nil && !f.request(l, typ, body) {
			continue
		}
		m := binary.BigEndian.AppendUint32(nil, uint32(len(body)+1))
		if _, err := mine.Write(append(append(m, typ), body...)); err != nil {
			return
		}
	}
}

// endpoint logs in with the password.
func (f *fake) endpoint(options ...string) plugins.Endpoint {
	e := plugins.Endpoint{URL: "sftp://" + f.address + "/" + f.dir, User: "me", Password: f.password,
		Options: map[string]string{"hostkey": ssh.FingerprintSHA256(f.keys[0].PublicKey()), "timeout": "10s"}}
	for i := 0; i < len(options); i += 2 {
		e.Options[options[i]] = options[i+1]
		if options[i+1] == "" {
			delete(e.Options, options[i])
		}
	}
	return e
}

func opens(t testing.TB, e plugins.Endpoint) *session {
	t.Helper()
	s, err := Driver{}.Open(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s.(*session)
}

func (f *fake) opens(options ...string) *session { return opens(f.t, f.endpoint(options...)) }

// has puts a file at the server, past SFTP.
func (f *fake) has(name string, b []byte) {
	f.t.Helper()
	if err := os.WriteFile(f.dir+"/"+name, b, 0o600); err != nil {
		f.t.Fatal(err)
	}
}

// holds fails when something else than these files is there: name, content, and so on.
func holds(t testing.TB, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got, names []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	for i := 0; i < len(want); i += 2 {
		names = append(names, want[i])
		if b, err := os.ReadFile(dir + "/" + want[i]); err != nil || string(b) != want[i+1] {
			t.Errorf("%s has %d bytes, %v; not the %d that it should", want[i], len(b), err, len(want[i+1]))
		}
	}
	slices.Sort(names)
	if !slices.Equal(got, names) {
		t.Errorf("there is %q; want %q", got, names)
	}
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}

func write(ctx context.Context, s *session, name string, b []byte) (plugins.Attr, error) {
	st, err := s.Write(ctx, name, plugins.WriteRequest{Size: int64(len(b))})
	if err != nil {
		return plugins.Attr{}, err
	}
	if _, err := st.Write(b); err != nil {
		_, _ = st.Abort(ctx, false)
		return plugins.Attr{}, err
	}
	a, err := st.Commit(ctx)
	if err != nil {
		_, _ = st.Abort(ctx, false)
	}
	return a, err
}

func reads(ctx context.Context, s *session, name string, offset int64) ([]byte, error) {
	r, err := s.Read(ctx, name, offset)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(r)
	return b, errors.Join(err, r.Close())
}

func lists(ctx context.Context, s *session, dir string) (names []string, err error) {
	for a, err := range s.List(ctx, dir) {
		if err != nil {
			return names, err
		}
		names = append(names, a.Name)
	}
	slices.Sort(names)
	return names, nil
}

func isKind(t testing.TB, err error, kind fault.Kind, has ...string) {
	t.Helper()
	if err == nil || fault.KindOf(err) != kind {
		t.Errorf("%v is %v; want %v", err, fault.KindOf(err), kind)
		return
	}
	text := err.Error()
	for _, h := range has {
		if !strings.Contains(text, h) {
			t.Errorf("%v does not name %q", err, h)
		}
	}
}

// offsetOf is that of a READ or WRITE.
func offsetOf(body []byte) int64 {
	f := fields{b: body[4:]}
	f.text()
	return int64(f.long())
}
