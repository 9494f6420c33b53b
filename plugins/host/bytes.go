package host

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/plugins/channel"
	"github.com/pannier/pannier/spec/bridgepb"
	"github.com/pannier/pannier/spec/fault"
)

type grpcOption = grpc.CallOption

// tailTime is how long the last bytes of a channel may take after the plugin has said
// that they are written.
const tailTime = 10 * time.Second

var blocks = sync.Pool{New: func() any { return new([plugins.BlockSize]byte) }}

// Read implements plugins.Session. It returns when the first bytes have come, or the
// plugin has failed to open the file.
func (s *session) Read(ctx context.Context, name string, offset int64) (io.ReadCloser, error) {
	return s.ReadAtMost(ctx, name, offset, -1)
}

// ReadAtMost implements plugins.Limiter. The quota is the plugin's to keep, and is
// counted here too.
func (s *session) ReadAtMost(ctx context.Context, name string, offset, quota int64) (io.ReadCloser, error) {
	if err := plugins.CheckName(name); err != nil {
		return nil, err
	}
	if offset < 0 {
		return nil, fault.New("read", fault.Invalid, "offset %d", offset)
	}
	r := &reader{s: s, quota: quota}
	request := &bridgepb.ReadRequest{Session: s.number, Name: name, Offset: offset, Quota: quota}
	r.ctx, r.cancel = context.WithCancel(ctx)
	if err := r.begin(request); err != nil {
		r.cancel()
		return nil, err
	}
	head := make([]byte, 4096)
	n, err := r.Read(head)
	if err != nil && !errors.Is(err, io.EOF) {
		_ = r.Close()
		return nil, err
	}
	r.head = head[:n]
	return r, nil
}

// reader is a file that is read: its end is io.EOF only when the plugin has confirmed
// it and every byte has come.
type reader struct {
	s      *session
	ctx    context.Context
	cancel context.CancelFunc
	quota  int64
	head   []byte        // has come, and was not read yet
	from   io.Reader     // the channel, or messages
	free   func()        // of the channel's memory
	conn   *net.UnixConn // nil: messages
	n      int64         // came
	over   error         // how it ended; io.EOF: well

	done  chan struct{} // closed when the call is over
	reply *bridgepb.ReadReply
	err   error
}

func (r *reader) begin(request *bridgepb.ReadRequest) error {
	if !r.s.p.channels() {
		stream, err := r.s.p.bridge.ReadStream(r.ctx, request)
		if err != nil {
			return r.s.p.failed(r.ctx, err)
		}
		r.from = &messages{stream: stream}
		return nil
	}
	conn, number, err := r.s.p.channel()
	if err != nil {
		return err
	}
	mode := r.s.p.mode()
	from := channel.NewReceiver(conn, mode, nil)
	r.conn, r.from, r.free, r.done = conn, from, from.Release, make(chan struct{})
	request.Channel, request.Memory = number, mode == channel.Offer
	go func() {
		r.reply, r.err = r.s.p.bridge.Read(r.ctx, request)
		close(r.done)
		if r.err != nil {
			_ = conn.SetReadDeadline(time.Unix(1, 0))
		} else {
			_ = conn.SetReadDeadline(time.Now().Add(tailTime))
		}
	}()
	return nil
}

// Read implements io.Reader.
func (r *reader) Read(p []byte) (int, error) {
	if len(r.head) > 0 {
		n := copy(p, r.head)
		r.head = r.head[n:]
		return n, nil
	}
	if r.over != nil {
		return 0, r.over
	}
	if len(p) == 0 {
		return 0, nil
	}
	if r.answered() && r.err == nil {
		_ = r.conn.SetReadDeadline(time.Now().Add(tailTime))
	}
	n, err := r.from.Read(p)
	if r.quota >= 0 && r.n+int64(n) > r.quota {
		n = int(r.quota - r.n)
		err = fault.New("read", fault.QuotaExceeded, "there are more than %d bytes", r.quota)
		r.cancel()
		r.n, r.over = r.quota, err
		return n, err
	}
	r.n += int64(n)
	if err != nil {
		r.over = r.ended(err)
		return n, r.over
	}
	return n, nil
}

// WriteTo implements io.WriterTo, with buffers of the size that channels like.
func (r *reader) WriteTo(w io.Writer) (n int64, err error) {
	buf := blocks.Get().(*[plugins.BlockSize]byte)
	defer blocks.Put(buf)
	for {
		got, err := r.Read(buf[:])
		m, werr := w.Write(buf[:got])
		n += int64(m)
		switch {
		case werr != nil:
			return n, werr
		case errors.Is(err, io.EOF):
			return n, nil
		case err != nil:
			return n, err
		}
	}
}

