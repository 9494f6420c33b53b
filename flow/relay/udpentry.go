package relay

import (
	"context"
	"log/slog"
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
	last     time.Time
	answered bool // it has sent something after something was sent to it
	traffic
	*tally

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
	defer u.lose(nil, nil)
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
		u.forget(s, true, err)
	}
	if !may || len(p) > u.largest || !u.q.send(s.id, s.tally, p) {
		u.use.counter.dropped.Add(1)
	}
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
	to, _ := u.to(u.port)
	s := &source{id: u.lastID, addr: from, last: now, traffic: traffic{since: now},
		tally: u.hub.tally(u.use, ConnStats{Relay: u.relay, Partner: u.partner, Role: Entry, From: from.String(), To: to.String()})}
	s.toPeer, s.fromPeer = u.use.limits.meters()
	u.sources[from], u.byID[s.id] = s, s
	u.q.put(newSource, s.id, []byte(from.String()))
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
	u.forget(oldest, true, nil)
}

// forget removes a source, which err has ended; what it sends next is of a new one. u.mu is held.
func (u *udpEntry) forget(s *source, tell bool, err error) {
	delete(u.sources, s.addr)
	delete(u.byID, s.id)
	s.end(err)
	if tell && u.q != nil {
		u.q.put(gone, s.id, nil)
	}
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
	// Clients go on sending to an exit that refuses, or to nobody.
	u.hub.calmly(u.partner+" datagrams", "datagrams relayed", Entry, u.relay, u.partner, "udp://"+u.socket.LocalAddr().String(), to.String(), err, slog.Duration("lasted", time.Since(began)))
	if err != nil && time.Since(began) < reopenPause { // datagrams meanwhile are dropped
		select {
		case <-time.After(reopenPause):
		case <-u.ctx.Done():
		}
	}
	u.lose(q, err)
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

// lose forgets all sources, and why, and the stream's queue: the exit has, too.
func (u *udpEntry) lose(q *queue, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if q != nil && u.q != q || u.q == nil {
		return
	}
	u.q.end()
	u.q = nil
	for _, s := range u.sources {
		u.forget(s, false, err)
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
				u.forget(s, false, nil)
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
	s.took(len(f.payload))
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
		u.forget(s, true, err)
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
				if err := u.use.limits.outlived(s.Since, now); err != nil {
					u.forget(s, true, err)
				} else if now.Sub(s.last) >= idle {
					u.forget(s, true, nil)
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
