package sideeffect

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"github.com/pannier/pannier/spec/fault"
)

// pipeBuffer is the bytes one direction of a pipe moves at once.
const pipeBuffer = 32 << 10

// A Conduit is a byte stream whose two directions end separately, as net.TCPConn
// and the byte streams of a session are.
type Conduit interface {
	io.ReadWriteCloser
	CloseWrite() error
}

// PipePlan limits a pipe. NoQuota = none; 0 allows no byte.
type PipePlan struct {
	QuotaOut  int64 // bytes from local to the conduit
	QuotaIn   int64 // bytes from the conduit to local
	OverQuota OverQuota
}

// PipePlan is the plan of a descriptor of kind "pipe": Quota each way.
func (d *Descriptor) PipePlan() PipePlan {
	return PipePlan{QuotaOut: d.Quota, QuotaIn: d.Quota, OverQuota: d.OverQuota}
}

// PipeOutcome counts both ways, in bytes.
type PipeOutcome struct {
	Out, In       int64
	QuotaExceeded bool
}

// duplexer is an identity with both directions.
type duplexer interface {
	duplex() (io.Reader, io.Writer, error)
}

type duplex struct {
	r io.Reader
	w io.Writer
}

// Duplex is the local end of a pipe: what r gives goes to the peer, what the
// peer gives goes to w. r and w may be one connection. They stay the caller's; when the
// peer has ended its direction, CloseWrite of w is called if it has one.
// A Read or Write that blocks is ended on cancellation only if it has
// SetDeadline or Interrupt(); the pipe's end waits for it otherwise.
func Duplex(r io.Reader, w io.Writer) Identity { return duplex{r, w} }

func (d duplex) String() string { return "duplex" }

func (d duplex) OpenSource(SourceSpec) (Source, error) {
	return nil, fault.NewLocal("open source", fault.Invalid, "a Duplex is for Kind %q: use Reader for a transfer", KindPipe)
}

func (d duplex) OpenSink(SinkSpec) (Sink, error) {
	return nil, fault.NewLocal("open sink", fault.Invalid, "a Duplex is for Kind %q: use Writer for a transfer", KindPipe)
}

func (d duplex) duplex() (io.Reader, io.Writer, error) {
	if d.r == nil || d.w == nil {
		return nil, nil, fault.NewLocal("open pipe", fault.Invalid, "a Duplex needs a reader and a writer")
	}
	return d.r, d.w, nil
}

func (o openFile) duplex() (io.Reader, io.Writer, error) {
	if o.f == nil {
		return nil, nil, fault.NewLocal("open pipe", fault.Invalid, "FD of a nil file")
	}
	return o.f, o.f, nil
}

// PipeAll copies both ways between local and conn until both directions have
// ended, each passing on its end (half-close), or until ctx, an error or a
// quota ends both. conn is closed when it returns, and both of its goroutines are
// over; a panic of local's reader or writer is raised then. Over quota, with Fail, is fault.QuotaExceeded; with Cut, the direction
// ends after exactly quota bytes.
func PipeAll(ctx context.Context, conn Conduit, local Identity, p PipePlan) (PipeOutcome, error) {
	defer conn.Close()
	d, ok := local.(duplexer)
	if !ok {
		return PipeOutcome{}, fault.NewLocal("open pipe", fault.Invalid, "a pipe needs both directions: set Local to Duplex or FD")
	}
	r, w, err := d.duplex()
	if err != nil {
		return PipeOutcome{}, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := atEnd(ctx, func() {
		conn.Close()
		interrupt(r)
		interrupt(w)
	})
	out := &pipeWay{from: r, to: conn, quota: p.QuotaOut, policy: p.OverQuota}
	in := &pipeWay{from: conn, to: w, quota: p.QuotaIn, policy: p.OverQuota}
	var both sync.WaitGroup
	var panicked atomic.Pointer[Panic]
	for _, way := range []*pipeWay{out, in} {
		both.Go(func() {
			var err error = fault.New("pipe", fault.Internal, "it panicked")
			defer func() {
				if p := PanicOf(recover()); p != nil {
					panicked.CompareAndSwap(nil, p)
				}
				if err != nil {
					cancel(err)
				}
			}()
			err = way.copy()
		})
	}
	both.Wait()
	stop()
	if p := panicked.Load(); p != nil {
		panic(p)
	}
	return PipeOutcome{Out: out.n, In: in.n, QuotaExceeded: out.over || in.over}, fault.Wrap("pipe", "", context.Cause(ctx))
}

// interrupt ends a blocked call on x, if x has a way.
func interrupt(x any) {
	switch i := x.(type) {
	case Interrupter:
		i.Interrupt()
	case deadliner:
		_ = i.SetDeadline(past())
	}
}

// pipeWay is one direction of a pipe.
type pipeWay struct {
	from   io.Reader
	to     io.Writer
	quota  int64
	policy OverQuota
	n      int64
	over   bool
}

// copy moves bytes as they come, then ends the other side's direction.
func (w *pipeWay) copy() error {
	buf := make([]byte, pipeBuffer)
	for vain := 0; ; {
		n, err := w.from.Read(buf)
		if n < 0 || n > len(buf) {
			return badCount("read pipe", n, len(buf))
		}
		if vain++; n > 0 {
			vain = 0
		}
		if vain == mostVain && err == nil {
			err = io.ErrNoProgress
		}
		if passErr := w.pass(buf[:n]); passErr != nil {
			return passErr
		}
		if err == io.EOF || w.over {
			return w.end()
		}
		if err != nil {
			return fault.Wrap("read pipe", "", err)
		}
	}
}

// pass writes p, or what the quota leaves of it.
func (w *pipeWay) pass(p []byte) error {
	if w.quota >= 0 && w.n+int64(len(p)) > w.quota {
		w.over = true
		if w.policy == Fail {
			return ownQuota("pipe", w.n+int64(len(p)), w.quota)
		}
		p = p[:w.quota-w.n]
	}
	if len(p) == 0 {
		return nil
	}
	n, err := w.to.Write(p)
	if n < 0 || n > len(p) {
		return badCount("write pipe", n, len(p))
	}
	w.n += int64(n)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	return fault.Wrap("write pipe", "", err)
}

// end half-closes the receiving side.
func (w *pipeWay) end() error {
	c, ok := w.to.(interface{ CloseWrite() error })
	if !ok {
		return nil
	}
	if err := c.CloseWrite(); err != nil && !errors.Is(err, io.ErrClosedPipe) {
		return fault.Wrap("end pipe", "", err)
	}
	return nil
}
