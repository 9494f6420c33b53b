package doctor

import (
	"errors"
	"io/fs"
	"strings"
	"syscall"
	"testing"
)

// TestToWrite: a full disk is not a matter of permissions.
func TestToWrite(t *testing.T) {
	for errno, want := range map[syscall.Errno]string{syscall.ENOSPC: "make room", syscall.EDQUOT: "make room", syscall.EACCES: "let the node's user"} {
		if got := toWrite(errors.Join(&fs.PathError{Op: "write", Path: "/x", Err: errno}, nil)); !strings.HasPrefix(got, want) {
			t.Errorf("%v: %s", errno, got)
		}
	}
}
