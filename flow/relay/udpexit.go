package relay

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/flow/socket"
	"github.com/pannier/pannier/spec/fault"
)

// udpExit is the other end of an accepting socket: for each of its sources a
// socket that is connected to the destination, so that the kernel drops what
// comes from elsewhere.
type udpExit struct {
	wish
	hub     *Hub
	address netip.AddrPort
	largest int // datagram that the entry takes
	q       *queue
	ctx     context.Context // ends with the stream
	wg      sync.WaitGroup

	mu      sync.Mutex
	sockets map[uint32]*exitSocket
}

type exitSocket struct {
	net.Conn
	*tally
	last atomic.Int64 // when something was sent or came, ns after Since

	toPeer, fromPeer *meter
}

func (s *exitSocket) used() { s.last.Store(int64(time.Since(s.Since))) }

// exitUDP serves a stream of datagrams.
func (h *Hub) exitUDP(name string, _ *flow.Session, in *flow.Incoming) {
	x, err := h.examine(name, in, true)
	if err != nil {
		h.turnDown(in, x, err)
		return
	}
	if err = x.use.enterStream(); err != nil {
		h.turnDown(in, x, err)
		return
	}
	defer x.use.leaveStream()
	e := &udpExit{wish: x, hub: h, q: newQueue(x.use), largest: int(x.Datagram), sockets: map[uint32]*exitSocket{}}
	p := h.partner(name)
	if err = p.dials(); err == nil {
		err = e.resolve()
	}
	p.dialing.Add(-1)
	if err != nil {
		h.turnDown(in, x, err)
		return
	}
	limit := x.use.limits.Datagram
	st, err := answer(in, &connAnswer{Address: "udp://" + e.address.String(), Datagram: uint16(limit)})
	if err != nil {
		h.turnDown(in, x, err)
		return
	}
	began := time.Now()
	err = e.serve(st, limit)
	h.audit("datagrams relayed", Exit, x.Relay, x.partner, x.From, "udp://"+e.address.String(), err, slog.Duration("lasted", time.Since(began)))
}

// resolve finds the address once, for as long as the stream lasts.
func (e *udpExit) resolve() error {
	ctx, cancel := context.WithTimeout(e.hub.ctx, e.hub.cfg.DialTimeout)
	defer cancel()
	all, err := e.hub.addresses(ctx, e.permit, e.to)
	if err == nil {
		e.address = all[0]
	}
	return err
}

// serve carries datagrams until the entry closes the stream; that is no error.
func (e *udpExit) serve(st *flow.ByteStream, largest int) error {
	defer e.hub.follow(e.partner, st)()
	ctx, cancel := context.WithCancel(e.hub.ctx)
	e.ctx = ctx
	stop := context.AfterFunc(ctx, func() { st.Reset(errStopping) })
	e.wg.Go(func() {
		if err := e.q.drain(st); err != nil {
			st.Reset(err)
		}
	})
	e.wg.Go(e.expire)
	err := e.receive(newFrames(st, largest))
	stop()
	over := err == io.EOF
	if over {
		err = nil
		_ = st.SetWriteDeadline(time.Now().Add(lastWords)) // an entry that takes nothing any more is not waited for
	} else {
		st.Reset(err)
	}
	cancel()
	e.q.end()
	e.mu.Lock()
	for id := range e.sockets {
		e.drop(id, false, err)
	}
	e.mu.Unlock()
	if over {
		_ = st.CloseWrite()
		_ = st.Close()
	}
	e.wg.Wait()
	return err
}

// lastWords is how long an entry that has ended its stream may take for what is on its way to it.
const lastWords = 2 * time.Second

func (e *udpExit) receive(in *frames) error {
	for {
		f, err := in.next()
		if err != nil {
			return err
		}
		e.mu.Lock()
		s := e.sockets[f.source]
		switch {
		case f.sort == newSource && s != nil:
			err = fault.New("read datagram", fault.Protocol, "source %d is there already", f.source)
		case f.sort == newSource:
			e.open(f.source, string(f.payload))
		case f.sort == gone:
			e.drop(f.source, false, nil)
		case f.sort == datagram && s != nil:
			e.send(f.source, s, f.payload)
		default: // too large, or of a source that is gone
			e.use.counter.dropped.Add(1)
		}
		e.mu.Unlock()
		if err != nil {
			return err
		}
	}
}

// send sends one datagram. e.mu is held; a socket of datagrams hardly ever waits.
func (e *udpExit) send(id uint32, s *exitSocket, p []byte) {
	s.used()
	may, err := s.fromPeer.pass(time.Now(), len(p))
	if err != nil {
		e.drop(id, true, err)
	}
	if !may {
		s.use.counter.dropped.Add(1)
		return
	}
	s.took(len(p))
	if _, err := s.Write(p); err != nil && !errors.Is(err, syscall.ECONNREFUSED) { // which is about an earlier one
		s.use.counter.dropped.Add(1)
	}
}

