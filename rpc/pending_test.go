package rpc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"pgregory.net/rapid"

	"github.com/pannier/pannier/spec/fault"
)

// h2lines writes frames of both ends as they would pass.
type h2lines struct {
	b bytes.Buffer
	f *http2.Framer
}

func newH2lines() *h2lines {
	l := &h2lines{}
	l.f = http2.NewFramer(&l.b, nil)
	return l
}

// bytes are the frames since the last time.
func (l *h2lines) bytes() []byte {
	defer l.b.Reset()
	return slices.Clone(l.b.Bytes())
}

func (l *h2lines) open(id uint32) {
	_ = l.f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: []byte{0, 1, 2}}) // into memory, as all of these
	_ = l.f.WriteContinuation(id, false, bytes.Repeat([]byte{0, 0, 0, h2Data, 0, 0, 0, 0, byte(id)}, 3))
	_ = l.f.WriteContinuation(id, true, nil)
}

// messages are the gRPC messages of a call, one after the other.
type messages struct {
	bytes []byte
	ends  []int // of messages in bytes
	sent  int
	begun int64 // what the model says of them
	all   int64
	state int // 0: no call yet, 1: it is there, 2: it is over
}

func drawMessages(rt *rapid.T) *messages {
	m := &messages{}
	for _, n := range rapid.SliceOfN(rapid.SampledFrom([]int{0, 1, 100, 3000, 20000}), 1, 20).Draw(rt, "messages") {
		m.bytes = append(binary.BigEndian.AppendUint32(append(m.bytes, 0), uint32(n)), make([]byte, n)...)
		m.ends = append(m.ends, len(m.bytes))
	}
	return m
}

// send accounts for a frame of length bytes with the next n of content.
func (m *messages) send(n, length int) {
	was := m.sent
	m.sent += n
	if slices.ContainsFunc(m.ends, func(end int) bool { return was < end && end <= m.sent }) {
		m.begun = 0
	}
	if m.sent > 0 && !slices.Contains(m.ends, m.sent) {
		m.begun += bufferSize(length) + frameCost
	}
	m.all += bufferSize(length)
}

// What is held is the memory of the frames that have some of an unfinished message, and
// of those not given back, whatever the frames are, however they are padded, mixed,
// and cut into pieces.
func TestPendingMessages(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		l, q := newH2lines(), watched(newGuard(1<<40))
		var calls []*messages
		for range rapid.IntRange(1, 5).Draw(rt, "calls") {
			calls = append(calls, drawMessages(rt))
		}
		l.b.WriteString(h2Preface)
		for range rapid.IntRange(0, 60).Draw(rt, "frames") {
			i := rapid.IntRange(0, len(calls)-1).Draw(rt, "call")
			m, id := calls[i], uint32(2*i+1)
			if m.state == 0 {
				m.state = 1
				l.open(id)
			}
			switch rapid.IntRange(0, 12).Draw(rt, "what") {
			case 0:
				_ = l.f.WriteRSTStream(id, http2.ErrCodeCancel)
				*m = messages{state: 2}
			case 1:
				_ = l.f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
				_ = l.f.WritePing(false, [8]byte{0, 0, 0, h2Reset, 0, 0, 0, byte(id)})
			case 2:
				_ = l.f.WriteWindowUpdate(id, 5)
			}
			n := min(len(m.bytes)-m.sent, rapid.SampledFrom([]int{0, 1, 2, 5, 6, 700, 1025, 5000, 16000}).Draw(rt, "data"))
			data, pad := m.bytes[m.sent:m.sent+n], rapid.IntRange(-1, 255).Draw(rt, "pad")
			if pad < 0 {
				_ = l.f.WriteData(id, false, data)
			} else {
				_ = l.f.WriteDataPadded(id, false, data, make([]byte, pad))
			}
			if m.state == 1 {
				m.send(n, n+1+pad)
			}
		}
		inPieces(rt, l.bytes(), func(p []byte) {
			if s := q.in(p); s.bytes != len(p) || s.err != nil {
				rt.Fatalf("%d bytes of %d: %+v", s.bytes, len(p), s)
			}
		})
		want := int64(0)
		for _, m := range calls {
			want += m.begun + m.all
		}
		if got := q.held.Load(); got != want || q.peer.held.Load() != want || q.all.Load() != want {
			rt.Fatalf("%d, %d, %d bytes held, want %d", got, q.peer.held.Load(), q.all.Load(), want)
		}
		q.close()
		if q.held.Load() != 0 || q.all.Load() != 0 {
			rt.Fatalf("%d bytes held after the end", q.held.Load())
		}
	})
}

