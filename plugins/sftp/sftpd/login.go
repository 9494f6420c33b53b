package sftpd

import (
	"context"
	"crypto/rsa"
	"errors"
	"net"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/crypto/ssh"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/plugins/places"
	"github.com/pannier/pannier/spec/fault"
)

const (
	maxUser     = 256  // bytes
	maxPassword = 1024 // bytes
	leastRSA    = 2048 // bits
	mostRSA     = 8192 // bits

	// A refusal comes a whole number of these after the question, so that how long the
	// node has looked, and whether there is such a user, cannot be told from it.
	offerStep = 250 * time.Millisecond
	proofStep = time.Second
)

// strangerBytes is how much a client may say before it is let in: the exchange of keys, and
// as many tries as there are, each with the offer of a key and its proof.
func (c *config) strangerBytes() int64 { return 32<<10 + int64(c.tries)*4<<10 }

// errRefused is all that a client, and the log of x/crypto, are told.
var errRefused = errors.New("refused")

// login does the handshake and lets the client in, or not. The session is set if the node
// has let it in, whatever comes of the handshake. It has the client's place then.
func (g *guest) login(stranger context.Context, place *places.Place) (<-chan ssh.NewChannel, <-chan *ssh.Request, error) {
	ctx, cancel := context.WithTimeout(stranger, g.v.cfg.loginTime)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = g.line.Close() })
	ending := context.AfterFunc(g.v.ctx, func() { _ = g.line.Close() })
	conn, chans, requests, err := ssh.NewServerConn(g.line, g.config(ctx))
	g.line.in.Store(err == nil)
	displaced := err == nil && !place.Known()
	if g.conn = conn; err == nil && (displaced || !ending() || !stop()) {
		err = net.ErrClosed // why, is said below
		go ssh.DiscardRequests(requests)
		go func() {
			for n := range chans {
				_ = n.Reject(ssh.ConnectionFailed, "")
			}
		}()
		_ = conn.Close()
	}
	ending()
	switch {
	case err == nil:
	case displaced || context.Cause(ctx) == error(errDisplaced):
		err = errDisplaced
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		err = fault.New("login", fault.Deadline, "the client has taken too long: %w", err)
	case g.session == nil && g.refused > 0:
		err = fault.New("login", fault.Unauthenticated, "the client was refused, tries: %d", g.refused)
	case g.v.ctx.Err() != nil:
		err = fault.New("login", fault.Draining, "this server is being stopped")
	default:
		err = fault.Wrap("login", "", err)
	}
	return chans, requests, err
}

// config is of SSH, for this connection.
func (g *guest) config(ctx context.Context) *ssh.ServerConfig {
	c := &ssh.ServerConfig{
		Config: ssh.Config{
			KeyExchanges: []string{
				ssh.KeyExchangeMLKEM768X25519, ssh.KeyExchangeCurve25519, ssh.KeyExchangeECDHP256, ssh.KeyExchangeECDHP384, ssh.KeyExchangeECDHP521, ssh.KeyExchangeDH16SHA512,
			},
			Ciphers: []string{ // without ChaCha20, which OpenSSH would take before all others, and which is slow here: see "Rejected"
				ssh.CipherAES128GCM, ssh.CipherAES256GCM, ssh.CipherAES256CTR, ssh.CipherAES192CTR, ssh.CipherAES128CTR,
			},
			MACs: []string{ssh.HMACSHA256ETM, ssh.HMACSHA512ETM, ssh.HMACSHA256, ssh.HMACSHA512}, // the last two for libssh2 before 1.11
		},
		PublicKeyAuthAlgorithms: []string{
			ssh.KeyAlgoED25519, ssh.KeyAlgoSKED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521, ssh.KeyAlgoSKECDSA256, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256,
		},
		MaxAuthTries:  g.v.cfg.tries,
		ServerVersion: "SSH-2.0-Pannier",
	}
	c.AddHostKey(g.v.key)
	if g.v.cfg.keys {
		c.PublicKeyCallback = func(m ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			began := time.Now()
			s, err := g.knock(ctx, m.User(), "", "offered", key)
			if err != nil {
				return nil, g.refuse(ctx, began, 0, offerStep, err)
			}
			if s != nil {
				_ = s.Close() // that of the proof counts
			}
			return nil, nil
		}
		c.VerifiedPublicKeyCallback = func(m ssh.ConnMetadata, key ssh.PublicKey, _ *ssh.Permissions, _ string) (*ssh.Permissions, error) {
			return nil, g.enter(ctx, m.User(), "", key)
		}
	}
	if g.v.cfg.passwords {
		c.PasswordCallback = func(m ssh.ConnMetadata, password []byte) (*ssh.Permissions, error) {
			return nil, g.enter(ctx, m.User(), string(password), nil)
		}
	}
	return c
}

// enter has the node let in who has proved to be somebody.
func (g *guest) enter(ctx context.Context, user, password string, key ssh.PublicKey) error {
	began := time.Now()
	s, err := g.knock(ctx, user, password, "key", key)
	if err == nil && s == nil {
		err = fault.New("log in", fault.Internal, "the node has let a client in without a session")
	}
	if err != nil {
		return g.refuse(ctx, began, g.v.wrong.failed(g.from), proofStep, err)
	}
	g.session = s
	return nil
}

// knock asks the node.
func (g *guest) knock(ctx context.Context, user, password, what string, key ssh.PublicKey) (plugins.Session, error) {
	if err := plausible(user, password, key); err != nil {
		return nil, err
	}
	g.user = user // whom the log is about
	to := plugins.Endpoint{URL: "guest://" + g.line.RemoteAddr().String(), User: user, Password: password}
	if key != nil {
		to.Secrets = map[string]string{what: strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))}
	}
	return g.v.node.Open(ctx, to)
}

// plausible spares the node what cannot be.
func plausible(user, password string, key ssh.PublicKey) error {
	bad := func(why string) error { return fault.New("log in", fault.Unauthenticated, "%s", why) }
	if user == "" || len(user) > maxUser || !utf8.ValidString(user) || strings.ContainsFunc(user, unicode.IsControl) {
		return bad("the user's name is none")
	}
	if len(password) > maxPassword || !utf8.ValidString(password) {
		return bad("the password is none")
	}
	if _, ok := key.(*ssh.Certificate); ok {
		return bad("it is a certificate, and keys are what users have here")
	}
	if k, ok := key.(ssh.CryptoPublicKey); ok {
		if r, ok := k.CryptoPublicKey().(*rsa.PublicKey); ok && (r.N.BitLen() < leastRSA || r.N.BitLen() > mostRSA) {
			return bad("RSA keys have 2048 to 8192 bits here")
		}
	}
	return nil
}

// refuse waits until a refusal is due.
func (g *guest) refuse(ctx context.Context, began time.Time, least, step time.Duration, err error) error {
	g.refused++
	if !errors.Is(err, fault.Unauthenticated) {
		g.log().Warn("the node has not said whether a client may log in", "error", err)
	} else {
		g.log().Debug("a client was refused", "error", err)
	}
	took := time.Since(began)
	due := max(least, (took/step+1)*step)
	t := time.NewTimer(due - took)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
	return errRefused
}
