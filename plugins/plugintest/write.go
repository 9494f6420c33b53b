package plugintest

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// write are the checks of bridges that write.
var write = []check{
	{Write, "seen when committed", func(t *try) error {
		name, b := t.name("a"), content(500_000, 2)
		s, err := t.begin(name, int64(len(b)))
		if err != nil {
			return err
		}
		if _, err := s.Write(b); err != nil {
			return err
		}
		if err := t.absent(name); err != nil {
			return err
		}
		first, err := s.Commit(t.ctx)
		if err != nil {
			return err
		}
		if first.Size >= 0 && first.Size != int64(len(b)) {
			return fmt.Errorf("commit says %+v of %d bytes", first, len(b))
		}
		again, err := s.Commit(t.ctx)
		if err != nil || again.Size != first.Size || again.Name != first.Name || !again.Modified.Equal(first.Modified) {
			return fmt.Errorf("commit says %+v first and then %+v, %w", first, again, err)
		}
		return t.same(name, b)
	}},
	{Write, "size not known", func(t *try) error {
		name, b := t.name("a"), content(100_001, 3)
		s, err := t.begin(name, -1)
		if err != nil {
			return err
		}
		if _, err = s.Write(b); err == nil {
			_, err = s.Commit(t.ctx)
		}
		return errors.Join(err, t.same(name, b))
	}},
	{Write, "too short, too long", func(t *try) error {
		for _, by := range []int64{1, -1} {
			name, b := t.name(fmt.Sprint("by", by)), content(10_000, 4)
			s, err := t.begin(name, int64(len(b))+by)
			if err != nil {
				return err
			}
			if _, err = s.Write(b); err == nil {
				_, err = s.Commit(t.ctx)
			}
			failed := want(fmt.Sprintf("committing %d bytes of %d", len(b), int64(len(b))+by), err, fault.Corrupt)
			_, _ = s.Abort(t.ctx, false)
			if err := errors.Join(failed, t.absent(name)); err != nil {
				return err
			}
		}
		return nil
	}},
	{Write, "aborted", func(t *try) error {
		name := t.name("a")
		s, err := t.begin(name, 10)
		if err != nil {
			return err
		}
		if _, err = s.Write([]byte("01234")); err == nil {
			_, err = s.Abort(t.ctx, false)
		}
		if err == nil {
			_, err = s.Abort(t.ctx, false)
		}
		return errors.Join(err, t.absent(name))
	}},
	{Write, "closed without commit", func(t *try) error {
		name := t.name("a")
		s, err := t.begin(name, -1)
		if err != nil {
			return err
		}
		if _, err = s.Write([]byte("01234")); err == nil {
			err = t.s.Close()
		}
		if err := errors.Join(err, t.login()); err != nil {
			return err
		}
		return t.absent(name)
	}},
	{Write, "replacing", func(t *try) error {
		name, before, b := t.name("a"), content(1000, 5), content(900, 6)
		if err := t.put(name, before); err != nil {
			return err
		}
		s, err := t.begin(name, int64(len(b)))
		if err != nil {
			return err
		}
		if _, err := s.Write(b); err != nil {
			return err
		}
		if t.can.Atomic {
			if err := t.same(name, before); err != nil {
				return fmt.Errorf("before the commit: %w", err)
			}
		}
		_, err = s.Commit(t.ctx)
		return errors.Join(err, t.same(name, b))
	}},
	{Write, "strange names", func(t *try) error {
		for _, n := range []string{"with space", " space at both ends ", "-dash", ".hidden", "quote\"'`", "a;b&c|d", "per%20cent", "back\\slash", "star*?[x]", "#hash", "ü-composed", "u\u0308-decomposed", "日本語", "🚚", strings.Repeat("x", 255)} {
			name, b := t.name(n), []byte(n)
			if !strings.HasSuffix(t.base, "/") && len(n) == 255 {
				name = t.name(n[:255-len(t.base)+1])
			}
			err := t.put(name, b)
			if err != nil && want("", err, fault.Invalid, fault.TooLong, fault.Unsupported, fault.Refused, fault.Permission) == nil {
				_, err := t.s.Stat(t.ctx, name) // refused is well, half done is not
				if err := want(fmt.Sprintf("stat of %q, which was refused,", name), err, fault.NotFound, fault.Invalid, fault.TooLong, fault.Unsupported); err != nil {
					return err
				}
				continue
			}
			if err := errors.Join(err, t.same(name, b)); err != nil {
				return err
			}
			if l, ok := t.s.(plugins.Lister); ok && strings.HasSuffix(t.base, "/") {
				found := false
				for a, err := range l.List(t.ctx, strings.TrimSuffix(t.base, "/")) {
					if err != nil {
						return err
					}
					found = found || a.Name == n
				}
				if !found && n[0] != '.' { // which many servers do not list
					return fmt.Errorf("%q was written and is not listed", n)
				}
			}
		}
		return nil
	}},
	{Write, "long listing", func(t *try) error {
		l, ok := t.s.(plugins.Lister)
		if !ok || !strings.HasSuffix(t.base, "/") {
			return absent("the server lists nothing, or makes no directories")
		}
		_, err := t.writer()
		if err != nil {
			return err
		}
		for i := range t.h.Entries {
			name := t.name(fmt.Sprint("entry", i))
			if t.h.Sparse == nil {
				err = t.put(name, nil)
			} else {
				err = t.h.Sparse(name, 0)
			}
			if err != nil {
				return err
			}
		}
		seen := map[string]bool{}
		for a, err := range l.List(t.ctx, strings.TrimSuffix(t.base, "/")) {
			if err != nil {
				return err
			}
			if seen[a.Name] || a.Name == "." || a.Name == ".." {
				return fmt.Errorf("%q is listed, and should not be, or not twice", a.Name)
			}
			seen[a.Name] = true
		}
		if len(seen) != t.h.Entries {
			return fmt.Errorf("%d entries are listed of %d", len(seen), t.h.Entries)
		}
		for a, err := range l.List(t.ctx, strings.TrimSuffix(t.base, "/")) { // who stops listening may
			if err != nil || a.Name == "" {
				return fmt.Errorf("first entry %+v: %w", a, err)
			}
			break
		}
		return nil
	}},
	{Write, "rename, remove, directories", func(t *try) error {
		a, b := t.name("a"), t.name("b")
		if err := errors.Join(t.put(a, []byte("a"))); err != nil {
			return err
		}
		done := 0
		if r, ok := t.s.(plugins.Renamer); ok {
			if err := errors.Join(r.Rename(t.ctx, a, b), t.absent(a), t.same(b, []byte("a"))); err != nil {
				return err
			}
			a, done = b, done+1
		}
		if m, ok := t.s.(plugins.Maker); ok {
			d := t.name("d")
			if err := errors.Join(m.Mkdir(t.ctx, d), m.Mkdir(t.ctx, d)); err != nil {
				return err
			}
			if at, err := t.s.Stat(t.ctx, d); err != nil || !at.Dir {
				return fmt.Errorf("stat of a directory says %+v, %w", at, err)
			}
			done++
		}
		if r, ok := t.s.(plugins.Remover); ok {
			if err := errors.Join(r.Remove(t.ctx, a), t.absent(a)); err != nil {
				return err
			}
			done++
		}
		if done == 0 {
			return absent("the server has nothing of it")
		}
		return nil
	}},
	{Write, "times", func(t *try) error {
		if !t.can.Times {
			return absent("the server keeps no times")
		}
		w, err := t.writer()
		if err != nil {
			return err
		}
		when := time.Date(2011, 12, 13, 14, 15, 16, 0, time.UTC)
		for _, b := range [][]byte{content(1000, 11), nil} {
			name := t.name(fmt.Sprint("of", len(b)))
			s, err := w.Write(t.ctx, name, plugins.WriteRequest{Size: int64(len(b)), Modified: when})
			if err != nil {
				return err
			}
			if _, err := s.Write(b); err != nil {
				return err
			}
			done, err := s.Commit(t.ctx)
			if err != nil {
				return err
			}
			a, err := t.s.Stat(t.ctx, name)
			if err != nil || !a.Modified.Truncate(time.Second).Equal(when) || !done.Modified.Truncate(time.Second).Equal(when) {
				return fmt.Errorf("a file that is to be of %v is of %v, and commit says %v: %w", when, a.Modified, done.Modified, err)
			}
		}
		return nil
	}},
	{Write, "checksums", func(t *try) error {
		c, ok := t.s.(plugins.Checksummer)
		if !ok {
			return absent("the server computes none")
		}
		name, b := t.name("a"), content(100_000, 7)
		if err := t.put(name, b); err != nil {
			return err
		}
		for _, algorithm := range t.can.Checksums {
			if plugins.NewChecksum(algorithm) == nil {
				continue
			}
			for _, length := range []int64{-1, 5000} {
				h := plugins.NewChecksum(algorithm)
				h.Write(b[:min(uint64(length), uint64(len(b)))])
				sum, err := c.Checksum(t.ctx, name, algorithm, length)
				if length >= 0 && errors.Is(err, fault.Unsupported) {
					continue // of whole files only
				}
				if err != nil || !bytes.Equal(sum, h.Sum(nil)) {
					return fmt.Errorf("%s of %d bytes is %x, not %x: %w", algorithm, length, sum, h.Sum(nil), err)
				}
			}
		}
		return nil
	}},
	{Write, "20 at once", func(t *try) error {
		var all sync.WaitGroup
		failed := make([]error, 20)
		names := make([]string, len(failed))
		for i := range names {
			names[i] = t.name(fmt.Sprint("at-once", i))
		}
		for i := range failed {
			all.Go(func() {
				b := content(200_000+i, byte(i))
				failed[i] = t.put(names[i], b)
				if failed[i] == nil {
					failed[i] = t.same(names[i], b)
				}
			})
		}
		all.Wait()
		return errors.Join(failed...)
	}},
	{Resume, "in the same process", func(t *try) error { return t.resume(func() error { return nil }) }},
	{Resume, "after another login", func(t *try) error {
		return t.resume(func() error { return errors.Join(t.s.Close(), t.login()) })
	}},
	{Resume, "in another process", func(t *try) error {
		if t.h.Restart == nil {
			return skip("the harness does not restart the plugin")
		}
		return t.resume(func() error { return errors.Join(t.s.Close(), t.h.Restart(t.ctx), t.login()) })
	}},
	{Resume, "anew, after an upload of the same ID that came to no end", func(t *try) error {
		w, err := t.writer()
		if err != nil {
			return err
		}
		name, b := t.name("a"), content(2<<20+3, 9)
		s, err := w.Write(t.ctx, name, plugins.WriteRequest{Size: int64(len(b)), ID: "of a test"})
		if err != nil {
			return err
		}
		if _, err := s.Write(b[:1<<20]); err != nil {
			return err
		}
		if err := errors.Join(t.s.Close(), t.login()); err != nil {
			return err
		}
		if w, err = t.writer(); err != nil {
			return err
		}
		if s, err = w.Write(t.ctx, name, plugins.WriteRequest{Size: int64(len(b)), ID: "of a test", Again: true}); err != nil {
			return err
		}
		if s.Offset() != 0 {
			return fmt.Errorf("what is to begin anew begins at %d", s.Offset())
		}
		if _, err = s.Write(b); err == nil {
			_, err = s.Commit(t.ctx)
		}
		return errors.Join(err, t.same(name, b))
	}},
	{Resume, "with what is none", func(t *try) error {
		w, err := t.writer()
		if err != nil {
			return err
		}
		name := t.name("a")
		s, err := w.Write(t.ctx, name, plugins.WriteRequest{Size: 5, Resume: []byte("/../\r\nnone")})
		if !t.can.Resume {
			return want("resuming, which the capabilities do not list,", err, fault.Unsupported)
		}
		if err != nil {
			if errors.Is(err, fault.Internal) {
				return fmt.Errorf("resuming what is none: %w", err)
			}
			return nil
		}
		if s.Offset() != 0 {
			return fmt.Errorf("what is none resumes at %d", s.Offset())
		}
		_, err = s.Abort(t.ctx, false)
		return err
	}},
}

