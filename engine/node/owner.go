package node

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"syscall"

	"github.com/pannier/pannier/spec/fault"
)

// Whose the files of a state directory are. Root may do in there what the node's user
// cannot undo: a key that root has made is closed to the node.

// HandOver gives what root has made in a state directory to the directory's owner. Whoever
// is not root has made nothing of another's, and nothing is done. A file with a second name
// stays as it is: it may be one of the system's, which the owner has linked there.
func HandOver(state string) error {
	const op = "hand over state directory"
	if os.Geteuid() != 0 {
		return nil
	}
	root, err := os.OpenRoot(state)
	if err != nil {
		return fault.Wrap(op, state, err)
	}
	defer root.Close()
	return fault.Wrap(op, state, entries(root, func(name string, owner *syscall.Stat_t) error {
		f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		fi, err := f.Stat()
		if err != nil {
			return err
		}
		is, ok := fi.Sys().(*syscall.Stat_t)
		if !ok || is.Uid != 0 || !fi.IsDir() && is.Nlink > 1 {
			return nil
		}
		return f.Chown(int(owner.Uid), int(owner.Gid))
	}))
}

// Foreign are the files of a state directory that are not its owner's, by their names in
// there.
func Foreign(state string) (names []string, err error) {
	root, err := os.OpenRoot(state)
	if err != nil {
		return nil, fault.Wrap("look at state directory", state, err)
	}
	defer root.Close()
	err = entries(root, func(name string, _ *syscall.Stat_t) error {
		names = append(names, name)
		return nil
	})
	return names, fault.Wrap("look at state directory", state, err)
}

// entries are the files and folders of a state directory that are not its owner's: links,
// sockets and others are nobody's content.
func entries(root *os.Root, do func(name string, owner *syscall.Stat_t) error) error {
	fi, err := root.Stat(".")
	if err != nil {
		return err
	}
	owner, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	return fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission) && name != ".":
			return nil // gone since, or a folder that only its owner looks into
		case err != nil:
			return err
		case !d.Type().IsRegular() && !d.IsDir():
			return nil
		}
		fi, err := d.Info()
		if err != nil {
			return nil // gone since
		}
		if is, ok := fi.Sys().(*syscall.Stat_t); !ok || is.Uid == owner.Uid {
			return nil
		}
		if err := do(path.Clean(name), owner); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	})
}

// OwnerOf is the number of the user whose a directory is.
func OwnerOf(dir string) (uid int, err error) {
	fi, err := os.Stat(filepath.Clean(dir))
	if err != nil {
		return 0, fault.Wrap("look at directory", dir, err)
	}
	is, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, fault.New("look at directory", fault.Unsupported, "this system does not say whose %s is", dir)
	}
	return int(is.Uid), nil
}
