package sideeffect

import (
	"bytes"
	"fmt"
	"io"
	"slices"

	"github.com/pannier/pannier/spec/fault"
)

// memory is a fixed buffer.
type memory struct{ buf []byte }

// Memory is the bytes of buf. As a source it is all of buf from Offset; as a sink it
// is room for len(buf) bytes, and one more is fault.NoSpace. Modes do not
// matter, except that AtOffset begins at Offset. Result.BytesTransferred tells
// how much was filled. buf must not be used otherwise while the effect runs; after a failure
// it holds some of the bytes.
func Memory(buf []byte) Identity { return memory{buf} }

func (m memory) String() string { return fmt.Sprintf("memory of %d bytes", len(m.buf)) }

func (m memory) OpenSource(spec SourceSpec) (Source, error) {
	return newBytesSource(m.buf, spec.Offset)
}

func (m memory) OpenSink(spec SinkSpec) (Sink, error) {
	if err := checkUnkept(spec); err != nil {
		return nil, err
	}
	if spec.Offset > int64(len(m.buf)) {
		return nil, fault.NewLocal("open sink", fault.Invalid, "offset %d is outside %v", spec.Offset, m)
	}
	return &memorySink{buf: m.buf[spec.Offset:], start: spec.Offset}, nil
}

// checkUnkept is checkSinkSpec for sinks that cannot be resumed.
func checkUnkept(spec SinkSpec) error {
	if spec.Keep {
		return fault.NewLocal("open sink", fault.Invalid, "only files by name can be resumed").Advise("set Resume to false")
	}
	return checkSinkSpec(spec)
}

// bytesSource reads memory.
type bytesSource struct{ b []byte }

func newBytesSource(b []byte, offset int64) (Source, error) {
	if offset < 0 || offset > int64(len(b)) {
		return nil, fault.NewLocal("open source", fault.Invalid,
			"offset %d is outside the memory of %d bytes", offset, len(b)).Advise("set Offset to 0..%d", len(b))
	}
	return bytesSource{b[offset:]}, nil
}

func (s bytesSource) Size() int64      { return int64(len(s.b)) }
func (s bytesSource) Rewindable() bool { return true }
func (s bytesSource) Version() Version { return Version{} }
func (s bytesSource) Check() error     { return nil }
func (s bytesSource) Close() error     { return nil }

func (s bytesSource) ReadBlock(p []byte, off int64) (int, error) {
	if off < 0 || off >= int64(len(s.b)) {
		return 0, io.EOF
	}
	n := copy(p, s.b[off:])
	if off+int64(n) == int64(len(s.b)) {
		return n, io.EOF
	}
	return n, nil
}

// memorySink fills a fixed buffer.
type memorySink struct {
	buf   []byte
	start int64
	end   int64
}

func (s *memorySink) Offset() int64        { return s.start }
func (s *memorySink) Sync() (int64, error) { return s.end, nil }
func (s *memorySink) Commit() error        { return nil }
func (s *memorySink) Abort(bool) error     { return nil }
func (s *memorySink) Close() error         { return nil }

func (s *memorySink) WriteBlock(p []byte, off int64) error {
	if off != s.end {
		return fault.New("write block", fault.Internal, "block at %d, the next one is %d", off, s.end)
	}
	if int64(len(p)) > int64(len(s.buf))-off {
		return fault.NewLocal("write block", fault.NoSpace, "the buffer holds %d bytes, byte %d is too much: give Memory a longer one",
			len(s.buf), off+int64(len(p)))
	}
	s.end += int64(copy(s.buf[off:], p))
	return nil
}

// growable is a bytes.Buffer.
type growable struct{ b *bytes.Buffer }

// Buffer is the unread content of b. As a source it is read without being
// consumed. As a sink it grows as bytes arrive, and b changes only on
// success: Replace and Truncate give it new content, CreateNew wants it empty,
// Append adds, AtOffset overwrites from Offset on. b must not be used otherwise
// while the effect runs. The quota is what bounds its memory.
func Buffer(b *bytes.Buffer) Identity { return growable{b} }

func (g growable) String() string { return "buffer" }

// given is an error unless there is a buffer.
func (g growable) given(op string) error {
	if g.b == nil {
		return fault.NewLocal(op, fault.Invalid, "Buffer of nil: give it a *bytes.Buffer")
	}
	return nil
}

func (g growable) OpenSource(spec SourceSpec) (Source, error) {
	if err := g.given("open source"); err != nil {
		return nil, err
	}
	return newBytesSource(g.b.Bytes(), spec.Offset)
}

func (g growable) OpenSink(spec SinkSpec) (Sink, error) {
	if err := checkUnkept(spec); err != nil {
		return nil, err
	}
	if err := g.given("open sink"); err != nil {
		return nil, err
	}
	s := &bufferSink{target: g.b}
	switch {
	case spec.Mode == CreateNew && g.b.Len() > 0:
		return nil, fault.NewLocal("open sink", fault.Exists, "the buffer holds %d bytes", g.b.Len())
	case spec.Mode == Append:
		s.stage = slices.Clone(g.b.Bytes())
		s.start = int64(len(s.stage))
	case spec.Mode == AtOffset && spec.Offset > int64(g.b.Len()):
		return nil, fault.NewLocal("open sink", fault.Invalid, "offset %d is outside the buffer of %d bytes", spec.Offset, g.b.Len())
	case spec.Mode == AtOffset:
		s.stage = slices.Clone(g.b.Bytes())
		s.start = spec.Offset
	}
	return s, nil
}

// bufferSink stages content until Commit.
type bufferSink struct {
	target *bytes.Buffer
	stage  []byte
	start  int64
	end    int64
}

func (s *bufferSink) Offset() int64        { return s.start }
func (s *bufferSink) Sync() (int64, error) { return s.end, nil }
func (s *bufferSink) Abort(bool) error     { s.stage = nil; return nil }
func (s *bufferSink) Close() error         { return nil }

func (s *bufferSink) WriteBlock(p []byte, off int64) error {
	if off != s.end {
		return fault.New("write block", fault.Internal, "block at %d, the next one is %d", off, s.end)
	}
	over := copy(s.stage[s.start+off:], p)
	s.stage = append(s.stage, p[over:]...)
	s.end += int64(len(p))
	return nil
}

func (s *bufferSink) Commit() error {
	*s.target = *bytes.NewBuffer(s.stage)
	return nil
}
