package plugins

import (
	"errors"
	"io/fs"
	"os"
	"syscall"

	"github.com/pannier/pannier/spec/fault"
)

// FileError is an error about a file of this host, for a server's user: without paths of the host, and
// what a name can have wrong with it, for drivers and nodes below an os.Root, is no error of a disk,
// which would be tried again.
func FileError(op, name string, err error) error {
	if e, ok := errors.AsType[*fault.Error](err); err == nil || ok && e.Kind != fault.Internal && e.Kind != fault.IO { // those may be derived
		return fault.Wrap(op, name, err)
	}
	cause := err
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		cause = p.Err
	} else if l, ok := errors.AsType[*os.LinkError](err); ok {
		cause = l.Err
	}
	kind := fault.KindOf(cause)
	switch {
	case errors.Is(cause, syscall.ELOOP), errors.Is(cause, syscall.ENOTDIR):
		kind = fault.Invalid
	case errors.Is(cause, syscall.ENAMETOOLONG):
		kind = fault.TooLong
	case kind == fault.Internal && cause != err: // a root's own refusal, which has no number
		kind = fault.Permission
	}
	return &fault.Error{Op: op, Kind: kind, Subject: name, Err: cause}
}
