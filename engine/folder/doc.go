// Package folder makes requests of files that appear in directories, as spec/folder.md
// says: what is ready, each version once, and what is done with a file afterwards.
//
//	OpenNotes                the memory of all folders of a node, before its engine begins
//	Notes.Expect             what the engine asks before it sends a file
//	Watch -> Watcher         one folder at work, until Stop
//
// Everything a folder decides is decided in Watcher.loop, one goroutine. It looks at files below
// the rule's root only, through os.Root, and never at what is in them.
package folder
