package plugintest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// core are the checks of reading, which every bridge has to pass.
var core = []check{
	{Core, "capabilities", func(t *try) error {
		return errors.Join(
			has[plugins.Writer](t, "write", t.can.Write), has[plugins.Lister](t, "list", t.can.List), has[plugins.Renamer](t, "rename", t.can.Rename),
			has[plugins.Remover](t, "remove", t.can.Remove), has[plugins.Maker](t, "mkdir", t.can.Mkdir),
			has[plugins.Checksummer](t, "checksums", len(t.can.Checksums) > 0), has[plugins.Copier](t, "copy", t.can.Copy),
			t.claimed())
	}},
	{Core, "missing file", func(t *try) error {
		name := t.base + "missing"
		_, err := t.read(t.ctx, name, 0)
		return errors.Join(t.absent(name), want("reading it", err, fault.NotFound))
	}},
	{Core, "sizes", func(t *try) error {
		if _, err := t.writer(); err != nil {
			name, b, err := t.sample(0)
			if err != nil {
				return err
			}
			return t.same(name, b)
		}
		for i, n := range []int{0, 1, plugins.MaxChunk + 1, plugins.BlockSize, plugins.BlockSize + 1, 3 << 20} {
			name, b := t.name(fmt.Sprint("size", n)), content(n, byte(i))
			if err := errors.Join(t.put(name, b), t.same(name, b)); err != nil {
				return err
			}
		}
		return nil
	}},
	{Core, "offsets", func(t *try) error {
		name, b, err := t.sample(100_000)
		if err != nil {
			return err
		}
		_, err = t.read(t.ctx, name, -1)
		if err := want("reading from offset -1", err, fault.Invalid); err != nil {
			return err
		}
		if !t.can.Offsets {
			_, err = t.read(t.ctx, name, 1)
			return want("reading from an offset, which the capabilities do not list,", err, fault.Unsupported)
		}
		for _, offset := range []int{1, len(b) / 2, len(b) - 1, len(b)} {
			if got, err := t.read(t.ctx, name, int64(offset)); err != nil || !bytes.Equal(got, b[offset:]) {
				return fmt.Errorf("from offset %d of %d come %d bytes, or not the right ones: %w", offset, len(b), len(got), err)
			}
		}
		_, err = t.read(t.ctx, name, int64(len(b))+1)
		return want("reading from beyond the end", err, fault.Invalid)
	}},
	{Core, beyondCheck, func(t *try) error {
		size := beyond
		name := t.name("sparse")
		switch {
		case t.h.Sparse != nil:
			if err := t.h.Sparse(name, size); err != nil {
				return err
			}
		case !t.h.Large:
			return skip("the harness makes no sparse files, and more than 4 GiB may not be written")
		default:
			if err := t.zeros(name, size); err != nil {
				return err
			}
		}
		a, err := t.s.Stat(t.ctx, name)
		if err != nil || a.Size >= 0 && a.Size != size {
			return fmt.Errorf("stat says %+v of a file of %d bytes: %w", a, size, err)
		}
		if !t.can.Offsets {
			return absent("the server reads from the beginning only")
		}
		got, err := t.read(t.ctx, name, size-5)
		if err != nil || len(got) != 5 {
			return fmt.Errorf("5 bytes from the end of 4 GiB and 7 come %d: %w", len(got), err)
		}
		return nil
	}},
	{Core, "quota", func(t *try) error {
		l, ok := t.s.(plugins.Limiter)
		if !ok {
			return skip("the session is not of package host, which counts")
		}
		name, b, err := t.sample(100_000)
		if err != nil {
			return err
		}
		for _, more := range []int{-len(b), -1, 0, 1} {
			quota := int64(len(b) + more)
			var got []byte
			r, err := l.ReadAtMost(t.ctx, name, 0, quota)
			if err == nil {
				got, err = t.all(r)
			}
			switch {
			case more < 0 && int64(len(got)) > quota:
				return fmt.Errorf("%d bytes come with a quota of %d", len(got), quota)
			case more < 0:
				if err := want(fmt.Sprintf("reading %d bytes with a quota of %d", len(b), quota), err, fault.QuotaExceeded); err != nil {
					return err
				}
			case err != nil || !bytes.Equal(got, b):
				return fmt.Errorf("with a quota of %d for %d bytes come %d: %w", quota, len(b), len(got), err)
			}
		}
		return nil
	}},
	{Core, "names that are none", func(t *try) error {
		for _, name := range []string{"", "a", "/a/../b", "/..", "/./a", "//a", "/a/", "/a\r\nDELE b", "/a\x00b", "/\xff", "/a\x7f", "/" + strings.Repeat("a", plugins.MaxName)} {
			_, err := t.s.Stat(t.ctx, name)
			_, readErr := t.s.Read(t.ctx, name, 0)
			if err := errors.Join(want(fmt.Sprintf("stat of %.40q", name), err, fault.Invalid), want(fmt.Sprintf("reading %.40q", name), readErr, fault.Invalid)); err != nil {
				return err
			}
		}
		return nil
	}},
	{Core, "closed early", func(t *try) error {
		name, b, err := t.sample(8 << 20)
		if err != nil {
			return err
		}
		r, err := t.s.Read(t.ctx, name, 0)
		if err != nil {
			return err
		}
		if _, err := io.ReadFull(r, make([]byte, min(1, len(b)))); err != nil {
			return err
		}
		if err := r.Close(); err == nil && len(b) > 1<<20 {
			return errors.New("closing a reader before its end succeeds: nobody could tell that from the end")
		}
		return t.same(name, b)
	}},
	{Core, "cancelled", func(t *try) error {
		name, b, err := t.sample(8 << 20)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithCancel(t.ctx)
		defer cancel()
		r, err := t.s.Read(ctx, name, 0)
		if err != nil {
			return err
		}
		cancel()
		if _, err = t.all(r); len(b) > 1<<20 {
			if err := want("reading after the context has ended", err, fault.Canceled); err != nil {
				return err
			}
		}
		return t.same(name, b)
	}},
	{Core, "20 at once", func(t *try) error {
		name, b, err := t.sample(300_000)
		if err != nil {
			return err
		}
		var all sync.WaitGroup
		failed := make([]error, 20)
		for i := range failed {
			all.Go(func() { failed[i] = t.same(name, b) })
		}
		all.Wait()
		return errors.Join(failed...)
	}},
}

