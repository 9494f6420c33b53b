package sideeffect

import (
	"encoding/binary"
	"io/fs"
	"syscall"
	"time"

	"github.com/zeebo/xxh3"

	"github.com/pannier/pannier/spec/fault"
)

// VersionSize is the number of bytes of an encoded Version.
const VersionSize = 1 + 5*8

const versionFormat = 1

// A Version identifies the content of a file at one moment, as far as the file
// system tells: device, inode, size, modification and change time. Two
// versions are compared with ==. The zero Version stands for content that is
// not a file. A file that is rewritten within one tick of the file system's
// clock, with the same size, has the same version.
type Version struct {
	dev, ino     uint64
	size         int64
	mtime, ctime int64 // ns since 1970
}

// ForeignVersion is the Version of a file at a server of another protocol, as far as that
// tells: its name, whatever text tells it from others, its size and the time it was
// changed.
func ForeignVersion(name string, size int64, modified time.Time) Version {
	v := Version{ino: xxh3.HashString(name), size: size}
	if !modified.IsZero() {
		v.mtime = modified.UnixNano()
	}
	return v
}

// IsZero reports whether v is of something that is not a file.
func (v Version) IsZero() bool { return v == Version{} }

// Size is the size of the file, in bytes.
func (v Version) Size() int64 { return v.size }

// Modified is the time of modification; zero if v has none.
func (v Version) Modified() (t time.Time) {
	if v.mtime != 0 {
		t = time.Unix(0, v.mtime)
	}
	return t
}

// Encode writes v in VersionSize bytes: format (1), then device, inode, size,
// modification and change time in ns, each 8 bytes big endian.
func (v Version) Encode() []byte {
	b := make([]byte, 1, VersionSize)
	b[0] = versionFormat
	for _, n := range []uint64{v.dev, v.ino, uint64(v.size), uint64(v.mtime), uint64(v.ctime)} {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	return b
}

// ParseVersion reads what Encode wrote. No bytes at all are the zero Version;
// anything else of another length or format is fault.Invalid.
func ParseVersion(b []byte) (Version, error) {
	if len(b) == 0 {
		return Version{}, nil
	}
	if len(b) != VersionSize || b[0] != versionFormat {
		return Version{}, fault.New("parse version", fault.Invalid, "%d bytes are not a version of format %d", len(b), versionFormat)
	}
	n := func(i int) uint64 { return binary.BigEndian.Uint64(b[1+8*i:]) }
	return Version{dev: n(0), ino: n(1), size: int64(n(2)), mtime: int64(n(3)), ctime: int64(n(4))}, nil
}

// VersionOf is the version of what fi is of, if the system tells an inode; else zero.
func VersionOf(fi fs.FileInfo) Version { return versionOf(fi) }

// WithoutDevice is v without the number of its device, which may be another after the
// next mount.
func (v Version) WithoutDevice() Version {
	v.dev = 0
	return v
}

// Touched reports whether v and earlier differ in the change time at most: somebody has
// renamed the file, or given it another mode, owner or number of links.
func (v Version) Touched(earlier Version) bool {
	v.ctime = earlier.ctime
	return v == earlier
}

// versionOf is the version of an open file; zero when the system tells no
// inode.
func versionOf(fi fs.FileInfo) Version {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return Version{}
	}
	return Version{
		dev: uint64(st.Dev), ino: st.Ino, size: st.Size,
		mtime: modified(st), ctime: changed(st),
	}
}