// open makes the socket of a source; without one, its datagrams are dropped. e.mu is held.
func (e *udpExit) open(id uint32, from string) {
	use, err := e.consent()
	if err == nil {
		err = use.enter()
	}
	if most := use.limits.Sources; err == nil && most > 0 && len(e.sockets) >= most {
		use.leave()
		err = fault.New("relay", fault.Overloaded, "%d sources", most)
	}
	if err != nil {
		e.q.put(gone, id, nil)
		e.hub.refused(use, Exit, e.Relay, e.partner, from, e.to.String(), err)
		return
	}
	ctx, cancel := context.WithTimeout(e.ctx, e.hub.cfg.DialTimeout)
	defer cancel()
	c, err := e.hub.cfg.Network.Dial(ctx, "udp", e.address.String())
	if err != nil {
		use.leave()
		e.q.put(gone, id, nil)
		e.hub.refused(use, Exit, e.Relay, e.partner, from, e.to.String(), connectFailed(ctx, e.address.String(), err))
		return
	}
	s := &exitSocket{Conn: c, tally: e.hub.tally(use, ConnStats{Relay: e.Relay, Partner: e.partner, Role: Exit, From: from, To: "udp://" + e.address.String()})}
	s.toPeer, s.fromPeer = use.limits.meters()
	s.used()
	e.sockets[id] = s
	e.wg.Go(func() { e.replies(id, s) })
}

// consent reports whether a source may come about by now, as a stream outlives the policy, or the relay, that it was
// opened under, and what counts it.
func (e *udpExit) consent() (*usage, error) {
	x := wish{connAsk: e.connAsk, partner: e.partner}
	if err := e.hub.judge(&x, true); err != nil {
		return e.use, err
	}
	// A relay of the same name may lead elsewhere now: the stream does not follow it.
	if x.to.String() != e.to.String() || !slices.ContainsFunc(x.patterns, func(p Pattern) bool { return p.has(x.to.Host, e.address.Addr()) }) {
		return x.use, notAllowed(e.to)
	}
	return x.use, nil
}

// drop closes the socket of a source, which err has ended. e.mu is held.
func (e *udpExit) drop(id uint32, tell bool, err error) {
	s := e.sockets[id]
	if s == nil {
		return
	}
	delete(e.sockets, id)
	_ = s.Close()
	s.end(err)
	if tell {
		e.q.put(gone, id, nil)
	}
}

// earlier are errors of a socket that are an ICMP message about a datagram sent before: nobody listens there now, a
// router knows no way or lets nothing pass, or it was too large. Who reads one has taken it off the socket.
var earlier = []error{
	syscall.ECONNREFUSED, syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.EHOSTDOWN,
	syscall.ENOPROTOOPT, syscall.EACCES, syscall.EPROTO, syscall.EMSGSIZE,
}

func isEarlier(err error) bool {
	return slices.ContainsFunc(earlier, func(e error) bool { return errors.Is(err, e) })
}

// replies sends what the destination answers to the entry.
func (e *udpExit) replies(id uint32, s *exitSocket) {
	read := datagramReader(s.Conn)
	for {
		var over error
		err := read(func(p []byte) { over = e.reply(id, s, p) })
		if over == nil && (err == nil || isEarlier(err)) {
			continue
		}
		e.mu.Lock()
		if e.sockets[id] == s {
			e.drop(id, true, cmp.Or(over, err))
		}
		e.mu.Unlock()
		return
	}
}

// reply sends one datagram of the destination to the entry. The socket is being read, so its
// Close, under e.mu, waits for this. An error: the source may not go on.
func (e *udpExit) reply(id uint32, s *exitSocket, p []byte) error {
	s.used()
	may, err := s.toPeer.pass(time.Now(), len(p))
	if !may || len(p) > e.largest || !e.q.send(id, s.tally, p) {
		s.use.counter.dropped.Add(1)
		return err
	}
	return nil
}

// datagramBuffers are as large as a datagram can be; a socket has one only while
// it has something to read.
var datagramBuffers = sync.Pool{New: func() any { b := make([]byte, MaxDatagram+1); return &b }}

// datagramReader reads one datagram a call. It is used when the socket has been let go: whoever
// uses it may wait for a lock under which another closes the socket.
func datagramReader(c net.Conn) func(use func([]byte)) error {
	u, ok := c.(*net.UDPConn)
	if !ok {
		buf := make([]byte, MaxDatagram+1)
		return func(use func([]byte)) error {
			n, err := c.Read(buf)
			if err == nil {
				use(buf[:n])
			}
			return err
		}
	}
	return func(use func([]byte)) error {
		raw, err := u.SyscallConn()
		if err != nil {
			return err
		}
		var buf *[]byte
		var n int
		var failed error
		err = raw.Read(func(fd uintptr) bool {
			buf = datagramBuffers.Get().(*[]byte)
			n, failed = socket.Read(fd, *buf)
			if failed != syscall.EAGAIN {
				return true
			}
			datagramBuffers.Put(buf)
			buf = nil
			return false
		})
		if buf != nil {
			defer datagramBuffers.Put(buf)
			if err == nil && failed == nil {
				use((*buf)[:n])
			}
		}
		return errors.Join(err, failed)
	}
}

// expire closes the sockets of sources that were silent for too long, or have lasted for too long.
func (e *udpExit) expire() {
	tick := time.NewTicker(expireEvery(e.use.limits.udpIdle()))
	defer tick.Stop()
	for {
		select {
		case <-e.ctx.Done():
			return
		case now := <-tick.C:
			e.mu.Lock()
			for id, s := range e.sockets {
				if err := s.use.limits.outlived(s.Since, now); err != nil {
					e.drop(id, true, err)
				} else if now.Sub(s.Since)-time.Duration(s.last.Load()) >= s.use.limits.udpIdle() {
					e.drop(id, true, nil)
				}
			}
			e.mu.Unlock()
		}
	}
}
