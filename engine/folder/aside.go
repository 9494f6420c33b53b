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

// stray gives a name back to a file that a scan has seen under one between; f is whose it is, nil: nobody knows.
func (w *Watcher) stray(root *os.Root, aside string, f *file, scan uint32) (changes []change) {
	base := path.Base(aside)
	name := path.Join(path.Dir(aside), ofAside(w.f.Name, base))
	d := disposal{folder: w.f, aside: base, failed: true}
	var err error
	if f != nil {
		name, d.version = f.path, f.sent
	}
	if d.path, err = relpath.Parse(name); err != nil {
		return nil // nobody has set it aside
	}
	in, err := openPlace(w.f.openDir(root, at(d.path.Dir())))
	if err != nil {
		return nil // the scan says so
	}
	defer in.Close()
	fi, err := in.Lstat(base)
	if err != nil || !fi.Mode().IsRegular() {
		return nil // it is over meanwhile
	}
	given, err := in.giveFree("back", base, in, d.path.Base())
	if err != nil {
		w.strange(oddity{aside, fault.Plain(d.lies(err))}, scan)
		return nil
	}
	given = path.Join(path.Dir(aside), given)
	w.log.Warn("a file that was to be moved or removed has its name again", "was", aside, "file", given)
	w.odd[aside] = oddAt{"it was to be moved or removed, which came to no end; it is " + given + " again", scan}
	if fi, err = in.Lstat(path.Base(given)); err != nil {
		return nil
	}
	now := sideeffect.VersionOf(fi).WithoutDevice()
	switch {
	case f == nil || !d.is(fi):
	case given == name:
		changes = w.renamed(f, now)
	case f.state == isKept:
		changes = w.known(given, now)
	}
	if w.f.wants(given) {
		w.sighted(given, now, scan)
	}
	return changes
}

// known takes what was delivered, and has got another name, as delivered under that.
func (w *Watcher) known(name string, v sideeffect.Version) []change {
	f := w.files[name]
	if f == nil {
		f = &file{path: name, noted: nothing}
		w.files[name] = f
	}
	old := w.note(f)
	w.unschedule(f)
	f.state, f.noted, f.seen, f.newer, f.why = isKept, &noted{sent: v}, v, false, ""
	return []change{{path: name, old: old, now: w.note(f)}}
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

// aside reports whether a file that has the name between of a file's version is there.
func (w *Watcher) aside(root *os.Root, f *file) (bool, error) {
	_, err := w.f.lstat(root, path.Join(path.Dir(f.path), asideName(w.f.Name, f.path, f.sent)))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// renamed takes what a version is now by its name's coming and going alone.
func (w *Watcher) renamed(f *file, now sideeffect.Version) []change {
	if now.IsZero() || now == f.sent && !f.renaming {
		return nil
	}
	old := w.note(f)
	if f.seen == f.sent {
		f.seen = now
	}
	f.sent, f.renaming = now, false
	return []change{{path: f.path, old: old, now: w.note(f)}}
}

// expectRenames notes that renames may make files other versions: who finds them after a process that has ended in
// between knows them.
func (w *Watcher) expectRenames(files []*file) bool {
	var changes []change
	var new []*file
	for _, f := range files {
		if old := w.note(f); !f.renaming {
			f.renaming = true
			changes, new = append(changes, change{path: f.path, old: old, now: w.note(f)}), append(new, f)
		}
	}
	ok := w.keep(changes)
	for _, f := range new {
		f.renaming = ok
	}
	return ok
}

// regain knows files whose names came and went when an earlier process has ended.
func (w *Watcher) regain(files []*file) {
	root, err := os.OpenRoot(w.f.Root)
	if err != nil || len(files) == 0 {
		return // what comes first says so
	}
	defer root.Close()
	var changes []change
	for _, f := range files {
		if aside, err := w.aside(root, f); aside || err != nil {
			continue
		}
		if fi, err := w.f.lstat(root, f.path); err == nil && fi.Mode().IsRegular() {
			if now := sideeffect.VersionOf(fi).WithoutDevice(); now.Touched(f.sent) {
				changes = append(changes, w.renamed(f, now)...)
			}
		}
	}
	w.keep(changes)
}

// strays takes all of a part of a scan. What was delivered is dealt with by what comes after.
func (w *Watcher) strays(asides []string, scan uint32) {
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
	of, known := map[string]*file{}, []*file(nil)
	for _, aside := range asides {
		base := path.Base(aside)
		if nameless(base) {
			w.strange(oddity{aside, "a watch folder was to move or remove it, and was ended: what it was called is not known; give it a name"}, scan)
			continue
		}
		f := w.whose(path.Join(path.Dir(aside), ofAside(w.f.Name, base)), base)
		if f != nil && f.state == isDelivered && w.f.After != Keep {
			continue
		}
		if of[aside] = f; f != nil {
			known = append(known, f)
		}
	}
	if !w.expectRenames(known) {
		return
	}
	var changes []change
	for aside, f := range of {
		changes = append(changes, w.stray(root, aside, f, scan)...)
	}
	w.keep(changes)
}
