package relay

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/spec/fault"
)

// udpEntry is one accepting socket. Its sources share one stream to the exit,
// which is opened for the first datagram and again after it was lost.
type udpEntry struct {
	*entrance
	socket net.PacketConn
	port   uint16

	mu      sync.Mutex
	sources map[netip.AddrPort]*source
	byID    map[uint32]*source
	lastID  uint32
	q       *queue // of the present stream, or of the one that is being opened
	largest int    // datagram that the exit takes
}

// source is one client address.
type source struct {
	id       uint32
	addr     netip.AddrPort
	made     time.Time
	last     time.Time
	answered bool // it has sent something after something was sent to it
	traffic

	toPeer, fromPeer *meter
}

func (e *entrance) listenUDP(a Endpoint, address string) (string, error) {
	socket, err := e.hub.cfg.Network.ListenPacket(e.ctx, "udp", address)
	if err != nil {
		return "", listenFailed(a, a.port(), err)
	}
	if !e.holds(socket.Close) {
		return "", errStopping
	}
	enlarge(socket)
	u := &udpEntry{entrance: e, socket: socket, port: portOf(socket.LocalAddr()), sources: map[netip.AddrPort]*source{}, byID: map[uint32]*source{}}
	if !e.hub.spawn(u.receive) || !e.hub.spawn(u.expire) {
		return "", errStopping
	}
	return boundAt(a, u.port), nil
}

// socketBuffer is asked for as the receive buffer of the sockets of datagrams, which
// the kernel bounds by rmem_max: what does not fit into it is lost.
const socketBuffer = 4 << 20

func enlarge(socket any) {
	if u, ok := socket.(*net.UDPConn); ok {
		_ = u.SetReadBuffer(socketBuffer)
	}
}

// receive takes datagrams off the socket until it is closed. It never waits for
// the session.
func (u *udpEntry) receive() {
	defer u.lose(nil)
	buf := make([]byte, MaxDatagram+1)
	for {
		n, from, err := readFrom(u.socket, buf)
		if err != nil {
			if u.ctx.Err() != nil {
				return
			}
			continue // ICMP of an earlier datagram
		}
		u.take(from, buf[:n], time.Now())
	}
}

// readFrom reads a datagram and its source.
func readFrom(c net.PacketConn, buf []byte) (int, netip.AddrPort, error) {
	if u, ok := c.(*net.UDPConn); ok {
		n, a, err := u.ReadFromUDPAddrPort(buf)
		return n, netip.AddrPortFrom(a.Addr().Unmap(), a.Port()), err
	}
	n, a, err := c.ReadFrom(buf)
	if err != nil {
		return 0, netip.AddrPort{}, err
	}
	from, err := netip.ParseAddrPort(a.String())
	return n, from, err
}

// take sends one datagram on.
func (u *udpEntry) take(from netip.AddrPort, p []byte, now time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	s := u.sources[from]
	if s == nil {
		if s = u.admit(from, now); s == nil {
			return
		}
	}
	s.last = now
	s.turn(now, u.use.limits.udpIdle())
	s.answered = s.answered || s.sent.any()
	s.came.now += int64(len(p))
	may, err := s.toPeer.pass(now, len(p))
	if err != nil {
		u.end(s, err)
	}
	if !may || len(p) > u.largest || !u.q.put(datagram, s.id, p) {
		u.use.counter.dropped.Add(1)
		return
	}
	u.use.counter.datagrams.Add(1)
	u.use.counter.toPeer.Add(int64(len(p)))
}

