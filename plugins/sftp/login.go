package sftp

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/pannier/pannier/spec/fault"
)

// signer is the private key among the secrets; nil: there is none.
func signer(secrets map[string]string) (ssh.Signer, error) {
	for name := range secrets {
		if name != "key" && name != "passphrase" {
			return nil, badEndpoint("there is no secret %s", fault.Shown(name)).Advise(`secrets are "key" and "passphrase"`)
		}
	}
	text := secrets["key"]
	if text == "" {
		return nil, nil
	}
	bad := func(why string) *fault.Error { return fault.New("sftp key", fault.Invalid, "%s", why) }
	if phrase := secrets["passphrase"]; phrase != "" {
		k, err := ssh.ParsePrivateKeyWithPassphrase([]byte(text), []byte(phrase))
		if err != nil {
			return nil, bad("the key cannot be read with its passphrase").Advise(`correct "passphrase" in the secrets, or write the key anew with ssh-keygen -p`)
		}
		return k, nil
	}
	k, err := ssh.ParsePrivateKey([]byte(text))
	if _, missing := errors.AsType[*ssh.PassphraseMissingError](err); missing {
		return nil, bad("the key has a passphrase").Advise(`add "passphrase" to the secrets`)
	}
	if err != nil {
		return nil, bad("the key is not a private key in PEM that is known here").Advise("make one with ssh-keygen -t ed25519, and put the file without .pub there, whole")
	}
	return k, nil
}

const credentialsAdvice = "correct user, password or key in the credentials of the endpoint, and see that the server takes one of them: its log says why it does not"

// methods are how the user proves who it is. The password is told once: by the method of
// that name, or to a server that asks for it otherwise and has no such method.
func (c *config) methods() (m []ssh.AuthMethod) {
	if c.key != nil {
		m = append(m, ssh.PublicKeys(c.key))
	}
	if c.password == "" {
		return m
	}
	told := false
	once := func() error {
		if told {
			return fault.New("password", fault.Unauthenticated, "the server does not take it").Advise("%s", credentialsAdvice)
		}
		told = true
		return nil
	}
	return append(m, ssh.PasswordCallback(func() (string, error) { return c.password, once() }),
		ssh.KeyboardInteractive(func(_, _ string, questions []string, echos []bool) ([]string, error) {
			if len(questions) == 0 {
				return nil, nil
			}
			if len(questions) > 1 || echos[0] {
				return nil, fault.New("password", fault.Unauthenticated, "the server asks for more than that").Advise("use a key for this user, or one who needs a password only")
			}
			return []string{c.password}, once()
		}))
}

// algorithms are those of the connection, the quickest first. ChaCha20 is an old one: with
// it the first messages can be left out unseen where the server has no strict key
// exchange, which nothing here can ask for.
func (c *config) algorithms() ssh.Config {
	a := ssh.SupportedAlgorithms()
	a.MACs = slices.DeleteFunc(a.MACs, func(m string) bool { return m == ssh.HMACSHA1 })
	a.Ciphers = slices.DeleteFunc(a.Ciphers, func(m string) bool { return m == ssh.CipherChaCha20Poly1305 })
	if c.old {
		a.Ciphers = append(a.Ciphers, ssh.CipherChaCha20Poly1305)
		o := ssh.InsecureAlgorithms()
		a.KeyExchanges, a.Ciphers, a.MACs = append(a.KeyExchanges, o.KeyExchanges...), append(a.Ciphers, o.Ciphers...), append(append(a.MACs, ssh.HMACSHA1), o.MACs...)
	}
	return ssh.Config{KeyExchanges: a.KeyExchanges, Ciphers: a.Ciphers, MACs: a.MACs}
}

// dial connects, checks whose server it is, logs in and begins SFTP.
func (s *session) dial(ctx context.Context) (*conn, error) {
	var tried []string
	var first error
	for {
		c, err := s.login(ctx, tried)
		other, again := errors.AsType[otherKey](err)
		_, none := errors.AsType[*ssh.AlgorithmNegotiationError](err)
		switch {
		case !again && none && first != nil: // the server has no other
			return nil, first
		case !again:
			return c, err
		case first == nil:
			first = other.error
		}
		// Pins do not say of which type they are: the server is asked for its others.
		tried = append(tried, other.typ)
		if len(s.trust.algorithms(s.old, tried)) == 0 {
			return nil, first
		}
	}
}

