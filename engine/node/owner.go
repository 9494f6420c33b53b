package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/shellword"
)

// Whose the files of a state directory are. A file that root has made there is closed to
// the node.

// Foreign are the files of a state directory that are not its owner's, by their names in
// there.
func Foreign(state string) (names []string, err error) {
	const op = "look at state directory"
	root, err := os.OpenRoot(state)
	if err != nil {
		return nil, fault.Wrap(op, state, err)
	}
	defer root.Close()
	fi, err := root.Stat(".")
	if err != nil {
		return nil, fault.Wrap(op, state, err)
	}
	owner := ownerOf(fi)
	err = fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission) && name != ".":
			return nil // gone since, or a folder that only its owner looks into
		case err != nil:
			return err
		case !d.Type().IsRegular() && !d.IsDir():
			return nil // links and sockets have no content
		}
		if fi, err := d.Info(); err == nil && ownerOf(fi) != owner { // else it is gone since
			names = append(names, name)
		}
		return nil
	})
	return names, fault.Wrap(op, state, err)
}

// OwnerOf is the number of the user whose a directory is, -1 where the system does not say.
func OwnerOf(dir string) (uid int, err error) {
	fi, err := os.Stat(dir)
	if err != nil {
		return -1, fault.Wrap("look at directory", dir, err)
	}
	return ownerOf(fi), nil
}

// Reclaim is the command by which root gives the files of a state directory that are not its owner's
// to that user. Who owns the directory may have put there what leads elsewhere: links are not followed, in no
// place of a name, and what has a second name, which may be that of a file elsewhere, stays as it is.
func Reclaim(state string) (command string, err error) {
	state, err = filepath.EvalSymlinks(state) // whoever may change a link has no say after this
	if err != nil {
		return "", fault.Wrap("look at directory", state, err)
	}
	fi, err := os.Lstat(state)
	if err != nil {
		return "", fault.Wrap("look at directory", state, err)
	}
	to := strconv.Itoa(ownerOf(fi))
	return fmt.Sprintf(`find %s -xdev ! -user %s \( -type d -o -type f -links 1 \) -execdir chown -h %[2]s {} +`, shellword.Quote(state), to), nil
}

func ownerOf(fi fs.FileInfo) int {
	if is, ok := fi.Sys().(*syscall.Stat_t); ok {
		return int(is.Uid)
	}
	return -1
}
