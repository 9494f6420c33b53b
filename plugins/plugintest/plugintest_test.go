package plugintest_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/plugins/dir"
	"github.com/pannier/pannier/plugins/host"
	"github.com/pannier/pannier/plugins/plugintest"
	"github.com/pannier/pannier/spec/fault"
)

// whole is what the session of driver dir can do.
type whole interface {
	plugins.Session
	plugins.Writer
	plugins.Lister
	plugins.Renamer
	plugins.Remover
	plugins.Maker
	plugins.Checksummer
}

// broken is driver dir with sessions that somebody has broken.
type broken struct {
	dir.Driver
	how func(whole) plugins.Session
}

func (b broken) Open(ctx context.Context, to plugins.Endpoint) (plugins.Session, error) {
	s, err := b.Driver.Open(ctx, to)
	if err != nil {
		return nil, err
	}
	return b.how(s.(whole)), nil
}

// TestBrokenDriversFail: each check finds what it is there for.
func TestBrokenDriversFail(t *testing.T) {
	for check, how := range map[string]func(whole) plugins.Session{
		"core/capabilities":                 func(s whole) plugins.Session { return claimsMore{s} },
		"core/missing file":                 func(s whole) plugins.Session { return findsAll{s} },
		"core/sizes":                        func(s whole) plugins.Session { return cutsShort{s} },
		"core/offsets":                      func(s whole) plugins.Session { return fromBeginning{s} },
		"write/seen when committed":         func(s whole) plugins.Session { return staging{s, commitsOther} },
		"write/aborted":                     func(s whole) plugins.Session { return staging{s, abortCommits} },
		"write/replacing":                   func(s whole) plugins.Session { return removesFirst{s} },
		"write/long listing":                func(s whole) plugins.Session { return listsTwice{s} },
		"write/rename, remove, directories": func(s whole) plugins.Session { return renamesNothing{s} },
		"write/times":                       func(s whole) plugins.Session { return timeless{s} },
		"write/checksums":                   func(s whole) plugins.Session { return sumsNothing{s} },
		"resume/after another login":        func(s whole) plugins.Session { return staging{s, keepsNothing} },
		"robust/names that are patterns":    func(s whole) plugins.Session { return matches{s} },
		"robust/a reader that waits":        func(s whole) plugins.Session { return &oneAtATime{whole: s} },
		"robust/replaced while it is read":  func(s whole) plugins.Session { return reopening{s} },
		"resume/with what is none":          func(s whole) plugins.Session { return panics{s} },
	} {
		t.Run(check, func(t *testing.T) {
			if failed := failing(t, broken{how: how}, check[:strings.IndexByte(check, '/')]); !slices.Contains(failed, check) {
				t.Errorf("%s passes; %q fail", check, failed)
			}
		})
	}
	failed := failing(t, broken{how: func(s whole) plugins.Session { return inPlace{s} }}, plugintest.Robust)
	for _, check := range []string{"robust/cancelled at any time", "robust/many that are left", "robust/sizes that are none"} {
		if !slices.Contains(failed, check) {
			t.Errorf("%s passes; %q fail", check, failed)
		}
	}
	// What package host keeps for each driver, a plugin in another language may not.
	for check, how := range map[string]func(whole) plugins.Session{
		"robust/calls after the end":         func(s whole) plugins.Session { return staging{s, lateAborts} },
		"robust/calls whose context is over": func(s whole) plugins.Session { return deaf{s} },
	} {
		at, failed := t.TempDir(), ""
		plugintest.Verify(t.Context(), plugintest.Harness{Levels: []string{plugintest.Robust}, Open: func(ctx context.Context) (plugins.Session, error) {
			return broken{how: how}.Open(ctx, plugins.Endpoint{URL: "dir://" + at})
		}}, func(r plugintest.Result) {
			if r.Outcome == plugintest.Failed {
				failed += r.Level + "/" + r.Check + " "
			}
		})
		if !strings.Contains(failed, check) {
			t.Errorf("%s passes; %s fail", check, failed)
		}
	}
	if failed := failing(t, dir.Driver{}); len(failed) > 0 {
		t.Errorf("of the driver as it is %q fail", failed)
	}
}

// copies is a driver of dir whose server sends files to others, as somebody has it do that.
type copies struct {
	dir.Driver
	how func(ctx context.Context, from whole, name string, to plugins.Writer, toName string, c plugins.CopyRequest) (plugins.CopyResult, error)
}

