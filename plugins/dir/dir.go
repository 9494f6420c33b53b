// Package dir is a bridge to a directory of this host, as if it were a server: the
// endpoint is dir:///PATH, and nothing outside PATH is reached. It is the example of
// how a driver is written, and serves where a mount is a partner.
package dir

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"iter"
	"net/url"
	"os"
	"path"
	"strconv"
	"strings"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// Driver is the bridge.
type Driver struct{}

// Describe implements plugins.Driver.
func (Driver) Describe() plugins.Description {
	return plugins.Description{Name: "dir", Version: "1", Schemes: []string{"dir"}}
}

// Open implements plugins.Driver.
func (Driver) Open(_ context.Context, to plugins.Endpoint) (plugins.Session, error) {
	u, err := url.Parse(to.URL)
	if err != nil || u.Scheme != "dir" || u.Host != "" || !path.IsAbs(u.Path) {
		return nil, fault.New("open directory", fault.Invalid, "%q is no such endpoint", to.URL).Advise("write it as dir:///PATH")
	}
	root, err := os.OpenRoot(u.Path)
	if err != nil {
		return nil, fault.Wrap("open directory", u.Path, err)
	}
	return session{root}, nil
}

type session struct{ root *os.Root }

func (session) Capabilities() plugins.Capabilities {
	return plugins.Capabilities{Offsets: true, Write: true, Resume: true, Atomic: true, List: true, Rename: true, Remove: true, Mkdir: true, Checksums: []string{"sha256"}}
}

func (s session) Close() error { return s.root.Close() }

// at is a name as os.Root takes it.
func at(name string) string { return path.Join(".", name) }

func attr(name string, fi fs.FileInfo) plugins.Attr {
	return plugins.Attr{Name: name, Size: fi.Size(), Modified: fi.ModTime(), Dir: fi.IsDir()}
}

func (s session) Stat(_ context.Context, name string) (plugins.Attr, error) {
	fi, err := s.root.Stat(at(name))
	if err != nil {
		return plugins.Attr{}, fault.Wrap("stat", name, err)
	}
	return attr(name, fi), nil
}

func (s session) Read(_ context.Context, name string, offset int64) (io.ReadCloser, error) {
	f, err := s.root.Open(at(name))
	if err != nil {
		return nil, fault.Wrap("read", name, err)
	}
	fi, err := f.Stat()
	if err == nil && (!fi.Mode().IsRegular() || offset < 0 || offset > fi.Size()) {
		err = fault.New("read", fault.Invalid, "it is no file of at least %d bytes", offset)
	}
	if err == nil {
		_, err = f.Seek(offset, io.SeekStart)
	}
	if err != nil {
		_ = f.Close()
		return nil, fault.Wrap("read", name, err)
	}
	return f, nil
}

func (s session) List(_ context.Context, dir string) iter.Seq2[plugins.Attr, error] {
	return func(yield func(plugins.Attr, error) bool) {
		f, err := s.root.Open(at(dir))
		if err == nil {
			defer f.Close()
		}
		for err == nil {
			var some []fs.FileInfo
			some, err = f.Readdir(256)
			for _, fi := range some {
				if !strings.HasPrefix(fi.Name(), unfinished) && !yield(attr(fi.Name(), fi), nil) {
					return
				}
			}
		}
		if !errors.Is(err, io.EOF) {
			yield(plugins.Attr{}, fault.Wrap("list", dir, err))
		}
	}
}

func (s session) Rename(_ context.Context, from, to string) error {
	return fault.Wrap("rename", from, s.root.Rename(at(from), at(to)))
}

func (s session) Remove(_ context.Context, name string) error {
	return fault.Wrap("remove", name, s.root.Remove(at(name)))
}

func (s session) Mkdir(_ context.Context, name string) error {
	err := s.root.Mkdir(at(name), 0o777)
	if fi, there := s.root.Stat(at(name)); there == nil && fi.IsDir() {
		err = nil
	}
	return fault.Wrap("make directory", name, err)
}

