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
	"syscall"

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
	return plugins.Capabilities{Offsets: true, Write: true, Resume: true, Atomic: true, List: true, Rename: true, Remove: true, Mkdir: true, Checksums: []string{"sha256"}, Times: true}
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
		return plugins.Attr{}, plugins.FileError("stat", name, err)
	}
	return attr(name, fi), nil
}

func (s session) Read(_ context.Context, name string, offset int64) (io.ReadCloser, error) {
	f, err := s.root.OpenFile(at(name), os.O_RDONLY|syscall.O_NONBLOCK, 0) // a FIFO must not wait for its other end
	if err != nil {
		return nil, plugins.FileError("read", name, err)
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
		return nil, plugins.FileError("read", name, err)
	}
	return f, nil
}

func (s session) List(_ context.Context, dir string) iter.Seq2[plugins.Attr, error] {
	return func(yield func(plugins.Attr, error) bool) {
		f, err := s.root.OpenFile(at(dir), os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NONBLOCK, 0)
		if err == nil {
			defer f.Close()
		}
		for err == nil {
			var some []fs.FileInfo
			some, err = f.Readdir(256)
			for _, fi := range some {
				if !plugins.IsStaged(fi.Name()) && !yield(attr(fi.Name(), fi), nil) {
					return
				}
			}
		}
		if !errors.Is(err, io.EOF) {
			yield(plugins.Attr{}, plugins.FileError("list", dir, err))
		}
	}
}

func (s session) Rename(_ context.Context, from, to string) error {
	return plugins.FileError("rename", from, s.root.Rename(at(from), at(to)))
}

func (s session) Remove(_ context.Context, name string) error {
	return plugins.FileError("remove", name, s.root.Remove(at(name)))
}

func (s session) Mkdir(_ context.Context, name string) error {
	err := s.root.Mkdir(at(name), 0o777)
	if fi, there := s.root.Stat(at(name)); there == nil && fi.IsDir() {
		err = nil
	}
	return plugins.FileError("make directory", name, err)
}

func (s session) Checksum(ctx context.Context, name, _ string, length int64) ([]byte, error) {
	f, err := s.Read(ctx, name, 0)
	if err != nil {
		return nil, plugins.FileError("checksum", name, err)
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
	return h.Sum(nil), plugins.FileError("checksum", name, err)
}

func (s session) Write(_ context.Context, name string, w plugins.WriteRequest) (plugins.Staged, error) {
	return plugins.StageFile(s.root, name, w)
}