// has is nil if what the capabilities list is there.
func has[T any](t *try, what string, listed bool) error {
	if _, ok := t.s.(T); listed && !ok {
		return fmt.Errorf("the capabilities list %s, and the session has no such method", what)
	}
	return nil
}

// claimed tries what the capabilities list on a file that is not there: anything but
// Unsupported may come of it. And what they do not list, where the session has it.
func (t *try) claimed() error {
	name := t.base + "missing"
	type call struct {
		what   string
		listed bool
		err    error
	}
	var calls []call
	if l, ok := t.s.(plugins.Lister); ok {
		var err error
		for _, err = range l.List(t.ctx, name) {
			if err != nil {
				break
			}
		}
		calls = append(calls, call{"list", t.can.List, err})
	}
	if r, ok := t.s.(plugins.Renamer); ok {
		calls = append(calls, call{"rename", t.can.Rename, r.Rename(t.ctx, name, name+"2")})
	}
	if r, ok := t.s.(plugins.Remover); ok {
		calls = append(calls, call{"remove", t.can.Remove, r.Remove(t.ctx, name)})
	}
	if c, ok := t.s.(plugins.Checksummer); ok {
		for _, algorithm := range t.can.Checksums {
			_, err := c.Checksum(t.ctx, name, algorithm, -1)
			calls = append(calls, call{"checksum " + algorithm, true, err})
		}
		_, err := c.Checksum(t.ctx, name, "none-such", -1)
		calls = append(calls, call{"checksum none-such", false, err})
	}
	for _, c := range calls {
		if c.err == nil {
			return fmt.Errorf("%s of a file that is not there succeeds", c.what)
		}
		if unsupported := errors.Is(c.err, fault.Unsupported); unsupported == c.listed {
			return fmt.Errorf("%s: listed is %v, and it fails with: %w", c.what, c.listed, c.err)
		}
	}
	return nil
}
