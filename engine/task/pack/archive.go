package pack

import (
	"archive/tar"
	"archive/zip"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/pannier/pannier/engine/task"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/relpath"
)

// Formats of archives: how they are laid out, and how that is compressed.
var formats = map[string]string{"tar": "", "tar.gz": gzipFormat, "tar.zst": zstdFormat, "zip": ""}

// archiveFormat is the format that a name ends with; "" if none.
func archiveFormat(name string) string {
	switch {
	case strings.HasSuffix(name, ".tar.gz"), strings.HasSuffix(name, ".tgz"):
		return "tar.gz"
	case strings.HasSuffix(name, ".tar.zst"), strings.HasSuffix(name, ".tzst"):
		return "tar.zst"
	case strings.HasSuffix(name, ".tar"):
		return "tar"
	case strings.HasSuffix(name, ".zip"):
		return "zip"
	}
	return ""
}

const formatHint = "write tar, tar.gz, tar.zst or zip"

// archiveTask packs the request's file, or a file or directory of another name.
type archiveTask struct {
	task.Product
	format string
	path   task.Template
	own    bool // no path is set: the request's file
}

func newArchive(t *task.Table) (task.Task, error) {
	a := archiveTask{format: t.Format, own: t.Path == ""}
	if a.format == "" {
		a.format = archiveFormat(t.To)
	}
	if _, ok := formats[a.format]; !ok {
		return nil, invalid("the format is neither that of to, %q, nor of format, %q: %s", t.To, t.Format, formatHint)
	}
	if t.Remove && !a.own {
		return nil, invalid("remove is for the request's file, not for path")
	}
	var err error
	if a.path, err = task.ParseTemplate(t.Path); err != nil {
		return nil, err
	}
	a.Product, err = task.NewProduct(t, "{path}."+a.format)
	return a, err
}

// Run implements task.Task.
func (a archiveTask) Run(ctx context.Context, on *task.On) (task.Result, error) {
	if a.own {
		return a.Make(ctx, on, "", func(w io.Writer, src *os.File) error {
			return a.pack(w, func(p packer) error { return p.file(ctx, on.File.Base(), src) })
		})
	}
	from, err := a.path.Path(on.Vars)
	if err != nil {
		return task.Result{}, err
	}
	to, err := a.Target(on, "")
	if err != nil {
		return task.Result{}, err
	}
	if to == from || strings.HasPrefix(to.String(), from.String()+"/") {
		return task.Result{}, fault.New("make name", fault.Invalid, "%s would be in itself: set to to a name outside of %s", to, from)
	}
	err = task.Write(ctx, on, to, func(w io.Writer) error {
		return a.pack(w, func(p packer) error { return walk(ctx, on.Root, from, p) })
	})
	return task.Result{Moved: err == nil, File: to}, err
}

// walk packs a file, or a directory with all below it. Unfinished files of transfers
// are left out; anything else that is no file is an error.
func walk(ctx context.Context, root *os.Root, from relpath.Path, p packer) error {
	above := from.Dir().String()
	return fs.WalkDir(root.FS(), from.String(), func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		case sideeffect.IsOwn(path.Base(name)):
			return nil
		}
		inside := strings.TrimPrefix(strings.TrimPrefix(name, above), "/")
		if d.IsDir() {
			fi, err := d.Info()
			if err != nil {
				return err
			}
			return p.dir(inside, fi)
		}
		at, err := relpath.Parse(name)
		if err != nil {
			return err
		}
		f, err := task.OpenRegular(root, at)
		if err != nil {
			return fault.Wrap("pack", name, err)
		}
		return errors.Join(p.file(ctx, inside, f), f.Close())
	})
}

// packer is a format's way to take files.
type packer interface {
	file(ctx context.Context, name string, f *os.File) error
	dir(name string, fi fs.FileInfo) error
}

// pack writes an archive of what fill packs.
func (a archiveTask) pack(w io.Writer, fill func(packer) error) error {
	if a.format == "zip" {
		z := zip.NewWriter(w)
		if err := fill(zipPacker{z}); err != nil {
			return err
		}
		return z.Close()
	}
	var compressed io.WriteCloser
	if format := formats[a.format]; format != "" {
		var err error
		if compressed, err = compressor(format, w); err != nil {
			return err
		}
		w = compressed
	}
	t := tar.NewWriter(w)
	if err := fill(tarPacker{t}); err != nil {
		return err
	}
	if err := t.Close(); err != nil || compressed == nil {
		return err
	}
	return compressed.Close()
}

type tarPacker struct{ w *tar.Writer }

// header has no users of this host.
func (tarPacker) header(name string, fi fs.FileInfo) *tar.Header {
	return &tar.Header{Name: name, Mode: int64(fi.Mode().Perm()), ModTime: fi.ModTime(), Format: tar.FormatPAX}
}

func (p tarPacker) dir(name string, fi fs.FileInfo) error {
	h := p.header(name+"/", fi)
	h.Typeflag = tar.TypeDir
	return p.w.WriteHeader(h)
}

func (p tarPacker) file(ctx context.Context, name string, f *os.File) error {
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	h := p.header(name, fi)
	h.Typeflag, h.Size = tar.TypeReg, fi.Size()
	if err := p.w.WriteHeader(h); err != nil {
		return err
	}
	n, err := io.Copy(p.w, io.LimitReader(task.While(ctx, f), fi.Size()))
	if err == nil && n < fi.Size() {
		err = fault.New("pack", fault.SourceChanged, "%s became shorter while it was read", name)
	}
	return err
}

type zipPacker struct{ w *zip.Writer }

func (p zipPacker) dir(name string, fi fs.FileInfo) error {
	h := &zip.FileHeader{Name: name + "/", Modified: fi.ModTime()}
	h.SetMode(fi.Mode())
	_, err := p.w.CreateHeader(h)
	return err
}

func (p zipPacker) file(ctx context.Context, name string, f *os.File) error {
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	h := &zip.FileHeader{Name: name, Method: zip.Deflate, Modified: fi.ModTime()}
	h.SetMode(fi.Mode())
	w, err := p.w.CreateHeader(h)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, task.While(ctx, f))
	return err
}
