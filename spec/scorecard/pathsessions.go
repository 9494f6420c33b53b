package main

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/guest"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/plugins/dir"
	"github.com/pannier/pannier/plugins/host"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/relpath"
)

// The ways in for a name through a bridge and through a listener, as sessions of the contract.

// sessions are those of a bridge to the folder, and of a foreign client whose uploads come there.
func (r *pathRun) sessions(ctx context.Context) (all []entry, leave func(), err error) {
	keys := filepath.Join(filepath.Dir(r.dir), "keys")
	if err := os.WriteFile(keys, []byte("type key\n"), 0o600); err != nil {
		return nil, nil, fault.Wrap("prepare paths", "", err)
	}
	node := &guest.Node{Listener: "paths", Engine: noRequests{root: r.dir}, Log: slog.New(slog.DiscardHandler)}
	node.SetUsers([]guest.User{{Name: "acme", Keys: keys, Partner: "hostb", Send: "out"}})
	var open []func() error
	leave = func() {
		for _, end := range open {
			_ = end()
		}
	}
	for _, at := range []struct {
		what   string
		driver plugins.Driver
		to     plugins.Endpoint
		reads  bool // else the user may not
	}{
		{"bridge", dir.Driver{}, plugins.Endpoint{URL: "dir://" + r.dir}, true},
		{"listener", node, plugins.Endpoint{URL: "guest://127.0.0.1", User: "acme", Secrets: map[string]string{"key": "type key"}}, false},
	} {
		p := host.InProcess(host.Config{Name: at.what}, at.driver)
		open = append(open, func() error { return p.Close(context.WithoutCancel(ctx)) })
		s, err := p.Open(ctx, at.to)
		if err != nil {
			leave()
			return nil, nil, err
		}
		if all = append(all, sessionEntries(at.what, r.dir, s)...); at.reads {
			all = append(all, readEntry(at.what, s))
		}
	}
	return all, leave, nil
}

// sessionEntries are what a session does with names. A directory that is there is no bad one, except
// for a file: of those in the folder at only what is below is tried.
func sessionEntries(what, at string, s plugins.Session) []entry {
	below := func(does func(ctx context.Context, name string) error) func(context.Context, string) error {
		return func(ctx context.Context, name string) error {
			if name == "" || name == "folder" {
				return fault.New("try name", fault.Exists, "it is a directory of the folder")
			}
			first, _, _ := strings.Cut(name, "/")
			_, bad := relpath.Parse(name)
			if _, err := os.Lstat(filepath.Join(at, first)); bad == nil && errors.Is(err, fs.ErrNotExist) {
				return fault.New("try name", fault.NotFound, "it may be made") // as some bytes that are UTF-8 after all
			}
			return does(ctx, name)
		}
	}
	return []entry{
		{what + "'s directory", below(func(ctx context.Context, name string) error {
			for _, err := range s.(plugins.Lister).List(ctx, "/"+name) {
				return err
			}
			return nil
		})},
		{what + "'s file, written", below(func(ctx context.Context, name string) error {
			st, err := s.(plugins.Writer).Write(ctx, "/"+name+"/below", plugins.WriteRequest{Size: 1})
			if err != nil {
				return err
			}
			_, err = st.Write([]byte("x"))
			if err == nil {
				_, err = st.Commit(ctx)
			}
			if err != nil {
				_, _ = st.Abort(ctx, false)
			}
			return err
		})},
		{what + "'s directory, made", below(func(ctx context.Context, name string) error {
			return s.(plugins.Maker).Mkdir(ctx, "/"+name+"/below")
		})},
	}
}

func readEntry(what string, s plugins.Session) entry {
	return entry{what + "'s file, read", func(ctx context.Context, name string) error {
		f, err := s.Read(ctx, "/"+name, 0)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, f)
		return errors.Join(err, f.Close())
	}}
}

// noRequests is an engine with one rule, whose files are in root, and no requests.
type noRequests struct {
	guest.Engine
	root string
}

func (n noRequests) Book() engine.Book {
	return engine.Book{Rules: map[string]*engine.Rule{"out": {Name: "out", Direction: engine.Send, Partners: []string{"*"}, Root: n.root, Quota: sideeffect.NoQuota}}}
}

func (noRequests) Find(context.Context, store.Query) iter.Seq2[engine.Status, error] {
	return func(func(engine.Status, error) bool) {}
}

func (noRequests) Submit(context.Context, engine.Order) (r lifecycle.Record, made bool, err error) {
	return r, false, fault.New("submit", fault.Refused, "there are no requests here")
}
