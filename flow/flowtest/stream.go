package flowtest

import (
	"math"
	"math/rand/v2"
	"syscall"
	"time"
)

const (
	pacedBurst = 11 * segment // bytes sent as one event through a bottleneck: 0.4 ms at 300 Mbit/s
	freeBurst  = 44 * segment // the same without one
)

// stream is one direction of a connection: TCP's sender at one end and its
// receiver at the other. All numbers count bytes from the beginning of the stream:
//
//	read <= expected <= sent <= written
//	acked <= expected, sent <= limit
type stream struct {
	pair *pair
	dir  Direction

	// sender
	unsent   [][]byte
	written  int64
	sent     int64
	acked    int64
	limit    int64 // the receiver has room up to here, as far as the sender knows
	recovery int64 // losses before this are of the round trip that was already reduced for
	flight   int   // bytes sent and neither acknowledged nor known to be lost
	window   cubic
	finished bool // nothing more will be written
	finSent  bool

	// receiver
	expected int64
	early    map[int64]*burst // arrived after a gap, by offset
	ready    []piece
	read     int64
	told     int64 // the limit last sent to the sender
	ended    bool  // everything including the end has arrived

	// losses
	random   *rand.Rand
	untilBad int // segments that will pass before the next is lost
}

// burst is some neighbouring segments on their way. They are lost all or none.
type burst struct {
	at   int64
	data []byte
	fin  bool
	lost bool

	expected, limit int64 // what the acknowledgement says
}

// piece is data before the reader. size is what it was before corruption, the
// amount by which reading it moves the window.
type piece struct {
	data []byte
	size int
}

func newStream(p *pair, d Direction) *stream {
	cfg := p.link.cfg
	s := &stream{pair: p, dir: d, early: make(map[int64]*burst), window: newCubic(cfg.FirstWindow),
		limit: int64(cfg.RecvBuffer), told: int64(cfg.RecvBuffer),
		random: rand.New(rand.NewPCG(cfg.Seed, uint64(2*p.index)+uint64(d)))}
	s.untilBad = s.drawLoss()
	return s
}

// drawLoss is a geometric number: segments before the next one that is lost.
func (s *stream) drawLoss() int {
	loss := s.pair.link.cfg.Loss
	if loss <= 0 {
		return math.MaxInt
	}
	return int(math.Log(1-s.random.Float64()) / math.Log(1-loss))
}

func (s *stream) room() int { return s.pair.link.cfg.SendBuffer - int(s.written-s.acked) }

// put takes what fits into the send buffer and sends what may be sent.
func (s *stream) put(p []byte, now time.Duration) int {
	n := min(len(p), s.room())
	if n > 0 {
		s.unsent = append(s.unsent, append([]byte(nil), p[:n]...))
		s.written += int64(n)
		s.pair.link.counts.Written[s.dir] += int64(n)
	}
	s.send(now)
	return n
}

func (s *stream) finish(now time.Duration) {
	s.finished = true
	s.send(now)
}

// send sends what the windows of congestion and receiver allow at t.
func (s *stream) send(t time.Duration) {
	if s.pair.dead {
		return
	}
	burstSize := freeBurst
	if s.pair.link.cfg.Rate > 0 {
		burstSize = pacedBurst
	}
	for len(s.unsent) > 0 {
		head := s.unsent[0]
		n := min(len(head), burstSize, s.window.size()-s.flight, int(s.limit-s.sent))
		if n <= 0 || n < len(head) && n < segment && s.flight > 0 {
			return // wait for a whole segment to fit (RFC 1122, 4.2.3.4)
		}
		if s.unsent[0] = head[n:]; n == len(head) {
			s.unsent[0] = nil
			s.unsent = s.unsent[1:]
		}
		s.transmit(&burst{at: s.sent, data: head[:n:n]}, t)
		s.sent += int64(n)
	}
	if s.finished && !s.finSent {
		s.finSent = true
		s.emit(&burst{at: s.sent, fin: true}, t)
	}
}

// transmit emits a burst, split so that what is lost is a burst of its own.
func (s *stream) transmit(b *burst, t time.Duration) {
	counts := &s.pair.link.counts
	counts.Segments[s.dir] += int64(segments(len(b.data)))
	for data, at := b.data, b.at; len(data) > 0; {
		part := &burst{at: at, data: data}
		switch n := segments(len(data)); {
		case s.untilBad >= n:
			s.untilBad -= n
		case s.untilBad == 0:
			part.data, part.lost = data[:min(segment, len(data))], true
			s.untilBad = s.drawLoss()
			counts.Lost[s.dir]++
		default:
			part.data = data[:s.untilBad*segment]
			s.untilBad = 0
		}
		data, at = data[len(part.data):], at+int64(len(part.data))
		s.emit(part, t)
	}
}

func segments(n int) int { return (n + segment - 1) / segment }