// admit makes a source known. u.mu is held.
func (u *udpEntry) admit(from netip.AddrPort, now time.Time) *source {
	if u.lets(from.String()) != nil {
		u.use.counter.dropped.Add(1)
		return nil
	}
	if u.q == nil {
		u.q, u.largest = newQueue(u.use), MaxDatagram
		q := u.q
		if !u.hub.spawn(func() { u.carry(q) }) {
			return nil
		}
	}
	if most := u.use.limits.Sources; most > 0 && len(u.sources) >= most {
		u.evict()
	}
	if u.use.enter() != nil {
		u.use.counter.dropped.Add(1)
		return nil
	}
	u.lastID++
	s := &source{id: u.lastID, addr: from, made: now, last: now, traffic: traffic{since: now}}
	s.toPeer, s.fromPeer = u.use.limits.meters()
	u.sources[from], u.byID[s.id] = s, s
	u.q.put(newSource, s.id, []byte(from.String()))
	u.use.counter.opened.Add(1)
	return s
}

// evict forgets the source that has been silent longest. u.mu is held.
func (u *udpEntry) evict() {
	var oldest *source
	for _, s := range u.sources {
		if oldest == nil || s.last.Before(oldest.last) {
			oldest = s
		}
	}
	u.forget(oldest, true)
}

// forget removes a source. u.mu is held.
func (u *udpEntry) forget(s *source, tell bool) {
	delete(u.sources, s.addr)
	delete(u.byID, s.id)
	u.use.leave()
	if tell && u.q != nil {
		u.q.put(gone, s.id, nil)
	}
}

// end forgets a source that may not go on; what it sends next is of a new one. u.mu is held.
func (u *udpEntry) end(s *source, err error) {
	u.forget(s, true)
	to, _ := u.to(u.port)
	u.hub.sourceEnded(u.use, Entry, u.relay, u.partner, s.addr.String(), to.String(), err)
}

// carry opens the stream of a queue and serves it until it is lost.
func (u *udpEntry) carry(q *queue) {
	began := time.Now()
	st, answer, err := u.reach()
	if err == nil {
		u.mu.Lock()
		u.largest = int(answer.Datagram)
		u.mu.Unlock()
		u.hub.spawn(func() {
			if err := q.drain(st); err != nil {
				st.Reset(err)
			}
			_ = st.CloseWrite()
		})
		done := u.hub.follow(u.partner, st)
		err = u.replies(st)
		done()
		st.Reset(err)
	}
	if u.ctx.Err() != nil {
		err = nil
	}
	to, _ := u.to(u.port)
	u.hub.audit("datagrams relayed", Entry, u.relay, u.partner, "udp://"+u.socket.LocalAddr().String(), to.String(), err)
	if err != nil && time.Since(began) < reopenPause { // datagrams meanwhile are dropped
		select {
		case <-time.After(reopenPause):
		case <-u.ctx.Done():
		}
	}
	u.lose(q)
}

// reopenPause is the least time between two attempts to open a stream.
const reopenPause = 250 * time.Millisecond

func (u *udpEntry) reach() (*flow.ByteStream, connAnswer, error) {
	ctx, cancel := context.WithTimeout(u.ctx, u.hub.cfg.Patience)
	defer cancel()
	to, err := u.to(u.port)
	if err != nil {
		return nil, connAnswer{}, err
	}
	return u.ask(ctx, KindUDP, connAsk{To: to.String(), Port: u.port, From: u.socket.LocalAddr().String(), Datagram: uint16(u.use.limits.Datagram)})
}

// lose forgets all sources and the stream's queue: the exit has, too.
func (u *udpEntry) lose(q *queue) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if q != nil && u.q != q || u.q == nil {
		return
	}
	u.q.end()
	u.q = nil
	for _, s := range u.sources {
		u.forget(s, false)
	}
}

// replies sends what comes from the exit to the sources.
func (u *udpEntry) replies(st *flow.ByteStream) error {
	stop := context.AfterFunc(u.ctx, func() { st.Reset(errStopping) })
	defer stop()
	in := newFrames(st, u.use.limits.Datagram)
	for {
		f, err := in.next()
		if err != nil {
			return err
		}
		switch f.sort {
		case datagram:
			u.reply(f, time.Now())
		case tooLarge:
			u.use.counter.dropped.Add(1)
		case gone:
			u.mu.Lock()
			if s := u.byID[f.source]; s != nil {
				u.forget(s, false)
			}
			u.mu.Unlock()
		default:
			return fault.New("read datagram", fault.Protocol, "the exit knows a source of its own")
		}
	}
}

