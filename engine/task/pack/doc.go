// Package pack has tasks that make another form of a file: archives, compressed files,
// other character sets.
//
// What is unpacked comes from a partner and is hostile until it is not: names are
// relpath.Paths and created through os.Root, and only as new ones; bytes, files and the
// ratio of both sizes are bounded before a byte is written beyond them; links and
// devices are refused; and nothing is under its final name until all of it is there.
package pack

import "github.com/pannier/pannier/engine/task"

// Tasks are the tasks of this package.
func Tasks() task.Catalogue {
	return task.Catalogue{
		"archive":    {Make: newArchive, Keys: []string{"to", "path", "format", "remove"}, Other: true},
		"extract":    {Make: newExtract, Keys: []string{"to", "format", "remove", "max_size", "max_files", "max_ratio"}, Other: true},
		"compress":   {Make: newCompress, Keys: []string{"to", "format", "remove"}, Other: true},
		"decompress": {Make: newDecompress, Keys: []string{"to", "format", "remove", "max_size", "max_ratio"}, Other: true},
		"transcode":  {Make: newTranscode, Keys: []string{"to", "decode", "encode", "newline", "remove"}, Other: true},
	}
}
