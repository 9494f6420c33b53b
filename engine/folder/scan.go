package folder

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"

	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/relpath"
)

// perRead is how many names of a directory are read at a time.
const perRead = 1024

// sight is a file that could be sent, as a scan has seen it.
type sight struct {
	path    string // below the rule's root
	version sideeffect.Version
}

// oddity is what is there and cannot be sent.
type oddity struct{ path, why string }

// found is a part of a directory, or that it cannot be listed.
type found struct {
	scan  uint32 // number of the scan
	files []sight
	odd   []oddity
	aside []string // files under names between
	dir   string
	err   error
	over  bool // the last one of the scan
	dirs  int  // then: how many were listed
}

// walk lists what is below the directory start of the rule's root, in no order, and passes it on in
// parts until give says no. Before a directory is read, enter is told.
func (f *Folder) walk(ctx context.Context, start string, enter func(dir string), give func(found) bool) (dirs int) {
	root, err := os.OpenRoot(f.Root)
	if err != nil {
		give(found{dir: start, err: fault.Wrap("open the rule's root", f.Root, fault.WithoutPath(err))})
		return 0
	}
	defer root.Close()
	for left := []string{start}; len(left) > 0; {
		dir := left[len(left)-1]
		left = left[:len(left)-1]
		if ctx.Err() != nil {
			return dirs
		}
		enter(dir)
		more, ok := f.list(root, dir, give)
		if !ok {
			return dirs
		}
		dirs++
		left = append(left, more...)
	}
	return dirs
}

// list passes on what is in one directory, and returns the directories in it that are
// looked through.
func (f *Folder) list(root *os.Root, dir string, give func(found) bool) (more []string, ok bool) {
	fail := func(err error) ([]string, bool) {
		if errors.Is(err, fs.ErrNotExist) && dir != at(f.Dir) {
			return more, true // it was removed meanwhile
		}
		return more, give(found{dir: dir, err: fault.Wrap("list directory", dir, fault.WithoutPath(err))})
	}
	in, err := f.openDir(root, dir)
	if err != nil {
		return fail(err)
	}
	defer in.Close()
	d, err := in.Open(".")
	if err != nil {
		return fail(err)
	}
	defer d.Close()
	for {
		entries, err := d.ReadDir(perRead)
		part := found{dir: dir, files: make([]sight, 0, len(entries))}
		for _, e := range entries {
			name := path.Join(dir, e.Name())
			v, why := f.entry(in, e, name)
			switch {
			case v != (sideeffect.Version{}):
				part.files = append(part.files, sight{name, v})
			case why != "":
				part.odd = append(part.odd, oddity{name, why})
			case !e.IsDir() && (ofAside(f.Name, e.Name()) != "" || nameless(e.Name())):
				part.aside = append(part.aside, name)
			case e.IsDir() && f.Recursive && f.enters(name):
				more = append(more, name)
			case e.IsDir() && !f.Recursive && f.enters(name):
				part.odd = append(part.odd, oddity{name, "a directory, and the folder is not recursive"})
			}
		}
		if len(part.files)+len(part.odd)+len(part.aside) > 0 && !give(part) {
			return nil, false
		}
		if err == io.EOF {
			return more, true
		}
		if err != nil {
			return fail(err)
		}
	}
}

// openDir opens a directory as a scan comes to it. The way to the folder itself may have links; below
// it they are the writers', and would lead to what is not theirs.
func (f *Folder) openDir(root *os.Root, dir string) (*os.Root, error) {
	in, err := root.OpenRoot(at(f.Dir))
	if err != nil || dir == at(f.Dir) {
		return in, err
	}
	return sideeffect.Descend(in, f.inside(dir), sideeffect.OpenReal)
}

// lstat looks at a name as a scan comes to it.
func (f *Folder) lstat(root *os.Root, name string) (fs.FileInfo, error) {
	in, err := f.openDir(root, path.Dir(name))
	if err != nil {
		return nil, err
	}
	defer in.Close()
	return in.Lstat(path.Base(name))
}

// at is a path as the system has it: "." for the root.
func at(p relpath.Path) string {
	if p.IsZero() {
		return "."
	}
	return p.String()
}

// entry is the version of what may be sent, or why what is there never can be. Neither:
// nobody wants it.
func (f *Folder) entry(in *os.Root, e fs.DirEntry, name string) (v sideeffect.Version, why string) {
	if e.IsDir() || !f.wants(name) {
		return v, ""
	}
	if why := f.refuses(name); why != "" {
		return v, why
	}
	if t := e.Type(); !t.IsRegular() && t != 0 {
		return v, kindOf(t)
	}
	fi, err := in.Lstat(e.Name())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return v, ""
	case err != nil:
		return v, "it cannot be looked at: " + plain(err)
	case !fi.Mode().IsRegular():
		return v, kindOf(fi.Mode())
	}
	return sideeffect.VersionOf(fi).WithoutDevice(), ""
}

// refuses says why a name cannot be sent.
func (f *Folder) refuses(name string) string {
	_, err := relpath.Parse(name)
	var why *fault.Error
	if errors.As(err, &why) && why.Err != nil {
		return "no path of a request: " + why.Err.Error()
	}
	return ""
}

// kindOf says what is no file.
func kindOf(m fs.FileMode) string {
	switch {
	case m&fs.ModeSymlink != 0:
		return "it is a symbolic link"
	case m.IsDir():
		return "it is a directory"
	case m&fs.ModeNamedPipe != 0:
		return "it is a FIFO"
	case m&fs.ModeSocket != 0:
		return "it is a socket"
	}
	return "it is a device"
}

// plain is what the system said, without the path.
func plain(err error) string {
	var p *fs.PathError
	if errors.As(err, &p) {
		err = p.Err
	}
	return err.Error()
}

// inside is a path below the folder, without the folder's own.
func (f *Folder) inside(name string) string {
	if f.Dir.IsZero() {
		return name
	}
	return name[len(f.Dir.String())+1:]
}

// enters reports whether a directory is looked through.
func (f *Folder) enters(name string) bool {
	base := path.Base(name)
	if sideeffect.IsOwn(base) || !f.To.IsZero() && name == f.To.String() || !f.FailedTo.IsZero() && name == f.FailedTo.String() {
		return false
	}
	_, not := Matches(f.Exclude, f.inside(name))
	return !not
}

// unwanted says by what a file is left out; "": it is not. Done files and unfinished ones
// are nobody's.
func (f *Folder) unwanted(name string) string {
	base := path.Base(name)
	if sideeffect.IsOwn(base) {
		return "a file of transfers themselves"
	}
	if isDone(f.DoneFile, base) {
		return "a done file"
	}
	if p, not := Matches(f.Exclude, f.inside(name)); not {
		return "exclude has " + p
	}
	if len(f.Include) > 0 {
		if _, ok := Matches(f.Include, f.inside(name)); !ok {
			return "no pattern of include"
		}
	}
	return ""
}

func (f *Folder) wants(name string) bool { return f.unwanted(name) == "" }

// reaches reports whether a scan would come to a name, by its directories.
func (f *Folder) reaches(name string) bool {
	if !f.Dir.IsZero() && !below(f.Dir, name) {
		return false
	}
	dir := path.Dir(f.inside(name))
	for ; dir != "."; dir = path.Dir(dir) {
		if !f.Recursive || !f.enters(path.Join(f.Dir.String(), dir)) {
			return false
		}
	}
	return true
}
