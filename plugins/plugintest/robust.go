package plugintest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// robust are the checks of hosts that do what they should not, or not when they should.
var robust = []check{
	{Robust, "names that are patterns", func(t *try) error {
		b := content(1000, 30)
		for _, n := range []string{"a1", "a2", "b"} {
			if err := t.put(t.name(n), b); err != nil {
				return err
			}
		}
		for _, n := range []string{"a*", "a?", "[ab]*", "*", "a{1,2}", "-a1", "~", "$HOME", "`a1`", "a1;b", "a1 a2", "%61%31", `a\1`, "a1'"} {
			name := t.base + n
			_, err := t.read(t.ctx, name, 0)
			if err := errors.Join(t.absent(name), want(fmt.Sprintf("reading %q, which is not there,", n), err, none...)); err != nil {
				return err
			}
			if r, ok := t.s.(plugins.Renamer); ok {
				if err := want(fmt.Sprintf("renaming %q, which is not there,", n), r.Rename(t.ctx, name, t.base+"c"), none...); err != nil {
					return err
				}
			}
			if r, ok := t.s.(plugins.Remover); ok {
				if err := want(fmt.Sprintf("removing %q, which is not there,", n), r.Remove(t.ctx, name), none...); err != nil {
					return err
				}
			}
		}
		return errors.Join(t.same(t.base+"a1", b), t.same(t.base+"a2", b), t.same(t.base+"b", b))
	}},
	{Robust, "calls after the end", func(t *try) error {
		name, b := t.name("a"), content(5000, 31)
		s, err := t.begin(name, int64(len(b)))
		if err != nil {
			return err
		}
		if _, err = s.Write(b); err == nil {
			_, err = s.Commit(t.ctx)
		}
		if err != nil {
			return err
		}
		if _, err := s.Write([]byte("more")); err == nil {
			return errors.New("writing to a file that is committed succeeds")
		}
		if _, err := s.Abort(t.ctx, false); err == nil {
			return errors.New("aborting a file that is committed succeeds")
		}
		if err := t.same(name, b); err != nil {
			return fmt.Errorf("after an Abort that came too late: %w", err)
		}
		other := t.name("b")
		if s, err = t.begin(other, 4); err != nil {
			return err
		}
		if _, err := s.Abort(t.ctx, false); err != nil {
			return err
		}
		_, written := s.Write([]byte("more"))
		_, committed := s.Commit(t.ctx)
		if written == nil || committed == nil {
			return fmt.Errorf("of a file that was aborted, writing says %v and committing %v", written, committed)
		}
		r, err := t.s.Read(t.ctx, name, 0)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, r)
		if first, second := r.Close(), r.Close(); err != nil || first != nil || second != nil {
			return fmt.Errorf("reading says %v, closing %v, and closing again %w", err, first, second)
		}
		return errors.Join(t.absent(other), t.closedTwice(name))
	}},
	{Robust, "calls whose context is over", func(t *try) error {
		name, b, err := t.sample(5000)
		if err != nil {
			return err
		}
		over, cancel := context.WithCancel(t.ctx)
		cancel()
		calls := map[string]func() error{
			"stat": func() error { _, err := t.s.Stat(over, name); return err },
			"read": func() error { _, err := t.read(over, name, 0); return err },
		}
		if l, ok := t.s.(plugins.Lister); ok {
			calls["list"] = func() (err error) {
				for _, err = range l.List(over, strings.TrimSuffix(t.base, "/")) {
					if err != nil {
						break
					}
				}
				return err
			}
		}
		if w, ok := t.s.(plugins.Writer); ok {
			calls["write"] = func() error {
				_, err := w.Write(over, t.name("never"), plugins.WriteRequest{Size: 1})
				return err
			}
		}
		for what, call := range calls {
			if err := want(what+" with a context that is over", call(), fault.Canceled); err != nil {
				return err
			}
		}
		return t.same(name, b)
	}},
	{Robust, "cancelled at any time", func(t *try) error {
		b := content(2<<20, 32)
		for i := range 12 {
			name := t.name(fmt.Sprint("a", i))
			ctx, cancel := context.WithCancel(t.ctx)
			stop := time.AfterFunc(time.Duration(i*i)*200*time.Microsecond, cancel)
			err := t.putUntil(ctx, name, b)
			stop.Stop()
			cancel()
			_, missing := t.s.Stat(t.ctx, name)
			switch {
			case err == nil || missing == nil: // a Commit that has lost may have won
				if err := t.same(name, b); err != nil {
					return fmt.Errorf("a write that was cancelled: %w", err)
				}
			case fault.KindOf(missing) != fault.NotFound:
				return fmt.Errorf("after a write that was cancelled, stat fails with: %w", missing)
			}
		}
		return nil
	}},
	{Robust, "many that are left", func(t *try) error {
		if t.can.Single {
			return absent("the server does one thing at a time")
		}
		names := make([]string, 3)
		for i := range names {
			names[i] = t.name(fmt.Sprint("a", i))
			s, err := t.begin(names[i], -1)
			if err != nil {
				return err
			}
			if _, err := s.Write(content(1000, byte(i))); err != nil {
				return err
			}
		}
		name, b, err := t.sample(1 << 20)
		if err != nil {
			return err
		}
		if _, err := t.s.Read(t.ctx, name, 0); err != nil {
			return err
		}
		if err := errors.Join(t.s.Close(), t.login()); err != nil {
			return err
		}
		for _, n := range names {
			if err := t.absent(n); err != nil {
				return err
			}
		}
		return t.same(name, b)
	}},
	{Robust, "a reader that waits", func(t *try) error {
		if t.can.Single {
			return absent("the server does one thing at a time")
		}
		name, b, err := t.sample(24 << 20)
		if err != nil {
			return err
		}
		r, err := t.s.Read(t.ctx, name, 0)
		if err != nil {
			return err
		}
		defer r.Close()
		small := content(1000, 33)
		for i := range 5 { // beside it, all else goes on
			n := t.name(fmt.Sprint("small", i))
			if err := errors.Join(t.put(n, small), t.same(n, small)); err != nil {
				return err
			}
		}
		got, err := t.all(r)
		if err != nil || !bytes.Equal(got, b) {
			return fmt.Errorf("then %d bytes come of %d, or not the right ones: %w", len(got), len(b), err)
		}
		return nil
	}},
	{Robust, "replaced while it is read", func(t *try) error {
		if !t.can.Atomic || t.can.Single {
			return absent("the server replaces no file in one step")
		}
		name, before, after := t.name("a"), content(12<<20, 34), content(12<<20, 35)
		if err := t.put(name, before); err != nil {
			return err
		}
		r, err := t.s.Read(t.ctx, name, 0)
		if err != nil {
			return err
		}
		head := make([]byte, 1000)
		if _, err := io.ReadFull(r, head); err != nil {
			return errors.Join(err, r.Close())
		}
		if err := t.put(name, after); err != nil {
			return errors.Join(err, r.Close())
		}
		rest, err := t.all(r)
		got := slices.Concat(head, rest)
		if err == nil && !bytes.Equal(got, before) && !bytes.Equal(got, after) {
			return fmt.Errorf("%d bytes come, which are of neither file, and reading says that it has succeeded", len(got))
		}
		return t.same(name, after)
	}},
	{Robust, "quotas from an offset", func(t *try) error {
		l, ok := t.s.(plugins.Limiter)
		if !ok {
			return skip("the session is not of package host, which counts")
		}
		name, b, err := t.sample(100_000)
		if err != nil {
			return err
		}
		from := 0
		if t.can.Offsets {
			from = len(b) / 2
		}
		for _, at := range []int{from, len(b)} {
			if at > 0 && !t.can.Offsets {
				continue
			}
			rest := b[at:]
			for _, more := range []int{-1, 0, 1} {
				quota := len(rest) + more
				if quota < 0 {
					continue
				}
				r, err := l.ReadAtMost(t.ctx, name, int64(at), int64(quota))
				var got []byte
				if err == nil {
					got, err = t.all(r)
				}
				if more < 0 {
					err = want(fmt.Sprintf("%d bytes with a quota of %d", len(rest), quota), err, fault.QuotaExceeded)
				}
				if err != nil || more >= 0 && !bytes.Equal(got, rest) || len(got) > quota {
					return fmt.Errorf("from %d of %d with a quota of %d come %d: %w", at, len(b), quota, len(got), err)
				}
			}
		}
		return nil
	}},
	{Robust, "sizes that are none", func(t *try) error {
		w, err := t.writer()
		if err != nil {
			return err
		}
		name := t.name("a")
		for size, b := range map[int64][]byte{0: {1}, 1 << 62: []byte("few")} {
			s, err := w.Write(t.ctx, name, plugins.WriteRequest{Size: size})
			if err != nil { // it may be refused at once
				continue
			}
			if _, err = s.Write(b); err == nil {
				_, err = s.Commit(t.ctx)
			}
			_, _ = s.Abort(t.ctx, false)
			if err == nil {
				return fmt.Errorf("%d bytes of a file of %d are committed", len(b), size)
			}
			if err := t.absent(name); err != nil {
				return err
			}
		}
		return nil
	}},
}

