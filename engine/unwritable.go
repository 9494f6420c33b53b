package engine

import (
	"errors"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Where this process cannot write, and what to do about it. A service manager may give it another
// view of the file system than those have who look from outside.

// Unseal is what helps where a service manager keeps a node from writing.
const Unseal = "if the node's unit confines it, give it ReadWritePaths= with the directory, by systemctl edit, and restart it (packaging.md)"

// Unwritable is why this process cannot write in a directory, as far as that can be seen
// without making a file there.
func Unwritable(dir string) error {
	return unix.Access(dir, unix.W_OK|unix.X_OK)
}

// UnwritableRoot is Unwritable of a rule's root for people, with what helps; empty: it can be written.
func UnwritableRoot(r *Rule) string {
	if r.Root == "" {
		return ""
	}
	err := Unwritable(r.Root)
	switch {
	case err == nil:
		return ""
	case errors.Is(err, fs.ErrNotExist):
		return "rule " + r.Name + ": the node sees no directory " + r.Root
	}
	return "rule " + r.Name + ": the node cannot write its root " + r.Root + ": " + err.Error() + "; " + Unseal
}

// sealed reports whether err is that of a file system which a service manager may have made
// read-only for this process.
func sealed(err error) bool {
	return errors.Is(err, syscall.EROFS) && os.Getenv("INVOCATION_ID") != ""
}
