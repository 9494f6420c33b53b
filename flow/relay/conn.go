package relay

import (
	"context"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/spec/fault"
)

// halfCloser is a connection whose directions are closed one by one, as those of
// package net.
type halfCloser interface {
	net.Conn
	CloseWrite() error
}

// conn is one relayed connection: a socket of this node and a byte stream. Idle it
// has one goroutine, which waits for the socket with a small stack, and no buffers.
type conn struct {
	hub     *Hub
	id      uint64
	role    Role
	relay   string
	partner string
	from    string // client
	to      string // destination
	use     *usage // in which it has its place
	local   halfCloser
	st      *flow.ByteStream
	began   time.Time
	after   func() // called when both directions are over; may be nil
	ftp     *ftp   // if it is a control connection of FTP

	carried atomic.Int32     // directions that are over
	socket  *flow.Collection // of what the socket has; nil: ftp reads it

	ctx    context.Context // ends with the connection; nil where nothing waits for that
	cancel context.CancelFunc
	once   sync.Once
	err    error        // why it ended; nil: both directions were closed
	heard  atomic.Bool  // the other end of the session has closed its direction
	half   atomic.Int64 // when the first direction was closed, ns after began; 0: none is

	seen   int64 // bytes at the last look
	seenAt time.Time
}

// run begins to carry the connection, which gives back its place in c.use at its end. Called
// in a goroutine of the hub's, which waits for that end, too.
func (c *conn) run() {
	c.hub.wg.Add(1)
	if c.ftp != nil || c.use.limits.metered() {
		c.ctx, c.cancel = context.WithCancel(c.hub.ctx)
	}
	c.began = time.Now()
	c.seenAt = c.began
	begin := c.into()
	if err := c.hub.register(c); err != nil {
		c.end(err)
	}
	c.use.counter.opened.Add(1)
	c.st.SetShare(c.use.share)
	c.outOf()
	begin()
}

// into makes what begins to carry from the socket into the session.
func (c *conn) into() (begin func()) {
	var r io.Reader = c.local
	if l := c.use.limits; l.metered() {
		r = meteredReader{r, l.meter(), c.ctx}
	}
	done := func(err error) {
		if err == nil {
			err = c.st.CloseWrite()
		}
		c.closed(err)
	}
	if c.ftp != nil {
		return func() { go func() { done(c.ftp.into(r)) }() }
	}
	c.socket = c.st.Collect(r, done)
	return c.socket.Begin
}

// outOf begins to carry out of the session to the socket.
func (c *conn) outOf() {
	var w io.Writer = c.local
	if l := c.use.limits; l.metered() {
		w = meteredWriter{w, l.meter(), c.ctx}
	}
	done := func(err error) {
		if err == nil {
			c.heard.Store(true)
			err = c.local.CloseWrite()
		}
		c.closed(err)
	}
	if c.ftp != nil {
		go func() { done(c.ftp.outOf(w)) }()
		return
	}
	c.st.Deliver(w, done)
}

// closed is told that one direction is over. With the second the connection is.
func (c *conn) closed(err error) {
	c.half.CompareAndSwap(0, c.age(time.Now()))
	if err != nil {
		c.end(fault.Wrap("relay", "", err))
	}
	if c.carried.Add(1) < 2 {
		return
	}
	c.end(nil)
	c.hub.forget(c)
	if c.after != nil {
		c.after()
	}
	c.use.leave()
	c.hub.wg.Done()
}

// age is how long ago the connection began, in ns and more than 0, whatever is done to the machine's clock.
func (c *conn) age(now time.Time) int64 { return max(1, int64(now.Sub(c.began))) }

// end ends both directions; the first reason counts. With an error both ends'
// sockets are reset, as TCP does with a connection that is broken off. One that has been
// handed everything is closed: a reset would take away what the kernel still holds for its peer.
func (c *conn) end(err error) {
	c.once.Do(func() {
		c.err = err
		if c.cancel != nil {
			c.cancel()
		}
		if err != nil {
			c.st.Reset(err)
		} else {
			_ = c.st.Close()
		}
		if err != nil && !c.heard.Load() {
			abort(c.local)
		} else {
			_ = c.local.Close()
		}
		if c.socket != nil {
			c.socket.Wake()
		}
	})
}