func (s session) Checksum(_ context.Context, name, _ string, length int64) ([]byte, error) {
	f, err := s.root.Open(at(name))
	if err != nil {
		return nil, fault.Wrap("checksum", name, err)
	}
	defer f.Close()
	h := sha256.New()
	if length < 0 {
		_, err = io.Copy(h, f)
	} else {
		_, err = io.CopyN(h, f, length)
	}
	if errors.Is(err, io.EOF) {
		err = fault.New("checksum", fault.Invalid, "it has less than %d bytes", length)
	}
	return h.Sum(nil), fault.Wrap("checksum", name, err)
}

// unfinished begins the names of files that are being written.
const unfinished = ".pannier-"

func (s session) Write(_ context.Context, name string, w plugins.WriteRequest) (plugins.Staged, error) {
	t := &staged{s: s, name: name, part: path.Join(path.Dir(at(name)), unfinished+plugins.PartID(w.ID))}
	flags := os.O_WRONLY | os.O_CREATE | os.O_EXCL
	if w.Resume != nil {
		part, whole, _ := strings.Cut(string(w.Resume), "\n")
		t.part, flags = part, os.O_WRONLY
		var err error
		if t.offset, err = strconv.ParseInt(whole, 10, 64); err != nil || t.offset < 0 || !strings.HasPrefix(path.Base(t.part), unfinished) || path.Dir(t.part) != path.Dir(at(name)) {
			return nil, fault.Wrap("write", name, fault.New("resume", fault.Invalid, "this is not of the file").Advise("begin the file anew"))
		}
	}
	if w.Again && w.Resume == nil {
		_ = s.root.Remove(t.part) // mostly there is none
	}
	f, err := s.root.OpenFile(t.part, flags, 0o666)
	if err != nil {
		return nil, fault.Wrap("write", name, err)
	}
	t.File = f
	if err := t.begin(); err != nil {
		_ = f.Close()
		return nil, fault.Wrap("write", name, err)
	}
	return t, nil
}

// staged is a file under a name of its own, until Commit.
type staged struct {
	*os.File
	s          session
	name, part string
	offset     int64
	done       *plugins.Attr
}

// begin goes to the offset, and gives up what is behind it: it may never have come to disk.
func (t *staged) begin() error {
	fi, err := t.Stat()
	if err != nil {
		return err
	}
	if fi.Size() < t.offset {
		return fault.New("resume", fault.Stale, "it has %d bytes, and had %d", fi.Size(), t.offset).Advise("begin the file anew")
	}
	if err := t.Truncate(t.offset); err != nil {
		return err
	}
	_, err = t.Seek(t.offset, io.SeekStart)
	return err
}

func (t *staged) Offset() int64 { return t.offset }

func (t *staged) Commit(context.Context) (a plugins.Attr, err error) {
	if t.done != nil {
		return *t.done, nil
	}
	fi, err := t.Stat()
	if err == nil {
		err = t.Sync()
	}
	if err == nil {
		err = t.s.root.Rename(t.part, at(t.name))
	}
	if err == nil {
		err = t.s.sync(path.Dir(at(t.name)))
	}
	if err != nil {
		return a, fault.Wrap("commit", t.name, err)
	}
	a = attr(t.name, fi)
	t.done = &a
	return a, fault.Wrap("commit", t.name, t.Close())
}

// sync has the names of a directory on disk.
func (s session) sync(dir string) error {
	d, err := s.root.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// Checkpoint implements plugins.Checkpointer: what was written until now is on disk.
func (t *staged) Checkpoint(context.Context) ([]byte, error) {
	fi, err := t.Stat()
	if err == nil {
		err = t.Sync()
	}
	if err != nil {
		return nil, fault.Wrap("checkpoint", t.name, err)
	}
	return []byte(t.part + "\n" + strconv.FormatInt(fi.Size(), 10)), nil
}

func (t *staged) Abort(ctx context.Context, keep bool) ([]byte, error) {
	if keep {
		resume, err := t.Checkpoint(ctx)
		return resume, fault.Wrap("abort", t.name, errors.Join(err, t.Close()))
	}
	return nil, fault.Wrap("abort", t.name, errors.Join(t.Close(), t.s.root.Remove(t.part)))
}
