package sftp

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/pannier/pannier/spec/fault"
)

// conn is one connection with its subsystem. Any number of requests may be under way;
// replies come in any order. After an error of the connection or of the protocol it is
// dead, and so is what waits for it.
type conn struct {
	s       *session
	client  *ssh.Client // nil in tests of messages
	ch      io.ReadWriteCloser
	ext     map[string]string // of VERSION
	read    int               // bytes to ask for at once
	write   int               // bytes to send at once
	users   int               // of s.mu: who is given this one
	noRoom  atomic.Bool       // the server has said that there is no room; how much a user may have, it may know from the login
	retired atomic.Bool       // it was ended here, for that

	out  chan outgoing
	over chan struct{} // closed when it is dead

	mu      sync.Mutex
	next    uint32
	waiting map[uint32]*call
	why     error // it is dead

	began time.Time
	moved atomic.Int64 // ns since began: when bytes of SFTP came or went last
}

// call is a request, and then its reply.
type call struct {
	op, path string
	into     []byte        // where the bytes of DATA go; nil: to body
	slow     time.Duration // the server may take so much longer than usual
	lasting  bool          // or as long as it answers to other things
	closes   bool          // the reply is a handle: closed if nobody wants it

	n     int // bytes in into
	typ   byte
	body  []byte
	err   error // of the connection
	asked time.Time
	took  time.Duration
	done  chan struct{} // closed when the reply is there and the request was sent whole

	id             uint32
	sent, answered bool // of conn.mu
	left           bool // of conn.mu: nobody waits
}

type outgoing struct {
	m message
	k *call
}

func newConn(s *session, ch io.ReadWriteCloser) *conn {
	return &conn{s: s, ch: ch, began: time.Now(), read: plainData, write: plainData, out: make(chan outgoing, 16), over: make(chan struct{}), waiting: map[uint32]*call{}}
}

// run begins to send and receive.
func (c *conn) run() {
	c.stamp()
	go c.send()
	go func() { c.kill(c.receive()) }()
	go c.watch()
}

// stamp does not mind what is done to the clock of the machine.
func (c *conn) stamp() { c.moved.Store(int64(time.Since(c.began))) }

// kill ends the connection: err is what those hear who wait.
func (c *conn) kill(err error) {
	c.mu.Lock()
	if c.why != nil {
		c.mu.Unlock()
		return
	}
	c.why = err
	all := c.waiting
	c.waiting = map[uint32]*call{}
	for _, k := range all {
		k.err = c.lostOf(k.op, k.path)
		close(k.done)
	}
	close(c.over)
	c.mu.Unlock()
	if c.client != nil {
		_ = c.client.Close()
	}
	_ = c.ch.Close()
}

// dead says whether it is.
func (c *conn) dead() bool {
	select {
	case <-c.over:
		return true
	default:
		return false
	}
}

// start sends a request, in turn with others. Its reply is waited for with wait.
func (c *conn) start(ctx context.Context, m message, k *call) error {
	k.done = make(chan struct{})
	c.mu.Lock()
	if c.why != nil {
		defer c.mu.Unlock()
		return c.lostOf(k.op, k.path)
	}
	c.next++
	k.id = c.next
	if !c.owes() {
		c.stamp()
	}
	k.asked = time.Now()
	c.waiting[k.id] = k
	c.mu.Unlock()
	m.seal(k.id)
	select {
	case c.out <- outgoing{m, k}:
		return nil
	case <-c.over:
		return k.err
	case <-ctx.Done():
		c.mu.Lock()
		delete(c.waiting, k.id)
		c.mu.Unlock()
		return failed(ctx, k.op, c.at(k.path), ctx.Err())
	}
}

// wait waits for the reply. When the context ends before, nobody will.
func (c *conn) wait(ctx context.Context, k *call) error {
	select {
	case <-k.done:
		return k.err
	default:
	}
	select {
	case <-k.done:
		return k.err
	case <-ctx.Done():
		c.leave(k)
		return failed(ctx, k.op, c.at(k.path), ctx.Err())
	}
}

// owes says whether a reply is due. c.mu is held.
func (c *conn) owes() bool {
	for _, k := range c.waiting {
		if !k.lasting || !k.sent {
			return true
		}
	}
	return false
}

