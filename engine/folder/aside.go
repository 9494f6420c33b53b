package folder

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path"
	"strings"
	"unicode/utf8"

	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/relpath"
)

// Names of files between their own and their end, and those that an earlier process, or a disk that has failed, has left
// under one: they get their own back. spec/folder.md, "After".

const (
	asideMark   = ".pannier-w"
	asideDigits = 16 // of the folder, and as many of the version
)

// asideName is the same for the same version of a name: "." + the name + ".pannier-w" + digits of the folder + digits
// of the version. A name that is too long for that is shortened.
func asideName(folder, name string, v sideeffect.Version) string {
	base := path.Base(name)
	if n := relpath.MaxElement - 1 - len(asideMark) - 2*asideDigits; len(base) > n {
		for n > 0 && !utf8.RuneStart(base[n]) {
			n--
		}
		base = base[:n]
	}
	sum := sha256.Sum256(append([]byte(folder+"\x00"+name+"\x00"), v.Encode()...))
	return "." + base + asideMark + folderDigits(folder) + hex.EncodeToString(sum[:asideDigits/2])
}

func folderDigits(folder string) string {
	sum := sha256.Sum256([]byte(folder))
	return hex.EncodeToString(sum[:asideDigits/2])
}

// ofAside is the name of a file that a folder has set aside; "": it is none, or another folder's.
func ofAside(folder, name string) (base string) {
	i := strings.LastIndex(name, asideMark)
	if i < 2 || name[0] != '.' {
		return ""
	}
	digits := name[i+len(asideMark):]
	if len(digits) != 2*asideDigits || !strings.HasPrefix(digits, folderDigits(folder)) || strings.Trim(digits, "0123456789abcdef") != "" {
		return ""
	}
	return name[1:i]
}

// nameless reports whether an element is what folders once gave files between, without their own name in it.
func nameless(name string) bool {
	digits, ok := strings.CutSuffix(name, asideMark)
	return ok && len(digits) == 1+16 && digits[0] == '.' && strings.Trim(digits[1:], "0123456789abcdef") == ""
}

// stray takes a file that a scan has seen under a name between. One that was delivered is dealt with by what comes
// after; w.mu is held.
func (w *Watcher) stray(root *os.Root, aside string, scan uint64) {
	base := path.Base(aside)
	if nameless(base) {
		w.strange(oddity{aside, "a watch folder was to move or remove it, and was ended: what it was called is not known; give it a name"}, scan)
		return
	}
	name := path.Join(path.Dir(aside), ofAside(w.f.Name, base))
	f := w.whose(name, base)
	if f != nil && f.state == isDelivered && w.f.After != Keep {
		return
	}
	d := disposal{folder: w.f, aside: base, failed: true}
	var err error
	if f != nil {
		name, d.version = f.path, f.sent
	}
	if d.path, err = relpath.Parse(name); err != nil {
		return // nobody has set it aside
	}
	in, err := openPlace(w.f.openDir(root, at(d.path.Dir())))
	if err != nil {
		return // the scan says so
	}
	defer in.Close()
	fi, err := in.Lstat(base)
	if err != nil || !fi.Mode().IsRegular() {
		return // it is over meanwhile
	}
	given, err := in.giveFree("back", base, in, d.path.Base())
	if err != nil {
		w.strange(oddity{aside, fault.Plain(d.lies(err))}, scan)
		return
	}
	given = path.Join(path.Dir(aside), given)
	w.log.Warn("a file that was to be moved or removed has its name again", "was", aside, "file", given)
	w.odd[aside] = oddAt{"it was to be moved or removed, which came to no end; it is " + given + " again", scan}
	if given == name && f != nil {
		d.stays(in)
		w.renamed(f, d.now)
	}
	if fi, err = in.Lstat(path.Base(given)); err == nil && w.f.wants(given) {
		w.sighted(given, sideeffect.VersionOf(fi).WithoutDevice(), scan)
	}
}

// whose is the file with a note whose version was set aside under that name.
func (w *Watcher) whose(name, aside string) *file {
	is := func(f *file) bool {
		return f != nil && f.state != none && asideName(w.f.Name, f.path, f.sent) == aside
	}
	if f := w.files[name]; is(f) {
		return f
	}
	if len(aside) < relpath.MaxElement-utf8.UTFMax {
		return nil
	}
	for _, f := range w.files { // its name was shortened
		if is(f) {
			return f
		}
	}
	return nil
}

// renamed notes that a version is another by its name's coming and going alone.
func (w *Watcher) renamed(f *file, now sideeffect.Version) {
	if now == (sideeffect.Version{}) || now == f.sent {
		return
	}
	old := w.note(f)
	if f.seen == f.sent {
		f.seen = now
	}
	f.sent = now
	w.keep([]change{{path: f.path, old: old, now: w.note(f)}})
}

// strays takes all of a part of a scan.
func (w *Watcher) strays(asides []string, scan uint64) {
	if len(asides) == 0 {
		return
	}
	root, err := os.OpenRoot(w.f.Root)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			w.trouble(fault.Wrap("open the rule's root", w.f.Root, err))
		}
		return
	}
	defer root.Close()
	for _, name := range asides {
		w.stray(root, name, scan)
	}
}
