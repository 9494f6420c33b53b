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
		"write/checksums":                   func(s whole) plugins.Session { return sumsNothing{s} },
		"resume/after another login":        func(s whole) plugins.Session { return staging{s, keepsNothing} },
		"resume/with what is none":          func(s whole) plugins.Session { return panics{s} },
	} {
		t.Run(check, func(t *testing.T) {
			if failed := failing(t, broken{how: how}, check[:strings.IndexByte(check, '/')]); !slices.Contains(failed, check) {
				t.Errorf("%s passes; %q fail", check, failed)
			}
		})
	}
	if failed := failing(t, dir.Driver{}); len(failed) > 0 {
		t.Errorf("of the driver as it is %q fail", failed)
	}
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
	plugintest.Verify(t.Context(), plugintest.Harness{Open: open, Levels: levels, Entries: 300, Most: 20 * time.Second, Sparse: func(name string, size int64) error {
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

type panics struct{ whole }

func (s panics) Write(ctx context.Context, name string, w plugins.WriteRequest) (plugins.Staged, error) {
	if w.Resume != nil {
		panic("what is this")
	}
	return s.whole.Write(ctx, name, w)
}

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

func keepsNothing(s plugins.Staged) plugins.Staged { return forgetting{s} }

type forgetting struct{ plugins.Staged }

func (s forgetting) Abort(ctx context.Context, _ bool) ([]byte, error) {
	return s.Staged.Abort(ctx, false)
}
