//go:build !linux

package sideeffect

import (
	"os"

	"golang.org/x/sys/unix"

	"github.com/pannier/pannier/spec/fault"
)

func handleOf(path string) (FileHandle, error) {
	e := fault.New("get file handle", fault.Unsupported, "only Linux has file handles; name the file")
	e.Subject = path
	return FileHandle{}, e
}

// openHandle says that the system has no such call.
func (b byHandle) openHandle(int) (*os.File, error) { return nil, unix.ENOSYS }
