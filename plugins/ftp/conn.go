package ftp

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// conn is one control connection, used by one caller at a time. After an error of the
// connection, a wait that was given up, or a reply nobody knows the command of, it is
// dead and never used again.
type conn struct {
	s        *session
	raw      *net.TCPConn
	c        net.Conn // raw, or TLS over it
	r        *bufio.Reader
	tlsState *tls.Config // of data connections; nil: no TLS
	tickets  tickets
	peer     netip.Addr   // of the server, as connected to
	dead     atomic.Bool  // set by kill
	idle     time.Time    // when it was last given back
	writes   bool         // it is one of session.writing; s.mu
	fed      atomic.Int64 // of a file that is written: when bytes came last, in Unix nanoseconds; 0: it waits for nobody here

	banner    string
	clearOnly bool // PROT P was refused, and need not be
	prot      bool // PROT P is in force
	sscn      bool // SSCN ON is in force
	hash      string
	noEPSV    bool
	listens   bool // the server listens for a data connection that was not used
}

// sendable says whether a server cannot take what is in text for the end of a command.
func sendable(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return r < 0x20 || r == 0x7f }) && !strings.Contains(text, "\xff")
}

// dial connects and logs in.
func (s *session) dial(ctx context.Context) (*conn, error) {
	d := net.Dialer{Timeout: s.timeout, KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 10 * time.Second, Count: 6}}
	nc, err := d.DialContext(ctx, "tcp", s.address)
	if err != nil {
		return nil, failed(ctx, "connect", s.where, err)
	}
	c := &conn{s: s, raw: nc.(*net.TCPConn), c: nc}
	c.r = bufio.NewReaderSize(nc, maxLine)
	c.peer = nc.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
	if err := c.login(ctx); err != nil {
		c.kill()
		return nil, err
	}
	return c, nil
}

func (c *conn) login(ctx context.Context) error {
	if c.s.implicit {
		if err := c.secure(ctx); err != nil {
			return err
		}
	}
	r, err := c.receive(ctx, "connect", c.s.timeout)
	if err != nil {
		return err
	}
	if r.code != 220 {
		return c.refused("connect", "", r)
	}
	c.banner = r.text()
	if !c.s.implicit && c.s.tls != "off" {
		if r, err = c.command(ctx, "AUTH TLS"); err != nil {
			return err
		}
		if r.code != 234 {
			return c.refused("AUTH", "", r)
		}
		if c.r.Buffered() > 0 { // said before the encryption, it would be taken as said within
			return c.said(fault.Protocol, "AUTH", "", "the server goes on in clear after it has agreed to TLS")
		}
		if err := c.secure(ctx); err != nil {
			return err
		}
	}
	if r, err = c.command(ctx, "USER "+c.s.user); err != nil {
		return err
	}
	command := "USER"
	if r.code == 331 {
		command = "PASS"
		if r, err = c.command(ctx, "PASS "+c.s.password); err != nil {
			return err
		}
	}
	if !r.good() {
		return c.refused(command, "", r)
	}
	if c.tlsState != nil {
		if err := c.protect(ctx); err != nil {
			return err
		}
	}
	if r, err = c.command(ctx, "TYPE I"); err != nil {
		return err
	}
	if !r.good() {
		return c.refused("TYPE", "", r)
	}
	return nil
}

// secure begins TLS.
func (c *conn) secure(ctx context.Context) error {
	conf := security(c.s.host, c.s.roots, c.s.pins)
	c.tlsState = conf.Clone()
	c.tlsState.ClientSessionCache = dataTickets{&c.tickets}
	conf.ClientSessionCache = controlTickets{&c.tickets}
	t := tls.Client(c.raw, conf)
	ctx2, cancel := context.WithTimeout(ctx, c.s.timeout)
	defer cancel()
	if err := t.HandshakeContext(ctx2); err != nil {
		return c.lost(ctx, "TLS", plugins.Unshaken{Err: err})
	}
	c.c = t
	c.r.Reset(t)
	return nil
}

// protect has data connections encrypted.
func (c *conn) protect(ctx context.Context) error {
	if _, err := c.command(ctx, "PBSZ 0"); err != nil {
		return err
	}
	r, err := c.command(ctx, "PROT P")
	switch {
	case err != nil:
		return err
	case r.good():
		c.prot = true
	case c.s.tls == "require":
		return c.refused("PROT", "", r)
	default:
		c.clearOnly = true
	}
	return nil
}

// within bounds what is read and written until stop is called.
func (c *conn) within(ctx context.Context, d time.Duration) (stop func()) {
	_ = c.raw.SetDeadline(time.Now().Add(d))
	undo := context.AfterFunc(ctx, func() { _ = c.raw.SetDeadline(time.Unix(1, 0)) })
	return func() {
		if !undo() { // its deadline may come at any time
			c.dead.Store(true)
		}
	}
}

