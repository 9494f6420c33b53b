package node

import (
	"io"
	"sync"

	"github.com/pannier/pannier/engine/folder"
)

// EndSchedules has the node's schedules refuse to be changed.
func EndSchedules(n *Node) { n.schedules.Stop() }

// EndExpecting has what the node expects refuse to be changed.
func EndExpecting(n *Node) { n.expecting.Stop() }

// FoldersOf are the watch folders of a node.
func FoldersOf(n *Node) []folder.Status { return n.folders.List() }

// BackupBetween is a backup in which something happens between the copy of the store and those of what folders
// and schedules note, whichever come first.
func BackupBetween(n *Node, w io.Writer, between func()) error {
	var once sync.Once
	before := ""
	of := func(what string, write func(io.Writer) error) func(io.Writer) error {
		return func(w io.Writer) error {
			if before != "" && before != what {
				once.Do(between)
			}
			before = what
			return write(w)
		}
	}
	all := n.notes
	defer func() { n.notes = all }()
	n.notes = nil
	for _, p := range all {
		if p.name != bridgeFile {
			p.write = of("notes", p.write)
		}
		n.notes = append(n.notes, p)
	}
	return n.backup(of("store", n.o.Store.(interface{ Backup(io.Writer) error }).Backup), w, true)
}