func (d copies) Open(ctx context.Context, to plugins.Endpoint) (plugins.Session, error) {
	s, err := d.Driver.Open(ctx, to)
	if err != nil {
		return nil, err
	}
	return copier{s.(whole), d}, nil
}

type copier struct {
	whole
	d copies
}

func (s copier) Capabilities() plugins.Capabilities {
	c := s.whole.Capabilities()
	c.Copy = true
	return c
}

func (s copier) Copy(ctx context.Context, name string, to plugins.Session, toName string, c plugins.CopyRequest) (plugins.CopyResult, error) {
	return s.d.how(ctx, s.whole, name, to.(plugins.Writer), toName, c)
}

// copied is a copy as it should be, in pieces.
func copied(ctx context.Context, from whole, name string, to plugins.Writer, toName string, c plugins.CopyRequest) (r plugins.CopyResult, err error) {
	a, err := from.Stat(ctx, name)
	if err != nil {
		return r, err
	}
	st, err := to.Write(ctx, toName, plugins.WriteRequest{Size: a.Size, Resume: c.Resume, Modified: a.Modified})
	if err != nil {
		return r, err
	}
	defer func() {
		if err != nil {
			r.Resume, _ = st.Abort(context.WithoutCancel(ctx), true)
		}
	}()
	r.Bytes = st.Offset()
	src, err := from.Read(ctx, name, r.Bytes)
	if err != nil {
		return r, err
	}
	defer src.Close()
	for r.Bytes < a.Size {
		if c.Progress != nil {
			c.Progress(r.Bytes, nil)
		}
		if err := ctx.Err(); err != nil {
			return r, fault.Wrap("copy", name, err)
		}
		n, err := io.CopyN(st, src, min(1<<20, a.Size-r.Bytes))
		if r.Bytes += n; err != nil {
			return r, err
		}
	}
	_, err = st.Commit(ctx)
	r.Verified = "size"
	return r, err
}

// TestBrokenCopiesFail: each check of level fxp finds what it is there for.
func TestBrokenCopiesFail(t *testing.T) {
	type how = func(ctx context.Context, from whole, name string, to plugins.Writer, toName string, c plugins.CopyRequest) (plugins.CopyResult, error)
	for check, broken := range map[string]how{
		"fxp/sizes, and what is told of them": func(ctx context.Context, from whole, name string, to plugins.Writer, toName string, c plugins.CopyRequest) (plugins.CopyResult, error) {
			tell := c.Progress
			c.Progress = func(at int64, resume []byte) {
				if tell != nil {
					tell(-at, resume)
				}
			}
			return copied(ctx, from, name, to, toName, c)
		},
		"fxp/times": func(ctx context.Context, from whole, name string, to plugins.Writer, toName string, c plugins.CopyRequest) (plugins.CopyResult, error) {
			return copied(ctx, from, name, late{to}, toName, c)
		},
		"fxp/missing file": func(ctx context.Context, from whole, name string, to plugins.Writer, toName string, c plugins.CopyRequest) (plugins.CopyResult, error) {
			if _, err := from.Stat(ctx, name); err != nil {
				return plugins.CopyResult{}, nil
			}
			return copied(ctx, from, name, to, toName, c)
		},
		"fxp/replacing": func(ctx context.Context, from whole, name string, to plugins.Writer, toName string, c plugins.CopyRequest) (plugins.CopyResult, error) {
			if a, err := to.(plugins.Session).Stat(ctx, toName); err == nil {
				return plugins.CopyResult{Bytes: a.Size}, nil
			}
			return copied(ctx, from, name, to, toName, c)
		},
		"fxp/cancelled, and gone on with": func(ctx context.Context, from whole, name string, to plugins.Writer, toName string, c plugins.CopyRequest) (plugins.CopyResult, error) {
			tell := c.Progress
			c.Progress = func(at int64, _ []byte) {
				if tell != nil {
					tell(at, []byte("nothing of use"))
				}
			}
			return copied(ctx, from, name, to, toName, c)
		},
		"fxp/with what is no resume point": func(ctx context.Context, from whole, name string, to plugins.Writer, toName string, c plugins.CopyRequest) (plugins.CopyResult, error) {
			if len(c.Resume) > 0 && c.Resume[0] == '/' {
				panic("what is this")
			}
			return copied(ctx, from, name, to, toName, c)
		},
	} {
		t.Run(check, func(t *testing.T) {
			if failed := failing(t, copies{how: broken}, plugintest.FXP); !slices.Contains(failed, check) {
				t.Errorf("%s passes; %q fail", check, failed)
			}
		})
	}
	t.Run("20 at once", func(t *testing.T) { // with one place for both ways
		var turn sync.Mutex
		failed := failing(t, copies{how: func(ctx context.Context, from whole, name string, to plugins.Writer, toName string, c plugins.CopyRequest) (plugins.CopyResult, error) {
			if strings.Contains(name, "at-once") {
				if !turn.TryLock() {
					return plugins.CopyResult{}, fault.Overloaded
				}
				defer turn.Unlock()
				time.Sleep(100 * time.Millisecond) // so that others come meanwhile
			}
			return copied(ctx, from, name, to, toName, c)
		}}, plugintest.FXP)
		if !slices.Equal(failed, []string{"fxp/20 at once, both ways"}) {
			t.Errorf("%q fail", failed)
		}
	})
	if failed := failing(t, copies{how: copied}, plugintest.FXP); len(failed) > 0 {
		t.Errorf("of copies as they should be %q fail", failed)
	}
}

