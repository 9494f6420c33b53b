package admin

import "slices"

// Hang makes the file systems of directories not answer, until what it returns is called.
func Hang(dirs ...string) (answer func()) {
	was := askDirs
	askDirs = func(all ...string) map[string]bool {
		silent := was(slices.DeleteFunc(slices.Clone(all), func(dir string) bool { return slices.Contains(dirs, dir) })...)
		for _, dir := range all {
			if slices.Contains(dirs, dir) {
				silent[dir] = true
			}
		}
		return silent
	}
	return func() { askDirs = was }
}