// leave says that nobody waits any more.
func (c *conn) leave(k *call) {
	c.mu.Lock()
	k.left = true
	over := k.sent && k.answered
	c.mu.Unlock()
	if over {
		c.unwanted(k)
	}
}

// unwanted closes the handle in a reply that nobody waits for.
func (c *conn) unwanted(k *call) {
	if k.closes && k.typ == fxHandle {
		f := fields{b: k.body}
		if h := f.text(); !f.bad {
			if k.op == extWhole {
				go c.giveUp(h, k.path, true)
				return
			}
			c.close(h, k.path)
		}
	}
}

// close closes a handle whose end does not matter.
func (c *conn) close(handle, path string) {
	go func() { // the queue may be full
		_ = c.start(context.Background(), ask(fxClose, handle), &call{op: "CLOSE", path: path})
	}()
}

// half notes that a request was sent whole, or was answered: it is over after both, since
// its message is in use until then.
func (c *conn) half(k *call, which *bool) {
	c.mu.Lock()
	if k.err != nil { // the connection has ended, and with it this
		c.mu.Unlock()
		return
	}
	*which = true
	over, left := k.sent && k.answered, k.left
	if over {
		delete(c.waiting, k.id)
		k.took = time.Since(k.asked)
		close(k.done)
	}
	c.mu.Unlock()
	if over && left {
		c.unwanted(k)
	}
}

// send sends what is put into the queue: small requests together.
func (c *conn) send() {
	buf := make([]byte, 0, plainData)
	var small []*call
	for {
		var o outgoing
		select {
		case o = <-c.out:
		case <-c.over:
			return
		}
		for o.k != nil {
			var next outgoing
			if len(o.m) > 2048 { // a piece of a file: by itself
				if !c.push(buf, small...) || !c.push(o.m, o.k) {
					return
				}
				buf, small = buf[:0], small[:0]
			} else {
				buf, small = append(buf, o.m...), append(small, o.k)
			}
			if len(buf) < plainData-2048 {
				select {
				case next = <-c.out:
				default:
				}
			}
			o = next
		}
		if !c.push(buf, small...) {
			return
		}
		buf, small = buf[:0], small[:0]
	}
}

// push writes to the channel, in pieces so that slow progress is seen.
func (c *conn) push(b []byte, whose ...*call) bool {
	for len(b) > 0 {
		n := min(len(b), plainData)
		if _, err := c.ch.Write(b[:n]); err != nil {
			c.kill(err)
			return false
		}
		c.stamp()
		b = b[n:]
	}
	for _, k := range whose {
		c.half(k, &k.sent)
	}
	return true
}

// arriving stamps what comes.
type arriving struct{ c *conn }

func (a arriving) Read(p []byte) (int, error) {
	n, err := a.c.ch.Read(p)
	if n > 0 {
		a.c.stamp()
	}
	return n, err
}

var errEnded = errors.New("the server has ended the connection")

func violation(format string, args ...any) error {
	return fault.New("reply", fault.Protocol, format, args...)
}

// receive hands replies to those who wait, until the connection ends.
func (c *conn) receive() error {
	r := bufio.NewReaderSize(arriving{c}, 4096)
	for {
		var head [headBytes]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return ended(err)
		}
		length, typ, id := binary.BigEndian.Uint32(head[:]), head[4], binary.BigEndian.Uint32(head[5:])
		if length < headBytes-4 || length > maxMessage {
			return violation("a message of %d bytes came, from 5 to %d are allowed", length, maxMessage)
		}
		c.mu.Lock()
		k := c.waiting[id]
		twice := k != nil && k.answered
		c.mu.Unlock()
		if k == nil || twice {
			return violation("the server has answered what was not asked")
		}
		if err := k.receive(r, typ, int(length)-5); err != nil {
			return err
		}
		c.half(k, &k.answered)
	}
}

// ended is the error of a connection, in words.
func ended(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errEnded
	}
	return err
}