func (r *reader) answered() bool {
	if r.done == nil {
		return false
	}
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

// ended is what the end of the bytes means.
func (r *reader) ended(err error) error {
	if r.conn == nil {
		if errors.Is(err, io.EOF) {
			return io.EOF
		}
		return r.s.p.failed(r.ctx, err)
	}
	if !errors.Is(err, io.EOF) && !r.answered() {
		r.cancel() // the channel has failed, the call has not
	}
	<-r.done
	switch {
	case fault.KindOf(err) == fault.Protocol:
		return fault.Wrap("read", "channel", err)
	case r.err != nil:
		return r.s.p.failed(r.ctx, r.err)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fault.Concluded("read", fault.DeadPeer, "the plugin has confirmed %d bytes and not ended their channel, after %d", r.reply.GetBytes(), r.n)
	case !errors.Is(err, io.EOF):
		return fault.Wrap("read", "channel", err)
	case r.reply.GetBytes() != r.n:
		return fault.New("read", fault.Corrupt, "%d bytes came of the %d that the plugin has written", r.n, r.reply.GetBytes())
	}
	return io.EOF
}

// Close implements io.Closer. Before the end, it is a failure.
func (r *reader) Close() error {
	defer r.cancel()
	if r.over == nil && len(r.head) == 0 { // perhaps only the end was not read
		_, _ = r.Read(make([]byte, 1))
	}
	if r.over == nil || len(r.head) > 0 {
		r.over, r.head = fault.New("read", fault.Canceled, "it was closed before its end"), nil
		r.cancel()
	}
	if r.conn != nil {
		_ = r.conn.Close()
		r.free()
		<-r.done
	}
	if errors.Is(r.over, io.EOF) {
		return nil
	}
	return r.over
}

// messages reads those of ReadStream.
type messages struct {
	stream grpc.ServerStreamingClient[bridgepb.Chunk]
	left   []byte
}

func (m *messages) Read(p []byte) (int, error) {
	for len(m.left) == 0 {
		c, err := m.stream.Recv()
		if err != nil {
			return 0, err
		}
		m.left = c.GetData()
	}
	n := copy(p, m.left)
	m.left = m.left[n:]
	return n, nil
}

type writer struct{ s *session }

// Write implements plugins.Writer.
func (w writer) Write(ctx context.Context, name string, r plugins.WriteRequest) (plugins.Staged, error) {
	s := w.s
	if err := plugins.CheckName(name); err != nil {
		return nil, err
	}
	if len(r.Resume) > plugins.MaxResume {
		return nil, fault.New("write", fault.TooLong, "what is to be resumed has %d bytes, the limit is %d", len(r.Resume), plugins.MaxResume)
	}
	if len(r.ID) > plugins.MaxID {
		return nil, fault.New("write", fault.TooLong, "the id of what is written has %d bytes, the limit is %d", len(r.ID), plugins.MaxID)
	}
	request := &bridgepb.WriteRequest{Session: s.number, Name: name, Size: r.Size, Resume: r.Resume, Id: r.ID, Again: r.Again, Modified: plugins.Nanoseconds(r.Modified)}
	t := &staged{s: s, ctx: ctx}
	if s.p.channels() {
		var err error
		if t.conn, request.Channel, err = s.p.channel(); err != nil {
			return nil, err
		}
		mode := s.p.mode()
		t.to, request.Memory = channel.NewSender(t.conn, mode, nil), mode == channel.Offer
	}
	m, err := call(ctx, s, s.p.cfg.Call, s.p.bridge.Write, request)
	if err != nil {
		t.closeChannel()
		return nil, err
	}
	t.id, t.offset = m.GetWrite(), m.GetOffset()
	if t.conn != nil {
		t.stop = context.AfterFunc(ctx, func() { _ = t.conn.SetDeadline(time.Unix(1, 0)) })
		return t, nil
	}
	streamed, cancel := context.WithCancel(ctx)
	t.stop = func() bool { cancel(); return true }
	if t.stream, err = s.p.bridge.WriteStream(streamed); err == nil {
		err = t.stream.Send(&bridgepb.Chunk{Write: t.id})
	}
	if err != nil {
		cancel()
		return nil, s.p.failed(ctx, err)
	}
	return t, nil
}

// staged is a file that is written.
type staged struct {
	s      *session
	ctx    context.Context // of the bytes
	id     uint64
	offset int64
	n      int64         // written
	conn   *net.UnixConn // nil: messages
	to     *channel.Sender
	stream grpc.ClientStreamingClient[bridgepb.Chunk, bridgepb.WriteStreamReply]
	stop   func() bool // ctx does not matter any more
	ended  bool        // no more bytes
}

// Offset implements plugins.Staged.
func (t *staged) Offset() int64 { return t.offset }

// Write implements plugins.Staged.
func (t *staged) Write(p []byte) (n int, err error) {
	if t.ended {
		return 0, fault.New("write", fault.Invalid, "the file was committed or aborted")
	}
	if t.ctx.Err() != nil { // what ends the channel then may not have run yet
		return 0, fault.Wrap("write", "", t.ctx.Err())
	}
	if t.conn != nil {
		n, err = t.to.Write(p)
	} else {
		for n < len(p) && err == nil {
			m := min(len(p)-n, plugins.MaxChunk)
			if err = t.stream.Send(&bridgepb.Chunk{Data: p[n : n+m]}); err == nil {
				n += m
			}
		}
	}
	t.n += int64(n)
	if err == nil {
		return n, nil
	}
	if t.ctx.Err() != nil {
		return n, fault.Wrap("write", "", t.ctx.Err())
	}
	if fault.KindOf(err) == fault.Protocol {
		return n, fault.Wrap("write", "channel", err)
	}
	return n, t.why()
}

// ReadFrom implements io.ReaderFrom, with buffers of the size that channels like.
func (t *staged) ReadFrom(r io.Reader) (n int64, err error) {
	buf := blocks.Get().(*[plugins.BlockSize]byte)
	defer blocks.Put(buf)
	for {
		got, err := r.Read(buf[:])
		m, werr := t.Write(buf[:got])
		n += int64(m)
		switch {
		case werr != nil:
			return n, werr
		case errors.Is(err, io.EOF):
			return n, nil
		case err != nil:
			return n, err
		}
	}
}

// why asks the plugin why it takes no more.
func (t *staged) why() error {
	t.end(t.ctx)
	ctx, done := limit(context.WithoutCancel(t.ctx), t.s.p.cfg.Call)
	defer done()
	if _, err := t.s.p.bridge.Commit(ctx, &bridgepb.CommitRequest{Write: t.id, Bytes: -1}); err != nil {
		return t.s.p.failed(ctx, err)
	}
	return fault.New("write", fault.Protocol, "the plugin %s has committed a file that was not whole", t.s.p.cfg.Name)
}

// end says that no more bytes come.
// A plugin that takes messages is waited for until ctx ends.
func (t *staged) end(ctx context.Context) {
	if t.ended {
		return
	}
	t.ended = true
	if t.stream != nil {
		waited := context.AfterFunc(ctx, func() { t.stop() })
		_, _ = t.stream.CloseAndRecv() // Commit says whether it was well
		waited()
	}
	t.stop()
	t.closeChannel()
}

func (t *staged) closeChannel() {
	if t.conn != nil {
		_ = t.conn.Close()
		t.to.Release()
	}
}

// Commit implements plugins.Staged.
func (t *staged) Commit(ctx context.Context) (plugins.Attr, error) {
	t.end(ctx)
	most := commitTimes * t.s.p.cfg.Call
	if t.s.can.Verdict {
		most = max(most, plugins.MaxVerdict)
	}
	m, err := call(ctx, t.s, most, t.s.p.bridge.Commit, &bridgepb.CommitRequest{Write: t.id, Bytes: t.n})
	return attr(m), err
}

// Checkpoint implements plugins.Checkpointer. A plugin that has no such thing has
// nothing that goes on after a crash.
func (t *staged) Checkpoint(ctx context.Context) ([]byte, error) {
	m, err := call(ctx, t.s, t.s.p.cfg.Call, t.s.p.bridge.Checkpoint, &bridgepb.CheckpointRequest{Write: t.id})
	if fault.KindOf(err) == fault.Unsupported {
		err = nil
	}
	if err != nil {
		return nil, err
	}
	return resume(m.GetResume())
}

// Abort implements plugins.Staged.
func (t *staged) Abort(ctx context.Context, keep bool) ([]byte, error) {
	if !keep && t.stream != nil {
		t.stop()
	}
	t.end(ctx)
	m, err := call(ctx, t.s, t.s.p.cfg.Call, t.s.p.bridge.Abort, &bridgepb.AbortRequest{Write: t.id, Keep: keep})
	if err != nil {
		return nil, err
	}
	return resume(m.GetResume())
}
