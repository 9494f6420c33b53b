package folder

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"syscall"

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
	failed  bool               // it was not delivered: it gets a name whatever has its own
	noted   bool               // that renames may make it another version: they make none before that

	now     sideeffect.Version // as what it has its name still; zero: it has not, or was not renamed
	missing bool               // nothing has its name
}

// errUnnoted is of what is to be done again when it is noted that the version may change.
var errUnnoted = errors.New("not noted yet")

// do removes or moves the version, if it is what has the name. With an error it has its name, or the error says where
// it is, and it is to be done again later. What was done is not yet durable: the directories are.
func (d *disposal) do(root *os.Root) (gone bool, dirs []string, err error) {
	dir := at(d.path.Dir())
	in, err := openPlace(d.folder.openDir(root, dir))
	if errors.Is(err, fs.ErrNotExist) {
		d.missing = true
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
	if err := d.end(root, in); err != nil {
		return false, dirs, d.giveBack(in, err)
	}
	if !d.to.IsZero() {
		dirs = append(dirs, d.dir())
	}
	return true, dirs, nil
}

// isAside reports whether an earlier run has given the version its name between. What else it has put
// there gets its own name back.
func (d *disposal) isAside(in place) (bool, error) {
	fi, err := in.Lstat(d.aside)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, fault.Wrap("look for file", d.path.String(), err)
	case d.is(fi):
		return d.onlyAside(in, fi)
	case fi.IsDir():
		return false, fault.New("rename file", fault.Exists, "%s is a directory, and the file needs that name for a moment: remove it", path.Join(at(d.path.Dir()), d.aside))
	}
	return false, d.back(in)
}

// onlyAside has it in the one place, if an earlier run was to give it a name by a second one.
func (d *disposal) onlyAside(in place, aside fs.FileInfo) (bool, error) {
	fi, err := in.Lstat(d.path.Base())
	if err != nil || !os.SameFile(fi, aside) {
		return true, nil // another file has its name, or none
	}
	if !d.noted {
		return false, errUnnoted
	}
	if err := in.Remove(d.aside); err != nil {
		return false, fault.Wrap("remove second name", d.aside, bare(err))
	}
	if d.stays(in); !d.now.IsZero() {
		d.version = d.now
	}
	return false, nil
}

// is reports whether fi is of the version, renamed perhaps.
func (d *disposal) is(fi fs.FileInfo) bool {
	return fi.Mode().IsRegular() && sideeffect.VersionOf(fi).WithoutDevice().Touched(d.version)
}

// takeAside renames the file, if it is the version, and looks again what it has renamed: a
// newer file may have come under the name in between.
func (d *disposal) takeAside(root *os.Root, in place) (bool, error) {
	name := d.path.Base()
	f, fi, err := openVersion(in.Root, name)
	if err != nil {
		if d.missing = errors.Is(err, fs.ErrNotExist); d.missing || errors.Is(err, errNoFile) {
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
		if err := d.reach(root, in); err != nil {
			return false, err
		}
	}
	if d.done != "" {
		_ = in.Remove(d.done) // one that stays does no harm
	}
	reached("looked")
	if err := in.aside(name, d.aside, !d.to.IsZero(), d.noted); err != nil {
		d.stays(in)
		return false, fault.Wrap("rename file", d.path.String(), err)
	}
	reached("aside")
	now, err := in.Lstat(d.aside)
	if err != nil {
		return false, d.giveBack(in, fault.Wrap("look at file", d.path.String(), err))
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

// reach makes the directory to move to, and refuses one that no file can be renamed into.
func (d *disposal) reach(root *os.Root, in place) error {
	to, err := openPlace(d.openTo(root))
	if err != nil {
		return err
	}
	defer to.Close()
	return d.moved(in.reaches(to))
}

// moved says why a file cannot be moved.
func (d *disposal) moved(err error) error {
	if errors.Is(err, syscall.EXDEV) {
		return fault.New("move file", fault.Unsupported, "%s is on another file system", d.dir())
	}
	return fault.Wrap("move file to", d.dir(), bare(err))
}

// bare is what the system said, without a name that is said already.
func bare(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// end removes what is aside, or gives it its place below to.
func (d *disposal) end(root *os.Root, in place) error {
	if d.to.IsZero() {
		err := faulty("remove")
		if err == nil {
			err = in.Remove(d.aside)
		}
		return fault.Wrap("remove file", d.path.String(), bare(err))
	}
	to, err := openPlace(d.openTo(root))
	if err != nil {
		return err
	}
	defer to.Close()
	if _, err := in.giveFree("place", d.aside, to, d.path.Base()); err != nil {
		return d.moved(err)
	}
	reached("placed")
	return nil
}

// back gives what is aside, and is not the version, its own name again, or one beside it.
func (d *disposal) back(in place) error {
	if _, err := in.giveFree("back", d.aside, in, d.path.Base()); err != nil {
		return d.lies(err)
	}
	reached("back")
	return nil
}

// giveBack gives the version its own name again, because of what has failed.
func (d *disposal) giveBack(in place, why error) error {
	if !d.noted {
		return errUnnoted
	}
	name, err := d.path.Base(), error(nil)
	if d.failed {
		name, err = in.giveFree("back", d.aside, in, name)
	} else { // beside its name it would be a file that nobody has sent
		err = in.give("back", d.aside, in, name)
	}
	if err != nil {
		return fmt.Errorf("%w; %w", why, d.lies(err))
	}
	reached("given back")
	if name != d.path.Base() {
		return fmt.Errorf("%w; another file has its name, and it is %s now", why, path.Join(path.Dir(d.path.String()), name))
	}
	d.stays(in)
	return why
}

// lies says where a file is whose name cannot be given back.
func (d *disposal) lies(err error) error {
	if errors.Is(err, fs.ErrExist) {
		err = errors.New("another file has its name")
	}
	return fault.New("give file its name back", fault.IO, "it lies as %s: %w", path.Join(path.Dir(d.path.String()), d.aside), bare(err))
}

// stays looks as what the version has its name, after renames.
func (d *disposal) stays(in place) {
	if fi, err := in.Lstat(d.path.Base()); err == nil && d.is(fi) {
		d.now = sideeffect.VersionOf(fi).WithoutDevice()
	}
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
