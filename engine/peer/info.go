package peer

import (
	"cmp"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/relpath"
)

// Limits of what partners may look at.
const (
	MaxPage    = 1000 // entries of one
	MaxDigests = 8    // files of this node that are read at a time; others wait
	MaxLists   = 8    // directories of this node that are read at a time; others wait
)

// EntryKind is what a name stands for.
type EntryKind uint8

const (
	FileEntry      EntryKind = 1
	DirectoryEntry EntryKind = 2
	OtherEntry     EntryKind = 3 // a symbolic link, a socket, ...
)

// Entry is one name of a directory.
type Entry struct {
	Name     string // one element of a path
	Kind     EntryKind
	Size     int64 // bytes of a file
	Modified time.Time
}

// Page is part of a directory, sorted by the bytes of the names.
type Page struct {
	Entries []Entry // at most MaxPage
	Next    string  // ask again after it; empty: this is the last page
	Omitted uint64  // names in the whole directory that are no valid path, or a transfer's own files
}

// Files is what partners may look at. partner is proven. Errors are Permission
// when no rule of that name lets the partner receive, which does not tell whether
// there is one, NotFound, Invalid for names of transfers' own files, and those of reading. All methods stop when ctx ends and
// may be called at the same time.
type Files interface {
	// List is a page of a directory, the rule's root when dir is zero, behind the
	// name after; empty: the first.
	List(ctx context.Context, partner, rule string, dir relpath.Path, after string) (Page, error)
	// Stat is one file or directory; a symbolic link is OtherEntry.
	Stat(ctx context.Context, partner, rule string, path relpath.Path) (Entry, error)
	// Digest reads a file, and says what it has read: SourceChanged when the file
	// was written to meanwhile.
	Digest(ctx context.Context, partner, rule string, path relpath.Path, a sideeffect.Algorithm) (Entry, sideeffect.Sum, error)
}

// Shelf implements Files over the roots of a book's rules.
type Shelf struct {
	book    func() engine.Book
	digests chan struct{} // one for each file that is read
	lists   chan struct{} // one for each directory
}

var _ Files = (*Shelf)(nil)

// NewShelf makes a Shelf; the book is asked for each time.
func NewShelf(book func() engine.Book) *Shelf {
	return &Shelf{book: book, digests: make(chan struct{}, MaxDigests), lists: make(chan struct{}, MaxLists)}
}

// open is the root of a rule by which the partner may receive.
func (s *Shelf) open(partner, rule string) (*os.Root, error) {
	b := s.book()
	r := b.Rules[rule]
	if r == nil || r.Direction != engine.Receive || !r.Allows(partner) {
		return nil, fault.New("find rule", fault.Permission, "no rule %q lets %q receive", fault.Shown(rule), fault.Shown(partner))
	}
	if r.Bridge != "" {
		return nil, fault.New(opRead, fault.Unsupported, "the files of rule %q are at a bridge of this node, which does not list them for others", fault.Shown(r.Name))
	}
	return engine.OpenRoot(r.Root)
}

// List implements Files. It reads the whole directory for each page and keeps a
// few pages of names, however large the directory is.
func (s *Shelf) List(ctx context.Context, partner, rule string, dir relpath.Path, after string) (Page, error) {
	const op = "list directory"
	root, err := s.open(partner, rule)
	if err != nil {
		return Page{}, err
	}
	defer root.Close()
	if err := sideeffect.RefuseOwn(op, dir); err != nil {
		return Page{}, err
	}
	select {
	case s.lists <- struct{}{}:
		defer func() { <-s.lists }()
	case <-ctx.Done():
		return Page{}, fault.Wrap(op, dir.String(), ctx.Err())
	}
	name := cmp.Or(dir.String(), ".")
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return Page{}, fault.Wrap(op, name, err)
	}
	defer f.Close()
	var p Page
	var names []string // the lowest of those behind after
	for done := false; !done; {
		if err := ctx.Err(); err != nil {
			return Page{}, fault.Wrap(op, name, err)
		}
		some, err := f.Readdirnames(MaxPage)
		done = errors.Is(err, io.EOF)
		if err != nil && !done {
			return Page{}, fault.Wrap(op, name, err)
		}
		for _, n := range some {
			if _, err := dir.Join(n); err != nil || sideeffect.IsOwn(n) {
				p.Omitted++
			} else if n > after {
				names = append(names, n)
			}
		}
		if len(names) > 4*MaxPage || done {
			slices.Sort(names)
			names = names[:min(len(names), MaxPage+1)]
		}
	}
	if len(names) > MaxPage {
		names = names[:MaxPage]
		p.Next = names[MaxPage-1]
	}
	for _, n := range names {
		if err := ctx.Err(); err != nil {
			return Page{}, fault.Wrap(op, name, err)
		}
		at, err := dir.Join(n)
		if err != nil {
			return Page{}, err
		}
		if info, err := root.Lstat(at.String()); err == nil { // else it is gone by now
			p.Entries = append(p.Entries, entryOf(n, info))
		}
	}
	return p, nil
}

