package folder

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/relpath"
)

// What is done with a file afterwards. spec/folder.md, "After". Each step can be the last of
// a process: the next one begins with what it finds.

// disposal is the removal of one version of a file.
type disposal struct {
	folder  *Folder
	path    relpath.Path
	version sideeffect.Version // without its device
	to      relpath.Path       // below which it is moved; zero: nowhere
	aside   string             // its name between, in its directory
	done    string             // its done file there, which goes first: a later one is of a later version; "": none
}

// asideName is the same for the same version of a name.
func asideName(folder, name string, v sideeffect.Version) string {
	sum := sha256.Sum256(append([]byte(folder+"\x00"+name+"\x00"), v.Encode()...))
	return "." + hex.EncodeToString(sum[:8]) + ".pannier-w"
}

// mostNames is how many names are tried for a file whose own is taken.
const mostNames = 10000

// do removes or moves the version, if it is what has the name. With an error it is to be done again later. What
// was done is not yet durable: the directories are.
func (d *disposal) do(root *os.Root) (gone bool, dirs []string, err error) {
	dir := at(d.path.Dir())
	in, err := d.folder.openDir(root, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil, nil
	}
	if err != nil {
		return false, nil, fault.Wrap("open directory", dir, err)
	}
	defer in.Close()
	dirs = []string{dir}
	there, err := d.isAside(in)
	if err == nil && !there {
		there, err = d.takeAside(root, in)
	}
	if err != nil || !there {
		return false, dirs, err
	}
	if !d.to.IsZero() {
		if err := d.place(root, in); err != nil {
			return false, dirs, err
		}
		dirs = append(dirs, d.dir())
		reached("placed")
	}
	return true, dirs, fault.Wrap("remove file", d.path.String(), in.Remove(d.aside))
}

// isAside reports whether an earlier run has given the version its name between. What else it has put
// there gets its own name back.
func (d *disposal) isAside(in *os.Root) (bool, error) {
	fi, err := in.Lstat(d.aside)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, fault.Wrap("look for file", d.path.String(), err)
	case d.is(fi):
		return true, nil
	case fi.IsDir():
		return false, fault.New("rename file", fault.Exists, "%s is a directory, and the file needs that name for a moment: remove it", path.Join(at(d.path.Dir()), d.aside))
	}
	return false, d.back(in)
}

// is reports whether fi is of the version, renamed perhaps.
func (d *disposal) is(fi fs.FileInfo) bool {
	return fi.Mode().IsRegular() && sideeffect.VersionOf(fi).WithoutDevice().Touched(d.version)
}

// takeAside renames the file, if it is the version, and looks again what it has renamed: a
// newer file may have come under the name in between.
func (d *disposal) takeAside(root, in *os.Root) (bool, error) {
	name := d.path.Base()
	f, fi, err := openVersion(in, name)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNoFile) {
			err = nil // it is not what was delivered
		}
		return false, fault.Wrap("open file", d.path.String(), err)
	}
	defer f.Close()
	if sideeffect.VersionOf(fi).WithoutDevice() != d.version {
		return false, nil
	}
	if is, _ := writing(f); is {
		return false, fault.New("remove file", fault.Overloaded, "a process has it open for writing")
	}
	if !d.to.IsZero() {
		if err := d.sameDevice(root, fi); err != nil {
			return false, err
		}
	}
	if d.done != "" {
		_ = in.Remove(d.done) // one that stays does no harm
	}
	reached("looked")
	if err := in.Rename(name, d.aside); err != nil {
		return false, fault.Wrap("rename file", d.path.String(), err)
	}
	reached("aside")
	now, err := in.Lstat(d.aside)
	if err != nil {
		return false, fault.Wrap("look at file", d.path.String(), err)
	}
	if !os.SameFile(fi, now) || !d.is(now) {
		return false, d.back(in)
	}
	return true, nil
}

// reached is told where the work is, between two things of which the second may never come.
// Tests end it there.
var reached = func(string) {}

// below is the name of the file in the folder, which it keeps where it is moved.
func (d *disposal) below() string { return d.folder.inside(d.path.String()) }

// dir is the directory to which it is moved.
func (d *disposal) dir() string { return path.Join(d.to.String(), path.Dir(d.below())) }

