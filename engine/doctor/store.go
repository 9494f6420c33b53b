package doctor

import (
	"errors"
	"io/fs"
	"os"

	"github.com/pannier/pannier/engine/boltstore"
	"github.com/pannier/pannier/engine/node"
	"github.com/pannier/pannier/spec/fault"
)

// store is what the node remembers: through the daemon that has it, or read as a whole.
func (e *exam) store() {
	path := node.StorePath(e.Config.Node.State)
	_, err := os.Stat(path)
	absent := errors.Is(err, fs.ErrNotExist)
	if e.Daemon != nil && absent {
		e.fail(path, "pannier backup FILE saves it while that process runs; then put it back with pannier restore", "it was removed while the daemon has it: what the node remembers ends with the process, and that with the next change")
		return
	}
	if e.Daemon != nil {
		problems, warnings, err := e.Daemon.Check(e.ctx)
		switch {
		case err != nil:
			e.skip(path, "the daemon did not check it: %s", fault.Plain(err))
		case problems > 0:
			e.fail(path, "pannier check says which", "%d errors between what the node remembers and what is on its disk, and %d warnings", problems, warnings)
		case warnings > 0:
			e.warn(path, "pannier check says which", "%d warnings between what the node remembers and what is on its disk", warnings)
		default:
			e.ok(path, "what the node remembers is on its disk")
		}
		return
	}
	if absent {
		e.ok(path, "there is none yet: the node makes it when it starts")
		return
	}
	is, now, err := boltstore.Formats(path)
	if err == nil && is > now {
		e.fail(path, "install the version that wrote it, or put back "+path+".format-*", "it has format %d, and this version knows %d: the node does not start", is, now)
		return
	}
	if err == nil && is != 0 && is < now { // the rest is for what migrates it to look at
		e.warn(path, "pannier migrate --dry-run says what is done", "it has format %d, and becomes %d when the node starts; the file as it was stays beside it", is, now)
		return
	}
	switch err := boltstore.Verify(path); {
	case errors.Is(err, fault.Exists):
		e.fail(path, "end that process, or call its daemon with --admin", "another process has it open, and no daemon answers at %s", e.Config.Node.Admin)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, fault.Permission):
		e.fail(path, "chown it to the node's user", "%s", fault.Plain(err))
	case err != nil:
		e.fail(path, "restore a backup: pannier restore", "%s", fault.Plain(err))
	default:
		e.ok(path, "it is whole, of format %d", is)
	}
}
