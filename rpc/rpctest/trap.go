package rpctest

import (
	"bytes"
	"context"
	"os"
	"syscall"
	"testing"

	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

// TrapOffset: the original forgot the offset of what it carried inside a
// message.
func TrapOffset(t *testing.T, connect Connect) {
	b := connected(t, connect)
	b.each(t, func(t *testing.T, ctx context.Context, dir sideeffect.Direction, l lane) {
		s := newShelf(t, "")
		want := Content(l.size, true)
		s.put(t, "source", want)
		s.put(t, "sink", filler(500))
		x := between(dir, l.road, sideeffect.File(s.root, "source"), sideeffect.File(s.root, "sink"))
		x.source.Offset, x.sink.Offset, x.sink.Mode = 235, 100, sideeffect.AtOffset
		x.succeeded(t, b.move(ctx, "trap", x), l.size-235)
		got, _ := os.ReadFile(s.path("sink"))
		if !bytes.Equal(got, overlay(filler(500), want[235:], 100)) {
			t.Errorf("the sink holds %d bytes %.8x", len(got), got)
		}
	})
}

// TrapQuota: the original let any number of bytes pass inside a message.
func TrapQuota(t *testing.T, connect Connect) {
	b := connected(t, connect)
	b.each(t, func(t *testing.T, ctx context.Context, dir sideeffect.Direction, l lane) {
		for _, atSink := range []bool{false, true} {
			for _, policy := range []sideeffect.OverQuota{sideeffect.Fail, sideeffect.Cut} {
				s, want := newShelf(t, ""), Content(l.size, true)
				x := between(dir, l.road, sideeffect.Memory(want), sideeffect.File(s.root, "sink"))
				d := x.source
				if atSink {
					d = x.sink
				}
				d.Quota, d.OverQuota = int64(l.size-1), policy
				err := b.move(ctx, "trap", x)
				if policy == sideeffect.Fail {
					x.failed(t, err, fault.QuotaExceeded)
					if left := s.names(t); len(left) > 0 || !x.client.QuotaExceeded {
						t.Errorf("left %q, result %+v", left, x.client.Result)
					}
					continue
				}
				x.succeeded(t, err, l.size-1)
				if got, _ := os.ReadFile(s.path("sink")); !bytes.Equal(got, want[:l.size-1]) || !x.client.QuotaExceeded {
					t.Errorf("the sink holds %d bytes, result %+v", len(got), x.client.Result)
				}
			}
		}
	})
}

// TrapEarlySuccess: the original said success when the last byte was sent.
// Here the sink fails after that: at the sync, at the rename, at the sync of the
// directory.
func TrapEarlySuccess(t *testing.T, connect Connect) {
	b := connected(t, connect)
	b.each(t, func(t *testing.T, ctx context.Context, dir sideeffect.Direction, l lane) {
		for op, err := range map[string]syscall.Errno{
			"sync": syscall.EIO, "rename": syscall.ENOSPC, "sync directory": syscall.EIO,
		} {
			s := newShelf(t, "")
			s.put(t, "sink", filler(10))
			disk := Disk{Fail: func(o string) error {
				if o == op {
					return err
				}
				return nil
			}}
			x := between(dir, l.road, sideeffect.Memory(Content(l.size, true)), sideeffect.FileOn(disk, s.root, "sink"))
			x.failed(t, b.move(ctx, "trap", x), fault.KindOf(err))
			got, _ := os.ReadFile(s.path("sink"))
			if left := s.names(t); len(left) != 1 || op != "sync directory" && !bytes.Equal(got, filler(10)) {
				t.Errorf("%s: left %q, the old file has %d bytes", op, left, len(got))
			}
		}
	})
}

// TrapTruncation: in the original an offset of zero emptied the file.
func TrapTruncation(t *testing.T, connect Connect) {
	b := connected(t, connect)
	b.each(t, func(t *testing.T, ctx context.Context, dir sideeffect.Direction, l lane) {
		s, want := newShelf(t, ""), Content(l.size, true)
		s.put(t, "sink", filler(l.size+77))
		x := between(dir, l.road, sideeffect.Memory(want), sideeffect.File(s.root, "sink"))
		x.sink.Mode = sideeffect.AtOffset
		x.succeeded(t, b.move(ctx, "trap", x), l.size)
		if got, _ := os.ReadFile(s.path("sink")); !bytes.Equal(got, overlay(filler(l.size+77), want, 0)) {
			t.Errorf("the sink holds %d bytes", len(got))
		}
	})
}

// TrapPoison: in the original a lost transfer left the connection useless.
func TrapPoison(t *testing.T, connect Connect) {
	b := connected(t, connect)
	b.each(t, func(t *testing.T, ctx context.Context, dir sideeffect.Direction, l lane) {
		for range 3 {
			lost, cancel := context.WithCancel(ctx)
			x := between(dir, l.road, sideeffect.Memory(Content(l.size, true)), sideeffect.Writer(writer(func(p []byte) (int, error) {
				cancel()
				return 0, syscall.EIO
			})))
			x.failed(t, b.move(lost, "trap", x), fault.Canceled, fault.IO)
			cancel()
			b.works(ctx, t)
		}
	})
}

// writer is a function as an io.Writer.
type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

// TrapRefused: the original created the client's file before it knew that the
// server has none.
func TrapRefused(t *testing.T, connect Connect) {
	b := connected(t, connect)
	refusals := map[string]func(*sideeffect.Descriptor) handler{
		"handler": func(*sideeffect.Descriptor) handler {
			return func(context.Context) error { return fault.New("look", fault.NotFound, "no such film") }
		},
		"no file": func(d *sideeffect.Descriptor) handler { return runs(d, sideeffect.AwaitLocal) },
		"quota": func(d *sideeffect.Descriptor) handler {
			d.Local, d.Quota = sideeffect.Memory(Content(300<<10, true)), 10
			return runs(d, sideeffect.AwaitRemote)
		},
		"offset": func(d *sideeffect.Descriptor) handler {
			d.Local, d.Offset = sideeffect.Memory(Content(10, true)), 11
			return runs(d, sideeffect.AwaitLocal)
		},
	}
	for why, refusal := range refusals {
		for mode := sideeffect.Replace; mode <= sideeffect.AtOffset; mode++ {
			for _, old := range [][]byte{nil, filler(10)} {
				if mode == sideeffect.CreateNew && old != nil {
					continue
				}
				s := newShelf(t, "")
				if old != nil {
					s.put(t, "mine", old)
				}
				before := s.names(t)
				x := between(sideeffect.ServerToClient, sideeffect.RoadAuto, sideeffect.File(s.root, "missing"), sideeffect.File(s.root, "mine"))
				x.sink.Mode = mode
				err := b.call(within(t), "trap", refusal(x.server), x.client)
				x.failed(t, err, fault.NotFound, fault.QuotaExceeded, fault.Invalid, fault.NotStarted)
				got, _ := os.ReadFile(s.path("mine"))
				if left := s.names(t); len(left) != len(before) || !bytes.Equal(got, old) {
					t.Errorf("%s, %v: there was %q with %d bytes, and now %q with %d", why, mode, before, len(old), left, len(got))
				}
			}
		}
	}
	b.works(within(t), t)
}