// Stat implements Files.
func (s *Shelf) Stat(_ context.Context, partner, rule string, path relpath.Path) (Entry, error) {
	root, err := s.open(partner, rule)
	if err != nil {
		return Entry{}, err
	}
	defer root.Close()
	if err := sideeffect.RefuseOwn("stat", path); err != nil {
		return Entry{}, err
	}
	info, err := root.Lstat(path.String())
	if err != nil {
		return Entry{}, fault.Wrap("stat", path.String(), err)
	}
	return entryOf(path.Base(), info), nil
}

// Digest implements Files.
func (s *Shelf) Digest(ctx context.Context, partner, rule string, path relpath.Path, a sideeffect.Algorithm) (Entry, sideeffect.Sum, error) {
	const op = "read digest"
	fail := func(err error) (Entry, sideeffect.Sum, error) { return Entry{}, sideeffect.Sum{}, err }
	if a.Size() == 0 {
		return fail(fault.New(op, fault.Invalid, "algorithm %d is none", a))
	}
	h, err := sideeffect.NewHasher(a)
	if err != nil {
		return fail(err)
	}
	root, err := s.open(partner, rule)
	if err != nil {
		return fail(err)
	}
	defer root.Close()
	if err := sideeffect.RefuseOwn(op, path); err != nil {
		return fail(err)
	}
	select {
	case s.digests <- struct{}{}:
		defer func() { <-s.digests }()
	case <-ctx.Done():
		return fail(fault.Wrap(op, path.String(), ctx.Err()))
	}
	f, err := root.OpenFile(path.String(), os.O_RDONLY|syscall.O_NONBLOCK, 0) // a FIFO must not wait for its other end
	if err != nil {
		return fail(fault.Wrap(op, path.String(), err))
	}
	defer f.Close()
	before, err := f.Stat()
	if err != nil {
		return fail(fault.Wrap(op, path.String(), err))
	}
	if !before.Mode().IsRegular() {
		return fail(fault.New(op, fault.Invalid, "it is no regular file"))
	}
	n, err := io.CopyBuffer(h, untilDone{ctx, f}, make([]byte, 256<<10))
	if err != nil {
		return fail(fault.Wrap(op, path.String(), err))
	}
	after, err := f.Stat()
	if err != nil {
		return fail(fault.Wrap(op, path.String(), err))
	}
	if n != before.Size() || after.Size() != n || !after.ModTime().Equal(before.ModTime()) {
		return fail(fault.New(op, fault.SourceChanged, "the file was written to while it was read"))
	}
	return entryOf(path.Base(), before), h.Sum(), nil
}

// untilDone reads until ctx ends.
type untilDone struct {
	ctx context.Context
	r   io.Reader
}

func (u untilDone) Read(p []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.r.Read(p)
}

func entryOf(name string, info fs.FileInfo) Entry {
	e := Entry{Name: name, Kind: OtherEntry, Modified: info.ModTime()}
	switch mode := info.Mode(); {
	case mode.IsRegular():
		e.Kind, e.Size = FileEntry, info.Size()
	case mode.IsDir():
		e.Kind = DirectoryEntry
	}
	return e
}
