package bench

import (
	"context"
	"errors"
	"io"
	"net"
	"os"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/pannier/pannier/cmd/pannier/benchpb"
	"github.com/pannier/pannier/spec/fault"
)

// Sizes of the gRPC baselines, in bytes.
const (
	smallChunk = 64 << 10
	// largeChunk with its protobuf and gRPC headers just fits the 1 MiB tier
	// of grpc-go's buffer pool; one byte more would take the next tier.
	largeChunk = 1<<20 - 64
	// tunedWindow is the HTTP/2 window of stream and connection of a tuned
	// case; above the 64 KiB default, grpc-go stops estimating windows.
	tunedWindow = 16 << 20
	// tunedIO is the read and write buffer of a tuned connection.
	tunedIO = 256 << 10
	// maxNote is the most payload a server makes up for a Note.
	maxNote = 1 << 20
	// inlinePayload is the payload of the calls that carry one.
	inlinePayload = 16 << 10
)

// grpcCase is stock grpc-go over TCP without TLS: a file as a stream of
// messages, a payload as a field.
type grpcCase struct {
	name     string
	chunk    int  // bytes of the file in one message; 0: moves no files
	tuned    bool // windows and buffers as above, instead of the defaults
	up, down int  // bytes of payload in a call
}

var (
	chunk64k = grpcCase{name: "grpc-chunk-64k", chunk: smallChunk}
	chunk1m  = grpcCase{name: "grpc-chunk-1m", chunk: largeChunk, tuned: true}
)

// calls are the calls without Pannier.
func calls() []Case {
	return []Case{
		grpcCase{name: "plain-grpc"},
		grpcCase{name: "bytes-field-16k-up", up: inlinePayload},
		grpcCase{name: "bytes-field-16k-down", down: inlinePayload},
	}
}

func (c grpcCase) Name() string { return c.name }

func (c grpcCase) Serve(ctx context.Context, job Job, ready func(string)) error {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return fault.Wrap("listen", c.name, err)
	}
	var opts []grpc.ServerOption
	if c.tuned {
		opts = []grpc.ServerOption{
			grpc.InitialWindowSize(tunedWindow), grpc.InitialConnWindowSize(tunedWindow),
			grpc.ReadBufferSize(tunedIO), grpc.WriteBufferSize(tunedIO),
		}
	}
	srv := grpc.NewServer(opts...)
	benchpb.RegisterBenchServer(srv, &grpcServer{job: job})
	defer context.AfterFunc(ctx, srv.Stop)()
	ready(l.Addr().String())
	return fault.Wrap("serve", c.name, srv.Serve(l))
}

func (c grpcCase) Connect(ctx context.Context, job Job, addr string) (Client, error) {
	opts := []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}
	if c.tuned {
		opts = append(opts,
			grpc.WithInitialWindowSize(tunedWindow), grpc.WithInitialConnWindowSize(tunedWindow),
			grpc.WithReadBufferSize(tunedIO), grpc.WithWriteBufferSize(tunedIO))
	}
	cc, err := grpc.NewClient("passthrough:///"+addr, opts...)
	if err != nil {
		return nil, fault.Wrap("connect", addr, err)
	}
	if err := awaitReady(ctx, cc); err != nil {
		return nil, errors.Join(fault.Wrap("connect", addr, err), cc.Close())
	}
	client := grpcClient{c: c, job: job, cc: cc, stub: benchpb.NewBenchClient(cc), payload: make([]byte, c.up)}
	if c.chunk == 0 {
		return callClient{client}, nil
	}
	return moveClient{callClient{client}}, nil
}

// awaitReady returns when the connection has the server's settings.
func awaitReady(ctx context.Context, cc *grpc.ClientConn) error {
	cc.Connect()
	for s := cc.GetState(); s != connectivity.Ready; s = cc.GetState() {
		if !cc.WaitForStateChange(ctx, s) {
			return ctx.Err()
		}
	}
	return nil
}

type grpcClient struct {
	c       grpcCase
	job     Job
	cc      *grpc.ClientConn
	stub    benchpb.BenchClient
	payload []byte
}

func (g grpcClient) Close() error { return g.cc.Close() }

// callClient only calls.
type callClient struct{ grpcClient }

func (g callClient) Call(ctx context.Context) error {
	note, err := g.stub.Exchange(ctx, &benchpb.Note{Payload: g.payload, Want: uint32(g.c.down)})
	if err != nil {
		return callFault("call", err)
	}
	if len(note.GetPayload()) != g.c.down {
		return fault.New("call", fault.Corrupt, "wanted %d bytes, got %d", g.c.down, len(note.GetPayload()))
	}
	return nil
}

// moveClient calls and moves files over the same connection.
type moveClient struct{ callClient }

func (g moveClient) Move(ctx context.Context, i int) error {
	f, err := os.Open(g.job.Source())
	if err != nil {
		return fault.Wrap("open source", "", err)
	}
	defer f.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := g.stub.Upload(ctx)
	if err != nil {
		return callFault("upload", err)
	}
	sent, err := sendChunks(stream, f, i, make([]byte, g.c.chunk))
	if err != nil && !errors.Is(err, io.EOF) { // io.EOF: the server's reason comes from CloseAndRecv
		return callFault("upload", err)
	}
	stored, err := stream.CloseAndRecv()
	if err != nil {
		return callFault("upload", err)
	}
	return sameLength(sent, stored.GetBytes())
}

// sendChunks reuses buf: Send returns after the message is encoded.
func sendChunks(stream benchpb.Bench_UploadClient, f io.Reader, i int, buf []byte) (sent int64, err error) {
	for {
		n, err := io.ReadFull(f, buf)
		if n > 0 || sent == 0 {
			if err := stream.Send(&benchpb.Chunk{File: uint32(i), Data: buf[:n]}); err != nil {
				return sent, err
			}
			sent += int64(n)
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return sent, nil
		}
		if err != nil {
			return sent, err
		}
	}
}

type grpcServer struct {
	benchpb.UnimplementedBenchServer
	job Job
}

func (s *grpcServer) Exchange(_ context.Context, in *benchpb.Note) (*benchpb.Note, error) {
	if in.GetWant() > maxNote {
		return nil, fault.New("exchange", fault.TooLong, "%d bytes wanted, at most %d", in.GetWant(), maxNote)
	}
	return &benchpb.Note{Payload: make([]byte, in.GetWant())}, nil
}

func (s *grpcServer) Upload(stream benchpb.Bench_UploadServer) error {
	chunk, err := stream.Recv()
	if err != nil {
		return err
	}
	f, err := createTarget(s.job, int(chunk.GetFile()))
	if err != nil {
		return err
	}
	n, err := storeChunks(stream, chunk, f)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return stream.SendAndClose(&benchpb.Stored{Bytes: n})
}

func storeChunks(stream benchpb.Bench_UploadServer, chunk *benchpb.Chunk, f io.Writer) (written int64, err error) {
	for {
		n, err := f.Write(chunk.GetData())
		written += int64(n)
		if err != nil {
			return written, err
		}
		chunk, err = stream.Recv()
		if errors.Is(err, io.EOF) {
			return written, nil
		}
		if err != nil {
			return written, err
		}
	}
}

// callFault gives the status of a call its kind.
func callFault(op string, err error) error {
	kind := fault.KindOf(err)
	switch status.Code(err) {
	case codes.Unavailable:
		kind = fault.Lost
	case codes.Canceled:
		kind = fault.Canceled
	case codes.DeadlineExceeded:
		kind = fault.Deadline
	}
	return fault.New(op, kind, "%w", err)
}
