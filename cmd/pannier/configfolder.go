package main

import (
	"fmt"
	"maps"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/config"
	"github.com/pannier/pannier/engine/folder"
	"github.com/pannier/pannier/spec/relpath"
)

// folderWarnings are what config check says of watch folders: directories that are not there,
// those in which two folders look for files, and folders that find what they have sent.
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
			} else if feeds(f, cfg.Folders[other]) && feeds(cfg.Folders[other], f) {
				all = append(all, fmt.Sprintf("folders %s and %s move their files into one another: each file is sent again and again; let one of them keep or delete, or move elsewhere", name, other))
			}
		}
		all = append(all, ownFood(cfg, &f, dir)...)
	}
	return all
}

// ownFood are warnings of a folder, which is the directory dir, that finds what it has sent.
func ownFood(cfg *config.Config, f *folder.Folder, dir string) (all []string) {
	for _, partner := range f.Partners {
		if partner == cfg.Node.Name {
			all = append(all, fmt.Sprintf("folder %s: partner %s is this node, where the files of rule %s come back to %s under the same names: each is found and sent again and again, unless a task of the rule's receiver takes it away; name another node, or remove the folder", f.Name, partner, f.Rule, f.Root))
		}
		into, ok := dirOf(cfg.Bridges[partner])
		if into = filepath.Join(into, f.Dir.String()); ok && (into == dir || f.Recursive && strings.HasPrefix(into, dir+"/")) {
			all = append(all, fmt.Sprintf("folder %s: what bridge %s gets is written to %s, where the folder finds it and sends it again and again; let its endpoint be a directory outside of %s", f.Name, partner, into, dir))
		}
	}
	return all
}

// dirOf is the directory of this host that a bridge writes to; ok is false for other servers.
func dirOf(b config.Bridge) (dir string, ok bool) {
	u, err := url.Parse(b.Endpoint)
	if err != nil || b.Plugin != "dir" {
		return "", false
	}
	return u.Path, true
}

// feeds reports whether what a has sent, or could not, is moved to where b looks.
func feeds(a, b folder.Folder) bool {
	in := func(to relpath.Path) bool {
		x, y := filepath.Join(a.Root, to.String()), filepath.Join(b.Root, b.Dir.String())
		return x == y || b.Recursive && strings.HasPrefix(x, y+"/")
	}
	return a.After == folder.Move && in(a.To) || a.Failed == folder.Move && in(a.FailedTo)
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