// none are the kinds of what is not there, or cannot be.
var none = []fault.Kind{fault.NotFound, fault.Invalid, fault.Unsupported, fault.Permission, fault.Refused, fault.TooLong}

// putUntil is put with a context for all of it.
func (t *try) putUntil(ctx context.Context, name string, b []byte) error {
	w, err := t.writer()
	if err != nil {
		return err
	}
	s, err := w.Write(ctx, name, plugins.WriteRequest{Size: int64(len(b))})
	if err != nil {
		return err
	}
	if _, err = s.Write(b); err == nil {
		_, err = s.Commit(ctx)
	}
	if err != nil {
		_, _ = s.Abort(t.ctx, false)
	}
	return err
}

// closedTwice closes the session, twice, and looks what calls say then.
func (t *try) closedTwice(name string) error {
	if err := errors.Join(t.s.Close(), t.s.Close()); err != nil {
		return fmt.Errorf("closing a session twice: %w", err)
	}
	var all sync.WaitGroup
	failed := make([]error, 3)
	for i, call := range []func() error{
		func() error { _, err := t.s.Stat(t.ctx, name); return err },
		func() error { _, err := t.read(t.ctx, name, 0); return err },
		func() error { _, err := t.begin(t.base+"late", 1); return err },
	} {
		all.Go(func() {
			if call() == nil {
				failed[i] = errors.New("a call in a session that is closed succeeds")
			}
		})
	}
	all.Wait()
	return errors.Join(append(failed, t.login())...)
}
