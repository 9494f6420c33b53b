package pack

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pannier/pannier/engine/task"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/relpath"
)

// extractTask makes a directory of what is in an archive.
type extractTask struct {
	to     task.Template
	named  bool
	format string // "": by the file's name
	remove bool
	bounds bounds
}

func newExtract(t *task.Table) (task.Task, error) {
	e := extractTask{format: t.Format, named: t.To != "", remove: t.Remove}
	if _, ok := formats[e.format]; !ok && e.format != "" {
		return nil, invalid("format is %q: %s, or nothing, and the file's name tells", t.Format, formatHint)
	}
	var err error
	if e.bounds, err = newBounds(t); err != nil {
		return nil, err
	}
	e.to, err = task.ParseTemplate(t.To)
	return e, err
}

// Run implements task.Task. All is written into a directory of a temporary name, synced,
// and then has its own name: a half of it is never there. A second run makes it again;
// what has the name already is fine if it is the same, and an error if not.
func (e extractTask) Run(ctx context.Context, on *task.On) (task.Result, error) {
	if err := task.NeedFile(on); err != nil {
		return task.Result{}, err
	}
	format := e.format
	if format == "" {
		if format = archiveFormat(on.File.String()); format == "" {
			return task.Result{}, fault.New("extract", fault.Invalid, "the file's name does not say what archive it is: set format; %s", formatHint)
		}
	}
	to, err := e.target(on, format)
	if err != nil {
		return task.Result{}, err
	}
	src, err := task.OpenRegular(on.Root, on.File)
	if errors.Is(err, fs.ErrNotExist) && on.Again && e.remove {
		if fi, gone := on.Root.Stat(to.String()); gone == nil && fi.IsDir() {
			return task.Result{Moved: true}, task.SyncLeft(on.Root, on.File) // by an earlier run, which may not have come to that
		}
	}
	if err != nil {
		return task.Result{}, err
	}
	defer src.Close()
	if err := sideeffect.MakeDirs(on.Root, to.Dir()); err != nil {
		return task.Result{}, err
	}
	temp, err := task.TempName(on, to)
	if err != nil {
		return task.Result{}, err
	}
	if err := on.Root.RemoveAll(temp.String()); err != nil {
		return task.Result{}, err
	}
	if err := e.into(ctx, on.Root, temp, src, format); err != nil {
		_ = on.Root.RemoveAll(temp.String()) // the reason is another
		return task.Result{}, err
	}
	if err := e.name(ctx, on.Root, temp, to); err != nil {
		_ = on.Root.RemoveAll(temp.String())
		return task.Result{}, err
	}
	if !e.remove {
		return task.Result{}, nil
	}
	if err := on.Root.Remove(on.File.String()); err != nil {
		return task.Result{}, err
	}
	return task.Result{Moved: true}, task.SyncAt(on.Root, on.File.Dir())
}

// target is the directory to make: beside the archive, with its name without the
// extension, unless to is set.
func (e extractTask) target(on *task.On, format string) (relpath.Path, error) {
	name := e.to.Fill(on.Vars)
	if !e.named {
		name = on.File.String()
		for _, ext := range []string{"." + format, ".tgz", ".tzst"} {
			name = strings.TrimSuffix(name, ext)
		}
		if name == on.File.String() {
			name += ".d"
		}
	}
	to, err := relpath.Parse(name)
	if err == nil {
		err = sideeffect.RefuseOwn("make name", to)
	}
	return to, err
}

// name gives the temporary directory its name.
func (e extractTask) name(ctx context.Context, root *os.Root, temp, to relpath.Path) error {
	_, err := root.Lstat(to.String())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		// An empty directory that comes in between is replaced, and anything else an error of the system.
		if err := root.Rename(temp.String(), to.String()); err != nil {
			return err
		}
		return task.SyncAt(root, to.Dir())
	case err != nil:
		return err
	}
	same, err := sameTree(ctx, root, temp.String(), to.String())
	if err != nil {
		return err
	}
	if !same {
		return fault.New("extract", fault.Exists, "there is %s already, and it has not what the archive has: set to to a name of its own, as \"{dir}/{id}\"", to)
	}
	return root.RemoveAll(temp.String())
}