// late is a Writer that keeps no times.
type late struct{ plugins.Writer }

func (l late) Write(ctx context.Context, name string, w plugins.WriteRequest) (plugins.Staged, error) {
	w.Modified = time.Time{}
	return l.Writer.Write(ctx, name, w)
}

// TestNoLogin: where there is none any more, checks fail with words.
func TestNoLogin(t *testing.T) {
	at := t.TempDir()
	p := host.InProcess(host.Config{Name: "dir", Drain: 10 * time.Millisecond}, dir.Driver{})
	defer func() { p.Close(t.Context()) }()
	begun := func(ctx context.Context) (plugins.Session, error) {
		return p.Open(ctx, plugins.Endpoint{URL: "dir://" + at})
	}
	plugintest.Verify(t.Context(), plugintest.Harness{Open: begun, Levels: []string{plugintest.Process}, Kill: func() error { return p.Close(t.Context()) }}, func(r plugintest.Result) {
		if r.Outcome == plugintest.Passed || strings.Contains(r.Why, "panic") {
			t.Errorf("%+v", r)
		}
		if r.Outcome == plugintest.Failed {
			p = host.InProcess(host.Config{Name: "dir", Drain: 10 * time.Millisecond}, dir.Driver{})
		}
	})
}

// failing are the checks that a driver fails.
func failing(t *testing.T, d plugins.Driver, levels ...string) (failed []string) {
	at := t.TempDir()
	p := host.InProcess(host.Config{Name: "broken", Drain: 10 * time.Millisecond}, d)
	defer p.Close(t.Context())
	open := func(ctx context.Context) (plugins.Session, error) {
		return p.Open(ctx, plugins.Endpoint{URL: "dir://" + at})
	}
	there := t.TempDir()
	other := func(ctx context.Context) (plugins.Session, error) {
		return p.Open(ctx, plugins.Endpoint{URL: "dir://" + there})
	}
	plugintest.Verify(t.Context(), plugintest.Harness{Open: open, Other: other, Levels: levels, Entries: 300, Most: 20 * time.Second, Sparse: func(name string, size int64) error {
		f, err := os.Create(filepath.Join(at, name))
		return errors.Join(err, f.Truncate(size), f.Close())
	}}, func(r plugintest.Result) {
		if r.Outcome == plugintest.Failed {
			failed = append(failed, r.Level+"/"+r.Check)
		}
	})
	return failed
}

type claimsMore struct{ whole }

func (s claimsMore) Capabilities() plugins.Capabilities {
	c := s.whole.Capabilities()
	c.Checksums = append(c.Checksums, "crc32")
	c.Rename = true
	return c
}

func (s claimsMore) Rename(context.Context, string, string) error { return fault.Unsupported }

type findsAll struct{ whole }

func (s findsAll) Stat(context.Context, string) (plugins.Attr, error) {
	return plugins.Attr{Size: -1}, nil
}

type cutsShort struct{ whole }

func (s cutsShort) Read(ctx context.Context, name string, offset int64) (io.ReadCloser, error) {
	r, err := s.whole.Read(ctx, name, offset)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(r)
	return io.NopCloser(bytes.NewReader(b[:max(len(b)-1, 0)])), errors.Join(err, r.Close())
}

