package flow

import "time"

// piece is how much of what a lane sends it gives to one Write. What shows that
// the peer reads is a Write that returns, besides what it acknowledges; and where
// both directions are full an acknowledgement waits behind a whole block of the
// peer's. So on a slow connection no Write may take long: a lane begins with
// little, and doubles that as long as its frames are acknowledged within
// pieceTime. Everywhere else whole frames go out at once after a few round trips.
type piece struct {
	size int       // bytes, pieceLeast to pieceMost
	mark uint64    // of pipe.written: when so much is acknowledged, size may double; 0: the next frame sets it
	at   time.Time // when mark was set
}

const (
	pieceFirst = 8 * KiB
	pieceLeast = KiB
	pieceMost  = 2 * MiB // more than a frame has, or control frames that may wait
	pieceTime  = time.Second
)

// sending is told that a frame is about to go out that makes it written bytes in all.
func (p *piece) sending(written uint64) {
	if p.size < pieceMost && p.mark == 0 {
		p.mark, p.at = written, time.Now()
	}
}

// acked is told that the peer has taken so many.
func (p *piece) acked(total uint64, now time.Time) {
	if p.mark == 0 || total < p.mark {
		return
	}
	if now.Sub(p.at) < pieceTime {
		p.size = min(2*p.size, pieceMost)
	}
	p.mark = 0
}

// out gives b to the connection, at most so much at a time. The caller has the turn.
func (l *lane) out(b []byte, most int) error {
	for len(b) > 0 {
		n := min(len(b), most)
		began := l.s.ticks()
		l.stuck.Store(began)
		_, err := l.conn.Write(b[:n])
		l.stuck.Store(0)
		if err != nil {
			return err
		}
		if took := l.s.ticks() - began; took > int64(pieceTime) {
			most = l.slow(int(int64(n) * int64(pieceTime) / took))
		}
		b = b[n:]
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