// receive reads the rest of a reply.
func (k *call) receive(r *bufio.Reader, typ byte, rest int) error {
	k.typ = typ
	if typ != fxData || k.into == nil {
		k.body = make([]byte, rest)
		_, err := io.ReadFull(r, k.body)
		return ended(err)
	}
	var head [4]byte
	if rest < 4 {
		return violation("the DATA in answer to %s is cut off", k.op)
	}
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return ended(err)
	}
	n := int64(binary.BigEndian.Uint32(head[:]))
	switch {
	case n != int64(rest-4):
		return violation("DATA of %d bytes came in a message with room for %d", n, rest-4)
	case n > int64(len(k.into)):
		return violation("DATA of %d bytes came where %d were asked for", n, len(k.into))
	case n == 0:
		return violation("DATA without bytes came, in place of the end of the file")
	}
	k.n = int(n)
	_, err := io.ReadFull(r, k.into[:n])
	return ended(err)
}

// watch ends a connection whose server owes a reply and is silent, and asks one that is
// not used, or has something lasting to do, for a sign of life.
func (c *conn) watch() {
	t := time.NewTicker(max(min(c.s.timeout/4, tick(c.s.keepalive)), time.Millisecond))
	defer t.Stop()
	for {
		select {
		case <-c.over:
			return
		case <-t.C:
		}
		quiet := time.Since(c.began) - time.Duration(c.moved.Load())
		c.mu.Lock()
		owed, most, op := c.owes(), c.s.timeout, ""
		for _, k := range c.waiting {
			if most = max(most, c.s.timeout+k.slow); op == "" || !k.lasting {
				op = k.op
			}
		}
		lasting := len(c.waiting) > 0
		c.mu.Unlock()
		switch {
		case owed && quiet > most:
			c.kill(fault.New("wait for reply", fault.DeadPeer, "the server says nothing for %v, while a reply to %s is due", quiet.Round(time.Millisecond), op))
		case !owed && (c.s.keepalive > 0 && quiet > c.s.keepalive || lasting && quiet > c.s.timeout):
			_ = c.start(context.Background(), ask(fxRealpath, "."), &call{op: "REALPATH", path: ""})
		}
	}
}

// tick is how often is looked for connections that are not used.
func tick(keepalive time.Duration) time.Duration {
	if keepalive <= 0 {
		return time.Hour
	}
	return keepalive / 2
}

// do sends a request and waits for a reply of the type that is wanted. A STATUS that says
// no is an error; fxStatus wants one that says yes.
func (c *conn) do(ctx context.Context, want byte, m message, k *call) (fields, error) {
	if err := c.start(ctx, m, k); err != nil {
		return fields{}, err
	}
	if err := c.wait(ctx, k); err != nil {
		return fields{}, err
	}
	return c.reply(want, k)
}

// reply is what has come in answer to a request.
func (c *conn) reply(want byte, k *call) (fields, error) {
	f := fields{b: k.body}
	if k.typ == fxStatus {
		code, text := f.number(), ""
		if len(f.b) > 0 { // servers of version 2 say no more
			text = f.text()
		}
		switch {
		case f.bad:
			return f, c.broken(k, "its STATUS is cut off")
		case code != 0:
			return f, c.refused(k.op, k.path, code, text)
		case want != fxStatus:
			return f, c.broken(k, "it says OK and nothing else")
		}
		return f, nil
	}
	if k.typ != want {
		return f, c.broken(k, "a message of type %d came", k.typ)
	}
	return f, nil
}

// handle is that in a reply.
func (c *conn) handle(ctx context.Context, m message, k *call) (string, error) {
	k.closes = true
	f, err := c.do(ctx, fxHandle, m, k)
	if err != nil {
		return "", err
	}
	h := f.text()
	if f.bad || h == "" || len(h) > 256 {
		return "", c.broken(k, "a handle has 1 to 256 bytes")
	}
	return h, nil
}

// attributes are those in a reply.
func (c *conn) attributes(ctx context.Context, m message, k *call) (attributes, error) {
	f, err := c.do(ctx, fxAttrs, m, k)
	if err != nil {
		return attributes{}, err
	}
	a := f.attributes()
	if f.bad {
		return a, c.broken(k, "its attributes are cut off")
	}
	return a, nil
}

// broken is the error of a reply that cannot be one, and ends the connection.
func (c *conn) broken(k *call, format string, args ...any) error {
	err := c.said(fault.Protocol, k.op, k.path, format, args...).Advise(noServer)
	c.kill(err)
	return err
}
