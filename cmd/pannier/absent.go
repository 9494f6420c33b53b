package main

import (
	"iter"
	"os"
	"slices"

	"github.com/pannier/pannier/engine/answers"
)

// Directories of this host that a configuration names and that are not there.

// absence is why a directory cannot be looked at, and until when.
type absence struct{ what, until string }

var isDirectory = answers.To(func(dir string) bool {
	fi, err := os.Stat(dir)
	return err == nil && fi.IsDir()
})

// absent are those of directories that are not there, or whose file systems do not answer.
func absent(dirs iter.Seq[string]) map[string]absence {
	all := slices.Collect(dirs)
	said, missing := isDirectory.Within(answers.Patience, all...), map[string]absence{}
	for _, dir := range all {
		switch there, answered := said[dir]; {
		case !answered:
			missing[dir] = absence{"the file system of " + dir + " does not answer", "it does"}
		case !there:
			missing[dir] = absence{"there is no directory " + dir + " on this host", "there is"}
		}
	}
	return missing
}
