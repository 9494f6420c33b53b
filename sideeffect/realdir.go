package sideeffect

import (
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// Directories opened by their own names: os.Root keeps links inside of it, and these are for
// who takes what a link in a writer's directory leads to for nobody's.

// ErrNoDir is of what is a link, or no directory at all.
var ErrNoDir = fmt.Errorf("no directory has this name: %w", fs.ErrNotExist)

// OpenReal opens a directory of that very name, which has one element.
func OpenReal(in *os.Root, name string) (*os.Root, error) {
	fi, err := in.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !fi.IsDir() {
		return nil, ErrNoDir
	}
	dir, err := in.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	opened, err := dir.Stat(".")
	if err == nil && !os.SameFile(fi, opened) {
		err = ErrNoDir // in this moment
	}
	if err != nil {
		dir.Close()
		return nil, err
	}
	return dir, nil
}

// Descend opens a directory below in by its elements, one after the other. in is closed.
func Descend(in *os.Root, dir string, open func(in *os.Root, name string) (*os.Root, error)) (*os.Root, error) {
	for name := range strings.SplitSeq(dir, "/") {
		next, err := open(in, name)
		in.Close()
		if err != nil {
			return nil, err
		}
		in = next
	}
	return in, nil
}
