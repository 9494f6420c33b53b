package plugins

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/pannier/pannier/plugins/channel"
	"github.com/pannier/pannier/spec/bridgepb"
	"github.com/pannier/pannier/spec/fault"
)

// Files' bytes, from the driver to the host and back: on channels, or in messages.

const (
	// MaxResume is the most bytes that Abort and Copy return to go on from.
	MaxResume = 4096
	// MaxChunk is the most bytes of a message of ReadStream and WriteStream: gRPC's
	// buffers have 32 KiB, and one of twice that is cleared as if it had a MiB.
	MaxChunk = 32704
	// BlockSize is how much is read from and written to a channel at once.
	BlockSize = channel.Block
	// keepTime is how long an Abort that keeps waits for what is on the way.
	keepTime = 2 * time.Second
	// repeatable is how many finished writes of a session are remembered.
	repeatable = 1024
)

var blocks = sync.Pool{New: func() any { return new([BlockSize]byte) }}

// outlet is what a driver reads into: the room for its next bytes, and then how many there are.
type outlet interface {
	Room() ([]byte, error)
	Put(n int) error
}

// pump copies until src ends. Bytes beyond the quota, if that is not negative, are a
// failure and do not get to dst.
func pump(dst outlet, src io.Reader, quota int64) (n int64, err error) {
	for {
		room, err := dst.Room()
		if err != nil {
			return n, err
		}
		got, err := src.Read(room)
		if quota >= 0 && n+int64(got) > quota {
			got, err = int(quota-n), fault.New("read", fault.QuotaExceeded, "there are more than %d bytes", quota)
		}
		if err := dst.Put(got); err != nil {
			return n, err
		}
		n += int64(got)
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

// inlet is what a driver is given: the next bytes, and then how many it has taken.
type inlet interface {
	Peek() ([]byte, error)
	Skip(n int)
}

// drain copies until src ends.
func drain(dst io.Writer, src inlet) (n int64, err error) {
	for {
		p, err := src.Peek()
		if len(p) > 0 {
			m, err := dst.Write(p)
			n += int64(m)
			if err != nil {
				return n, err
			}
			src.Skip(m)
		}
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

// mode is how the bytes of a channel come and go.
func (s *Service) mode(memory bool) channel.Mode {
	if memory && s.memory {
		return channel.Accept
	}
	return channel.Socket
}

// read has the driver read into dst.
func (s *Service) read(ctx context.Context, r *bridgepb.ReadRequest, dst outlet) (n int64, err error) {
	o, ctx, done, err := s.use(ctx, r.GetSession(), r.GetName())
	if err != nil {
		return 0, err
	}
	defer done()
	if r.GetOffset() < 0 {
		return 0, fault.New("read", fault.Invalid, "offset %d", r.GetOffset())
	}
	if r.GetOffset() > 0 && !o.can.Offsets {
		return 0, fault.New("read", fault.Unsupported, "this server reads files from their beginning only")
	}
	src, err := o.Session.Read(ctx, r.GetName(), r.GetOffset())
	if err != nil {
		return 0, err
	}
	n, err = pump(dst, src, r.GetQuota())
	closed := src.Close()
	if ctx.Err() != nil {
		return n, fault.Wrap("read", r.GetName(), ctx.Err())
	}
	if err == nil {
		err = closed
	}
	return n, err
}

// Read implements bridgepb.BridgeServer.
func (s *Service) Read(ctx context.Context, r *bridgepb.ReadRequest) (*bridgepb.ReadReply, error) {
	conn, err := s.channels.take(ctx, r.GetChannel())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })() // a host that does not read
	buf := blocks.Get().(*[BlockSize]byte)
	defer blocks.Put(buf)
	to := channel.NewSender(conn, s.mode(r.GetMemory()), buf[:])
	defer to.Release()
	n, err := s.read(ctx, r, to)
	if err != nil {
		return nil, err
	}
	return &bridgepb.ReadReply{Bytes: n}, nil
}

// ReadStream implements bridgepb.BridgeServer.
func (s *Service) ReadStream(r *bridgepb.ReadRequest, stream grpc.ServerStreamingServer[bridgepb.Chunk]) error {
	buf := blocks.Get().(*[BlockSize]byte)
	defer blocks.Put(buf)
	_, err := s.read(stream.Context(), r, chunks{stream, buf[:MaxChunk]})
	return err
}

// chunks writes messages.
type chunks struct {
	to  grpc.ServerStreamingServer[bridgepb.Chunk]
	buf []byte
}

func (c chunks) Room() ([]byte, error) { return c.buf, nil }

func (c chunks) Put(n int) error {
	if n == 0 {
		return nil
	}
	return c.to.Send(&bridgepb.Chunk{Data: c.buf[:n]})
}

// write is a file that the host writes.
type write struct {
	session *opened
	staged  Staged
	size    int64 // declared; -1: not known
	ctx     context.Context
	cancel  context.CancelFunc // of the context that the driver's Write has

	mu      sync.Mutex
	channel net.Conn      // nil before, and if bytes come in messages
	fed     chan struct{} // closed when no more bytes come; nil: they have not begun to
	bytes   int64         // then: how many came
	err     error         // then: of the driver or the channel
	quit    chan struct{} // closed by abort: nobody waits for messages any more
	left    bool          // it is

	turn    sync.Mutex // of Commit and Abort
	done    *bridgepb.Attr
	aborted bool
	kept    []byte
}

// Write implements bridgepb.BridgeServer.
func (s *Service) Write(ctx context.Context, r *bridgepb.WriteRequest) (*bridgepb.WriteReply, error) {
	o, both, done, err := s.use(ctx, r.GetSession(), r.GetName())
	if err != nil {
		return nil, err
	}
	defer done()
	as, err := optional[Writer](o, "write", o.can.Write)
	if err != nil {
		return nil, err
	}
	if len(r.GetResume()) > 0 && !o.can.Resume {
		return nil, fault.New("write", fault.Unsupported, "this server cannot go on with a file")
	}
	var conn net.Conn
	if r.GetChannel() != 0 {
		if conn, err = s.channels.take(both, r.GetChannel()); err != nil {
			return nil, err
		}
	}
	w := &write{session: o, size: r.GetSize(), channel: conn, quit: make(chan struct{})}
	w.ctx, w.cancel = context.WithCancel(o.over)
	stop := context.AfterFunc(ctx, w.cancel) // until the file is begun the call's end is its end
	err = guarded("write", func() (err error) {
		w.staged, err = as.Write(w.ctx, r.GetName(), WriteRequest{Size: r.GetSize(), Resume: r.GetResume(), ID: r.GetId(), Again: r.GetAgain(),
			Modified: TimeOf(r.GetModified())})
		return err
	})
	keep := len(r.GetResume()) > 0 // what an earlier attempt has left is still of use
	if err == nil && !stop() {
		_, _ = w.staged.Abort(context.WithoutCancel(ctx), keep)
		err = fault.Wrap("write", r.GetName(), context.Canceled)
	}
	if err != nil {
		w.cancel()
		if conn != nil {
			_ = conn.Close()
		}
		return nil, err
	}
	if conn != nil {
		w.fed = make(chan struct{})
		go w.feedChannel(s.mode(r.GetMemory()))
	}
	s.mu.Lock()
	s.last++
	id, open := s.last, s.sessions[o.number] == o
	if open {
		s.writes[id] = w
	}
	s.mu.Unlock()
	if !open { // meanwhile: nobody else would abort it
		_, _ = w.abort(context.WithoutCancel(ctx), keep)
		return nil, fault.New("write", fault.Stale, "the session was closed")
	}
	return &bridgepb.WriteReply{Write: id, Offset: w.staged.Offset()}, nil
}

// feedChannel is feed of what comes over the channel.
func (w *write) feedChannel(mode channel.Mode) {
	buf := blocks.Get().(*[BlockSize]byte)
	defer blocks.Put(buf)
	from := channel.NewReceiver(w.channel, mode, buf[:])
	defer from.Release()
	w.feed(from)
}

// feed gives the driver what comes, until that ends.
func (w *write) feed(from inlet) {
	var n int64
	err := guarded("write", func() (err error) { n, err = drain(w.staged, from); return err })
	w.mu.Lock()
	w.bytes, w.err = n, err
	if w.channel != nil {
		_ = w.channel.Close() // the host's next Write fails, and it asks why
	}
	close(w.fed)
	w.mu.Unlock()
}

// WriteStream implements bridgepb.BridgeServer.
func (s *Service) WriteStream(stream grpc.ClientStreamingServer[bridgepb.Chunk, bridgepb.WriteStreamReply]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	w, err := s.write(first.GetWrite())
	if err != nil {
		return err
	}
	w.mu.Lock()
	if w.fed != nil {
		w.mu.Unlock()
		return fault.New("write", fault.Invalid, "the bytes of write %d have come already", first.GetWrite())
	}
	w.fed = make(chan struct{})
	w.mu.Unlock()
	go w.feed(&received{stream: stream, left: first.GetData()}) // the stream's end is its end
	select {
	case <-w.fed:
	case <-w.quit:
		return fault.New("write", fault.Stale, "the write was aborted")
	}
	if w.err != nil {
		return w.err
	}
	return stream.SendAndClose(&bridgepb.WriteStreamReply{Bytes: w.bytes})
}

// received reads messages.
type received struct {
	stream grpc.ClientStreamingServer[bridgepb.Chunk, bridgepb.WriteStreamReply]
	left   []byte
}

func (r *received) Peek() ([]byte, error) {
	for len(r.left) == 0 {
		m, err := r.stream.Recv()
		if err != nil {
			return nil, err // io.EOF as it is
		}
		r.left = m.GetData()
	}
	return r.left, nil
}

func (r *received) Skip(n int) { r.left = r.left[n:] }

func (s *Service) write(id uint64) (*write, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w := s.writes[id]; w != nil {
		return w, nil
	}
	return nil, fault.New("find write", fault.Stale, "this plugin has no write %d", id)
}

// over notes that a write is finished, and forgets the oldest.
func (s *Service) over(id uint64, o *opened) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o.finished = append(o.finished, id)
	if len(o.finished) > repeatable {
		delete(s.writes, o.finished[0])
		o.finished = o.finished[1:]
	}
}

// wait returns when no more bytes come.
func (w *write) wait(ctx context.Context) error {
	w.mu.Lock()
	if w.fed == nil { // an empty file, by messages: none came
		w.fed = make(chan struct{})
		close(w.fed)
	}
	fed := w.fed
	w.mu.Unlock()
	select {
	case <-fed:
		return nil
	case <-ctx.Done():
		return fault.Wrap("write", "", ctx.Err())
	}
}

// Commit implements bridgepb.BridgeServer.
func (s *Service) Commit(ctx context.Context, r *bridgepb.CommitRequest) (*bridgepb.Attr, error) {
	w, err := s.write(r.GetWrite())
	if err != nil {
		return nil, err
	}
	w.turn.Lock()
	defer w.turn.Unlock()
	if w.done != nil {
		return w.done, nil
	}
	if w.aborted {
		return nil, fault.New("commit", fault.Stale, "the write was aborted")
	}
	if err := w.wait(ctx); err != nil {
		return nil, err
	}
	switch {
	case w.err != nil:
		return nil, w.err
	case r.GetBytes() < 0:
		return nil, fault.New("commit", fault.Lost, "the channel broke after %d bytes", w.bytes)
	case w.bytes != r.GetBytes():
		return nil, fault.New("commit", fault.Corrupt, "%d bytes came of the %d that were sent", w.bytes, r.GetBytes())
	case w.size >= 0 && w.staged.Offset()+w.bytes != w.size:
		return nil, fault.New("commit", fault.Corrupt, "the file has %d bytes, it was to have %d", w.staged.Offset()+w.bytes, w.size)
	}
	a, err := w.staged.Commit(ctx)
	if err != nil {
		return nil, err
	}
	w.done = attrMessage(a)
	w.cancel()
	s.over(r.GetWrite(), w.session)
	return w.done, nil
}

// Abort implements bridgepb.BridgeServer.
func (s *Service) Abort(ctx context.Context, r *bridgepb.AbortRequest) (*bridgepb.AbortReply, error) {
	w, err := s.write(r.GetWrite())
	if err != nil {
		return nil, err
	}
	kept, err := w.abort(ctx, r.GetKeep())
	if err != nil {
		return nil, err
	}
	s.over(r.GetWrite(), w.session)
	return &bridgepb.AbortReply{Resume: kept}, nil
}

// Checkpoint implements bridgepb.BridgeServer.
func (s *Service) Checkpoint(ctx context.Context, r *bridgepb.CheckpointRequest) (*bridgepb.CheckpointReply, error) {
	w, err := s.write(r.GetWrite())
	if err != nil {
		return nil, err
	}
	c, ok := w.staged.(Checkpointer)
	if !ok || !w.session.can.Resume {
		return &bridgepb.CheckpointReply{}, nil
	}
	resume, err := c.Checkpoint(ctx)
	if err == nil && len(resume) > MaxResume {
		err = fault.New("checkpoint", fault.Internal, "what the driver wants kept has %d bytes, the limit is %d", len(resume), MaxResume)
	}
	if err != nil {
		return nil, err
	}
	return &bridgepb.CheckpointReply{Resume: resume}, nil
}

// abort ends a write. What is on its way is taken, for a while, if it is to be kept.
func (w *write) abort(ctx context.Context, keep bool) (kept []byte, err error) {
	w.turn.Lock()
	defer w.turn.Unlock()
	switch {
	case w.done != nil:
		return nil, fault.New("abort", fault.Stale, "the file was committed")
	case w.aborted:
		return w.kept, nil
	}
	if keep {
		soon, cancel := context.WithTimeout(ctx, keepTime)
		_ = w.wait(soon)
		cancel()
	}
	w.mu.Lock()
	if w.channel != nil {
		_ = w.channel.Close()
	}
	if !w.left {
		w.left = true
		close(w.quit)
	}
	w.mu.Unlock()
	stuck := time.AfterFunc(keepTime, w.cancel) // the server does not take what it was sent
	err = w.wait(ctx)
	stuck.Stop()
	if err != nil {
		return nil, err
	}
	err = guarded("abort", func() (err error) { kept, err = w.staged.Abort(ctx, keep); return err })
	w.cancel()
	if err != nil {
		return nil, err
	}
	if len(kept) > MaxResume {
		return nil, fault.New("abort", fault.Internal, "what the driver wants kept has %d bytes, the limit is %d", len(kept), MaxResume)
	}
	w.aborted, w.kept = true, kept
	return kept, nil
}