// login is dial, with a key of a type that was not tried.
func (s *session) login(ctx context.Context, tried []string) (*conn, error) {
	d := net.Dialer{Timeout: s.timeout, KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 10 * time.Second, Count: 6}}
	raw, err := d.DialContext(ctx, "tcp", s.address)
	if err != nil {
		return nil, failed(ctx, "connect", s.where, err)
	}
	l := newLine(raw)
	_ = raw.SetDeadline(time.Now().Add(s.timeout))
	stop := context.AfterFunc(ctx, func() { _ = raw.SetDeadline(time.Unix(1, 0)) })
	c, err := s.begin(ctx, l, tried)
	if err == nil && !stop() {
		err = failed(ctx, "login", s.where, ctx.Err())
	}
	if err != nil {
		stop()
		if fault.KindOf(err) == fault.Lost && l.late.Load() {
			err = failed(ctx, "login", s.where, os.ErrDeadlineExceeded)
		}
		_ = l.Close()
		return nil, err
	}
	_ = raw.SetDeadline(time.Time{})
	l.most.Store(0)
	c.run()
	if err := c.limits(ctx); err != nil {
		c.kill(err)
		return nil, err
	}
	return c, nil
}

func (s *session) begin(ctx context.Context, l *line, tried []string) (*conn, error) {
	var refused error // of the key
	trusted := false
	conf := &ssh.ClientConfig{Config: s.config.algorithms(), User: s.user, Auth: s.methods(), ClientVersion: "SSH-2.0-Pannier", HostKeyAlgorithms: s.trust.algorithms(s.old, tried),
		HostKeyCallback: func(host string, remote net.Addr, key ssh.PublicKey) error {
			refused = s.trust.check(s.where, host, remote, key)
			trusted = refused == nil
			return refused
		}}
	sc, channels, requests, err := ssh.NewClientConn(l, s.address, conf)
	if err != nil {
		if refused != nil {
			return nil, refused
		}
		return nil, s.loginFailed(ctx, err, trusted)
	}
	client := ssh.NewClient(sc, channels, requests)
	c, err := s.subsystem(ctx, client)
	if err != nil {
		_ = client.Close()
	}
	return c, err
}

// unasked is what package ssh says of a server that offers keyboard-interactive and refuses it without a question, as
// OpenSSH's without PAM.
const unasked = "unexpected message type 51 (expected 60)"

// loginFailed is the error of a login. Package ssh has most of its errors as texts.
func (s *session) loginFailed(ctx context.Context, err error, trusted bool) error {
	e := &fault.Error{Op: "sftp login", Side: fault.Inferred, Subject: s.where, Err: errors.New(string(fault.Shown(err.Error())))}
	_, isNet := errors.AsType[net.Error](err)
	_, isOurs := errors.AsType[*fault.Error](err)
	algorithm, isAlgorithm := errors.AsType[*ssh.AlgorithmNegotiationError](err)
	text := err.Error()
	switch {
	case ctx.Err() != nil, isOurs, isNet, errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
		return failed(ctx, "login", s.where, err)
	case isAlgorithm:
		e.Kind, e.Err, e.Advice = fault.Unsupported, algorithm, "update the server; or set algorithms=old, if what it has is good enough for what is sent"
	case strings.Contains(text, "unable to authenticate"):
		e.Kind, e.Side, e.Advice = fault.Unauthenticated, fault.Peer, credentialsAdvice
	case strings.Contains(text, unasked) && trusted:
		e.Kind, e.Side, e.Err = fault.Unauthenticated, fault.Peer, errors.New("the server takes no password of this user, and refuses keyboard-interactive without a question")
		e.Advice = "use a key for this user, or have the server take passwords; otherwise " + credentialsAdvice
	case strings.Contains(text, "ssh: disconnect") && trusted:
		e.Kind, e.Side, e.Advice = fault.Unauthenticated, fault.Peer, "the server does not let this user in; its log says why"
		if strings.Contains(text, "oo many connections") || strings.Contains(text, "reason 12:") {
			e.Kind, e.Advice = fault.Overloaded, ""
		}
	default:
		e.Kind, e.Advice = fault.Protocol, "there is no SSH server at that address, or one that is broken"
	}
	return e
}