// What the server gives back and ends is held no more, whatever pieces its frames
// are written in; a call that was broken is told why.
func TestPendingEnds(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		const calls = 6
		l, q := newH2lines(), watched(newGuard(1<<40))
		l.b.WriteString(h2Preface)
		for id := uint32(1); id < 2*calls; id += 2 {
			l.open(id)
			_ = l.f.WriteData(id, false, make([]byte, 10005)) // two thousand messages of nothing
		}
		q.in(l.bytes())
		each := bufferSize(10005)
		if got := q.held.Load(); got != calls*each {
			rt.Fatalf("%d bytes held, want %d", got, calls*each)
		}
		q.mu.Lock()
		q.sever(3)
		q.mu.Unlock()
		_ = l.f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{8}, EndHeaders: true})
		_ = l.f.WriteData(1, false, []byte{0, 0, 0, h2Reset, 0, 0, 0, 0, 1})
		_ = l.f.WriteRSTStream(3, http2.ErrCodeProtocol)
		_ = l.f.WriteRSTStream(5, http2.ErrCodeProtocol)
		_ = l.f.WriteWindowUpdate(0, 1<<20)
		_ = l.f.WriteWindowUpdate(7, 10005)
		_ = l.f.WriteWindowUpdate(9, 5000)
		_ = l.f.WriteHeaders(http2.HeadersFrameParam{StreamID: 11, BlockFragment: []byte{8}, EndHeaders: true, EndStream: true})
		want := l.bytes()
		var got []byte
		inPieces(rt, slices.Clone(want), func(p []byte) {
			before := slices.Clone(p)
			got = append(got, q.out(p)...)
			if !bytes.Equal(p, before) {
				rt.Fatal("what was given was changed")
			}
		})
		at := bytes.Index(want, []byte{0, 0, 4, h2Reset, 0, 0, 0, 0, 3, 0, 0, 0, 1}) + 12
		want[at] = h2EnhanceYourCalm
		if !bytes.Equal(got, want) {
			rt.Fatalf("% x, want % x", got, want)
		}
		if got, want := q.held.Load(), each+int64(float64(each)*5005/10005); got != want { // of calls 1 and 9
			rt.Fatalf("%d bytes held, want %d", got, want)
		}
		if len(q.calls) != 3 || len(q.broken) != 0 {
			rt.Fatalf("%d calls, %d broken", len(q.calls), len(q.broken))
		}
	})
}

// A peer that holds too much loses the call that holds the most; gRPC sees the end of
// that where it belongs, and all that is behind.
func TestWorstCallIsBroken(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		l := newH2lines()
		l.b.WriteString(h2Preface)
		for id := uint32(1); id <= 5; id += 2 {
			l.open(id)
			_ = l.f.WriteData(id, false, binary.BigEndian.AppendUint32([]byte{0}, 1<<20))
		}
		for range 5 {
			_ = l.f.WriteData(3, false, make([]byte, 1000))
		}
		_ = l.f.WriteData(5, false, make([]byte, 1000)) // too much
		before := l.bytes()
		_ = l.f.WriteData(3, false, make([]byte, 1000))
		for range 6 { // as much as 3 had, and one more
			_ = l.f.WriteData(1, false, make([]byte, 1000))
		}
		between := l.bytes()
		l.open(7)
		_ = l.f.WriteData(3, false, make([]byte, 10000)) // nobody's any more
		after := l.bytes()
		held := 3*(5+5+frameCost) + 6*(2000+frameCost)
		wire := &pieces{rt: rt, p: slices.Concat(before, between, after)}
		c := newGuard(2*int64(held)-2).watch(wire, nil)
		c.(*guardedConn).patience = time.Nanosecond // nobody resets anything here
		var got []byte
		for buf := make([]byte, 32<<10); len(got) < len(before)+13+len(between)+13+len(after); {
			n, err := c.Read(buf[:rapid.SampledFrom([]int{1, 13, 700, 8000, len(buf)}).Draw(rt, "room")])
			if err != nil {
				rt.Fatal(err)
			}
			got = append(got, buf[:n]...)
		}
		if want := slices.Concat(before, breakStream(3), between, breakStream(1), after); !bytes.Equal(got, want) {
			rt.Fatal("calls 3 and 1 are not broken where each was too much")
		}
	})
}

// pieces is a connection of which p can be read.
type pieces struct {
	net.Conn
	rt *rapid.T
	p  []byte
}

func (c *pieces) Read(p []byte) (int, error) {
	n := copy(p[:min(len(p), rapid.SampledFrom([]int{1, 40, 32 << 10}).Draw(c.rt, "read"))], c.p)
	c.p = c.p[n:]
	return n, nil
}

