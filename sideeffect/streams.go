package sideeffect

import (
	"errors"
	"io"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pannier/pannier/spec/fault"
)

// deadliner is what connections, pipes and terminals have: a way to end a call
// that waits.
type deadliner interface{ SetDeadline(time.Time) error }

// past is a deadline that is over.
func past() time.Time { return time.Unix(1, 0) }

// reader is an io.Reader.
type reader struct {
	r    io.Reader
	size int64
}

// Reader is what r gives from where it stands: size bytes, or up to io.EOF with
// size -1. Any other error of r fails the effect, io.ErrUnexpectedEOF and one that comes with the last bytes included. It is
// read once and in order, so it cannot be sent again after a lost
// connection or resumed. r stays the caller's and is not closed. A Read that
// blocks is ended on cancellation only if r has SetDeadline (as net.Conn and
// os.File have) or Interrupt(); otherwise the effect ends when Read returns.
func Reader(r io.Reader, size int64) Identity { return reader{r, size} }

func (r reader) String() string { return "reader" }

func (r reader) OpenSource(spec SourceSpec) (Source, error) {
	switch {
	case r.r == nil || r.size < -1:
		return nil, fault.NewLocal("open source", fault.Invalid, "a reader needs a non-nil io.Reader and a size of -1 or more")
	case spec.Offset != 0:
		return nil, fault.NewLocal("open source", fault.Invalid, "a reader begins where it stands").Advise("set Offset to 0")
	}
	return &readerSource{r: r.r, size: r.size}, nil
}

func (r reader) OpenSink(SinkSpec) (Sink, error) {
	return nil, fault.NewLocal("open sink", fault.Invalid, "a Reader cannot be written to: use Writer, File, Memory or Buffer as the sink's Local")
}

// readerSource reads a stream in order.
type readerSource struct {
	r    io.Reader
	size int64 // -1 unknown
	at   int64
	done bool // io.EOF was seen
	stop atomic.Bool
}

func (s *readerSource) Size() int64      { return s.size }
func (s *readerSource) Rewindable() bool { return false }
func (s *readerSource) Version() Version { return Version{} }
func (s *readerSource) Check() error     { return nil }
func (s *readerSource) Close() error     { return nil }

func (s *readerSource) Interrupt() {
	s.stop.Store(true)
	interrupt(s.r)
}

func (s *readerSource) ReadBlock(p []byte, off int64) (int, error) {
	if off != s.at {
		return 0, fault.NewLocal("read source", fault.Unsupported,
			"a reader cannot be read again from byte %d, it is at %d: use a File or Memory to survive lost connections", off, s.at)
	}
	if s.size >= 0 {
		p = p[:min(int64(len(p)), s.size-s.at)]
	}
	if s.done {
		return 0, io.EOF
	}
	n, err := s.fill(p)
	s.at += int64(n)
	switch {
	case err == io.EOF:
		s.done = true
		if s.size >= 0 && s.at < s.size {
			return n, fault.New("read source", fault.SourceChanged, "it ended after %d of %d bytes", s.at, s.size)
		}
		return n, io.EOF
	case err != nil:
		return n, fault.Wrap("read source", "", err)
	case s.at == s.size:
		return n, io.EOF
	}
	return n, nil
}

// fill reads until p is full, and not on when it is interrupted. Unlike io.ReadFull it keeps the
// reader's error whatever came with it: io.ErrUnexpectedEOF is how readers say that their content is not whole.
func (s *readerSource) fill(p []byte) (total int, err error) {
	for vain := 0; total < len(p) && err == nil; {
		if s.stop.Load() {
			return total, fault.New("read source", fault.Canceled, "the reading was interrupted")
		}
		n := 0
		if n, err = s.r.Read(p[total:]); n < 0 || n > len(p)-total {
			return total, badCount("read source", n, len(p)-total)
		}
		total += n
		if vain++; n > 0 {
			vain = 0
		}
		if vain == mostVain && err == nil {
			err = io.ErrNoProgress
		}
	}
	return total, err
}

// mostVain is how many Reads in a row may bring nothing and say nothing, as of package bufio: otherwise a
// reader that does not do anything else would never be given up.
const mostVain = 100

// badCount is a reader or writer of the user's that breaks its contract.
func badCount(op string, n, most int) error {
	return fault.NewLocal(op, fault.Invalid, "it says that it has moved %d of %d bytes", n, most)
}

// writerIdentity is an io.Writer.
type writerIdentity struct{ w io.Writer }

// Writer takes the bytes in order, as they arrive, before the transfer is known
// to succeed: what was written cannot be taken back. If w has Flush() error it
// is called at the end; if it has Sync() error, where bytes must be durable, so
// that os.Stdout is good for a file as for a pipe. w stays the caller's and is not closed. Modes do not matter; Offset must be 0.
func Writer(w io.Writer) Identity { return writerIdentity{w} }

func (w writerIdentity) String() string { return "writer" }

func (w writerIdentity) OpenSource(SourceSpec) (Source, error) {
	return nil, fault.NewLocal("open source", fault.Invalid, "a Writer cannot be read: use Reader, File, Memory or Buffer as the source's Local")
}

func (w writerIdentity) OpenSink(spec SinkSpec) (Sink, error) {
	if w.w == nil {
		return nil, fault.NewLocal("open sink", fault.Invalid, "a writer needs a non-nil io.Writer")
	}
	if err := checkUnkept(spec); err != nil {
		return nil, err
	}
	if spec.Offset != 0 {
		return nil, fault.NewLocal("open sink", fault.Invalid, "a writer begins where it stands").Advise("set Offset to 0")
	}
	return &writerSink{w: w.w, noSync: spec.NoSync}, nil
}

// writerSink writes a stream.
type writerSink struct {
	w      io.Writer
	noSync bool
	end    int64
	err    error
}

func (s *writerSink) Offset() int64    { return 0 }
func (s *writerSink) Abort(bool) error { return nil }
func (s *writerSink) Close() error     { return nil }

func (s *writerSink) Interrupt() { interrupt(s.w) }

func (s *writerSink) WriteBlock(p []byte, off int64) error {
	switch {
	case s.err != nil:
		return s.err
	case off != s.end:
		return fault.New("write block", fault.Internal, "block at %d, the next one is %d", off, s.end)
	}
	n, err := s.w.Write(p)
	switch {
	case n < 0 || n > len(p):
		err = badCount("write block", n, len(p))
	case err == nil && n < len(p):
		err = &fault.Error{Op: "write block", Kind: fault.IO, Err: io.ErrShortWrite}
	}
	if err != nil {
		s.err = fault.Wrap("write block", "", err)
		return s.err
	}
	s.end += int64(n)
	return nil
}

func (s *writerSink) Sync() (int64, error) {
	if s.err == nil {
		s.err = s.settle(!s.noSync)
	}
	return s.end, s.err
}

func (s *writerSink) Commit() error {
	_, err := s.Sync()
	return err
}

// settle flushes and syncs what can be flushed and synced.
func (s *writerSink) settle(sync bool) error {
	if f, ok := s.w.(interface{ Flush() error }); ok {
		if err := f.Flush(); err != nil {
			return fault.Wrap("flush writer", "", err)
		}
	}
	f, ok := s.w.(interface{ Sync() error })
	if !ok || !sync {
		return nil
	}
	err := f.Sync()
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTSUP) {
		return nil // a pipe, terminal or socket: there is nothing that could be durable
	}
	return fault.Wrap("sync writer", "", err)
}
