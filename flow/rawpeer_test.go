package flow

import (
	"bytes"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pannier/pannier/flow/flowtest"
	"github.com/pannier/pannier/flow/wire"
	"github.com/pannier/pannier/spec/fault"
)

// rawPeer speaks the wire by hand, so that it can say what no session would.
// It reads all the time and remembers the control frames, until it is told
// to stop.
type rawPeer struct {
	t      *testing.T
	conn   net.Conn
	dialer bool // it dialled: its stream ids are odd

	silent atomic.Bool // PINGs are not answered

	out  chan uint32 // capacity 1: number of the next frame to send; whoever has it may write
	came uint32      // number of the next frame to come

	mu     sync.Mutex
	frames []rawFrame
	over   error // why reading ended
}

// rawFrame is one frame as it came; BLOCK and DATA without their payload.
type rawFrame struct {
	wire.Header
	body []byte
}

// settle lets everything happen that is under way; inside a bubble only.
func settle() { time.Sleep(200 * time.Millisecond) }

func rawHello(epoch uint32) wire.Hello {
	return wire.Hello{
		MinVersion: wire.Version, MaxVersion: wire.Version, Purpose: wire.Control, Epoch: epoch,
		Node: random16(), Name: "raw", MaxFrame: wire.MaxFrame, Window: 256 * KiB, MaxStreams: 1 << 20,
	}
}

// greet writes preface and one control frame.
func greet(conn net.Conn, t wire.Type, m wire.Message) error {
	b, err := introduction(t, m)
	if err == nil {
		_, err = conn.Write(b)
	}
	return err
}

// newRawPeer is one after the handshake.
func newRawPeer(t *testing.T, conn net.Conn, dialer bool) *rawPeer {
	p := &rawPeer{t: t, conn: conn, dialer: dialer, out: make(chan uint32, 1), came: handshakeFrames}
	p.out <- handshakeFrames
	return p
}

// rawConnect dials and introduces itself; the caller starts the reading.
func rawConnect(t *testing.T, l *flowtest.Link, h wire.Hello) (*rawPeer, wire.HelloAck, error) {
	t.Helper()
	conn, err := l.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p := newRawPeer(t, conn, true)
	var ack wire.HelloAck
	if err = greet(conn, wire.TypeHello, &h); err == nil {
		err = readHandshake(conn, wire.TypeHelloAck, &ack)
	}
	if err == nil && ack.Kind != 0 {
		err = fault.FromPeer("handshake", fault.Kind(ack.Kind), ack.Text)
	}
	if err != nil {
		conn.Close()
	}
	return p, ack, err
}

// rawAccept is a listening node by hand: it takes one connection and welcomes
// it as a new session.
func rawAccept(t *testing.T, l *flowtest.Link, change func(*wire.HelloAck)) (*rawPeer, error) {
	conn, err := l.Accept()
	if err != nil {
		return nil, err
	}
	var h wire.Hello
	if err := readHandshake(conn, wire.TypeHello, &h); err != nil {
		conn.Close()
		return nil, err
	}
	ack := wire.HelloAck{
		Version: wire.Version, Session: random16(), Token: random16(), Node: random16(), Epoch: h.Epoch,
		Name: "raw", MaxFrame: wire.MaxFrame, Window: 256 * KiB, MaxStreams: 1 << 20,
	}
	if h.Session != [16]byte{} {
		ack.Session, ack.Token = h.Session, h.Token
	}
	if change != nil {
		change(&ack)
	}
	return newRawPeer(t, conn, false), greet(conn, wire.TypeHelloAck, &ack)
}

// listen remembers what comes until the connection ends, and answers PINGs.
func (p *rawPeer) listen(wg *sync.WaitGroup) {
	wg.Go(func() {
		for {
			f, err := p.next()
			p.mu.Lock()
			if err != nil {
				p.over = err
				p.mu.Unlock()
				return
			}
			p.frames = append(p.frames, f)
			p.mu.Unlock()
			if f.Type == wire.TypePing && !p.silent.Load() {
				n, _ := wire.ParseU64(f.body)
				p.send(wire.AppendPong(nil, n))
			}
		}
	})
}