// Of peers that together hold too much, the worst loses the worst of its connections,
// though it is silent.
func TestWorstConnectionIsCut(t *testing.T) {
	const each = 1000 + 1000 + frameCost // one frame is held twice: unfinished, and not given back
	g := newGuard(12 * each)
	type line struct {
		name  string
		far   net.Conn
		ended chan error
	}
	dial := func(name, key string, frames int) *line {
		near, far := net.Pipe()
		c, l := g.watch(near, keyed(key)), &line{name: name, far: far, ended: make(chan error, 1)}
		go func() {
			for buf := make([]byte, 1<<10); ; {
				if _, err := c.Read(buf); err != nil {
					c.Close()
					l.ended <- err
					return
				}
			}
		}()
		t.Cleanup(func() { far.Close() })
		h := newH2lines()
		h.b.WriteString(h2Preface)
		h.open(1)
		for i := range frames {
			p := make([]byte, 1000)
			if i == 0 {
				p[1] = 1 // 16 MiB
			}
			_ = h.f.WriteData(1, false, p)
		}
		_ = h.f.WritePing(false, [8]byte{})
		if _, err := far.Write(h.bytes()); err != nil { // returns when all is read
			t.Fatalf("%s: %v", name, err)
		}
		return l
	}
	good := []*line{dial("a1", "a", 2), dial("b1", "b", 4)}
	worst := dial("a2", "a", 3)
	good = append(good, dial("c1", "c", 3))
	select {
	case err := <-worst.ended:
		t.Fatalf("cut at the limit: %v", err)
	case <-time.After(10 * time.Millisecond):
	}
	good = append(good, dial("d1", "d", 1))
	select {
	case err := <-worst.ended:
		if !errors.Is(err, fault.Overloaded) {
			t.Errorf("%s: %v", worst.name, err)
		}
	case <-time.After(time.Minute):
		t.Fatal("nothing was cut")
	}
	if got := g.held.Load(); got != 10*each {
		t.Errorf("%d bytes held, want %d", got, 10*each)
	}
	for _, l := range good {
		l.far.Close()
		if err := <-l.ended; err != io.EOF {
			t.Errorf("%s: %v", l.name, err)
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.conns) > 0 {
		t.Errorf("%d connections after the end", len(g.conns))
	}
}

// A call that was broken counts until its reset is out: until then gRPC, which does not read while the peer does not,
// has what it holds. Meanwhile the peer loses no other call for it.
func TestBrokenCallCounts(t *testing.T) {
	l := newH2lines()
	q := watched(newGuard(1 << 20))
	l.b.WriteString(h2Preface)
	for id := uint32(1); id <= 3; id += 2 {
		l.open(id)
	}
	for range 40 { // of a message of 16 MiB
		_ = l.f.WriteData(1, false, append([]byte{0, 1, 0, 0, 0}, make([]byte, 15<<10)...))
	}
	p := l.bytes()
	s := q.in(p)
	held := q.held.Load()
	if s.call != 1 || held <= 1<<19 || q.all.Load() != held || q.peer.held.Load() != held {
		t.Fatalf("%+v with %d bytes held", s, held)
	}
	_ = l.f.WriteData(3, false, []byte{0, 0, 0, 0, 9})
	if s := q.in(append(p[s.bytes:], l.bytes()...)); s.call != 0 || s.full || q.held.Load() <= held {
		t.Errorf("call 3 was broken for what call 1 held: %+v, %d bytes held", s, q.held.Load())
	}
	_ = l.f.WriteRSTStream(1, http2.ErrCodeProtocol)
	q.out(l.bytes())
	if got := q.held.Load(); got >= 100 || q.peer.going.Load() != 0 {
		t.Errorf("%d bytes held after the reset, %d going", got, q.peer.going.Load())
	}
}

// A connection that is cut off counts until it is closed, no other is cut off for that, and who
// waits in a Write on it, as gRPC may while it does not read, is free.
func TestCutCountsUntilClosed(t *testing.T) {
	const each = 1000 + 1000 + frameCost // one frame is held twice: unfinished, and not given back
	g := newGuard(6 * each)
	dial := func(key string, frames int) *guardedConn {
		near, far := net.Pipe()
		t.Cleanup(func() { near.Close(); far.Close() })
		c := g.watch(near, keyed(key)).(*guardedConn)
		h := newH2lines()
		h.b.WriteString(h2Preface)
		h.open(1)
		for i := range frames {
			p := make([]byte, 1000)
			if i == 0 {
				p[1] = 1 // 16 MiB
			}
			_ = h.f.WriteData(1, false, p)
		}
		if c.pending.in(h.bytes()).full {
			c.relieve()
		}
		return c
	}
	worst, stuck := dial("a", 3), make(chan error, 1)
	go func() { _, err := worst.Write([]byte("nobody reads this")); stuck <- err }()
	others := []*guardedConn{dial("b", 2), dial("c", 2)}
	if !worst.off.Load() {
		t.Fatal("nothing was cut off")
	}
	if err := <-stuck; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a Write of a connection that is cut off: %v", err)
	}
	if got := g.held.Load(); got != 7*each {
		t.Errorf("%d bytes held before it is closed, want %d", got, 7*each)
	}
	g.relieve()
	for _, c := range others {
		if c.off.Load() {
			t.Error("another one was cut off for what the first holds")
		}
	}
	worst.Close()
	if got := g.held.Load(); got != 4*each {
		t.Errorf("%d bytes held after it is closed, want %d", got, 4*each)
	}
}
