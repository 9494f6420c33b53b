package doctor

import (
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/pannier/pannier/flow/relay"
)

// What one piece of work has open at most: about as much as package sideeffect does for a
// file with its directory, and a relay for both ends of a connection.
const (
	filesOfNode    = 64
	filesOfRequest = 3
	filesOfConn    = 2
	mostDirs       = 1 << 20 // that are counted
)

// limits compares what the configuration allows at a time with what the system does.
func (e *exam) limits() {
	e.openFiles()
	if len(e.Config.Folders) > 0 {
		e.watches()
	}
	if e.Daemon != nil {
		for _, name := range slices.Sorted(maps.Keys(e.Daemon.Hints)) {
			e.warn("folder "+name, "each of these looks tries again", "%s", e.Daemon.Hints[name])
		}
	}
}

func (e *exam) openFiles() {
	pid := 0
	if e.Daemon != nil {
		pid = e.Daemon.PID
	}
	has, err := openFilesOf(pid)
	if err != nil {
		e.skip("open files", "the limit is not known: %v", err)
		return
	}
	of := "this process, whose limit need not be the daemon's,"
	if pid != 0 {
		of = fmt.Sprintf("process %d", pid)
	}
	need := e.filesNeeded()
	if has < need {
		e.warn("open files", fmt.Sprintf("set LimitNOFILE=%d in the unit, or lower node.concurrent, node.serving or the conns of relays", need), "%s may have %d, and what the configuration allows at a time takes %d", of, has, need)
		return
	}
	if has == unix.RLIM_INFINITY {
		e.ok("open files", "%s may have any number, and needs at most %d", of, need)
		return
	}
	e.ok("open files", "%s may have %d, and needs at most %d", of, has, need)
}

// filesNeeded is about how many descriptors the node has when all runs that may.
func (e *exam) filesNeeded() uint64 {
	c := e.Config
	n := filesOfNode + filesOfRequest*(c.Node.Concurrent+c.Node.Serving) + 2*len(c.Book.Partners)
	for _, r := range c.Relays {
		if r.At == relay.Here {
			n += filesOfConn * r.Limits.Conns
		}
	}
	for _, p := range c.Policy {
		n += filesOfConn * p.Limits.Conns
	}
	return uint64(n)
}

// watches are what the kernel tells watch folders by: an instance each, and a watch for each
// directory.
func (e *exam) watches() {
	watches, instances, err := watchLimits()
	if err != nil {
		e.skip("inotify", "the limits are not known: %v", err)
		return
	}
	e.enough("inotify instances", instances, uint64(len(e.Config.Folders)), "there are %d folders", "fs.inotify.max_user_instances")
	e.enough("inotify watches", watches, e.watched(), "folders have %d directories", "fs.inotify.max_user_watches")
}

// enough compares what a user may have with what folders need; key is what raises it.
func (e *exam) enough(what string, may, need uint64, needs, key string) {
	text := fmt.Sprintf("a user may have %d, and "+needs, may, need)
	if need > may {
		e.warn(what, fmt.Sprintf("sysctl %s=%d", key, 2*need), "%s: of some, files are seen only every interval", text)
		return
	}
	e.ok(what, "%s", text)
}

// watched is how many directories folders look into.
func (e *exam) watched() (n uint64) {
	for _, f := range e.Config.Folders {
		if !f.Recursive {
			n++
			continue
		}
		_ = filepath.WalkDir(filepath.Join(f.Root, f.Dir.String()), func(_ string, d fs.DirEntry, err error) error {
			if n > mostDirs || e.ctx.Err() != nil {
				return fs.SkipAll
			}
			if err == nil && d.IsDir() {
				n++
			}
			return nil // what cannot be looked at is not watched either
		})
	}
	return n
}
