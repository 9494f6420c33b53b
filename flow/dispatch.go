package flow

import (
	"io"
	"time"

	"github.com/pannier/pannier/flow/wire"
	"github.com/pannier/pannier/spec/fault"
)

// dispatch reads the rest of one frame and acts on it. It runs in the lane's
// reader: it may not write and may not wait for a consumer. An error ends the
// epoch, or the session if it says so.
func (l *lane) dispatch(h wire.Header) error {
	switch h.Type {
	case wire.TypeBlock:
		return l.block(h)
	case wire.TypeData:
		return l.data(h)
	case wire.TypePing, wire.TypePong, wire.TypePipeAck:
		return l.own(h)
	}
	body := make([]byte, h.Length)
	if _, err := io.ReadFull(l.in, body); err != nil {
		return fault.Wrap("read", "", lost(err))
	}
	if err := l.verify(h, body); err != nil {
		return err
	}
	if l.purpose != wire.Control && h.Type != wire.TypeClose {
		return broken("read", "%v on a bulk lane", h.Type)
	}
	if l.s.telling.Load() && h.Type != wire.TypeClose {
		return nil
	}
	if h.Stream == 0 {
		return l.sessionFrame(h, body)
	}
	return l.streamFrame(h, body)
}

// own handles the frames that concern the lane itself.
func (l *lane) own(h wire.Header) error {
	body := l.head[wire.HeaderSize:][:h.Length] // 8, says the table
	if _, err := io.ReadFull(l.in, body); err != nil {
		return fault.Wrap("read", "", lost(err))
	}
	if err := l.verify(h, body); err != nil {
		return err
	}
	n, err := wire.ParseU64(body)
	if err != nil {
		return err
	}
	now := time.Now()
	switch h.Type {
	case wire.TypePing:
		if err := l.s.calm.take(pings, now); err != nil {
			return err
		}
		l.post(wire.AppendPong(nil, n), false)
	case wire.TypePong:
		if at := l.pinged.Swap(0); at != 0 && uint64(at) == n {
			now := l.s.ticks()
			l.s.measured(time.Duration(now - at))
			if l.purpose == wire.Control {
				l.s.queues.answered(now-at, now)
			}
			l.moves()
		}
	default:
		if !l.turns.acked(l, n, l.s.RTT(), now) {
			return broken("read", "PIPEACK of %d bytes that were not sent", n)
		}
	}
	return nil
}

// ping asks for a sign of life; one question at a time.
func (l *lane) ping() {
	now := l.s.ticks()
	if !l.pinged.CompareAndSwap(0, now) {
		return
	}
	l.turns.mu.Lock()
	l.add(wire.AppendPing(nil, uint64(now)))
	l.asking = now
	l.turns.mu.Unlock()
	l.kick()
}

// block reads a BLOCK frame into a pooled buffer and gives it to its stream.
func (l *lane) block(h wire.Header) error {
	if err := l.verify(h, nil); err != nil {
		return err
	}
	head, err := wire.ParseBlockExt(h, l.words(h))
	if err != nil {
		return err
	}
	b, err := l.sinkOf(head)
	if err != nil {
		return err
	}
	buf := l.s.cfg.Pool.get(int(h.Length))
	if err := l.payload(buf.payload(int(h.Length)), head.Size(), h.Flags&wire.Ask != 0); err != nil {
		l.s.cfg.Pool.put(buf)
		return err
	}
	l.s.stats.wireIn.Add(int64(h.Length))
	if b == nil || !b.arrive(head, buf, l.epoch) {
		l.s.cfg.Pool.put(buf)
		l.s.stats.lateBlocks.Add(1)
	}
	return nil
}

// data reads a DATA frame and gives it to its stream.
func (l *lane) data(h wire.Header) error {
	if err := l.verify(h, nil); err != nil {
		return err
	}
	if l.purpose != wire.Control {
		return broken("read", "DATA on a bulk lane")
	}
	head, err := wire.ParseDataExt(h, l.words(h))
	if err != nil {
		return err
	}
	b, err := l.bytesOf(head)
	if err != nil {
		return err
	}
	buf := l.s.cfg.Pool.get(int(h.Length))
	if err := l.payload(buf.payload(int(h.Length)), wire.DataHeadSize, h.Flags&wire.Ask != 0); err != nil {
		l.s.cfg.Pool.put(buf)
		return err
	}
	if b == nil || !b.arrive(head, buf, l.epoch, l.in.Buffered() == 0) {
		l.s.cfg.Pool.put(buf)
	}
	return nil
}

// payload fills p and books it together with its head. Where that takes long it
// acknowledges parts, so that the sender hears from this end during a block.
func (l *lane) payload(p []byte, head int, asked bool) error {
	unbooked, since := head, l.heard.Load()
	for done := 0; done < len(p); {
		n, err := l.in.Read(p[done:])
		done, unbooked = done+n, unbooked+n
		if err != nil && done < len(p) {
			return fault.Wrap("read", "", lost(err))
		}
		if now := l.heard.Load(); now-since > int64(time.Second) {
			l.took(unbooked, false)
			unbooked, since = 0, now
		}
	}
	if unbooked > 0 || asked {
		l.took(unbooked, asked)
	}
	return nil
}

// known reports whether a stream id has ever been in use: frames for such a
// stream may be late, frames for any other are a violation. Callers hold mu.
func (s *Session) known(id uint32) bool {
	if s.isOwn(id) {
		return id <= s.lastOwn
	}
	return id <= s.lastPeer
}

