package main

import (
	"fmt"
	"maps"
	"net/url"
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
	dirs := map[string]string{} // by the names of folders
	for name, f := range cfg.Folders {
		dirs[name] = filepath.Join(f.Root, f.Dir.String())
	}
	missing := absent(maps.Values(dirs))
	names := slices.Sorted(maps.Keys(dirs))
	for i, name := range names {
		f, dir := cfg.Folders[name], dirs[name]
		if a, ok := missing[dir]; ok {
			all = append(all, fmt.Sprintf("folder %s: %s; nothing is found until %s", name, a.what, a.until))
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
	dirs := map[string]string{} // by the names of schedules
	for name, s := range cfg.Schedules {
		if s.Root == "" || s.Direction() != engine.Send || strings.ContainsAny(path.Dir(s.Source), "*?[{\\") {
			continue // elsewhere, or known when its time has come
		}
		dirs[name] = filepath.Join(s.Root, path.Dir(s.Source))
	}
	missing := absent(maps.Values(dirs))
	for _, name := range slices.Sorted(maps.Keys(dirs)) {
		if a, ok := missing[dirs[name]]; ok {
			all = append(all, fmt.Sprintf("schedule %s: %s; nothing is found until %s", name, a.what, a.until))
		}
	}
	return all
}

// overlap reports whether both look into one directory.
func overlap(a, b folder.Folder) bool {
	x, y := filepath.Join(a.Root, a.Dir.String()), filepath.Join(b.Root, b.Dir.String())
	return x == y || a.Recursive && strings.HasPrefix(y, x+"/") || b.Recursive && strings.HasPrefix(x, y+"/")
}