// into writes what is in an archive into a new directory, durably.
func (e extractTask) into(ctx context.Context, root *os.Root, dir relpath.Path, src *os.File, format string) error {
	fi, err := src.Stat()
	if err != nil {
		return err
	}
	if fi.Size() == 0 {
		return fault.New("unpack", fault.Refused, "the archive has no byte")
	}
	if err := root.Mkdir(dir.String(), 0o777); err != nil {
		return err
	}
	inside, err := root.OpenRoot(dir.String())
	if err != nil {
		return err
	}
	defer inside.Close()
	u := &unpacker{ctx: ctx, root: inside, budget: e.bounds.of(fi.Size()), files: e.bounds.files, dirs: map[string]bool{".": true}}
	if format == "zip" {
		err = u.zip(src, fi.Size())
	} else {
		err = u.tar(src, formats[format])
	}
	if err != nil {
		return damaged(err)
	}
	return u.sync()
}

// unpacker writes entries below a directory.
type unpacker struct {
	ctx    context.Context
	root   *os.Root
	budget *budget
	files  int             // entries that may still come
	dirs   map[string]bool // that were made; bounded by files and relpath.MaxPath
	made   []string        // files
}

// entry checks what is said about one, whatever its kind.
func (u *unpacker) entry(name string) (relpath.Path, error) {
	if err := u.ctx.Err(); err != nil {
		return relpath.Path{}, err
	}
	if u.files--; u.files < 0 {
		return relpath.Path{}, u.tooMany()
	}
	p, err := relpath.Parse(strings.TrimSuffix(strings.TrimPrefix(name, "./"), "/"))
	if err != nil {
		return p, fault.New("unpack", fault.Invalid, "the archive has a name that leads nowhere: %w", err)
	}
	return p, sideeffect.RefuseOwn("unpack", p)
}

func (u *unpacker) tooMany() error {
	return fault.New("unpack", fault.QuotaExceeded, "there are more than %d files and directories in it: if that is no attack, raise max_files", u.budget.b.files)
}

// makeDirs makes a directory with those above it, if they are not made: an entry may come after
// what is in it.
func (u *unpacker) makeDirs(p relpath.Path) error {
	if p.IsZero() || u.dirs[p.String()] {
		return nil
	}
	if err := u.makeDirs(p.Dir()); err != nil {
		return err
	}
	if !p.Dir().IsZero() { // one that no entry stands for counts too
		if u.files--; u.files < 0 {
			return u.tooMany()
		}
	}
	if err := u.root.Mkdir(p.String(), 0o777); err != nil {
		return twice(p, err)
	}
	u.dirs[p.String()] = true
	return nil
}

func twice(p relpath.Path, err error) error {
	if errors.Is(err, fs.ErrExist) {
		return fault.New("unpack", fault.Invalid, "the archive has %s twice", p)
	}
	return err
}

// file writes one entry.
func (u *unpacker) file(p relpath.Path, executable bool, modified time.Time, r io.Reader) error {
	if err := u.makeDirs(p.Dir()); err != nil {
		return err
	}
	mode := fs.FileMode(0o666)
	if executable {
		mode = 0o777
	}
	f, err := u.root.OpenFile(p.String(), os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return twice(p, err)
	}
	_, err = io.Copy(u.budget.writer(f), onlyReader{task.While(u.ctx, r)})
	u.made = append(u.made, p.String())
	if err = errors.Join(err, f.Close()); err == nil && !modified.IsZero() {
		err = u.root.Chtimes(p.String(), modified, modified)
	}
	return err
}

func refuse(p relpath.Path) error {
	return fault.New("unpack", fault.Refused, "%s is a link or a device: only files and directories are taken from archives", p)
}

// tar reads the entries of a tar file, which may be compressed.
func (u *unpacker) tar(src *os.File, compressed string) error {
	r := task.While(u.ctx, src)
	if compressed != "" {
		z, err := decompressor(compressed, src)
		if err != nil {
			return err
		}
		defer z.Close()
		// Headers and padding are nowhere written, but are bounded as well: a bomb may be made of them.
		over := &budget{left: u.budget.left + 4096*int64(u.files), ratio: u.budget.ratio, b: u.budget.b}
		r = io.TeeReader(onlyReader{task.While(u.ctx, z)}, over.writer(io.Discard))
	}
	for t := tar.NewReader(r); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if h.Name == "./" || h.Name == "." {
			continue
		}
		p, err := u.entry(h.Name)
		if err != nil {
			return err
		}
		switch h.Typeflag {
		case tar.TypeDir:
			err = u.makeDirs(p)
		case tar.TypeReg:
			err = u.file(p, h.Mode&0o100 != 0, h.ModTime, t)
		default:
			err = refuse(p)
		}
		if err != nil {
			return err
		}
	}
}