func (p *rawPeer) next() (rawFrame, error) {
	head := make([]byte, wire.HeaderSize)
	if _, err := io.ReadFull(p.conn, head); err != nil {
		return rawFrame{}, err
	}
	h, err := wire.ParseHeader(head)
	if err != nil {
		return rawFrame{}, err
	}
	body := make([]byte, 8*int(h.Ext)+int(h.Length))
	if _, err := io.ReadFull(p.conn, body); err != nil {
		return rawFrame{}, err
	}
	words, payload := body[:8*h.Ext], body[8*h.Ext:]
	if h.Ext > 0 {
		payload = nil
	}
	if err := h.Verify(p.came, append(head, words...), payload); err != nil {
		p.t.Error(err)
	}
	p.came++
	return rawFrame{h, body}, nil
}

// mute ends the answers to PINGs, which would get into the middle of a frame.
func (p *rawPeer) mute() { p.silent.Store(true) }

// got are the frames of one type so far.
func (p *rawPeer) got(t wire.Type) (list []rawFrame) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range p.frames {
		if f.Type == t {
			list = append(list, f)
		}
	}
	return list
}

// hungUp reports whether the other end has closed the connection.
func (p *rawPeer) hungUp() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.over != nil
}

// send seals and writes frames; a connection that is gone by then is no failure.
func (p *rawPeer) send(frames ...[]byte) {
	n := <-p.out
	defer func() { p.out <- n }()
	for _, f := range frames {
		n = wire.Seal(f, n)
		p.write(f)
	}
}

// seal is for frames that write then sends in parts, or spoiled.
func (p *rawPeer) seal(frames []byte) []byte {
	p.out <- wire.Seal(frames, <-p.out)
	return frames
}

// write writes bytes as they are.
func (p *rawPeer) write(b []byte) { p.conn.Write(b) }

// own is the n-th stream id of the raw peer, foreign the n-th of the other end.
func (p *rawPeer) own(n uint32) uint32 {
	if p.dialer {
		return 2*n - 1
	}
	return 2 * n
}

func (p *rawPeer) foreign(n uint32) uint32 {
	if p.dialer {
		return 2 * n
	}
	return 2*n - 1
}

// control is a whole control frame; it panics on messages the wire forbids.
func control(t wire.Type, stream uint32, m wire.Message) []byte {
	f, err := wire.AppendControl(nil, t, stream, m)
	if err != nil {
		panic(err)
	}
	return f
}

// frame is a frame with any header and body, allowed or not.
func frame(h wire.Header, body []byte) []byte {
	f := make([]byte, wire.HeaderSize, wire.HeaderSize+len(body))
	h.Put(f)
	return append(f, body...)
}

// body is a control frame whose msgpack body is given as bytes.
func body(t wire.Type, stream uint32, b ...byte) []byte {
	return frame(wire.Header{Type: t, Stream: stream, Length: uint32(len(b))}, b)
}

// block is a BLOCK frame with a right digest; change may spoil it.
func block(stream uint32, off int64, p []byte, change ...func(*wire.BlockHead)) []byte {
	h := wire.BlockHead{
		Header: wire.Header{Class: wire.ClassBulk, Stream: stream, Length: uint32(len(p))},
		Offset: uint64(off), Digest: blockDigest(p, off),
	}
	for _, c := range change {
		c(&h)
	}
	f := make([]byte, h.Size(), h.Size()+len(p))
	h.Put(f)
	return append(f, p...)
}