// subsystem begins SFTP.
func (s *session) subsystem(ctx context.Context, client *ssh.Client) (*conn, error) {
	ch, requests, err := client.OpenChannel("session", nil)
	if err != nil {
		if o, ok := errors.AsType[*ssh.OpenChannelError](err); ok {
			kind := fault.Permission
			if o.Reason == ssh.ResourceShortage || o.Reason == ssh.ConnectionFailed {
				kind = fault.Overloaded
			}
			return nil, &fault.Error{Op: "sftp channel", Kind: kind, Side: fault.Peer, Subject: s.where, Err: errors.New(string(fault.Shown(o.Error()))), Advice: "the server lets this user have no sessions; raise MaxSessions there, or use another user"}
		}
		return nil, failed(ctx, "channel", s.where, err)
	}
	go ssh.DiscardRequests(requests)
	go func() { _, _ = io.Copy(io.Discard, ch.Stderr()) }()
	ok, err := ch.SendRequest("subsystem", true, ssh.Marshal(struct{ Name string }{"sftp"}))
	if err != nil {
		return nil, failed(ctx, "subsystem", s.where, err)
	}
	if !ok {
		return nil, &fault.Error{Op: "sftp subsystem", Kind: fault.Unsupported, Side: fault.Peer, Subject: s.where, Err: errors.New("the server has no subsystem sftp for this user"), Advice: "add to its sshd_config: Subsystem sftp internal-sftp"}
	}
	c := newConn(s, ch)
	c.client = client
	if err := c.version(ctx); err != nil {
		return nil, err
	}
	return c, nil
}

// version exchanges INIT and VERSION.
func (c *conn) version(ctx context.Context) error {
	init := binary.BigEndian.AppendUint32([]byte{0, 0, 0, 5, fxInit}, 3)
	_, _ = c.ch.Write(init) // if that fails, reading says what there was
	var head [5]byte
	if n, err := io.ReadFull(c.ch, head[:]); err != nil {
		e := failed(ctx, "INIT", c.s.where, ended(err))
		if f, ok := errors.AsType[*fault.Error](e); ok && n == 0 && f.Kind == fault.Lost {
			f.Advice = "the server ends SFTP before it has begun: its log says why, as that the program of the subsystem is not there, or the user's directory"
		}
		return e
	}
	length := binary.BigEndian.Uint32(head[:])
	if length < 5 || length > maxMessage || head[4] != fxVersion {
		return c.said(fault.Protocol, "INIT", "", "it is answered by something else than SFTP, which begins with %s", fault.Shown(string(head[:]))).
			Advise("if that is text, the user's shell prints it when it starts: have it print nothing when it is not a terminal's, or set Subsystem sftp internal-sftp in sshd_config")
	}
	body := make([]byte, length-1)
	if _, err := io.ReadFull(c.ch, body); err != nil {
		return failed(ctx, "INIT", c.s.where, ended(err))
	}
	f := fields{b: body}
	if v := f.number(); v < 3 {
		return c.said(fault.Unsupported, "INIT", "", "the server has version %d of SFTP, 3 is needed", v).Advise("update the server")
	}
	c.ext = map[string]string{}
	for len(f.b) > 0 && !f.bad {
		name := f.text()
		c.ext[name] = f.text()
	}
	if f.bad {
		return c.said(fault.Protocol, "INIT", "", "the extensions in VERSION are cut off")
	}
	return nil
}

// has says whether the server has an extension.
func (c *conn) has(name string) bool {
	_, ok := c.ext[name]
	return ok
}
