package plugins

import (
	"context"
	"errors"
	"io"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/pannier/pannier/spec/fault"
)

// Writing for drivers whose server is a directory of this host, as a mount: all that the contract asks
// of a Write, but for what the driver itself has to say about names.

// staging begins the names of files that are being written.
const staging = ".pannier-"

// IsStaged says whether the last element of a name is that of a file that StageFile has begun: listings
// leave it out.
func IsStaged(base string) bool { return strings.HasPrefix(base, staging) }

// StageFile begins a file in a directory of this host, or goes on with one. It is beside its name until
// Commit, which has it on disk before it gets that. A session whose Write it is has the capabilities
// Write, Resume, Atomic and Times, and what is returned is a Checkpointer.
func StageFile(root *os.Root, name string, w WriteRequest) (Staged, error) {
	target := path.Join(".", name)
	t := &stagedFile{root: root, name: name, target: target, modified: w.Modified, part: path.Join(path.Dir(target), staging+PartID(w.ID))}
	flags := os.O_WRONLY | os.O_CREATE | os.O_EXCL
	if w.Resume != nil {
		part, whole, _ := strings.Cut(string(w.Resume), "\n")
		t.part, flags = part, os.O_WRONLY
		var err error
		if t.offset, err = strconv.ParseInt(whole, 10, 64); err != nil || t.offset < 0 || !IsStaged(path.Base(part)) || path.Dir(part) != path.Dir(target) {
			return nil, FileError("write", name, fault.New("resume", fault.Invalid, "this is not of the file").Advise("begin the file anew"))
		}
	}
	if w.Again && w.Resume == nil {
		_ = root.Remove(t.part) // mostly there is none
	}
	f, err := root.OpenFile(t.part, flags, 0o666)
	if err != nil {
		return nil, FileError("write", name, err)
	}
	t.File = f
	if err := t.begin(); err != nil {
		_ = f.Close()
		return nil, FileError("write", name, err)
	}
	return t, nil
}

// stagedFile is a file under a name of its own, until Commit.
type stagedFile struct {
	*os.File
	root     *os.Root
	name     string // as it was given
	target   string // the same, as root takes it
	part     string // until Commit
	offset   int64
	modified time.Time // to be set; zero: not
	done     *Attr
}

// begin goes to the offset, and gives up what is behind it: it may never have come to disk.
func (t *stagedFile) begin() error {
	fi, err := t.Stat()
	if err != nil {
		return err
	}
	if fi.Size() < t.offset {
		return fault.New("resume", fault.Stale, "it has %d bytes, and had %d", fi.Size(), t.offset).Advise("begin the file anew")
	}
	if err := t.Truncate(t.offset); err != nil {
		return err
	}
	_, err = t.Seek(t.offset, io.SeekStart)
	return err
}

// Offset implements Staged.
func (t *stagedFile) Offset() int64 { return t.offset }

// Commit implements Staged.
func (t *stagedFile) Commit(context.Context) (a Attr, err error) {
	if t.done != nil {
		return *t.done, nil
	}
	if !t.modified.IsZero() {
		_ = t.root.Chtimes(t.part, time.Now(), t.modified)
	}
	fi, err := t.Stat()
	if err == nil {
		err = t.Sync()
	}
	if err == nil {
		err = t.root.Rename(t.part, t.target)
	}
	if err == nil {
		err = t.syncNames()
	}
	if err != nil {
		return a, FileError("commit", t.name, err)
	}
	a = Attr{Name: t.name, Size: fi.Size(), Modified: fi.ModTime()}
	t.done = &a
	return a, FileError("commit", t.name, t.Close())
}

// syncNames has the names of the file's directory on disk.
func (t *stagedFile) syncNames() error {
	d, err := t.root.Open(path.Dir(t.target))
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// Checkpoint implements Checkpointer: what was written until now is on disk.
func (t *stagedFile) Checkpoint(context.Context) ([]byte, error) {
	fi, err := t.Stat()
	if err == nil {
		err = t.Sync()
	}
	if err != nil {
		return nil, FileError("checkpoint", t.name, err)
	}
	return []byte(t.part + "\n" + strconv.FormatInt(fi.Size(), 10)), nil
}

// Abort implements Staged.
func (t *stagedFile) Abort(ctx context.Context, keep bool) ([]byte, error) {
	if keep {
		resume, err := t.Checkpoint(ctx)
		return resume, FileError("abort", t.name, errors.Join(err, t.Close()))
	}
	return nil, FileError("abort", t.name, errors.Join(t.Close(), t.root.Remove(t.part)))
}
