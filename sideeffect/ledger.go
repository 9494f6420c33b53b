package sideeffect

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/relpath"
)

// A Ledger is told what has become true at this end before the peer is, so that
// its owner can write it down first. The pump's goroutine calls it and waits. An
// error ends the effect, as one of the disk does: a resumable sink keeps what it has.
type Ledger interface {
	// Opening: a sink is about to be opened whose first byte is from, of size
	// bytes (-1 unknown). What an earlier run has kept behind from is given up next.
	Opening(from, size int64) error
	// Durable: so many bytes are on the sink's disk, and recorded for a resume.
	Durable(offset int64) error
	// Whole: everything has arrived at the sink, was compared, and is on disk; it
	// has not its name yet. Kept.Publish can give it that after a crash.
	Whole(Whole) error
	// Named: the whole has its name, durably. Nothing takes that back, an error neither.
	Named() error
	// Ended: everything was sent, the source was still what was opened, and END
	// was not said yet. After a lost connection it may be called again.
	Ended(size int64, digest Sum) error
}

// Whole is complete content that is known by what it was checked against.
type Whole struct {
	Size      int64
	BlockSize int
	Root      [RootSize]byte // over blocks of BlockSize
	Digest    Sum            // zero without Descriptor.Hash
	Verified  string         // as Result.Verified; String does not have it
}

// String is everything but the size: block size, root, and the digest if there
// is one, joined by colons. At most 180 bytes.
func (w Whole) String() string {
	s := fmt.Sprintf("%d:%x", w.BlockSize, w.Root)
	if !w.Digest.IsZero() {
		s += ":" + w.Digest.String()
	}
	return s
}

// ParseWhole reads what String wrote, of content of that size.
func ParseWhole(size int64, s string) (Whole, error) {
	w := Whole{Size: size}
	bad := fault.New("read proof", fault.Corrupt, "%q is not block size, root and digest", s)
	part := strings.SplitN(s, ":", 3)
	if len(part) < 2 || size < 0 {
		return w, bad
	}
	if n, err := fmt.Sscanf(part[0], "%d", &w.BlockSize); n != 1 || err != nil || w.BlockSize < 1 || w.BlockSize > MaxBlockSize {
		return w, bad
	}
	if root, err := hex.DecodeString(part[1]); err != nil || copy(w.Root[:], root) != RootSize || len(root) != RootSize {
		return w, bad
	}
	if len(part) == 2 {
		return w.as(s, bad)
	}
	name, digits, _ := strings.Cut(part[2], ":")
	for _, a := range []Algorithm{SHA256, SHA512, BLAKE3} {
		if sum, err := hex.DecodeString(digits); a.String() == name && err == nil && len(sum) == a.Size() {
			w.Digest = Sum{Algorithm: a, Bytes: sum}
			return w.as(s, bad)
		}
	}
	return w, bad
}

// as is w, if it is written as s and in no other way.
func (w Whole) as(s string, bad error) (Whole, error) {
	if w.String() != s {
		return w, bad
	}
	return w, nil
}

// Is reports whether content of that size, read from r, is the whole.
func (w Whole) Is(ctx context.Context, r io.Reader, size int64) (bool, error) {
	if size != w.Size {
		return false, nil
	}
	root, err := RootOf(ctx, r, size, w.BlockSize, nil)
	return err == nil && root == w.Root, err
}

// Kept is what a resumable sink of File(Root, Name) has kept of transfers with that
// Descriptor.ResumeKey, for who goes on with it, or gives it up, without a transfer.
type Kept struct {
	Layer Layer // nil: the operating system
	Root  *os.Root
	Name  relpath.Path
	Key   string
}

// open is the directory, and a sink of it that has opened nothing.
func (k Kept) open(op string) (*staged, error) {
	if err := RefuseOwn(op, k.Name); err != nil {
		return nil, err
	}
	layer := k.Layer
	if layer == nil {
		layer = osLayer{}
	}
	dir, err := layer.Dir(k.Root, k.Name.Dir())
	if err != nil {
		return nil, fault.Wrap(op, k.Name.String(), err)
	}
	s := &staged{dir: dir, base: k.Name.Base(), keep: true, stated: true}
	s.name, s.temp = s.base, partialName(s.base, k.Key)
	return s, nil
}

// Publish finishes what a sink had told its Ledger to be Whole when a crash came: the
// partial file gets its name, durably. It may have it already. What is neither is
// fault.NotFound, and the transfer starts again. mode is Replace or CreateNew, as it was.
func (k Kept) Publish(ctx context.Context, mode Mode, w Whole) error {
	const op = "publish file"
	s, err := k.open(op)
	if err != nil {
		return err
	}
	s.create = mode == CreateNew
	err = s.publishWhole(ctx, w)
	if err == nil {
		return errors.Join(s.file.Close(), s.dir.Close())
	}
	kind := fault.KindOf(err)
	if s.file != nil {
		err = errors.Join(err, s.file.Close())
	}
	if kind == fault.NotFound && s.is(ctx, w) || kind == fault.Exists && s.linked() {
		return errors.Join(fault.Wrap(op, k.Name.String(), s.tidy()), s.dir.Close())
	}
	if kind == fault.NotFound {
		err = fault.New(op, fault.NotFound, "what had arrived is not there any more")
	}
	return errors.Join(fault.Wrap(op, k.Name.String(), err), s.dir.Close())
}