// abort closes a socket so that its peer sees that something is wrong.
func abort(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	_ = c.Close()
}

// look is the sweeper's: why the connection has to end by now, or nil.
func (c *conn) look(now time.Time) error {
	// Both directions may be waiting for the socket: then nobody hears that the stream is over.
	if whole, err := c.st.Over(); err != nil && err != io.EOF {
		if !whole || c.heard.Load() {
			return fault.Wrap("relay", "", err)
		}
		c.half.CompareAndSwap(0, c.age(now)) // the rest is for whoever takes it
	}
	l, half := c.use.limits, c.half.Load()
	if l.Life <= 0 && l.Idle <= 0 && half == 0 {
		return nil
	}
	to, from := c.st.Counts()
	if to+from != c.seen || c.ftp.busy() {
		c.seen, c.seenAt = to+from, now
	}
	if at := c.began.Add(time.Duration(half)); half > 0 && c.seenAt.Before(at) {
		c.seenAt = at
	}
	return l.over(now.Sub(c.began), now.Sub(c.seenAt), half > 0)
}

func (c *conn) stats() ConnStats {
	s := ConnStats{ID: c.id, Relay: c.relay, Partner: c.partner, Role: c.role, From: c.from, To: c.to, Since: c.began}
	s.ToPeer, s.FromPeer = c.st.Counts()
	return s
}

// register takes a connection into the books; an error is why it has to end at once.
func (h *Hub) register(c *conn) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lastID++
	c.id = h.lastID
	h.conns[c] = struct{}{}
	if h.closed || h.isCut {
		return errStopping
	}
	return h.still(c.partner, c.st.Session())
}

// forget takes a connection out of the books and writes its record.
func (h *Hub) forget(c *conn) {
	to, from := c.st.Counts()
	h.mu.Lock()
	delete(h.conns, c)
	c.use.counter.toPeer.Add(to)
	c.use.counter.fromPeer.Add(from)
	if c.err != nil {
		c.use.counter.failed.Add(1)
	}
	h.tellEmpty()
	h.mu.Unlock()
	h.audit("relayed", c.role, c.relay, c.partner, c.from, c.to, c.err,
		slog.Int64("to_peer", to), slog.Int64("from_peer", from), slog.Duration("lasted", time.Since(c.began)))
}

// refused counts and records a connection that did not come about.
func (h *Hub) refused(use *usage, role Role, relay, partner, from, to string, err error) {
	if use != nil {
		use.counter.refused.Add(1)
	}
	h.calmly(partner, "not relayed", role, relay, partner, from, to, err)
}

// calmly is audit of what may come again and again, from whoever is counted.
func (h *Hub) calmly(who, msg string, role Role, relay, partner, from, to string, err error, more ...slog.Attr) {
	unlogged, yes := h.calm.Speak(who)
	if !yes {
		return
	}
	if unlogged > 0 {
		more = append(more, slog.Int("unlogged", unlogged))
	}
	h.audit(msg, role, relay, partner, from, to, err, more...)
}

// audit writes the one record of a connection.
func (h *Hub) audit(msg string, role Role, relay, partner, from, to string, err error, more ...slog.Attr) {
	level := slog.LevelInfo
	attrs := append(make([]slog.Attr, 0, 12), slog.String("relay", relay), slog.String("partner", partner), slog.String("role", string(role)),
		slog.String("from", from), slog.String("to", to))
	attrs = append(attrs, more...)
	if err != nil {
		level = slog.LevelWarn
		attrs = append(attrs, slog.String("kind", fault.KindOf(err).String()), slog.String("cause", err.Error()))
	}
	h.cfg.Logger.LogAttrs(context.Background(), level, msg, attrs...)
}
