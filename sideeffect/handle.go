package sideeffect

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/pannier/pannier/spec/fault"
)

// inodeGeneration is the handle type of the ext family and others: 32 bits of inode, 32 of
// generation, in the machine's byte order; generation 0 matches any.
const inodeGeneration = 1

// A FileHandle names an inode of a mounted file system, across renames and
// restarts, until it is deleted. Made by HandleOf.
type FileHandle struct {
	Dev, Ino uint64 // what fstat must say after opening
	Type     int32
	Bytes    []byte // opaque, from name_to_handle_at; at most 128
}

// HandleOf is the handle of the file at path, for Handle. fault.Unsupported
// when the file system has none, and on other systems than Linux.
func HandleOf(path string) (FileHandle, error) { return handleOf(path) }

// byHandle is a file by its handle.
type byHandle struct {
	mount  *os.File
	handle FileHandle
	guess  bool // made from an inode number
}

// Handle is the file that h names on the file system on which mount, any open
// file or directory, is. It skips names and so every confinement: give it only
// handles from local, trusted callers. Opening needs CAP_DAC_READ_SEARCH,
// otherwise fault.Permission. After opening, device and inode must be those of
// h, otherwise fault.Stale. Sinks need Truncate, Append or AtOffset. mount stays
// the caller's.
func Handle(mount *os.File, h FileHandle) Identity { return byHandle{mount: mount, handle: h} }

// Inode is Handle for a device and inode number alone. It works where a file
// handle can be made from the number (ext2, ext3, ext4, f2fs); elsewhere
// opening is fault.Unsupported: use HandleOf and Handle.
func Inode(mount *os.File, dev, ino uint64) Identity {
	h := FileHandle{Dev: dev, Ino: ino, Type: inodeGeneration, Bytes: make([]byte, 8)}
	binary.NativeEndian.PutUint32(h.Bytes, uint32(ino))
	return byHandle{mount: mount, handle: h, guess: true}
}

func (b byHandle) String() string {
	return fmt.Sprintf("inode %d of device %d", b.handle.Ino, b.handle.Dev)
}

func (b byHandle) OpenSource(spec SourceSpec) (Source, error) {
	f, err := b.open("open source", unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	s, err := newFileSource(f, b.String(), spec.Offset)
	if err != nil {
		f.Close()
		return nil, err
	}
	s.owned = true
	return s, nil
}

func (b byHandle) OpenSink(spec SinkSpec) (Sink, error) {
	// Refused before opening, because opening may be forbidden.
	if err := checkUnkept(spec); err != nil {
		return nil, err
	}
	f, err := b.open("open sink", unix.O_WRONLY)
	if err != nil {
		return nil, err
	}
	s, err := newOpenSink(osFile{f}, b.String(), spec)
	if err != nil {
		f.Close()
		return nil, err
	}
	return s, nil
}

// open opens the handle and checks that it is the inode that was meant.
func (b byHandle) open(op string, flags int) (*os.File, error) {
	if b.mount == nil {
		return nil, fault.NewLocal(op, fault.Invalid, "%v without a mount: open a directory of its file system", b)
	}
	if b.guess && b.handle.Ino>>32 != 0 {
		return nil, b.fail(op, fault.Unsupported, errors.New("inode numbers over 32 bits need a handle: use HandleOf and Handle"))
	}
	f, err := b.openHandle(flags)
	if err != nil {
		return nil, b.explain(op, err)
	}
	fi, err := f.Stat()
	if err == nil {
		err = b.verify(op, versionOf(fi))
	}
	if err == nil {
		err = mustBeRegular(op, b.String(), fi)
	}
	if err != nil {
		f.Close()
		return nil, fault.Wrap(op, b.String(), err)
	}
	return f, nil
}

func (b byHandle) verify(op string, v Version) error {
	if v.dev == b.handle.Dev && v.ino == b.handle.Ino {
		return nil
	}
	return b.fail(op, fault.Stale, fmt.Errorf("it opened inode %d of device %d", v.ino, v.dev))
}

// explain says what to do about a refusal of open_by_handle_at.
func (b byHandle) explain(op string, err error) error {
	switch {
	case errors.Is(err, unix.EPERM):
		return b.fail(op, fault.Permission, fmt.Errorf("opening by inode needs the capability CAP_DAC_READ_SEARCH: %w", err))
	case b.guess && !errors.Is(err, unix.EACCES):
		return b.fail(op, fault.Unsupported,
			fmt.Errorf("no such inode, or this file system cannot open by inode number alone; use HandleOf and Handle: %w", err))
	}
	return b.fail(op, fault.KindOf(err), err)
}

func (b byHandle) fail(op string, k fault.Kind, err error) error {
	return &fault.Error{Op: op, Kind: k, Subject: b.String(), Err: err}
}