// send sends commands in one write, whose replies the caller receives.
func (c *conn) send(ctx context.Context, lines ...string) error {
	word := wordOf(lines[0])
	for _, line := range lines {
		if !sendable(line) {
			return c.said(fault.Invalid, wordOf(line), "", "what is to be sent has control characters, by which the command would end")
		}
		if len(line) > maxLine {
			return c.said(fault.TooLong, wordOf(line), "", "the command has more than %d bytes", maxLine)
		}
	}
	if c.dead.Load() {
		return c.lost(ctx, word, errors.New("the control connection is over"))
	}
	if c.r.Buffered() > 0 {
		r, err := readReply(c.r)
		if err == nil && r.code == 421 {
			c.kill()
			return c.refused(word, "", r)
		}
		return c.lost(ctx, word, fault.New("reply", fault.Protocol, "the server has answered what was not asked"))
	}
	stop := c.within(ctx, c.s.timeout)
	_, err := c.c.Write([]byte(strings.Join(lines, "\r\n") + "\r\n"))
	stop()
	if err != nil {
		return c.lost(ctx, word, err)
	}
	return nil
}

// receive waits for a reply.
func (c *conn) receive(ctx context.Context, word string, wait time.Duration) (reply, error) {
	stop := c.within(ctx, wait)
	r, err := readReply(c.r)
	stop()
	if err != nil {
		return r, c.lost(ctx, word, err)
	}
	if r.code == 421 { // the server closes the connection
		c.kill()
		return r, c.refused(word, "", r)
	}
	return r, nil
}

// silent waits for the beginning of a reply: it says whether there is none for the timeout.
func (c *conn) silent(ctx context.Context) (bool, error) {
	stop := c.within(ctx, c.s.timeout)
	_, err := c.r.Peek(1)
	stop()
	if ctx.Err() == nil && errors.Is(err, os.ErrDeadlineExceeded) {
		return true, nil
	}
	return false, err
}

// command sends a command and waits for its final reply. Its error is the connection's:
// what the server answers is for the caller to judge.
func (c *conn) command(ctx context.Context, line string) (reply, error) {
	return c.slow(ctx, line, c.s.timeout)
}

// slow is command for one that may take a time.
func (c *conn) slow(ctx context.Context, line string, wait time.Duration) (reply, error) {
	if err := c.send(ctx, line); err != nil {
		return reply{}, err
	}
	return c.answer(ctx, wordOf(line), wait)
}

// wordOf is the command of a line.
func wordOf(line string) string {
	word, _, _ := strings.Cut(line, " ")
	return word
}

// answer waits for the final reply to a command that was sent.
func (c *conn) answer(ctx context.Context, word string, wait time.Duration) (reply, error) {
	for range 100 {
		r, err := c.receive(ctx, word, wait)
		if err != nil || r.code >= 200 {
			return r, err
		}
	}
	return reply{}, c.lost(ctx, word, fault.New("reply", fault.Protocol, "the server announces without end that it will reply"))
}

// must is command whose reply has to be good.
func (c *conn) must(ctx context.Context, word, path string) (reply, error) {
	line := word
	if path != "" {
		line += " " + path
	}
	r, err := c.command(ctx, line)
	if err == nil && !r.good() {
		err = c.refused(word, path, r)
	}
	return r, err
}

// alive looks whether an unused connection has been ended, or said something, meanwhile.
func (c *conn) alive() bool {
	if c.dead.Load() || c.r.Buffered() > 0 {
		return false
	}
	rc, err := c.raw.SyscallConn()
	if err != nil {
		return false
	}
	quiet := false
	_ = rc.Control(func(fd uintptr) {
		var b [1]byte
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		quiet = errors.Is(err, syscall.EAGAIN)
	})
	return quiet
}

// kill ends the connection without a word. It may be called by anybody at any time.
func (c *conn) kill() {
	c.dead.Store(true)
	_ = c.raw.Close()
}

// interrupt sends ABOR in the way that servers notice during a transfer: vsftpd wants
// Telnet's IP and urgent data. Afterwards nobody knows how many replies come, so the
// connection is dead as soon as the caller has waited for them.
func (c *conn) interrupt() {
	c.dead.Store(true)
	_ = c.raw.SetWriteDeadline(time.Now().Add(time.Second))
	if c.c == net.Conn(c.raw) {
		if rc, err := c.raw.SyscallConn(); err == nil {
			_ = rc.Write(func(fd uintptr) bool {
				_, _ = syscall.SendmsgN(int(fd), []byte("\xff\xf4\xff"), nil, nil, syscall.MSG_OOB)
				return true
			})
		}
		_, _ = c.c.Write([]byte("\xf2ABOR\r\n"))
		return
	}
	_, _ = c.c.Write([]byte("ABOR\r\n"))
}
