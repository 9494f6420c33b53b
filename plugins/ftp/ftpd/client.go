package ftpd

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/plugins/places"
)

// client is one control connection.
type client struct {
	s     *server
	raw   net.Conn
	conn  net.Conn // raw, or TLS over it
	r     *bufio.Reader
	peer  netip.Addr
	local netip.Addr
	log   *slog.Logger
	place *places.Place

	// ctx is of what is done for the client; it ends when the client is gone.
	ctx   context.Context
	leave context.CancelCauseFunc

	lines   chan command
	again   chan struct{} // after AUTH, the reader waits for it
	pending []command     // that came during a transfer
	moving  atomic.Bool   // a transfer was announced, and is not over
	writing sync.Mutex    // of replies

	dropping sync.WaitGroup // data connections whose file was refused

	secure  *tls.Config // of data connections; nil: the control connection has no TLS
	prot    bool        // PROT P
	user    string
	session plugins.Session
	can     plugins.Capabilities
	wrong   int // passwords
	over    bool

	cwd    string
	ascii  bool
	rest   int64
	rename string // RNFR's; "": none
	epsv   bool   // EPSV ALL was said
	facts  map[string]bool
	port   *port // of the next data connection
}

// Why a client leaves.
var (
	errGone      = errors.New("the client has left")
	errDisplaced = errors.New("it has not logged in, and others are waiting")
	errStranger  = errors.New("it has not logged in for too long")
	errIdle      = errors.New("the client is idle")
)

// errFlood is of a client that says too much at once.
var errFlood = errors.New("too many commands during a transfer")

// callTime is the most that the node has for a call that moves no bytes, maxPending how many
// commands a client may send during a transfer.
const (
	callTime   = 2 * time.Minute
	maxPending = 64
)

func addressOf(a net.Addr) (netip.Addr, bool) {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}, false
	}
	at := t.AddrPort().Addr().Unmap()
	return at, at.IsValid()
}

func (s *server) client(nc net.Conn, peer, local netip.Addr) *client {
	c := &client{s: s, raw: nc, conn: nc, peer: peer, local: local, cwd: "/", lines: make(chan command), again: make(chan struct{}), facts: allFacts()}
	c.r = bufio.NewReaderSize(nc, maxLine)
	c.log = slog.With("client", nc.RemoteAddr().String(), "connection", s.last.Add(1))
	c.ctx, c.leave = context.WithCancelCause(s.hard)
	return c
}

// serve is the client's time here.
func (c *client) serve() {
	defer c.dropping.Wait()
	defer c.leave(errGone)
	context.AfterFunc(c.ctx, func() { // others are told why
		if why := context.Cause(c.ctx); why == errGone || why == errDisplaced {
			_ = c.raw.Close()
		}
	})
	if t, ok := c.raw.(*net.TCPConn); ok {
		_ = t.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 10 * time.Second, Count: 6})
	}
	stranger := time.AfterFunc(c.s.login, func() { c.leave(errStranger) })
	defer stranger.Stop()
	if c.s.tls == "implicit" && !c.encrypt() {
		return
	}
	c.say(say(220, "Ready."))
	go c.read()
	defer c.farewell()
	for !c.over {
		cmd, ok := c.next()
		if !ok {
			return
		}
		c.say(c.do(cmd))
		if c.session != nil {
			stranger.Stop()
		}
	}
}

// farewell gives up what the client had.
func (c *client) farewell() {
	c.port.close()
	if c.session != nil {
		if err := c.session.Close(); err != nil {
			c.log.Warn("the client's session has ended badly", "error", err)
		}
		c.log.Info("a client has left", "user", c.user)
	}
}

// next is the client's next command. Not ok: it is gone, or has to go.
func (c *client) next() (command, bool) {
	if len(c.pending) > 0 {
		cmd := c.pending[0]
		c.pending = c.pending[1:]
		return cmd, true
	}
	_ = c.raw.SetReadDeadline(time.Now().Add(c.s.idle))
	defer func() { _ = c.raw.SetReadDeadline(time.Time{}) }()
	select {
	case cmd, ok := <-c.lines:
		if ok {
			return cmd, true
		}
	case <-c.ctx.Done():
	case <-c.s.soft.Done():
	}
	switch why := context.Cause(c.ctx); {
	case why == errIdle:
		c.say(say(421, "Nothing was said for %v.", c.s.idle))
	case why == errStranger:
		c.say(say(421, "Nobody has logged in within %v.", c.s.login))
	case why == errLongLine:
		c.say(say(500, "The line has more than %d bytes.", maxLine))
	case why == errFlood:
		c.say(say(421, "Too many commands during a transfer."))
	case c.s.soft.Err() != nil:
		c.say(say(421, "This server is being stopped."))
	}
	return command{}, false
}

// read hands on the client's lines until it is gone.
func (c *client) read() {
	defer close(c.lines)
	later := false
	for {
		if c.r.Buffered() == 0 { // what came together was sent before any answer
			later = false
			if _, err := c.r.Peek(1); err != nil {
				c.leave(reason(err))
				return
			}
			later = c.moving.Load()
		}
		line, err := readLine(c.r)
		if err != nil {
			c.leave(reason(err))
			return
		}
		cmd := parseCommand(line)
		cmd.later = later
		clear := c.conn == c.raw
		select {
		case c.lines <- cmd:
		case <-c.ctx.Done():
			return
		}
		if cmd.verb == "AUTH" && clear { // what follows may be TLS
			select {
			case <-c.again:
			case <-c.ctx.Done():
				return
			}
		}
	}
}

// reason is why nothing more can be read.
func reason(err error) error {
	switch {
	case errors.Is(err, errLongLine):
		return errLongLine
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errIdle
	}
	return errGone
}

// say sends a reply. A client that takes none is gone.
func (c *client) say(r reply) {
	if r.code == 0 {
		return
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	if r.code == 150 { // before anybody can have read it; no other reply comes before it
		c.moving.Store(true)
	}
	_ = c.raw.SetWriteDeadline(time.Now().Add(c.s.timeout))
	if _, err := c.conn.Write([]byte(r.text())); err != nil {
		c.leave(errGone)
	}
}

// encrypt begins TLS on the control connection.
func (c *client) encrypt() bool {
	id := make([]byte, 16)
	_, _ = rand.Read(id) // never fails
	t := tls.Server(c.raw, continuing(c.s.security, id, false))
	ctx, cancel := context.WithTimeout(c.ctx, c.s.login)
	defer cancel()
	if err := t.HandshakeContext(ctx); err != nil {
		c.log.Info("a client has not come to TLS", "error", err)
		return false
	}
	c.secure = continuing(c.s.security, id, true)
	c.conn = t
	c.r.Reset(t)
	return true
}

// call is a context for a call of the node.
func (c *client) call() (context.Context, context.CancelFunc) {
	return context.WithTimeout(c.ctx, callTime)
}
