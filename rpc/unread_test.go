package rpc_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"runtime"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/pannier/pannier/rpc/internal/storepb"
)

// h2client is a client that writes the frames it likes.
type h2client struct {
	t      testing.TB
	ctx    context.Context
	conn   net.Conn
	block  []byte // of HEADERS of a call
	next   uint32
	frames bytes.Buffer // written by flush
	f      *http2.Framer
	pongs  chan struct{}
	resets chan http2.RSTStreamFrame // the first 4,096
	ended  chan struct{}
}

func newH2client(t testing.TB, p *pair, method string) *h2client {
	t.Helper()
	conn, err := net.Dial("tcp", p.address[len("tcp://"):])
	if err != nil {
		t.Fatal(err)
	}
	c := &h2client{t: t, ctx: within(t), conn: conn, next: 1, pongs: make(chan struct{}, 64), resets: make(chan http2.RSTStreamFrame, 4096), ended: make(chan struct{})}
	t.Cleanup(func() { conn.Close(); <-c.ended })
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for _, h := range [][2]string{{":method", "POST"}, {":scheme", "http"}, {":path", method}, {":authority", "x"},
		{"content-type", "application/grpc"}, {"te", "trailers"}} {
		err = errors.Join(err, enc.WriteField(hpack.HeaderField{Name: h[0], Value: h[1], Sensitive: true}))
	}
	c.block, c.f = block.Bytes(), http2.NewFramer(&c.frames, nil)
	c.frames.WriteString(http2.ClientPreface)
	if err := errors.Join(err, c.f.WriteSettings(), c.flush()); err != nil {
		t.Fatal(err)
	}
	go c.read()
	return c
}

func (c *h2client) read() {
	defer close(c.ended)
	f := http2.NewFramer(io.Discard, c.conn)
	for {
		switch frame, err := f.ReadFrame(); frame := frame.(type) {
		case *http2.PingFrame:
			if frame.IsAck() {
				c.pongs <- struct{}{}
			}
		case *http2.RSTStreamFrame:
			select {
			case c.resets <- *frame:
			default:
			}
		default:
			if err != nil {
				return
			}
		}
	}
}

func (c *h2client) flush() error {
	_, err := c.conn.Write(c.frames.Bytes())
	c.frames.Reset()
	return err
}

// call begins a call and the message of the given length.
func (c *h2client) call(length int) (id uint32) {
	id = c.next
	c.next += 2
	_ = c.f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: c.block, EndHeaders: true}) // into memory, as all of these
	_ = c.f.WriteData(id, false, binary.BigEndian.AppendUint32([]byte{0}, uint32(length)))
	return id
}

// data writes a frame of a call.
func (c *h2client) data(id uint32, p []byte) {
	_ = c.f.WriteData(id, false, p)
	if c.frames.Len() > 32<<10 {
		_ = c.flush() // fails when the server has closed
	}
}

// settle returns when the server has read all that was written; it allows that
// twice. False: it has closed.
func (c *h2client) settle() bool {
	c.t.Helper()
	_ = c.f.WritePing(false, [8]byte{})
	_ = c.flush() // fails when the server has closed
	select {
	case <-c.pongs:
		return true
	case <-c.ended:
		return false
	case <-c.ctx.Done():
		c.t.Fatal("no answer to a PING")
		return false
	}
}

