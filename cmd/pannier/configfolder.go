package main

import (
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/config"
	"github.com/pannier/pannier/engine/folder"
)

// folderWarnings are what config check says of watch folders: directories that are not there, and
// those in which two folders look for files.
func folderWarnings(cfg *config.Config) (all []string) {
	names := slices.Sorted(maps.Keys(cfg.Folders))
	for i, name := range names {
		f := cfg.Folders[name]
		dir := filepath.Join(f.Root, f.Dir.String())
		if fi, err := os.Stat(dir); err != nil || !fi.IsDir() {
			all = append(all, fmt.Sprintf("folder %s: there is no directory %s on this host; nothing is found until there is", name, dir))
		}
		for _, other := range names[i+1:] {
			if overlap(f, cfg.Folders[other]) {
				all = append(all, fmt.Sprintf("folders %s and %s look in the same directory: each sends what both find, and one may remove what the other has not sent", name, other))
			}
		}
	}
	return all
}

// scheduleWarnings are what it says of schedules whose files are in a directory that is not there.
func scheduleWarnings(cfg *config.Config) (all []string) {
	for _, name := range slices.Sorted(maps.Keys(cfg.Schedules)) {
		s := cfg.Schedules[name]
		if s.Root == "" || s.Direction() != engine.Send || strings.ContainsAny(path.Dir(s.Source), "*?[{\\") {
			continue // elsewhere, or known when its time has come
		}
		dir := filepath.Join(s.Root, path.Dir(s.Source))
		if fi, err := os.Stat(dir); err != nil || !fi.IsDir() {
			all = append(all, fmt.Sprintf("schedule %s: there is no directory %s on this host; nothing is found until there is", name, dir))
		}
	}
	return all
}

// overlap reports whether both look into one directory.
func overlap(a, b folder.Folder) bool {
	x, y := filepath.Join(a.Root, a.Dir.String()), filepath.Join(b.Root, b.Dir.String())
	return x == y || a.Recursive && strings.HasPrefix(y, x+"/") || b.Recursive && strings.HasPrefix(x, y+"/")
}