// reply sends one datagram to its source, unless that has not shown yet that it
// is there and would be sent much more than came from it.
func (u *udpEntry) reply(f frame, now time.Time) {
	u.mu.Lock()
	s := u.byID[f.source]
	if s == nil || !u.mayReply(s, len(f.payload), now) {
		u.mu.Unlock()
		u.use.counter.dropped.Add(1)
		return
	}
	s.last = now
	s.sent.now += int64(len(f.payload))
	u.mu.Unlock()
	u.use.counter.fromPeer.Add(int64(len(f.payload)))
	if _, err := writeTo(u.socket, f.payload, s.addr); err != nil {
		u.use.counter.dropped.Add(1)
	}
}

// mayReply reports whether a source may be sent n bytes; one that may not go on ends. u.mu is held.
func (u *udpEntry) mayReply(s *source, n int, now time.Time) bool {
	s.turn(now, u.use.limits.udpIdle())
	if factor := u.use.limits.amplify(s); factor > 0 && s.sent.sum()+int64(n) > factor*s.came.sum() {
		return false
	}
	may, err := s.fromPeer.pass(now, n)
	if err != nil {
		u.end(s, err)
	}
	return may
}

const (
	amplifyDefault  = 3
	amplifyAnswered = 1000    // or Amplify, if that is more
	amplifyMost     = 1 << 24 // times what an int64 has room for
)

// amplify is how many times the bytes that came from a source it may be sent; 0: no limit.
func (l Limits) amplify(s *source) int64 {
	factor := l.Amplify
	if factor == 0 && !s.addr.Addr().IsLoopback() {
		factor = amplifyDefault
	}
	if factor > 0 && s.answered {
		factor = max(factor, amplifyAnswered)
	}
	return int64(min(max(factor, 0), amplifyMost))
}

// traffic is the bytes that came from a source and were sent to it.
type traffic struct {
	since      time.Time // when the window began
	came, sent lately
}

// lately is a count in this window and in the one before.
type lately struct{ now, before int64 }

func (l lately) sum() int64 { return l.now + l.before }
func (l lately) any() bool  { return l.sum() > 0 }

// turn begins the next window when this one is over.
func (t *traffic) turn(now time.Time, window time.Duration) {
	gap := now.Sub(t.since)
	if gap < window {
		return
	}
	t.came, t.sent, t.since = lately{0, t.came.now}, lately{0, t.sent.now}, t.since.Add(window)
	if gap >= 2*window {
		t.came, t.sent, t.since = lately{}, lately{}, now
	}
}

func writeTo(c net.PacketConn, p []byte, to netip.AddrPort) (int, error) {
	if u, ok := c.(*net.UDPConn); ok {
		return u.WriteToUDPAddrPort(p, to)
	}
	return c.WriteTo(p, net.UDPAddrFromAddrPort(to))
}

// expire forgets sources that were silent for too long, or have lasted for too long.
func (u *udpEntry) expire() {
	idle := u.use.limits.udpIdle()
	tick := time.NewTicker(expireEvery(idle))
	defer tick.Stop()
	for {
		select {
		case <-u.ctx.Done():
			return
		case now := <-tick.C:
			u.mu.Lock()
			for _, s := range u.sources {
				if err := u.use.limits.outlived(s.made, now); err != nil {
					u.end(s, err)
				} else if now.Sub(s.last) >= idle {
					u.forget(s, true)
				}
			}
			u.mu.Unlock()
		}
	}
}

// expireEvery is how often sources are looked at.
func expireEvery(idle time.Duration) time.Duration {
	return max(min(idle/4, sweepEvery), time.Millisecond)
}
