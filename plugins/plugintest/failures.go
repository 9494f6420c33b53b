package plugintest

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// server are the checks in which the server fails.
var server = []check{
	{Server, "cut while reading", func(t *try) error {
		if t.h.Cut == nil {
			return skip("the harness cannot cut the server's connections")
		}
		return t.brokenRead(t.h.Cut, retried, true)
	}},
	{Server, "cut while writing", func(t *try) error {
		if t.h.Cut == nil {
			return skip("the harness cannot cut the server's connections")
		}
		return t.brokenWrite(t.h.Cut, retried, true)
	}},
}

// process are those in which the plugin's process does.
var process = []check{
	{Process, "killed while reading", func(t *try) error {
		if t.h.Kill == nil {
			return skip("the harness has no process to kill")
		}
		return t.brokenRead(t.h.Kill, []fault.Kind{fault.Lost}, false)
	}},
	{Process, "killed while writing", func(t *try) error {
		if t.h.Kill == nil {
			return skip("the harness has no process to kill")
		}
		return t.brokenWrite(t.h.Kill, []fault.Kind{fault.Lost}, false)
	}},
	{Process, "killed, and gone on with", func(t *try) error {
		if t.h.Kill == nil {
			return skip("the harness has no process to kill")
		}
		return t.crashed()
	}},
	{Process, "stopped while reading", func(t *try) error {
		if t.h.Hang == nil {
			return skip("the harness has no process to stop")
		}
		return t.brokenRead(t.h.Hang, []fault.Kind{fault.Lost, fault.DeadPeer}, false)
	}},
	{Process, "stopped while writing", func(t *try) error {
		if t.h.Hang == nil {
			return skip("the harness has no process to stop")
		}
		return t.brokenWrite(t.h.Hang, []fault.Kind{fault.Lost, fault.DeadPeer}, false)
	}},
}

// brokenRead has something happen in the middle of a file, which must not end well: unless the
// driver can begin again where it was, and then it has to end with all bytes.
func (t *try) brokenRead(happen func() error, kinds []fault.Kind, again bool) error {
	name, b, err := t.sample(64 << 20)
	if err != nil {
		return err
	}
	if len(b) < 16<<20 {
		return skip("the sample is too small to be interrupted")
	}
	r, err := t.s.Read(t.ctx, name, 0)
	if err != nil {
		return err
	}
	head := make([]byte, 1<<20)
	if _, err := io.ReadFull(r, head); err != nil {
		return err
	}
	if err := happen(); err != nil {
		_ = r.Close()
		return err
	}
	rest, err := t.all(r)
	n := len(rest)
	if err == nil && again && bytes.Equal(head, b[:len(head)]) && bytes.Equal(rest, b[len(head):]) {
		return nil
	}
	if err := want(fmt.Sprintf("reading, of which %d bytes more came,", n), err, kinds...); err != nil {
		return err
	}
	return errors.Join(t.login(), t.same(name, b))
}

// crashed has the process killed in the middle of a file that was to be gone on with, and
// goes on.
func (t *try) crashed() error {
	if !t.can.Resume {
		return absent("the server cannot go on")
	}
	name, b := t.name("a"), content(24<<20+3, 10)
	s, err := t.begin(name, int64(len(b)))
	if err != nil {
		return err
	}
	c, ok := s.(plugins.Checkpointer)
	if !ok {
		return absent("it says nothing of going on after a crash")
	}
	var kept []byte
	for at := 0; at < 16<<20; at += 1 << 20 {
		if _, err := s.Write(b[at : at+1<<20]); err != nil {
			return err
		}
		if at == 8<<20 {
			if kept, err = c.Checkpoint(t.ctx); err != nil || len(kept) > plugins.MaxResume {
				return fmt.Errorf("checkpoint keeps %d bytes: %w", len(kept), err)
			}
		}
	}
	if len(kept) == 0 {
		return absent("it cannot go on after a crash")
	}
	if err := t.h.Kill(); err != nil {
		return err
	}
	_, _ = s.Abort(t.ctx, false)
	if t.h.Restart != nil { // another host, so to speak: one that has crashed too often is not started
		if err := t.h.Restart(t.ctx); err != nil {
			return err
		}
	}
	if err := errors.Join(t.login(), t.absent(name)); err != nil {
		return err
	}
	w, err := t.writer()
	if err != nil {
		return err
	}
	if s, err = w.Write(t.ctx, name, plugins.WriteRequest{Size: int64(len(b)), Resume: kept}); err != nil {
		return err
	}
	if s.Offset() < 0 || s.Offset() > 16<<20 {
		return fmt.Errorf("of 16 MiB that were sent it goes on at %d", s.Offset())
	}
	if _, err = s.Write(b[s.Offset():]); err == nil {
		_, err = s.Commit(t.ctx)
	}
	return errors.Join(err, t.same(name, b))
}

// brokenWrite is the same for a file that is written: there is none after.
func (t *try) brokenWrite(happen func() error, kinds []fault.Kind, again bool) error {
	name := t.name("a")
	s, err := t.begin(name, -1)
	if err != nil {
		return err
	}
	piece := content(1<<20, 9)
	if _, err := s.Write(piece); err != nil {
		return err
	}
	if err := happen(); err != nil {
		_, _ = s.Abort(t.ctx, false)
		return err
	}
	for range 64 {
		if _, err = s.Write(piece); err != nil {
			break
		}
	}
	if err == nil {
		_, err = s.Commit(t.ctx)
	}
	if err == nil && again {
		return t.same(name, bytes.Repeat(piece, 65))
	}
	if err := want("writing and committing", err, kinds...); err != nil {
		return err
	}
	_, _ = s.Abort(t.ctx, false)
	if err := errors.Join(t.login(), t.absent(name)); err != nil {
		return err
	}
	return errors.Join(t.put(name, piece), t.same(name, piece))
}
