package backup

import (
	"archive/zip"
	"compress/flate"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pannier/pannier/spec/fault"
)

// Identity is the name of the file with the node's key, which a state directory may have before a
// restore.
const Identity = "identity.pem"

// pending is where files are until all are there. A node does not start while it is.
const pending = ".restoring"

// Archive is a backup that is read.
type Archive struct {
	Manifest
	files map[string]*zip.File
}

// Open reads what a backup says of itself. Corrupt: it is none, or not all of one.
func Open(r io.ReaderAt, size int64) (*Archive, error) {
	const op = "read backup"
	z, err := zip.NewReader(r, size)
	if err != nil {
		return nil, fault.New(op, fault.Corrupt, "it is no backup, or not all of one: %v", err)
	}
	a := &Archive{files: map[string]*zip.File{}}
	for _, f := range z.File {
		if a.files[f.Name] != nil {
			return nil, fault.New(op, fault.Corrupt, "%q is in it twice", f.Name)
		}
		a.files[f.Name] = f
	}
	m := a.files[manifestName]
	if m == nil {
		return nil, fault.New(op, fault.Corrupt, "it is no backup of a node: it has no %s", manifestName)
	}
	in, err := m.Open()
	if err != nil {
		return nil, fault.New(op, fault.Corrupt, "%s: %v", manifestName, err)
	}
	defer in.Close()
	if err := json.NewDecoder(io.LimitReader(in, mostManifest)).Decode(&a.Manifest); err != nil {
		return nil, fault.New(op, fault.Corrupt, "%s: %v", manifestName, err)
	}
	if a.Format != format {
		return nil, fault.New(op, fault.Unsupported, "it has format %d, this version reads %d: restore it with version %s, which has written it", a.Format, format, a.Version)
	}
	if len(a.Files) != len(a.files)-1 {
		return nil, fault.New(op, fault.Corrupt, "%d files are in it, and its manifest has %d", len(a.files)-1, len(a.Files))
	}
	for _, f := range a.Files {
		if a.files[f.Name] == nil {
			return nil, fault.New(op, fault.Corrupt, "%q is not in it", f.Name)
		}
		if err := checkName(f.Name); err != nil {
			return nil, fault.Wrap(op, "", err)
		}
	}
	return a, nil
}

// checkName wants the name of a file, or of one in a folder, of a state directory.
func checkName(name string) error {
	parts := strings.Split(name, "/")
	if len(parts) > 2 || len(name) > 255 || !filepath.IsLocal(name) || strings.ContainsAny(name, "\\\x00") || name == manifestName ||
		slices.ContainsFunc(parts, func(p string) bool { return p == "" || p[0] == '.' }) {
		return fault.New("check name", fault.Corrupt, "%q is no name of a file of a node's", name)
	}
	return nil
}

// Restore puts the files into a state directory, which has none of a node's yet but its key. All of them were
// compared with their digests, and are on the disk, before the first gets its place. Until the last one has its own,
// Interrupted reports an error, and Restore may be repeated. Exists: something is there, and nothing was changed.
func (a *Archive) Restore(state string) error {
	const op = "restore"
	if err := os.MkdirAll(state, 0o700); err != nil {
		return fault.Wrap(op, state, err)
	}
	root, err := os.OpenRoot(state)
	if err != nil {
		return fault.Wrap(op, state, err)
	}
	defer root.Close()
	again, err := a.room(root, state)
	if err != nil {
		return err
	}
	if err := root.MkdirAll(pending, 0o700); err != nil {
		return fault.Wrap(op, state, err)
	}
	if err := syncDir(root, "."); err != nil {
		return fault.Wrap(op, state, err)
	}
	for _, f := range a.Files {
		if err := a.extract(root, f); err != nil {
			if !again { // nothing has its place yet
				err = errors.Join(err, root.RemoveAll(pending), syncDir(root, "."))
			}
			return err
		}
	}
	return fault.Wrap(op, state, a.place(root))
}