// zip reads the entries of a zip file.
func (u *unpacker) zip(src *os.File, size int64) error {
	// The directory is read at once, before its entries can be counted: so many bytes of it.
	listing := &boundedAt{src, 1<<20 + 256*int64(u.files)}
	z, err := zip.NewReader(listing, size)
	if err != nil {
		if listing.left < 0 {
			return u.tooMany()
		}
		return err
	}
	listing.left = 1<<63 - 1
	if len(z.File) > u.files {
		return u.tooMany()
	}
	for _, f := range z.File {
		p, err := u.entry(f.Name)
		if err != nil {
			return err
		}
		mode := f.Mode()
		switch {
		case mode.IsDir():
			err = u.makeDirs(p)
		case mode.IsRegular():
			err = u.zipped(p, f)
		default:
			err = refuse(p)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (u *unpacker) zipped(p relpath.Path, f *zip.File) error {
	if f.Flags&1 != 0 {
		return fault.New("unpack", fault.Unsupported, "%s is encrypted with a password", p)
	}
	r, err := f.Open()
	if err != nil {
		return err
	}
	return errors.Join(u.file(p, f.Mode()&0o100 != 0, f.Modified, r), r.Close())
}

// boundedAt reads so many bytes and no more.
type boundedAt struct {
	r    io.ReaderAt
	left int64
}

func (b *boundedAt) ReadAt(p []byte, off int64) (int, error) {
	if b.left -= int64(len(p)); b.left < 0 {
		return 0, fault.New("unpack", fault.QuotaExceeded, "the list of its files is too long")
	}
	return b.r.ReadAt(p, off)
}

// syncers is how many files are synced at a time: file systems do several in one go.
const syncers = 16

// sync makes all files, and their names in all directories, durable.
func (u *unpacker) sync() error {
	var g errgroup.Group
	g.SetLimit(syncers)
	for _, name := range append(u.made, slices.Collect(maps.Keys(u.dirs))...) {
		g.Go(func() error {
			if err := u.ctx.Err(); err != nil {
				return err
			}
			f, err := u.root.Open(name)
			if err != nil {
				return err
			}
			return errors.Join(f.Sync(), f.Close())
		})
	}
	return g.Wait()
}

// sameTree reports whether two directories have the same files with the same content.
func sameTree(ctx context.Context, root *os.Root, a, b string) (bool, error) {
	names := map[string]bool{}
	same := true
	err := fs.WalkDir(root.FS(), a, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		inside := strings.TrimPrefix(name, a)
		names[inside] = true
		other, err := root.Lstat(b + inside)
		if errors.Is(err, fs.ErrNotExist) || err == nil && other.Mode().Type() != d.Type() {
			same = false
			return fs.SkipAll
		}
		if err != nil || d.IsDir() {
			return err
		}
		if same, err = sameFile(ctx, root, name, b+inside); err == nil && !same {
			err = fs.SkipAll
		}
		return err
	})
	if err != nil || !same {
		return false, err
	}
	err = fs.WalkDir(root.FS(), b, func(name string, _ fs.DirEntry, err error) error {
		if err == nil && !names[strings.TrimPrefix(name, b)] {
			same, err = false, fs.SkipAll
		}
		return err
	})
	return same, err
}

func sameFile(ctx context.Context, root *os.Root, a, b string) (bool, error) {
	f, err := root.Open(a)
	if err != nil {
		return false, err
	}
	defer f.Close()
	g, err := root.Open(b)
	if err != nil {
		return false, err
	}
	defer g.Close()
	var x, y [64 << 10]byte
	for {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		n, errX := io.ReadFull(f, x[:])
		m, errY := io.ReadFull(g, y[:])
		switch {
		case errX != nil && errX != io.EOF && errX != io.ErrUnexpectedEOF:
			return false, errX
		case errY != nil && errY != io.EOF && errY != io.ErrUnexpectedEOF:
			return false, errY
		case n != m || !bytes.Equal(x[:n], y[:m]):
			return false, nil
		case errX != nil:
			return true, nil
		}
	}
}
