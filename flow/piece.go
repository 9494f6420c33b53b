package flow

import (
	"net"
	"syscall"
	"time"
)

// piece is how much of what a lane sends it gives to one Write. What shows that
// the peer reads is a Write that returns, besides what it acknowledges; and where
// both directions are full an acknowledgement waits behind a whole block of the
// peer's. So on a slow connection no Write may take long: a lane begins with
// little, and doubles that as long as its frames are acknowledged within
// pieceTime. Where the system says how a socket drains, whole frames go out at once after a few round trips.
type piece struct {
	size int       // bytes, pieceLeast to most
	most int       // pieceMost or wholeFrames
	mark uint64    // of pipe.written: when so much is acknowledged, size may double; 0: the next frame sets it
	at   time.Time // when mark was set
}

const (
	pieceFirst  = 8 * KiB
	pieceLeast  = KiB
	pieceMost   = 64 * KiB // what becomes slow while a Write waits has to move so much within the keepalive's time
	wholeFrames = 2 * MiB  // more than a frame has, or control frames that may wait
	pieceTime   = time.Second
)

// frameTime is how long a frame may take in any case; each pieceLeast of it has a pieceTime more. A peer
// that acknowledges a byte now and then holds a writer no longer.
const frameTime = 5 * time.Minute

// sending is told that a frame is about to go out that makes it written bytes in all.
func (p *piece) sending(written uint64) {
	if p.size < p.most && p.mark == 0 {
		p.mark, p.at = written, time.Now()
	}
}

// acked is told that the peer has taken so many.
func (p *piece) acked(total uint64, now time.Time) {
	if p.mark == 0 || total < p.mark {
		return
	}
	if now.Sub(p.at) < pieceTime {
		p.size = min(2*p.size, p.most)
	}
	p.mark = 0
}

// out gives b to the connection, at most so much at a time. The caller has the turn.
func (l *lane) out(b []byte, most int) error {
	began := l.s.ticks()
	l.until.Store(began + int64(frameTime+time.Duration(len(b)/pieceLeast)*pieceTime))
	defer l.until.Store(0)
	for len(b) > 0 {
		n := min(len(b), most)
		l.stuck.Store(began)
		_, err := l.conn.Write(b[:n])
		l.stuck.Store(0)
		if err != nil {
			return err
		}
		now := l.s.ticks()
		l.wrote.Add(int64(n))
		l.moved.Store(now)
		if took := now - began; took > int64(pieceTime) {
			most = l.slow(int(int64(n) * int64(pieceTime) / took))
		}
		b, began = b[n:], now
	}
	return nil
}

// slow bounds the pieces of a lane that takes so much in pieceTime.
func (l *lane) slow(n int) int {
	l.turns.mu.Lock()
	defer l.turns.mu.Unlock()
	l.piece.size, l.piece.mark = max(pieceLeast, min(l.piece.size, n)), 0
	return l.piece.size
}

// moves is told that the peer has shown that it reads.
func (l *lane) moves() {
	if at := l.stuck.Load(); at != 0 {
		l.stuck.CompareAndSwap(at, l.s.ticks()) // or else that Write has returned
	}
}

// drains looks whether the peer's system has taken something, while a Write waits or what was written is still queued.
// It does so for as long as it has room, so that what is read there, too, is what counts; and sooner than the Write
// returns, which TCP wakes when a good part of a buffer of MiBs is free.
func (l *lane) drains() {
	wrote, stuck := l.wrote.Load(), l.stuck.Load() != 0 // before queued: what is written meanwhile is nothing taken
	if l.raw == nil || wrote == l.through && !stuck {
		return
	}
	n, ok := queued(l.raw)
	if !ok {
		return
	}
	if stuck && n != l.queued {
		l.moves()
	}
	l.queued = n
	if through := wrote - int64(n); through > l.through {
		l.through, l.drained = through, l.s.ticks()
	}
}

// socketOf is the socket under a connection; nil if there is none, or the system does not say what it has queued.
func socketOf(conn net.Conn) syscall.RawConn {
	for conn != nil {
		switch c := conn.(type) {
		case syscall.Conn:
			raw, err := c.SyscallConn()
			if err != nil {
				return nil
			}
			if _, ok := queued(raw); !ok {
				return nil
			}
			return raw
		case interface{ NetConn() net.Conn }: // as of crypto/tls
			conn = c.NetConn()
		default:
			return nil
		}
	}
	return nil
}
