package bench

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/plugins/host"
	"github.com/pannier/pannier/spec/fault"
)

// The files of an invocation, here and at the servers, and their end.

// bridgeBench is one invocation.
type bridgeBench struct {
	cfg    BridgeConfig
	w      *workspace   // nil: no server is needed
	remote string       // directory of this invocation at each server; in it "in" and "out"
	keeper *host.Plugin // what makes and removes there; it does nothing while a case runs
	ends   []end
}

// end is a server as the keeper sees it.
type end struct{ plugins.Session }

// prepare makes what the cases move.
func (b *bridgeBench) prepare(ctx context.Context, cases []bridgeCase) (err error) {
	has := func(of func(bridgeCase) bool) bool { return slices.ContainsFunc(cases, of) }
	from := func(word string) bool { return has(func(c bridgeCase) bool { return strings.HasPrefix(c.name, word) }) }
	large := has(func(c bridgeCase) bool { return c.needs > needsNothing && !strings.Contains(c.name, "-many") })
	many := has(func(c bridgeCase) bool {
		return strings.HasPrefix(c.name, "upload-many") || strings.HasPrefix(c.name, "download-many")
	})
	few := from("copy-many")
	size := b.cfg.Size
	if !large {
		size = 0
	}
	room := size
	if many {
		room += 2 * b.theMany().bytes()
	}
	if b.w, err = openWorkspace(b.cfg.Dir, size, room); err != nil {
		return err
	}
	for _, d := range []string{"down", "many", "few"} {
		if err := os.Mkdir(filepath.Join(b.w.dir, d), 0o700); err != nil {
			return err
		}
	}
	b.remote = "/pannier-bench-" + strings.ToLower(rand.Text()[:10])
	b.keeper = host.New(b.cfg.Plugin)
	for _, to := range []plugins.Endpoint{b.cfg.Endpoint, b.cfg.CopyTo} {
		if to.URL == "" {
			continue
		}
		s, err := b.keeper.Open(ctx, to)
		if err != nil {
			return fault.Wrap("log in", to.URL, err)
		}
		if can := s.Capabilities(); !can.Write || !can.Mkdir || !can.Remove || !can.List {
			return errors.Join(s.Close(), fault.Wrap("log in", to.URL, fault.New("bench", fault.Unsupported, "this user cannot write, list, remove and make directories: something would be left there").Advise("give another server or user")))
		}
		b.ends = append(b.ends, end{s})
		for _, d := range []string{"", "/in", "/out"} {
			if err := s.(plugins.Maker).Mkdir(ctx, b.remote+d); err != nil {
				return err
			}
		}
	}
	var there []set // what is read from the first server
	if many {
		if err := b.fill(b.theMany()); err != nil {
			return err
		}
		if from("download-many") {
			there = append(there, b.theMany())
		}
	}
	if few {
		if err := b.fill(toCopy(1)(b)); err != nil {
			return err
		}
		there = append(there, toCopy(1)(b))
	}
	if large && (from("download") || from("copy")) {
		there = append(there, b.theLarge())
	}
	for _, files := range there {
		all, ctx := errgroup.WithContext(ctx)
		all.SetLimit(4)
		for _, name := range files.names {
			all.Go(func() error {
				return upload(ctx, b.ends[0].Session, filepath.Join(b.w.dir, files.local, name), b.remote+"/out/"+name, files.size)
			})
		}
		if err := all.Wait(); err != nil {
			return err
		}
	}
	return nil
}

// fill makes files that do not compress.
func (b *bridgeBench) fill(files set) error {
	content := mathrand.NewChaCha8([32]byte{1})
	for _, name := range files.names {
		block := make([]byte, files.size)
		_, _ = io.ReadFull(content, block) // never fails
		if err := os.WriteFile(filepath.Join(b.w.dir, files.local, name), block, 0o600); err != nil {
			return fault.Wrap("make files", name, err)
		}
	}
	return nil
}

// leave removes everything, at the servers and here.
func (b *bridgeBench) leave(ctx context.Context) (err error) {
	for _, e := range b.ends {
		for _, d := range []string{"/in", "/out"} {
			err = errors.Join(err, e.empty(ctx, b.remote+d), e.Session.(plugins.Remover).Remove(ctx, b.remote+d))
		}
		err = errors.Join(err, e.Session.(plugins.Remover).Remove(ctx, b.remote), e.Close())
	}
	if b.keeper != nil {
		err = errors.Join(err, b.keeper.Close(ctx))
	}
	if b.w != nil {
		err = errors.Join(err, b.w.close())
	}
	return err
}

// empty removes the files of a directory, whatever they are.
func (e end) empty(ctx context.Context, dir string) error {
	var names []string
	for a, err := range e.Session.(plugins.Lister).List(ctx, dir) {
		if err != nil {
			return err
		}
		names = append(names, a.Name)
	}
	all, ctx := errgroup.WithContext(ctx)
	all.SetLimit(4)
	for _, name := range names {
		all.Go(func() error { return e.Session.(plugins.Remover).Remove(ctx, dir+"/"+name) })
	}
	return all.Wait()
}

// holds looks whether a directory has the files, and nothing else, with their sizes.
func (e end) holds(ctx context.Context, dir string, files set) error {
	n := 0
	for a, err := range e.Session.(plugins.Lister).List(ctx, dir) {
		switch {
		case err != nil:
			return err
		case !slices.Contains(files.names, a.Name) || a.Size != files.size:
			return fault.New("look at server", fault.Corrupt, "%s has %d bytes there, and %d here", a.Name, a.Size, files.size)
		}
		n++
	}
	if n != len(files.names) {
		return fault.New("look at server", fault.Corrupt, "%d files are there of %d", n, len(files.names))
	}
	return nil
}