// isOwn: the connector opens odd ids, the acceptor even ones.
func (s *Session) isOwn(id uint32) bool { return (id%2 == 1) == (s.dialer != nil) }

// lookup finds a stream for a frame of this lane. A lane of an epoch that is
// over has nothing to say any more.
func (l *lane) lookup(id uint32) (st stream, known bool, err error) {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	if l.s.state != up || l.s.epoch != l.epoch {
		return nil, false, errEpochOver
	}
	return l.s.streams[id], l.s.known(id), nil
}

// sinkOf finds the stream a block is for; nil if the stream is over.
func (l *lane) sinkOf(h wire.BlockHead) (*BlockStream, error) {
	s := l.s
	if s.telling.Load() {
		return nil, nil
	}
	st, known, err := l.lookup(h.Stream)
	if err != nil {
		return nil, err
	}
	switch b := st.(type) {
	case *BlockStream:
		return b, b.expect(h, l.epoch)
	case nil:
		if known {
			return nil, s.late.take(int64(h.Span()))
		}
	}
	return nil, broken("read", "BLOCK for stream %d, which takes none", h.Stream)
}

func (l *lane) bytesOf(h wire.DataHead) (*ByteStream, error) {
	s := l.s
	if s.telling.Load() {
		return nil, nil
	}
	st, known, err := l.lookup(h.Stream)
	if err != nil {
		return nil, err
	}
	switch b := st.(type) {
	case *ByteStream:
		if h.Length == 0 && h.Flags&wire.Fin == 0 {
			if err := s.calm.take(useless, time.Now()); err != nil {
				return nil, err
			}
		}
		return b, b.expect(h)
	case nil:
		if known {
			return nil, s.late.take(int64(h.Length))
		}
	}
	return nil, broken("read", "DATA for stream %d, which takes none", h.Stream)
}

// sessionFrame handles the control frames of the session itself.
func (l *lane) sessionFrame(h wire.Header, body []byte) error {
	s := l.s
	switch h.Type {
	case wire.TypeResume:
		var r wire.Resume
		if err := wire.Decode(body, &r); err != nil {
			return err
		}
		return s.bookResume(l, &r)
	case wire.TypeGoAway:
		var g wire.GoAway
		if err := wire.Decode(body, &g); err != nil {
			return err
		}
		s.mu.Lock()
		s.peerDrain = true
		s.broadcast()
		s.mu.Unlock()
		return nil
	case wire.TypeClose:
		var c wire.Close
		if err := wire.Decode(body, &c); err != nil {
			return err
		}
		e := fault.FromPeer("session", fault.Kind(c.Kind), c.Text)
		e.Session = true
		s.closed.CompareAndSwap(nil, e)
		return e
	case wire.TypeLanes:
		n, err := wire.ParseU64(body)
		if err == nil && s.dialer != nil {
			s.wantLanes(int(min(n, uint64(s.cfg.MaxLanes))))
		}
		return err
	}
	return broken("read", "%v after the handshake", h.Type)
}

// streamFrame handles the control frames of one stream.
func (l *lane) streamFrame(h wire.Header, body []byte) error {
	s := l.s
	if h.Type == wire.TypeOpen {
		return s.opened(l, h.Stream, body)
	}
	st, known, err := l.lookup(h.Stream)
	if err != nil {
		return err
	}
	if st == nil {
		if !known {
			return broken("read", "%v for stream %d, which was never opened", h.Type, h.Stream)
		}
		return nil // late: decoding it would be work for nothing
	}
	if h.Type == wire.TypeReset {
		var r wire.Reset
		if err := wire.Decode(body, &r); err != nil {
			return err
		}
		return s.resetByPeer(h.Stream, &r)
	}
	if h.Type == wire.TypeCredit {
		granted, received, err := wire.ParseCredit(body)
		if err != nil {
			return err
		}
		if c, ok := st.(interface {
			credit(granted, received uint64) (bool, error)
		}); ok {
			raised, err := c.credit(granted, received)
			if err == nil && !raised {
				err = s.calm.take(useless, time.Now())
			}
			return err
		}
		return broken("read", "CREDIT for stream %d, which has not been accepted", h.Stream)
	}
	if f, ok := st.(interface {
		frame(t wire.Type, body []byte) error
	}); ok {
		return f.frame(h.Type, body)
	}
	return broken("read", "%v for stream %d, which takes none", h.Type, h.Stream)
}

// resetByPeer ends a stream at the peer's wish. Kind 0 is the friendly end: the
// source has the verdict.
func (s *Session) resetByPeer(id uint32, r *wire.Reset) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.streams[id] // looked up again: it may have been accepted in this moment
	if st == nil {
		return nil
	}
	b, bytes := st.(*ByteStream)
	polite := r.Kind == 0 && (!bytes || b.ended())
	if !st.own() {
		what := aborts
		if _, pending := st.(*Incoming); pending {
			what = opens
		}
		if what == opens || !polite {
			if err := s.calm.take(what, time.Now()); err != nil {
				return err
			}
		}
	}
	if bytes && polite && b.confirms() && s.control != nil {
		s.control.enqueue(resetFrame(id, nil))
		s.control.kick()
	}
	st.end(fault.FromPeer("stream", fault.Kind(r.Kind), r.Text))
	s.forget(id, st)
	return nil
}