// data is a DATA frame with a right digest; change may spoil it.
func data(stream uint32, off int64, p []byte, flags wire.Flags, change ...func(*wire.DataHead)) []byte {
	h := wire.DataHead{
		Header: wire.Header{Flags: flags, Class: wire.ClassRelay, Stream: stream, Length: uint32(len(p))},
		Offset: uint64(off), Digest: blockDigest(p, off),
	}
	for _, c := range change {
		c(&h)
	}
	f := make([]byte, wire.DataHeadSize, wire.DataHeadSize+len(p))
	h.Put(f)
	return append(f, p...)
}

func openFrame(id uint32, o wire.Open) []byte {
	if o.Kind == "" {
		o.Kind = "x"
	}
	return control(wire.TypeOpen, id, &o)
}

// duel is one raw peer against one session of ours, beside a session that
// behaves and must not notice. The two sessions share acceptor and pool.
type duel struct {
	*rawPeer
	link   *flowtest.Link
	victim *Session
	home   *Acceptor
	pool   *Pool
	ack    wire.HelloAck
	wg     sync.WaitGroup

	near, far *Session // the good ones
	goodLink  *flowtest.Link

	id     uint32 // of the stream the setup made
	blocks *BlockStream
	bytes  *ByteStream
	ended  chan error // what the victim's user of the stream was told; capacity 1
}

// newDuel sets the two up; asConnector says which end the raw peer plays.
func newDuel(t *testing.T, asConnector bool, cfg Config) *duel {
	t.Helper()
	d := &duel{pool: NewPool(256 * MiB), ended: make(chan error, 1)}
	cfg.Pool = d.pool
	if cfg.BlockSize == 0 {
		cfg.BlockSize = 64 * KiB
	}
	var err error
	if d.home, err = NewAcceptor(cfg); err != nil {
		t.Fatal(err)
	}
	d.link, d.goodLink = flowtest.NewLink(flowtest.LinkConfig{}), flowtest.NewLink(flowtest.LinkConfig{})
	d.serve(d.goodLink)
	if d.near, err = Connect(t.Context(), d.goodLink, cfg); err != nil {
		t.Fatal(err)
	}
	if d.far, err = d.home.Accept(t.Context()); err != nil {
		t.Fatal(err)
	}
	if asConnector {
		d.serve(d.link)
		if d.rawPeer, d.ack, err = rawConnect(t, d.link, rawHello(1)); err != nil {
			t.Fatal(err)
		}
		if d.victim, err = d.home.Accept(t.Context()); err != nil {
			t.Fatal(err)
		}
	} else {
		made := make(chan *rawPeer, 1)
		d.wg.Go(func() {
			p, _ := rawAccept(t, d.link, nil)
			made <- p
		})
		if d.victim, err = Connect(t.Context(), d.link, cfg); err != nil {
			t.Fatal(err)
		}
		d.rawPeer = <-made
	}
	d.listen(&d.wg)
	return d
}

// serve gives a link's connections to the acceptor.
func (d *duel) serve(l *flowtest.Link) {
	d.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			d.wg.Go(func() { d.home.Handle(c) })
		}
	})
}

// end checks that the good session has not noticed, closes everything and
// checks that nothing is left of it.
func (d *duel) end() {
	d.t.Helper()
	want := content(70_000) // more than a block
	if got, err := carry(d.t, d.near, d.far, want, Open{}); err != nil || !bytes.Equal(got, want) {
		d.t.Errorf("the other session: %d bytes, %v", len(got), err)
	}
	d.conn.Close()
	d.victim.Close()
	d.near.Close()
	d.home.Close()
	d.link.Close()
	d.goodLink.Close()
	d.wg.Wait()
	for name, s := range map[string]*Session{"victim": d.victim, "near": d.near, "far": d.far} {
		if g := s.Stats().Granted; g != 0 {
			d.t.Errorf("%s: %d bytes are still granted", name, g)
		}
	}
	if u := d.pool.Used(); u != 0 {
		d.t.Errorf("%d bytes of the pool are still in use", u)
	}
}