type fromBeginning struct{ whole }

func (s fromBeginning) Read(ctx context.Context, name string, _ int64) (io.ReadCloser, error) {
	return s.whole.Read(ctx, name, 0)
}

type removesFirst struct{ whole }

func (s removesFirst) Write(ctx context.Context, name string, w plugins.WriteRequest) (plugins.Staged, error) {
	_ = s.Remove(ctx, name)
	return s.whole.Write(ctx, name, w)
}

type listsTwice struct{ whole }

func (s listsTwice) List(ctx context.Context, name string) iter.Seq2[plugins.Attr, error] {
	return func(yield func(plugins.Attr, error) bool) {
		for a, err := range s.whole.List(ctx, name) {
			if !yield(a, err) || err == nil && !yield(a, nil) {
				return
			}
		}
	}
}

type renamesNothing struct{ whole }

func (renamesNothing) Rename(context.Context, string, string) error { return nil }

type sumsNothing struct{ whole }

func (sumsNothing) Checksum(context.Context, string, string, int64) ([]byte, error) {
	return make([]byte, 32), nil
}

type timeless struct{ whole }

func (s timeless) Write(ctx context.Context, name string, w plugins.WriteRequest) (plugins.Staged, error) {
	w.Modified = time.Time{}
	return s.whole.Write(ctx, name, w)
}

type panics struct{ whole }

func (s panics) Write(ctx context.Context, name string, w plugins.WriteRequest) (plugins.Staged, error) {
	if w.Resume != nil {
		panic("what is this")
	}
	return s.whole.Write(ctx, name, w)
}

// matches takes a * in a name for any character.
type matches struct{ whole }

func (s matches) Remove(ctx context.Context, name string) error {
	return s.whole.Remove(ctx, strings.ReplaceAll(name, "*", "1"))
}

// deaf does not heed contexts.
type deaf struct{ whole }

func (s deaf) Stat(_ context.Context, name string) (plugins.Attr, error) {
	return s.whole.Stat(context.Background(), name)
}

// inPlace writes files under their names.
type inPlace struct{ whole }

func (s inPlace) Write(ctx context.Context, name string, w plugins.WriteRequest) (plugins.Staged, error) {
	t, err := s.whole.Write(ctx, name, plugins.WriteRequest{Size: -1})
	if err != nil {
		return nil, err
	}
	_, err = t.Commit(ctx) // an empty file, which grows
	return &growing{s: s, name: name}, err
}

type growing struct {
	s    inPlace
	name string
	b    []byte
}

func (g *growing) Offset() int64 { return 0 }

func (g *growing) Write(p []byte) (int, error) {
	g.b = append(g.b, p...)
	t, err := g.s.whole.Write(context.Background(), g.name, plugins.WriteRequest{Size: -1})
	if err == nil {
		_, err = t.Write(g.b)
	}
	if err == nil {
		_, err = t.Commit(context.Background())
	}
	return len(p), err
}

func (g *growing) Commit(ctx context.Context) (plugins.Attr, error) { return g.s.Stat(ctx, g.name) }

func (g *growing) Abort(context.Context, bool) ([]byte, error) { return nil, nil }

// oneAtATime reads one file at a time, and does not say so.
type oneAtATime struct {
	whole
	turn sync.Mutex
}

func (s *oneAtATime) Read(ctx context.Context, name string, offset int64) (io.ReadCloser, error) {
	if !s.turn.TryLock() {
		return nil, fault.New("read", fault.Overloaded, "another is being read")
	}
	r, err := s.whole.Read(ctx, name, offset)
	if err != nil {
		s.turn.Unlock()
		return nil, err
	}
	return unlocking{r, s}, nil
}

type unlocking struct {
	io.ReadCloser
	s *oneAtATime
}

func (u unlocking) Close() error {
	u.s.turn.Unlock()
	return u.ReadCloser.Close()
}

// reopening opens the file for each piece of it.
type reopening struct{ whole }

func (s reopening) Read(ctx context.Context, name string, offset int64) (io.ReadCloser, error) {
	r, err := s.whole.Read(ctx, name, offset)
	if err != nil {
		return nil, err
	}
	return &pieces{s, ctx, name, offset}, r.Close()
}

type pieces struct {
	s    reopening
	ctx  context.Context
	name string
	at   int64
}