// heap is what lives in this process.
func heap() int64 {
	runtime.GC()
	runtime.GC() // what pools have kept
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestMessagesWithoutEnd: what messages that never end cost is bounded, though gRPC
// keeps each of their frames, and others are served all the while.
func TestMessagesWithoutEnd(t *testing.T) {
	const limit, calls, frames = 8 << 20, 16, 40_000 // of one byte
	p := start(t, "tcp", setup{pending: limit})
	p.store.call = func(context.Context, *storepb.Item) (*storepb.Receipt, error) { return &storepb.Receipt{}, nil }
	h := newH2client(t, p, storepb.Store_Call_FullMethodName)
	if !h.settle() {
		t.Fatal("cut off at once")
	}
	before, most := heap(), int64(0)
	var ids []uint32
	for range calls {
		ids = append(ids, h.call(4<<20))
	}
	for i := range frames {
		for _, id := range ids { // in turn, so that each call's handler takes each frame
			h.data(id, []byte{1})
		}
		if i%8000 == 0 {
			most = max(most, heap()-before)
		}
	}
	if !h.settle() {
		t.Fatal("the connection was closed")
	}
	most = max(most, heap()-before)
	t.Logf("%d KiB more at most, %d calls reset", most>>10, len(h.resets))
	if most > limit {
		t.Errorf("%d bytes more, the limit is %d", most, limit)
	}
	if len(h.resets) == 0 || len(h.resets) >= calls {
		t.Errorf("%d calls reset of %d", len(h.resets), calls)
	}
	for range len(h.resets) {
		if f := <-h.resets; f.ErrCode != http2.ErrCodeEnhanceYourCalm {
			t.Errorf("call %d reset with %v", f.StreamID, f.ErrCode)
		}
	}
	if _, err := p.stub.Call(h.ctx, &storepb.Item{Body: make([]byte, 1<<20)}); err != nil {
		t.Errorf("another client: %v", err)
	}
}

// TestMessagesNobodyReads: a handler that does not read holds its client up, and
// many of them do not fill the memory.
func TestMessagesNobodyReads(t *testing.T) {
	const limit = 16 << 20
	p := start(t, "tcp", setup{pending: limit})
	stop := make(chan struct{})
	p.store.gather = func(s grpc.ClientStreamingServer[storepb.Item, storepb.Receipt]) error {
		select {
		case <-stop:
		case <-s.Context().Done():
		}
		return nil
	}
	defer close(stop)
	h := newH2client(t, p, storepb.Store_Gather_FullMethodName)
	if !h.settle() {
		t.Fatal("cut off at once")
	}
	before := heap()
	for range 100 {
		id := h.call(2000)
		h.data(id, make([]byte, 2000))
		for range 100 {
			h.data(id, append(binary.BigEndian.AppendUint32([]byte{0}, 2000), make([]byte, 2000)...))
		}
	}
	if !h.settle() {
		t.Fatal("the connection was closed")
	}
	more := heap() - before
	t.Logf("%d KiB more, %d calls reset", more>>10, len(h.resets))
	if more > limit || len(h.resets) == 0 {
		t.Errorf("%d bytes more, %d calls reset; the limit is %d", more, len(h.resets), limit)
	}
}

// TestMergedFrames: gRPC merges small frames that nobody reads, and what it merges them into is no larger than is counted.
func TestMergedFrames(t *testing.T) {
	const limit = 16 << 20
	p := start(t, "tcp", setup{pending: limit})
	stop := make(chan struct{})
	p.store.gather = func(s grpc.ClientStreamingServer[storepb.Item, storepb.Receipt]) error {
		select {
		case <-stop:
		case <-s.Context().Done():
		}
		return nil
	}
	defer close(stop)
	h := newH2client(t, p, storepb.Store_Gather_FullMethodName)
	if !h.settle() {
		t.Fatal("cut off at once")
	}
	before := heap()
	whole := func(n int) []byte { // a message in a frame of n bytes
		return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(n-5)), make([]byte, n-5)...)
	}
	less, small, large := whole(21), whole(22), whole(16<<10)
	for range 12 {
		id := h.call(0)
		for range 31 { // nearly the call's window
			for i := range 749 { // 16 KiB and a byte, just not worth merging,
				if i < 656 {
					h.data(id, small)
				} else {
					h.data(id, less)
				}
			}
			h.data(id, large) // and with this one just above 32 KiB
		}
	}
	if !h.settle() {
		t.Fatal("the connection was closed")
	}
	more := heap() - before
	t.Logf("%d KiB more, %d calls reset", more>>10, len(h.resets))
	if more > limit {
		t.Errorf("%d bytes more; the limit is %d", more, limit)
	}
}

// TestBrokenCall: a client of gRPC is told that it was too much.
func TestBrokenCall(t *testing.T) {
	p, ctx := start(t, "tcp", setup{pending: 1 << 20}), within(t)
	p.store.call = func(context.Context, *storepb.Item) (*storepb.Receipt, error) { return &storepb.Receipt{}, nil }
	_, err := p.stub.Call(ctx, &storepb.Item{Body: make([]byte, 1<<20)})
	wantCode(t, err, codes.ResourceExhausted)
	if _, err := p.stub.Call(ctx, &storepb.Item{Body: make([]byte, 100<<10)}); err != nil {
		t.Errorf("the next call: %v", err)
	}
}
