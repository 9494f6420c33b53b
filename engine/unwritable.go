package engine

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/pannier/pannier/engine/answers"
	"github.com/pannier/pannier/engine/lifecycle"
)

// Where this process cannot write, and what to do about it. A service manager may give it another
// view of the file system than those have who look from outside.

// Unseal is what helps where a service manager keeps a node from writing.
const Unseal = "if the node's unit confines it, give it ReadWritePaths= with the directory, by systemctl edit, and restart it (packaging.md)"

// LetWrite is what helps where a directory's owner or mode keeps a node from writing.
const LetWrite = "let the node's user write it, as with chown"

// remedy is what helps against what the file system says of a directory, or of a file in it.
func remedy(why string) string {
	if strings.Contains(why, syscall.EACCES.Error()) || strings.Contains(why, syscall.EPERM.Error()) {
		return LetWrite
	}
	return Unseal
}

// SilentRoot is what is said of a directory whose file system does not answer.
const SilentRoot = "its file system does not answer"

var errSilentRoot = errors.New(SilentRoot)

// access asks the file system.
var access = func(dir string) error {
	return unix.Faccessat(unix.AT_FDCWD, dir, unix.W_OK|unix.X_OK, unix.AT_EACCESS)
}

var writable = answers.To(func(dir string) error { return access(dir) })

// Unwritable is why this process cannot write in directories, as far as that can be seen without
// making a file there; nothing of those that it can. File systems that do not answer are waited for
// no longer than answers.Patience.
func Unwritable(dirs ...string) map[string]error {
	dirs = slices.DeleteFunc(slices.Clone(dirs), func(dir string) bool { return dir == "" })
	said := writable.Within(answers.Patience, dirs...)
	why := map[string]error{}
	for _, dir := range dirs {
		if err, answered := said[dir]; !answered {
			why[dir] = errSilentRoot
		} else if err != nil {
			why[dir] = err
		}
	}
	return why
}

// UnwritableRoots are why the roots of rules cannot be written, for people, with what helps.
func UnwritableRoots(rules ...*Rule) (notes []string) {
	dirs := make([]string, len(rules))
	for i, r := range rules {
		dirs[i] = r.Root
	}
	why := Unwritable(dirs...)
	for _, r := range rules {
		switch err := why[r.Root]; {
		case err == nil:
		case errors.Is(err, fs.ErrNotExist):
			notes = append(notes, "rule "+r.Name+": the node sees no directory "+r.Root)
		default:
			notes = append(notes, RootTrouble(r.Name, r.Root, err.Error(), r.Direction == Send && r.Sender.None() && r.Receiver.None()))
		}
	}
	return notes
}

// RootTrouble says for people why a rule's root cannot be written, with what helps. reads: it may be
// there for its reading only.
func RootTrouble(rule, root, why string, reads bool) string {
	if why == SilentRoot {
		return "rule " + rule + ": whether the node can write its root " + root + " is not known: " + why
	}
	do := remedy(why)
	if reads {
		do = "unless partners send nothing by it: " + do
	}
	return "rule " + rule + ": the node cannot write its root " + root + ": " + why + "; " + do
}

// barred is the directory of this end's file, if the node receives it and may not write there; "" if not.
func (x *run) barred(err error) (dir string) {
	if x.rule == nil || x.rule.Root == "" || x.r.Side != lifecycle.Receiver || !errors.Is(err, fs.ErrPermission) {
		return ""
	}
	for _, dir := range []string{x.rule.Root, filepath.Join(x.rule.Root, filepath.Dir(x.r.File.String()))} {
		if errors.Is(Unwritable(dir)[dir], fs.ErrPermission) {
			return dir
		}
	}
	return ""
}

// sealed reports whether err is that of a file system which a service manager may have made
// read-only for this process.
func sealed(err error) bool {
	return errors.Is(err, syscall.EROFS) && os.Getenv("INVOCATION_ID") != ""
}