// openTo opens the directory to move to, which is made. The way to d.to may have links, if it does not lead
// through the folder; below either they are the writers', and would lead to what is not theirs.
func (d *disposal) openTo(root *os.Root) (*os.Root, error) {
	base, rest := d.to, path.Dir(d.below())
	if dir := d.folder.Dir; below(dir, d.to.String()) {
		base, rest = dir, d.folder.inside(d.dir())
	}
	if err := sideeffect.MakeDirs(root, base); err != nil {
		return nil, err
	}
	in, err := root.OpenRoot(at(base))
	if err != nil {
		return nil, fault.Wrap("open directory", at(base), err)
	}
	if rest == "." {
		return in, nil
	}
	return sideeffect.Descend(in, rest, func(in *os.Root, name string) (*os.Root, error) {
		one, err := relpath.Parse(name)
		if err != nil {
			return nil, err
		}
		if fi, err := in.Lstat(name); err == nil && fi.Mode()&fs.ModeSymlink != 0 {
			return nil, fault.New("move file", fault.Refused, "%s of %s is a link: files are moved into directories only; remove it", name, d.dir())
		}
		if err := sideeffect.MakeDirs(in, one); err != nil {
			return nil, err
		}
		return sideeffect.OpenReal(in, name)
	})
}

// sameDevice makes the directory to move to, and refuses one where no link can lead.
func (d *disposal) sameDevice(root *os.Root, fi fs.FileInfo) error {
	to, err := d.openTo(root)
	if err != nil {
		return err
	}
	defer to.Close()
	there, err := to.Stat(".")
	if err != nil {
		return fault.Wrap("look at directory", d.to.String(), err)
	}
	a, okA := fi.Sys().(*syscall.Stat_t)
	b, okB := there.Sys().(*syscall.Stat_t)
	if okA && okB && a.Dev != b.Dev {
		return fault.New("move file", fault.Unsupported, "%s is on another file system", d.dir())
	}
	return nil
}

// back gives what is aside its own name again, or one beside it.
func (d *disposal) back(in *os.Root) error {
	if err := link(in, d.aside, in, d.path.Base()); err != nil {
		return err
	}
	reached("back")
	return fault.Wrap("rename file", d.path.String(), in.Remove(d.aside))
}

// place makes a second name for what is aside, below to.
func (d *disposal) place(root, in *os.Root) error {
	to, err := d.openTo(root)
	if err != nil {
		return err
	}
	defer to.Close()
	return link(in, d.aside, to, d.path.Base())
}

// link gives the file from a second name in another directory, or that with a number if it is taken by another file.
func link(in *os.Root, from string, other *os.Root, to string) error {
	a, err := in.Open(".")
	if err != nil {
		return fault.Wrap("open directory", in.Name(), err)
	}
	defer a.Close()
	b, err := other.Open(".")
	if err != nil {
		return fault.Wrap("open directory", other.Name(), err)
	}
	defer b.Close()
	for i := range mostNames {
		name := to
		if i > 0 {
			name = fmt.Sprintf("%s.%d", to, i)
		}
		// A Root links within itself only, and these two may have been moved.
		if err = unix.Linkat(int(a.Fd()), from, int(b.Fd()), name, 0); !errors.Is(err, fs.ErrExist) {
			break
		}
		one, errA := in.Lstat(from)
		two, errB := other.Lstat(name)
		if errA == nil && errB == nil && os.SameFile(one, two) {
			return nil // an earlier run has done it
		}
	}
	return fault.Wrap("give the file a name", to, err)
}

// errNoFile is of names of what is no regular file.
var errNoFile = errors.New("no regular file")

// openVersion opens a regular file for reading; never a link, and nothing that could block.
func openVersion(in *os.Root, name string) (*os.File, fs.FileInfo, error) {
	before, err := in.Lstat(name)
	if err != nil {
		return nil, nil, err
	}
	if !before.Mode().IsRegular() {
		return nil, before, errNoFile
	}
	f, err := in.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, before, err
	}
	fi, err := f.Stat()
	if err == nil && !os.SameFile(before, fi) {
		err = fs.ErrNotExist // it was replaced in this moment: somebody tells
	}
	if err != nil {
		f.Close()
		return nil, before, err
	}
	return f, fi, nil
}

// syncDirs makes the names in directories durable.
func syncDirs(root *os.Root, dirs map[string]bool) error {
	for dir := range dirs {
		d, err := root.Open(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = errors.Join(d.Sync(), d.Close())
		}
		if err != nil {
			return fault.Wrap("sync directory", dir, err)
		}
	}
	return nil
}