// emit puts a burst through the bottleneck, or drops it before a full queue. Its
// sender hears of it one round trip after it left, either way.
func (s *stream) emit(b *burst, t time.Duration) {
	l := s.pair.link
	leaves := t
	if l.cfg.Rate > 0 {
		busy := max(l.busy[s.dir], t)
		queued := int((busy - t).Seconds() * float64(l.cfg.Rate) / 8)
		if queued+len(b.data) > l.cfg.Queue && queued > 0 {
			if !b.lost {
				l.counts.Dropped[s.dir] += int64(segments(len(b.data)))
			}
			b.lost = true
		} else {
			busy += time.Duration(float64(len(b.data)) * 8 / float64(l.cfg.Rate) * float64(time.Second))
			l.busy[s.dir] = busy
		}
		leaves = busy
	}
	s.flight += len(b.data)
	if !b.lost {
		l.at(leaves+l.cfg.RTT/2, func(t time.Duration) { s.arrive(b, t) })
	}
	l.at(leaves+l.cfg.RTT, func(t time.Duration) { s.acknowledge(b, t) })
}

// arrive is the receiver getting a burst at t.
func (s *stream) arrive(b *burst, t time.Duration) {
	switch {
	case s.pair.dead:
		return
	case s.pair.ends[1-s.dir].closed && len(b.data) > 0:
		s.abort(t)
		return
	}
	s.early[b.at] = b
	for next := s.early[s.expected]; next != nil && !s.pair.dead; next = s.early[s.expected] {
		delete(s.early, s.expected)
		if next.fin {
			s.ended = true
			s.pair.changed.Broadcast()
			break
		}
		s.expected += int64(len(next.data))
		s.deliver(next)
	}
	b.expected, b.limit = s.expected, s.read+int64(s.pair.link.cfg.RecvBuffer)
	s.told = max(s.told, b.limit)
}

// deliver puts the bytes of a burst before the reader.
func (s *stream) deliver(b *burst) {
	l := s.pair.link
	data, cut := b.data, false
	if after := l.cutAfter[s.dir]; after >= 0 {
		data = data[:min(int64(len(data)), after)]
		l.cutAfter[s.dir] -= int64(len(data))
		cut = l.cutAfter[s.dir] == 0
	}
	l.counts.Delivered[s.dir] += int64(len(data))
	size := len(data)
	if l.corrupt != nil {
		data = l.corrupt(s.dir, s.pair.index, b.at, append([]byte(nil), data...))
	}
	if len(data) > 0 {
		s.ready = append(s.ready, piece{data, size})
	} else {
		s.read += int64(size)
	}
	s.pair.changed.Broadcast()
	if cut {
		l.cut()
	}
}

// take moves bytes to the reader, and tells the sender when a quarter of the
// buffer has become free.
func (s *stream) take(p []byte, now time.Duration) int {
	l := s.pair.link
	if l.slice > 0 {
		p = p[:min(len(p), l.slice)]
	}
	n := 0
	for len(s.ready) > 0 && n < len(p) {
		head := &s.ready[0]
		m := copy(p[n:], head.data)
		n += m
		if head.data = head.data[m:]; len(head.data) == 0 {
			s.read += int64(head.size)
			*head = piece{}
			s.ready = s.ready[1:]
		}
	}
	if limit := s.read + int64(l.cfg.RecvBuffer); limit-s.told >= int64(l.cfg.RecvBuffer/4) && !s.pair.dead {
		s.told = limit
		l.at(now+l.cfg.RTT/2, func(t time.Duration) {
			s.limit = max(s.limit, limit)
			s.send(t)
		})
	}
	return n
}

// acknowledge is the sender hearing of a burst at t, or noticing that it was lost.
func (s *stream) acknowledge(b *burst, t time.Duration) {
	if s.pair.dead {
		return
	}
	before := s.flight
	s.flight -= len(b.data)
	switch {
	case b.lost:
		if b.at >= s.recovery {
			s.window.reduce()
			s.recovery = s.sent
		}
		s.transmit(&burst{at: b.at, data: b.data}, t)
	default:
		s.acked, s.limit = max(s.acked, b.expected), max(s.limit, b.limit)
		if b.at >= s.recovery && s.window.isLimiting(before) {
			s.window.grow(len(b.data), t, s.pair.link.cfg.RTT)
		}
		s.pair.changed.Broadcast()
	}
	s.send(t)
}

// abort is the receiver's end being closed with bytes unread: the sender's end
// is reset half a round trip later, and this end's bytes are lost.
func (s *stream) abort(t time.Duration) {
	l := s.pair.link
	sender := s.pair.ends[s.dir]
	l.at(t+l.cfg.RTT/2, func(time.Duration) {
		if !s.pair.dead {
			sender.fail(syscall.ECONNRESET)
			s.pair.bury()
		}
	})
}
