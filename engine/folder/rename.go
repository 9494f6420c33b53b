package folder

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/pannier/pannier/spec/fault"
)

// Giving a file a name that nobody has. A rename that replaces nothing asks for the directories only; where there is
// none, a second name is made and the first removed, which the kernel may refuse for files of other users
// (fs.protected_hardlinks).

// mostNames is how many names are tried for a file whose own is taken.
const mostNames = 10000

// probe is a name that no file has.
const probe = ".probe.pannier-w"

// faulty is asked before each step that changes a name, and may refuse it. Tests do.
var faulty = func(step string) error { return nil }

// place is an open directory.
type place struct {
	*os.Root
	dir *os.File // itself
}

func openPlace(root *os.Root, err error) (place, error) {
	if err != nil {
		return place{}, err
	}
	dir, err := root.Open(".")
	if err != nil {
		root.Close()
		return place{}, fault.Wrap("open directory", root.Name(), err)
	}
	return place{root, dir}, nil
}

func (p place) Close() {
	_ = p.dir.Close()
	_ = p.Root.Close()
}

// give gives a file another name, in another directory perhaps. fs.ErrExist: another file has it.
func (p place) give(step, name string, to place, other string) error {
	err := faulty(step)
	if err == nil {
		err = renameNew(p.dir, name, to.dir, other)
	}
	if !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	// A Root links within itself only, and these two may have been moved.
	err = unix.Linkat(int(p.dir.Fd()), name, int(to.dir.Fd()), other, 0)
	if errors.Is(err, fs.ErrExist) {
		one, errA := p.Lstat(name)
		two, errB := to.Lstat(other)
		if errA == nil && errB == nil && os.SameFile(one, two) {
			err = nil // an earlier run has done it
		}
	}
	if err != nil {
		return err
	}
	reached("linked")
	return p.Remove(name)
}

// giveFree is give, with a number behind the name if another file has it.
func (p place) giveFree(step, name string, to place, other string) (given string, err error) {
	for i := range mostNames {
		given = other
		if i > 0 {
			given = fmt.Sprintf("%s.%d", other, i)
		}
		if err = p.give(step, name, to, given); !errors.Is(err, fs.ErrExist) {
			break
		}
	}
	return given, err
}

// reaches refuses another directory into which no file of this one can be renamed, before one is touched.
func (p place) reaches(to place) error {
	if err := mayWrite(to.dir); err != nil {
		return err
	}
	err := faulty("reach")
	if err == nil {
		err = renameNew(p.dir, probe, to.dir, probe)
	}
	if errors.Is(err, unix.EXDEV) || errors.Is(err, unix.EROFS) {
		return err
	}
	return nil // there is no such file
}

// aside gives a file a name in its directory that is not taken. With linked, where a rename would replace what has
// come under a name, it refuses a file that can have no second one: its own could not be given back without that danger.
// That makes it another version, which is to be noted before.
func (p place) aside(name, aside string, linked, noted bool) error {
	err := faulty("aside")
	if err == nil {
		err = renameNew(p.dir, name, p.dir, aside)
	}
	if !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	if linked && !noted {
		return errUnnoted
	}
	if linked {
		if err := unix.Linkat(int(p.dir.Fd()), name, int(p.dir.Fd()), aside, 0); err != nil {
			return fmt.Errorf("it can have no second name: %w", err)
		}
		reached("second name")
		if err := p.Remove(aside); err != nil {
			return err
		}
		reached("one name")
	}
	return p.Rename(name, aside)
}

// TryMove moves a file from one directory of this host to another as a folder does. errors.ErrUnsupported: it would be
// given a second name there, and lose its first.
func TryMove(from, to, name string) error {
	a, err := openPlace(os.OpenRoot(from))
	if err != nil {
		return err
	}
	defer a.Close()
	b, err := openPlace(os.OpenRoot(to))
	if err != nil {
		return err
	}
	defer b.Close()
	return renameNew(a.dir, name, b.dir, name)
}
