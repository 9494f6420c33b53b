package guest

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"
	"os"
	"strings"
	"sync"
	"syscall"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/relpath"
)

// session is a client that was let in.
type session struct {
	node *Node
	user User
	from string

	mu      sync.Mutex
	fetches map[string]*fetch // by name, as long as somebody reads what was fetched
}

func (n *Node) session(u User, from string) plugins.Session {
	return &session{node: n, user: u, from: from, fetches: map[string]*fetch{}}
}

// Capabilities implements plugins.Session.
func (s *session) Capabilities() plugins.Capabilities {
	return plugins.Capabilities{Offsets: true, List: true, Write: s.user.Send != "", Atomic: true, Mkdir: s.user.Send != "",
		Resume: s.keeps(), Kept: s.keeps()}
}

// Close implements plugins.Session.
func (s *session) Close() error { return nil }

// named is a name as a path; the zero one is the root.
func named(name string) (p relpath.Path, err error) {
	if err := plugins.CheckName(name); err != nil {
		return p, err
	}
	if name == "/" {
		return p, nil
	}
	if p, err = relpath.Parse(name[1:]); err == nil {
		err = sideeffect.RefuseOwn("find file", p)
	}
	if first, _, _ := strings.Cut(p.String(), "/"); err == nil && isFetched(first) {
		err = fault.New("find file", fault.NotFound, "names like %s are this node's", fault.Shown(first))
	}
	return p, err
}

// named is a name of this session's, as long as its user is what it was at the login.
func (s *session) named(name string) (relpath.Path, error) {
	if now, ok := (*s.node.users.Load())[s.user.Name]; !ok || now != s.user {
		return relpath.Path{}, fault.New("find user", fault.Permission, "the user has changed: log in again")
	}
	return named(name)
}

// rule finds a rule of the user's, which a reload may have taken away.
func (s *session) rule(name string, d engine.Direction) (*engine.Rule, error) {
	book := s.node.Engine.Book()
	r, err := book.Rule(name)
	if err != nil || r.Direction != d || r.Bridge != "" || !r.Allows(s.user.Partner) {
		return nil, fault.New("find rule", fault.Draining, "the rules of this user have changed: log in again")
	}
	return r, nil
}

// root is the directory of the user's uploads.
func (s *session) root() (*engine.Rule, *os.Root, error) {
	r, err := s.rule(s.user.Send, engine.Send)
	if err != nil {
		return nil, nil, err
	}
	root, err := engine.OpenRoot(r.Root)
	return r, root, err
}

// reason is an error without paths of this host.
func reason(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// Stat implements plugins.Session: of what can be downloaded, else of what was uploaded.
func (s *session) Stat(ctx context.Context, name string) (plugins.Attr, error) {
	p, err := s.named(name)
	if err != nil {
		return plugins.Attr{}, err
	}
	if p.IsZero() {
		return plugins.Attr{Name: name, Size: -1, Dir: true}, nil
	}
	if s.user.Get != "" {
		a, err := s.node.Far.Stat(ctx, s.user.Partner, s.user.Get, p)
		if err == nil || s.user.Send == "" || fault.KindOf(err) != fault.NotFound {
			a.Name = name
			return a, err
		}
	}
	_, root, err := s.root()
	if err != nil {
		return plugins.Attr{}, err
	}
	defer root.Close()
	fi, err := root.Stat(p.String())
	if err != nil {
		return plugins.Attr{}, plugins.FileError("stat", name, err)
	}
	return plugins.Attr{Name: name, Size: fi.Size(), Modified: fi.ModTime(), Dir: fi.IsDir()}, nil
}

// List implements plugins.Lister, of the same.
func (s *session) List(ctx context.Context, dir string) iter.Seq2[plugins.Attr, error] {
	return func(yield func(plugins.Attr, error) bool) {
		p, err := s.named(dir)
		if err == nil && s.user.Get != "" {
			err = s.node.Far.List(ctx, s.user.Partner, s.user.Get, p, func(a plugins.Attr) bool { return yield(a, nil) })
		} else if err == nil {
			err = s.listHere(p, func(a plugins.Attr) bool { return yield(a, nil) })
		}
		if err != nil {
			yield(plugins.Attr{}, plugins.FileError("list", dir, err))
		}
	}
}

// listedAtOnce is how many entries are read at once.
const listedAtOnce = 256

func (s *session) listHere(dir relpath.Path, yield func(plugins.Attr) bool) error {
	_, root, err := s.root()
	if err != nil {
		return err
	}
	defer root.Close()
	name := dir.String()
	if name == "" {
		name = "."
	}
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NONBLOCK, 0) // a FIFO must not wait for its other end
	if err != nil {
		return err
	}
	defer f.Close()
	for {
		some, err := f.Readdir(listedAtOnce)
		for _, fi := range some {
			if sideeffect.IsOwn(fi.Name()) || dir.IsZero() && isFetched(fi.Name()) || strings.ContainsAny(fi.Name(), "\r\n") {
				continue
			}
			if !yield(plugins.Attr{Name: fi.Name(), Size: fi.Size(), Modified: fi.ModTime(), Dir: fi.IsDir()}) {
				return nil
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// Mkdir implements plugins.Maker. Directories are made with the files in them: a name that can
// be one is enough.
func (s *session) Mkdir(_ context.Context, name string) error {
	p, err := s.named(name)
	if err == nil && p.IsZero() {
		err = fault.New("make directory", fault.Exists, "it is the root")
	}
	if err != nil {
		return err
	}
	_, root, err := s.root()
	if err != nil {
		return err
	}
	defer root.Close()
	return plugins.FileError("make directory", name, sideeffect.MakeDirs(root, p))
}
