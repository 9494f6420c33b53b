package bench

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"sync"

	"github.com/pannier/pannier/spec/fault"
)

// rawBuffer is how much a raw baseline reads and writes at once.
const rawBuffer = 1 << 20

// rawHeaderSize is what precedes a file: number of the file (8 bytes, big
// endian), bytes of the file (8). The answer is the bytes written (8).
const rawHeaderSize = 16

// rawCase is the floor: read and write, one connection for each file, no
// digest, no credit. sendfile and splice are kept out (plainReader), because a
// transfer that looks at its bytes cannot use them.
type rawCase struct {
	name string
	tls  bool // TLS 1.3 as crypto/tls does it by default
}

var (
	rawTCP = rawCase{name: "raw-tcp"}
	rawTLS = rawCase{name: "raw-tls", tls: true}
)

// baselines are the transfers without Pannier.
func baselines() []Case { return []Case{rawTCP, rawTLS, chunk64k, chunk1m} }

func (c rawCase) Name() string { return c.name }

func (c rawCase) Serve(ctx context.Context, job Job, ready func(string)) error {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return fault.Wrap("listen", c.name, err)
	}
	if c.tls {
		cfg, err := serverTLS(job)
		if err != nil {
			return errors.Join(err, l.Close())
		}
		l = tls.NewListener(l, cfg)
	}
	defer context.AfterFunc(ctx, func() { l.Close() })()
	ready(l.Addr().String())
	var conns sync.WaitGroup
	defer conns.Wait()
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fault.Wrap("accept", c.name, err)
		}
		conns.Go(func() {
			defer context.AfterFunc(ctx, func() { conn.Close() })()
			defer conn.Close()
			// A failure shows at the other end, as a missing answer.
			_ = receiveRaw(conn, job)
		})
	}
}

// receiveRaw writes one file after the other until the connection ends.
func receiveRaw(conn net.Conn, job Job) error {
	buf := make([]byte, rawBuffer)
	for {
		var head [rawHeaderSize]byte
		if _, err := io.ReadFull(conn, head[:]); err != nil {
			return err
		}
		i, size := int(binary.BigEndian.Uint64(head[:8])), int64(binary.BigEndian.Uint64(head[8:]))
		f, err := createTarget(job, i)
		if err != nil {
			return err
		}
		n, err := copyPlain(f, io.LimitReader(conn, size), buf)
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
		if _, err := conn.Write(binary.BigEndian.AppendUint64(nil, uint64(n))); err != nil {
			return err
		}
	}
}

func (c rawCase) Connect(ctx context.Context, job Job, addr string) (Client, error) {
	client := &rawClient{job: job}
	for range job.Concurrent {
		conn, err := c.dial(ctx, job, addr)
		if err != nil {
			return nil, errors.Join(fault.Wrap("connect", addr, err), client.Close())
		}
		client.conns = append(client.conns, conn)
	}
	return client, nil
}

func (c rawCase) dial(ctx context.Context, job Job, addr string) (net.Conn, error) {
	if !c.tls {
		return new(net.Dialer).DialContext(ctx, "tcp", addr)
	}
	cfg, err := clientTLS(job)
	if err != nil {
		return nil, err
	}
	return (&tls.Dialer{Config: cfg}).DialContext(ctx, "tcp", addr)
}

// rawClient has one connection for each file that moves at the same time.
type rawClient struct {
	job   Job
	conns []net.Conn
}

func (r *rawClient) Move(ctx context.Context, i int) error {
	conn := r.conns[i%len(r.conns)]
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	f, err := os.Open(r.job.Source())
	if err != nil {
		return fault.Wrap("open source", "", err)
	}
	defer f.Close()
	head := binary.BigEndian.AppendUint64(nil, uint64(i))
	head = binary.BigEndian.AppendUint64(head, uint64(r.job.Size))
	if _, err := conn.Write(head); err != nil {
		return fault.Wrap("send header", "", err)
	}
	sent, err := copyPlain(conn, f, make([]byte, rawBuffer))
	if err != nil {
		return fault.Wrap("send file", "", err)
	}
	var answer [8]byte
	if _, err := io.ReadFull(conn, answer[:]); err != nil {
		return fault.Wrap("wait for answer", "", lostAtEOF(err))
	}
	return sameLength(sent, int64(binary.BigEndian.Uint64(answer[:])))
}

func (r *rawClient) Close() error {
	var errs []error
	for _, conn := range r.conns {
		errs = append(errs, conn.Close())
	}
	return errors.Join(errs...)
}

// copyPlain is io.CopyBuffer without the shortcuts into the kernel: it hides
// ReadFrom and WriteTo of both ends.
func copyPlain(dst io.Writer, src io.Reader, buf []byte) (int64, error) {
	return io.CopyBuffer(struct{ io.Writer }{dst}, struct{ io.Reader }{src}, buf)
}

// lostAtEOF gives the end of a connection its kind.
func lostAtEOF(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fault.New("read", fault.Lost, "the other end closed the connection before its answer")
	}
	return err
}

// sameLength compares what was sent with what the other end says it wrote.
func sameLength(sent, written int64) error {
	if sent != written {
		return fault.New("move file", fault.Corrupt, "sent %d bytes, the other end wrote %d", sent, written)
	}
	return nil
}

// createTarget makes the i-th target; that it exists already is an error,
// because the figures are those of new files.
func createTarget(job Job, i int) (*os.File, error) {
	f, err := os.OpenFile(job.Target(i), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	return f, fault.Wrap("create target", "", err)
}
