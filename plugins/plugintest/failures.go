package plugintest

import (
	"errors"
	"fmt"
	"io"

	"github.com/pannier/pannier/spec/fault"
)

// failures are the checks in which the server or the plugin's process fails.
var failures = []check{
	{Server, "cut while reading", func(t *try) error {
		if t.h.Cut == nil {
			return skip("the harness cannot cut the server's connections")
		}
		return t.brokenRead(t.h.Cut, retried)
	}},
	{Server, "cut while writing", func(t *try) error {
		if t.h.Cut == nil {
			return skip("the harness cannot cut the server's connections")
		}
		return t.brokenWrite(t.h.Cut, retried)
	}},
	{Process, "killed while reading", func(t *try) error {
		if t.h.Kill == nil {
			return skip("the harness has no process to kill")
		}
		return t.brokenRead(t.h.Kill, []fault.Kind{fault.Lost})
	}},
	{Process, "killed while writing", func(t *try) error {
		if t.h.Kill == nil {
			return skip("the harness has no process to kill")
		}
		return t.brokenWrite(t.h.Kill, []fault.Kind{fault.Lost})
	}},
	{Process, "stopped while reading", func(t *try) error {
		if t.h.Hang == nil {
			return skip("the harness has no process to stop")
		}
		return t.brokenRead(t.h.Hang, []fault.Kind{fault.Lost, fault.DeadPeer})
	}},
	{Process, "stopped while writing", func(t *try) error {
		if t.h.Hang == nil {
			return skip("the harness has no process to stop")
		}
		return t.brokenWrite(t.h.Hang, []fault.Kind{fault.Lost, fault.DeadPeer})
	}},
}

// brokenRead has something happen in the middle of a file, which must not end well.
func (t *try) brokenRead(happen func() error, kinds []fault.Kind) error {
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
	if _, err := io.CopyN(io.Discard, r, 1<<20); err != nil {
		return err
	}
	if err := happen(); err != nil {
		return err
	}
	n, err := io.Copy(io.Discard, r)
	if err == nil {
		err = r.Close()
	} else {
		_ = r.Close()
	}
	if err := want(fmt.Sprintf("reading, of which %d bytes more came,", n), err, kinds...); err != nil {
		return err
	}
	return errors.Join(t.login(), t.same(name, b))
}

// brokenWrite is the same for a file that is written: there is none after.
func (t *try) brokenWrite(happen func() error, kinds []fault.Kind) error {
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
	if err := want("writing and committing", err, kinds...); err != nil {
		return err
	}
	_, _ = s.Abort(t.ctx, false)
	if err := errors.Join(t.login(), t.absent(name)); err != nil {
		return err
	}
	return errors.Join(t.put(name, piece), t.same(name, piece))
}