// HasName reports whether a Publish of the whole would only find that it has its
// name, as after a crash right behind that: then it has it durably. It gives no name.
// To tell, it may read the file.
func (k Kept) HasName(ctx context.Context, w Whole) (bool, error) {
	const op = "look for file"
	s, err := k.open(op)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer s.dir.Close()
	_, err = s.dir.Lstat(s.temp)
	switch gone := errors.Is(err, fs.ErrNotExist); {
	case err != nil && !gone:
		return false, fault.Wrap(op, k.Name.String(), err)
	case gone && s.is(ctx, w), !gone && s.linked():
		return true, fault.Wrap(op, k.Name.String(), s.tidy())
	}
	return false, fault.Wrap(op, "", ctx.Err())
}

// linked: a crash came between the second name of a new file and the loss of the first.
func (s *staged) linked() bool {
	first, errFirst := s.dir.Lstat(s.temp)
	second, errSecond := s.dir.Lstat(s.base)
	return errFirst == nil && errSecond == nil && os.SameFile(first, second)
}

// tidy removes what is left beside a file that has its name, and makes that durable.
func (s *staged) tidy() error {
	s.dropState()
	if err := s.dir.Remove(s.temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return s.dir.Sync()
}

// publishWhole commits the partial file if it is the whole.
func (s *staged) publishWhole(ctx context.Context, w Whole) error {
	var err error
	if s.file, err = openRegular(s.dir, s.temp, os.O_RDWR); err != nil {
		return err
	}
	same, err := lockNamed(s.dir, s.temp, s.file)
	if err != nil {
		return err
	}
	fi, err := s.file.Stat()
	if err != nil {
		return err
	}
	// The file system may have kept room that was reserved behind the content.
	if !same || fi.Size() < w.Size {
		return fault.New("publish file", fault.NotFound, "no such partial file")
	}
	if whole, err := w.Is(ctx, io.NewSectionReader(s.file, 0, w.Size), w.Size); err != nil || !whole {
		return errors.Join(err, fault.New("publish file", fault.NotFound, "the partial file is another one"))
	}
	if fi, err := s.dir.Lstat(s.base); err == nil && fi.Mode().IsRegular() {
		s.old, s.perm = true, fi.Mode().Perm()
	}
	s.end, s.room = w.Size, fi.Size()
	return s.Commit()
}

// is reports whether the file that has the name is the whole.
func (s *staged) is(ctx context.Context, w Whole) bool {
	f, err := openRegular(s.dir, s.base, os.O_RDONLY)
	if err != nil {
		return false
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return false
	}
	same, err := w.Is(ctx, io.NewSectionReader(f, 0, w.Size), fi.Size())
	return err == nil && same
}

// Discard removes it; nothing is no error. The file of that name itself stays. What
// a transfer is writing to just now is that transfer's: fault.Overloaded.
func (k Kept) Discard() error { return k.DiscardIf(func() bool { return true }) }

// DiscardIf is Discard if that is still wanted when no transfer can take the file over any more:
// otherwise it is a transfer's, too.
func (k Kept) DiscardIf(wanted func() bool) error {
	const op = "discard partial file"
	s, err := k.open(op)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(fault.Wrap(op, k.Name.String(), s.discardUnused(wanted)), s.dir.Close())
}

// DiscardUnknown removes, from the directory that dir is, a partial file of that name (IsPartial) of which
// its caller knows that no run of its own goes on with it. gone is false if another has it, or may go on with it, because
// it has noted how far it came.
func DiscardUnknown(dir *os.Root, name string) (gone bool, _ error) {
	d, err := osLayer{}.Dir(dir, relpath.Path{})
	if err != nil {
		return false, err
	}
	s := &staged{dir: d, temp: name}
	defer d.Close()
	if _, err := d.Lstat(stateName(name)); !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	err = s.discardUnused(func() bool { return true })
	if fault.KindOf(err) == fault.Overloaded {
		return false, nil
	}
	return err == nil, fault.Wrap("discard partial file", name, err)
}

// discardUnused removes partial and state under the partial file's lock, if wanted says so then.
func (s *staged) discardUnused(wanted func() bool) error {
	f, err := openRegular(s.dir, s.temp, os.O_RDONLY)
	if err == nil {
		defer f.Close()
		if same, err := lockNamed(s.dir, s.temp, f); err != nil || !same { // else it has its name by now
			return err
		}
		if !wanted() {
			return fault.New("discard partial file", fault.Overloaded, "a transfer has taken it over")
		}
	}
	s.dropState()
	if err = s.dir.Remove(s.temp); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
