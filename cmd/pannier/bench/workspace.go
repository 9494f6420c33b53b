package bench

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"

	"github.com/pannier/pannier/spec/fault"
)

// fillBuffer is how much of a source is written at once.
const fillBuffer = 1 << 20

// workspace is the directory of one invocation: one source, and the targets of
// one run at a time.
type workspace struct {
	dir   string
	tmpfs bool
	sum   [sha256.Size]byte // of the source
}

// openWorkspace makes a directory below dir with a source of size bytes, and
// room for as much as targets bytes besides. Without dir it takes the tmpfs of
// the system, and the temporary directory if there is none.
func openWorkspace(dir string, size, targets int64) (w *workspace, err error) {
	if dir == "" {
		dir = defaultDir()
	}
	tmpfs, free, err := room(dir)
	if err != nil {
		return nil, err
	}
	if size+targets > free {
		return nil, fault.New("make workspace", fault.NoSpace,
			"%d MiB needed in %s, %d MiB free; choose a smaller --size or another --dir",
			(size+targets)>>20, dir, free>>20)
	}
	own, err := os.MkdirTemp(dir, "pannier-bench-")
	if err != nil {
		return nil, fault.Wrap("make workspace", dir, err)
	}
	w = &workspace{dir: own, tmpfs: tmpfs}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close())
		}
	}()
	if err := w.fillSource(size); err != nil {
		return nil, err
	}
	if err := w.touch(targets); err != nil {
		return nil, err
	}
	return w, writeCertificate(own)
}

func defaultDir() string {
	if memoryDir != "" {
		if tmpfs, _, err := room(memoryDir); err == nil && tmpfs {
			return memoryDir
		}
	}
	return os.TempDir()
}

// describe says where the files are, for the progress output.
func (w *workspace) describe() string {
	if w.tmpfs {
		return fmt.Sprintf("files in %s (tmpfs)", w.dir)
	}
	return fmt.Sprintf("files in %s (NOT a tmpfs: the figures include a disk)", w.dir)
}

// fillSource writes bytes that do not compress, the same in every invocation.
func (w *workspace) fillSource(size int64) error {
	f, err := os.OpenFile(Job{Dir: w.dir}.Source(), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fault.Wrap("make source", w.dir, err)
	}
	digest := sha256.New()
	content := io.LimitReader(rand.NewChaCha8([32]byte{}), size)
	_, err = io.CopyBuffer(struct{ io.Writer }{io.MultiWriter(f, digest)}, content, make([]byte, fillBuffer))
	digest.Sum(w.sum[:0])
	return fault.Wrap("make source", w.dir, errors.Join(err, f.Close()))
}

// touch writes and removes as many bytes as the targets will have: a virtual
// machine may pay for memory it has not used before, and the first case would
// pay for all. A precaution; what it is worth has not been measured.
func (w *workspace) touch(size int64) error {
	path := Job{Dir: w.dir}.Target(0)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fault.Wrap("touch memory", w.dir, err)
	}
	zeros := make([]byte, fillBuffer)
	for left := size; left > 0 && err == nil; left -= fillBuffer {
		_, err = f.Write(zeros[:min(left, fillBuffer)])
	}
	return fault.Wrap("touch memory", w.dir, errors.Join(err, f.Close(), os.Remove(path)))
}

// verify checks that every target is a copy of the source and removes it.
func (w *workspace) verify(job Job) error {
	for i := range job.Concurrent {
		if err := w.verifyTarget(job, i); err != nil {
			return err
		}
		if err := removeTarget(job, i); err != nil {
			return err
		}
	}
	return nil
}

func (w *workspace) verifyTarget(job Job, i int) error {
	f, err := os.Open(job.Target(i))
	if err != nil {
		return fault.Wrap("verify target", "", err)
	}
	defer f.Close()
	digest := sha256.New()
	n, err := io.Copy(digest, f)
	if err != nil {
		return fault.Wrap("verify target", "", err)
	}
	if n != job.Size {
		return fault.New("verify target", fault.Corrupt, "target %d has %d bytes, the source %d", i, n, job.Size)
	}
	if !bytes.Equal(digest.Sum(nil), w.sum[:]) {
		return fault.New("verify target", fault.Corrupt, "target %d has another digest than the source", i)
	}
	return nil
}

// discard removes what a failed run left.
func (w *workspace) discard(job Job) error {
	var errs []error
	for i := range job.Concurrent {
		if err := os.Remove(job.Target(i)); !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return fault.Wrap("remove targets", w.dir, errors.Join(errs...))
}

func (w *workspace) close() error {
	return fault.Wrap("remove workspace", w.dir, os.RemoveAll(w.dir))
}