// resume writes half of a file, keeps it, has between happen, and writes the rest.
func (t *try) resume(between func() error) error {
	w, err := t.writer()
	if err != nil {
		return err
	}
	if !t.can.Resume {
		return absent("the server cannot go on")
	}
	name, b := t.name("a"), content(2<<20+3, 8)
	s, err := w.Write(t.ctx, name, plugins.WriteRequest{Size: int64(len(b))})
	if err != nil {
		return err
	}
	if _, err := s.Write(b[:1<<20]); err != nil {
		return err
	}
	kept, err := s.Abort(t.ctx, true)
	if err != nil || len(kept) > plugins.MaxResume {
		return fmt.Errorf("abort keeps %d bytes: %w", len(kept), err)
	}
	if err := errors.Join(between(), t.absent(name)); err != nil {
		return err
	}
	w, err = t.writer()
	if err != nil {
		return err
	}
	if s, err = w.Write(t.ctx, name, plugins.WriteRequest{Size: int64(len(b)), Resume: kept}); err != nil {
		return err
	}
	if s.Offset() <= 0 || s.Offset() > 1<<20 {
		return fmt.Errorf("of 1 MiB that was sent it goes on at %d", s.Offset())
	}
	if _, err = s.Write(b[s.Offset():]); err == nil {
		_, err = s.Commit(t.ctx)
	}
	return errors.Join(err, t.same(name, b))
}
