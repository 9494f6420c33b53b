package folder

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"github.com/pannier/pannier/spec/fault"
)

// renameNew renames a file of one open directory into another, and replaces nothing: fs.ErrExist. It is
// errors.ErrUnsupported where the kernel or the file system does not have that.
func renameNew(from *os.File, name string, to *os.File, other string) error {
	err := unix.Renameat2(int(from.Fd()), name, int(to.Fd()), other, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		return errors.ErrUnsupported
	}
	return err
}

// mayWrite refuses a directory in which this process makes no names.
func mayWrite(dir *os.File) error {
	return fault.Wrap("write directory", dir.Name(), unix.Faccessat(int(dir.Fd()), ".", unix.W_OK|unix.X_OK, unix.AT_EACCESS))
}