func (p *pieces) Read(b []byte) (int, error) {
	r, err := p.s.whole.Read(p.ctx, p.name, p.at)
	if err != nil {
		return 0, err
	}
	defer r.Close()
	n, err := r.Read(b[:min(len(b), 64<<10)])
	p.at += int64(n)
	return n, err
}

func (p *pieces) Close() error { return nil }

// staging is a session whose files are not staged as they should be.
type staging struct {
	whole
	how func(plugins.Staged) plugins.Staged
}

func (s staging) Write(ctx context.Context, name string, w plugins.WriteRequest) (plugins.Staged, error) {
	t, err := s.whole.Write(ctx, name, w)
	if err != nil {
		return nil, err
	}
	return s.how(t), nil
}

func commitsOther(s plugins.Staged) plugins.Staged { return wrongSize{s} }

// wrongSize commits something else than was written.
type wrongSize struct{ plugins.Staged }

func (s wrongSize) Commit(ctx context.Context) (plugins.Attr, error) {
	a, err := s.Staged.Commit(ctx)
	a.Size++
	return a, err
}

func abortCommits(s plugins.Staged) plugins.Staged { return committing{s} }

type committing struct{ plugins.Staged }

func (s committing) Abort(ctx context.Context, _ bool) ([]byte, error) {
	_, err := s.Commit(ctx)
	return nil, err
}

// lateAborts removes the file also after it was committed.
func lateAborts(s plugins.Staged) plugins.Staged { return &removing{Staged: s} }

type removing struct {
	plugins.Staged
	done bool
}

func (s *removing) Write(p []byte) (int, error) {
	if s.done {
		return len(p), nil
	}
	return s.Staged.Write(p)
}

func (s *removing) Commit(ctx context.Context) (plugins.Attr, error) {
	a, err := s.Staged.Commit(ctx)
	s.done = err == nil
	return a, err
}

func (s *removing) Abort(ctx context.Context, keep bool) ([]byte, error) {
	if s.done {
		return nil, nil
	}
	return s.Staged.Abort(ctx, keep)
}

func keepsNothing(s plugins.Staged) plugins.Staged { return forgetting{s} }

type forgetting struct{ plugins.Staged }

func (s forgetting) Abort(ctx context.Context, _ bool) ([]byte, error) {
	return s.Staged.Abort(ctx, false)
}

// TestLarge: where no sparse file can be made, and a large one may be written, it is, whole, and is taken away again;
// and that has the time which it takes.
func TestLarge(t *testing.T) {
	const size, name = 11<<20 + 7, "beyond 4 GiB"
	if more := (plugintest.Harness{Large: true}).More(name); more < 15*time.Minute || more > 20*time.Minute {
		t.Errorf("it has %v more", more)
	}
	if more := (plugintest.Harness{Large: true}).More("quota"); more != 0 {
		t.Errorf("another check has %v more", more)
	}
	plugintest.Beyond(t, size)
	for what, large := range map[string]bool{"skipped": false, "passed": true} {
		at := t.TempDir()
		w := &counts{}
		p := host.InProcess(host.Config{Name: "dir"}, broken{how: func(s whole) plugins.Session { return counting{s, w} }})
		h := plugintest.Harness{Open: func(ctx context.Context) (plugins.Session, error) {
			return p.Open(ctx, plugins.Endpoint{URL: "dir://" + at})
		}, Levels: []string{plugintest.Core}, Large: large}
		plugintest.Verify(t.Context(), h, func(r plugintest.Result) {
			if r.Check == name && string(r.Outcome) != what {
				t.Errorf("large %v: %v, %s", large, r.Outcome, r.Why)
			}
		})
		if got := w.most.Load(); (got == size) != large {
			t.Errorf("large %v: the largest file that was written has %d bytes", large, got)
		}
		if left, err := os.ReadDir(at); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
		_ = p.Close(context.Background())
	}
}

// counts is the size of the largest file that was written.
type counts struct{ most atomic.Int64 }

type counting struct {
	whole
	w *counts
}

func (c counting) Write(ctx context.Context, name string, r plugins.WriteRequest) (plugins.Staged, error) {
	st, err := c.whole.Write(ctx, name, r)
	return counted{st, c.w}, err
}

type counted struct {
	plugins.Staged
	w *counts
}

func (c counted) Commit(ctx context.Context) (plugins.Attr, error) {
	a, err := c.Staged.Commit(ctx)
	if n := a.Size; n > c.w.most.Load() {
		c.w.most.Store(n)
	}
	return a, err
}
