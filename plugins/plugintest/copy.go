package plugintest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// copies are the checks of bridges whose servers send to each other.
var copies = []check{
	{FXP, "sizes, and what is told of them", copying(func(t *try, p pair) error {
		for i, n := range []int{0, 1, 100_000, 3<<20 + 1} {
			name, b := t.name(fmt.Sprint("size", n)), content(n, byte(20+i))
			if err := t.put(name, b); err != nil {
				return err
			}
			last := int64(-1)
			var wrong error
			r, err := p.copy(t.ctx, name, name, plugins.CopyRequest{Progress: func(at int64, _ []byte) {
				if at < last || at > int64(n) {
					wrong = fmt.Errorf("of a file of %d bytes it tells of %d after %d", n, at, last)
				}
				last = at
			}})
			if err != nil || wrong != nil {
				return errors.Join(err, wrong)
			}
			if r.Bytes != int64(n) || len(r.Resume) > 0 {
				return fmt.Errorf("a file of %d bytes is copied, and the result says %+v", n, r)
			}
			if err := errors.Join(p.there.same(name, b), t.same(name, b)); err != nil {
				return err
			}
		}
		return nil
	})},
	{FXP, "times", copying(func(t *try, p pair) error {
		if !t.can.Times || !p.there.can.Times {
			return absent("one of the servers keeps no times")
		}
		w, err := t.writer()
		if err != nil {
			return err
		}
		name, when := t.name("a"), time.Date(2011, 12, 13, 14, 15, 16, 0, time.UTC)
		s, err := w.Write(t.ctx, name, plugins.WriteRequest{Size: 3, Modified: when})
		if err != nil {
			return err
		}
		if _, err = s.Write([]byte("abc")); err == nil {
			_, err = s.Commit(t.ctx)
		}
		if err == nil {
			_, err = p.copy(t.ctx, name, name, plugins.CopyRequest{})
		}
		if err != nil {
			return err
		}
		if a, err := p.there.s.Stat(t.ctx, name); err != nil || !a.Modified.Truncate(time.Second).Equal(when) {
			return fmt.Errorf("a file of %v is of %v where it was copied to: %w", when, a.Modified, err)
		}
		return nil
	})},
	{FXP, "missing file", copying(func(t *try, p pair) error {
		name := t.base + "missing"
		_, err := p.copy(t.ctx, name, name, plugins.CopyRequest{})
		return errors.Join(want("copying it", err, fault.NotFound), p.there.absent(name))
	})},
	{FXP, "replacing", copying(func(t *try, p pair) error {
		name, before, b := t.name("a"), content(2<<20, 24), content(1000, 25)
		if err := errors.Join(p.there.put(name, before), t.put(name, b)); err != nil {
			return err
		}
		_, err := p.copy(t.ctx, name, name, plugins.CopyRequest{})
		return errors.Join(err, p.there.same(name, b))
	})},
	{FXP, "cancelled, and gone on with", copying(func(t *try, p pair) error {
		name, b := t.name("a"), content(24<<20+3, 26)
		if err := t.put(name, b); err != nil {
			return err
		}
		for _, pause := range []time.Duration{0, 5 * time.Millisecond, 20 * time.Millisecond} {
			if err := p.interrupted(t, name, b, pause); err != nil {
				return fmt.Errorf("cancelled %v after it had begun: %w", pause, err)
			}
		}
		return nil
	})},
	{FXP, "with what is no resume point", copying(func(t *try, p pair) error {
		name, b := t.name("a"), content(10_000, 27)
		if err := t.put(name, b); err != nil {
			return err
		}
		_, err := p.copy(t.ctx, name, name, plugins.CopyRequest{Resume: []byte("/../\r\nnone")})
		switch {
		case errors.Is(err, fault.Internal):
			return fmt.Errorf("going on with what is none: %w", err)
		case err != nil:
			return p.there.absent(name)
		}
		return p.there.same(name, b)
	})},
	{FXP, "20 at once, both ways", copying(func(t *try, p pair) error {
		back, err := p.back()
		if err != nil {
			return err
		}
		var all sync.WaitGroup
		failed := make([]error, 20)
		for i := range failed {
			from, to, copier := t, p.there, p
			if i%2 == 1 {
				from, to, copier = p.there, t, back
			}
			name, b := t.name(fmt.Sprint("at-once", i)), content(100_000+i, byte(i))
			p.there.made = append(p.there.made, name)
			if err := from.put(name, b); err != nil {
				return err
			}
			all.Go(func() {
				_, err := copier.copy(t.ctx, name, name, plugins.CopyRequest{})
				failed[i] = errors.Join(err, to.same(name, b))
			})
		}
		all.Wait()
		return errors.Join(failed...)
	})},
}