// room wants nothing to be there that a restore would hide. What a restore has left that was
// interrupted it takes away: no node has run since.
func (a *Archive) room(root *os.Root, state string) (again bool, err error) {
	const op = "restore"
	dir, err := root.Open(".")
	if err != nil {
		return false, fault.Wrap(op, state, err)
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return false, fault.Wrap(op, state, err)
	}
	slices.Sort(names)
	again = slices.Contains(names, pending)
	for _, name := range names {
		switch {
		case name == Identity && !a.Has(Identity), name == "lost+found":
		case name == pending: // the mark itself stays
			left, err := fs.ReadDir(root.FS(), pending)
			for _, l := range left {
				err = errors.Join(err, root.RemoveAll(pending+"/"+l.Name()))
			}
			if err != nil {
				return again, fault.Wrap(op, state, err)
			}
		case again:
			if err := root.RemoveAll(name); err != nil {
				return again, fault.Wrap(op, state, err)
			}
		case name == Identity:
			return again, fault.New(op, fault.Exists, "%s is there already, and the backup has a key, too: move the one that is there away; nothing was changed", filepath.Join(state, name))
		default:
			return again, fault.New(op, fault.Exists, "%s is there already: stop the node, and move away what is there; nothing was changed", filepath.Join(state, name))
		}
	}
	return again, nil
}

// Verify reads all files and compares them.
func (a *Archive) Verify() error {
	for _, f := range a.Files {
		if err := a.copy(f, io.Discard); err != nil {
			return err
		}
	}
	return nil
}

// copy writes a file to w, and compares it.
func (a *Archive) copy(f File, w io.Writer) error {
	const op = "read backup"
	in, err := a.files[f.Name].Open()
	if err != nil {
		return fault.New(op, fault.Corrupt, "%q: %v", f.Name, err)
	}
	defer in.Close()
	sum := &summed{to: w, sum: sha256.New()}
	_, err = io.Copy(sum, io.LimitReader(in, f.Size+1))
	if errors.Is(err, zip.ErrChecksum) || errors.Is(err, zip.ErrFormat) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, new(flate.CorruptInputError)) {
		return fault.New(op, fault.Corrupt, "%q is damaged: %v", f.Name, err)
	}
	if err != nil {
		return fault.Wrap(op, f.Name, err)
	}
	if got := hex.EncodeToString(sum.sum.Sum(nil)); sum.n != f.Size || got != f.SHA256 {
		return fault.New(op, fault.Corrupt, "%q is not what was backed up: %d bytes of %d, sha256 %s", f.Name, sum.n, f.Size, got)
	}
	return nil
}

// extract writes a file to where it waits for the others.
func (a *Archive) extract(root *os.Root, f File) error {
	const op = "restore"
	name := pending + "/" + f.Name
	if err := root.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return fault.Wrap(op, f.Name, err)
	}
	out, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fault.Wrap(op, f.Name, err)
	}
	err = a.copy(f, out)
	if err == nil {
		err = out.Sync()
	}
	if err = errors.Join(err, out.Close()); err != nil {
		return fault.Wrap(op, f.Name, err)
	}
	return syncDir(root, filepath.Dir(name))
}

// place gives all files their places.
func (a *Archive) place(root *os.Root) error {
	if err := syncDir(root, pending); err != nil {
		return err
	}
	dirs := map[string]bool{".": true}
	for _, f := range a.Files {
		dir := filepath.Dir(f.Name)
		if err := root.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		dirs[dir] = true
		if err := root.Rename(pending+"/"+f.Name, f.Name); err != nil {
			return err
		}
	}
	for dir := range dirs {
		if err := syncDir(root, dir); err != nil {
			return err
		}
	}
	if err := root.RemoveAll(pending); err != nil {
		return err
	}
	return syncDir(root, ".")
}

// Interrupted is an error where a restore has not come to its end.
func Interrupted(state string) error {
	if _, err := os.Lstat(filepath.Join(state, pending)); err != nil {
		return nil
	}
	return fault.New("open state directory", fault.NotStarted, "a restore into %s has not come to its end: run pannier restore again with the same backup", state)
}

func syncDir(root *os.Root, name string) error {
	d, err := root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
