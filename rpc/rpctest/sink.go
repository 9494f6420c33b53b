package rpctest

import (
	"bytes"
	"os"
	"slices"
	"testing"

	"github.com/pannier/pannier/sideeffect"
)

// sink is what a case writes to, before and after.
type sink struct {
	identity sideeffect.Identity
	before   State
	after    func() State
	done     func()
}

// filler is what sinks hold before; it occurs in no content.
func filler(n int) []byte { return bytes.Repeat([]byte{0xEE}, n) }

// sink makes the sink of a case to which moved bytes go.
func (s *shelf) sink(t testing.TB, c Case, moved int64) sink {
	t.Helper()
	k := sink{done: func() {}, before: State{Content: filler(c.held())}}
	k.before.Exists = len(k.before.Content) > 0
	switch c.Sink {
	case ToExact, ToSmall, ToLarge:
		k.memory(c, moved)
	case ToBuffer, ToWriter:
		b := bytes.NewBuffer(slices.Clone(k.before.Content))
		k.before.Exists = true
		k.identity = sideeffect.Buffer(b)
		if c.Sink == ToWriter {
			k.identity = sideeffect.Writer(b)
		}
		k.after = func() State { return State{true, b.Bytes()} }
	default:
		s.fileSink(t, c, &k)
	}
	return k
}

func (k *sink) memory(c Case, moved int64) {
	n := c.sinkOffset() + moved
	switch {
	case c.Sink == ToSmall && moved > 0:
		n--
	case c.Sink == ToLarge:
		n += 10
	}
	buf := filler(int(n))
	k.before = State{true, filler(int(n))}
	k.identity = sideeffect.Memory(buf)
	k.after = func() State { return State{true, buf} }
}

func (s *shelf) fileSink(t testing.TB, c Case, k *sink) {
	t.Helper()
	if c.Sink != ToFile {
		k.before.Exists = true
	}
	if k.before.Exists {
		s.put(t, "sink", k.before.Content)
	}
	k.after = func() State {
		b, err := os.ReadFile(s.path("sink"))
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		return State{err == nil, b}
	}
	switch c.Sink {
	case ToFile:
		k.identity = sideeffect.File(s.root, "sink")
	case ToFD:
		f := s.open(t, "sink", os.O_RDWR)
		k.identity, k.done = sideeffect.FD(f), func() { f.Close() }
	case ToHandle:
		id, mount := s.handle(t, "sink")
		k.identity, k.done = id, func() { mount.Close() }
	}
}