// pair is two servers of which the first sends to the second.
type pair struct {
	here  *try // where it comes from
	there *try // where it goes to
}

// copying makes a check of two servers, at which the names of the first are free, too.
func copying(f func(*try, pair) error) func(*try) error {
	return func(t *try) error {
		if _, ok := t.s.(plugins.Copier); !ok || !t.can.Copy {
			return absent("the server sends to no other")
		}
		if t.h.Other == nil {
			return skip("the harness has no other server to copy to")
		}
		if _, err := t.writer(); err != nil {
			return err
		}
		s, err := t.h.Other(t.ctx)
		if err != nil {
			return fmt.Errorf("open the other server: %w", err)
		}
		there := &try{ctx: t.ctx, h: t.h, s: s, can: s.Capabilities(), base: t.base}
		defer there.tidy()
		if m, ok := s.(plugins.Maker); ok && len(t.made) > 0 { // the directory of the check
			if err := m.Mkdir(t.ctx, t.made[0]); err != nil {
				return fmt.Errorf("make a directory at the other server: %w", err)
			}
			there.made = append(there.made, t.made[0])
		}
		before := len(t.made)
		err = f(t, pair{t, there})
		there.made = append(there.made, t.made[before:]...)
		return err
	}
}

func (p pair) copy(ctx context.Context, from, to string, r plugins.CopyRequest) (plugins.CopyResult, error) {
	return p.here.s.(plugins.Copier).Copy(ctx, from, p.there.s, to, r)
}

// back is the other way.
func (p pair) back() (pair, error) {
	if _, ok := p.there.s.(plugins.Copier); !ok || !p.there.can.Copy {
		return pair{}, absent("the other server sends to none")
	}
	return pair{p.there, p.here}, nil
}

// interrupted cancels a copy a while after it has begun: nobody sees it before it is whole, and what it or
// its progress says to go on with leads to the whole file.
func (p pair) interrupted(t *try, name string, b []byte, pause time.Duration) error {
	ctx, cancel := context.WithCancel(t.ctx)
	defer cancel()
	var once sync.Once
	var told []byte
	r, err := p.copy(ctx, name, name, plugins.CopyRequest{Progress: func(_ int64, resume []byte) {
		if len(resume) > 0 {
			told = bytes.Clone(resume)
		}
		once.Do(func() {
			if pause == 0 {
				cancel()
				return
			}
			time.AfterFunc(pause, cancel)
		})
	}})
	if err == nil { // it was quicker
		return errors.Join(p.there.same(name, b), t.removed(p.there, name))
	}
	if err := want("a copy whose context has ended", err, fault.Canceled); err != nil {
		return err
	}
	if _, err := p.there.s.Stat(t.ctx, name); err == nil { // it was whole, and nobody had heard it
		if err := p.there.same(name, b); err != nil {
			return err
		}
	} else if err := want("stat of a file of which a copy was given up", err, fault.NotFound); err != nil {
		return err
	}
	resume := r.Resume
	if resume == nil {
		resume = told
	}
	if len(resume) > plugins.MaxResume {
		return fmt.Errorf("a copy is gone on with by %d bytes", len(resume))
	}
	if r, err = p.copy(t.ctx, name, name, plugins.CopyRequest{Resume: resume}); err != nil || r.Bytes != int64(len(b)) {
		return fmt.Errorf("going on says %+v of a file of %d bytes: %w", r, len(b), err)
	}
	return errors.Join(p.there.same(name, b), t.removed(p.there, name))
}

// removed removes a file, if the server does that: a later round would replace it otherwise.
func (t *try) removed(at *try, name string) error {
	if r, ok := at.s.(plugins.Remover); ok && at.can.Remove {
		return r.Remove(t.ctx, name)
	}
	return nil
}
