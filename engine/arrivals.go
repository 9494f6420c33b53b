package engine

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/statefile"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/relpath"
)

// A small file comes with its request, and is written before there is a record of it. What a process
// that is killed in that moment leaves, no record knows; the requester's next attempt takes it, if there is one.
// So the directories are written down in which that can be, each once in the life of a process, and looked
// through after the next start.

// mostArrivals is how many directories are written down; in others the record comes first. The
// file is written whole for each of them.
const mostArrivals = 256

// arrival is one of them. The way from the root down has no links when it is looked through:
// whoever may write there would say by one where files are removed.
type arrival struct {
	Root, Dir string
	Since     time.Time // what is older is no file of the process that has written this down
}

// slack is by how much the clock of a file system may be behind.
const slack = time.Minute

// arrivals are those directories.
type arrivals struct {
	path string // of the file; "": nothing is written down

	mu   sync.Mutex         // guards what follows, and the file, which is written once for a directory
	now  []arrival          // of this process
	know map[[2]string]bool // root and directory
	old  []arrival          // of those before
}

// open reads what processes before have written down.
func (a *arrivals) open(path string) error {
	a.path, a.know = path, map[[2]string]bool{}
	if path == "" {
		return nil
	}
	data, err := statefile.Read(path)
	if err != nil || data == nil {
		return err
	}
	if err := json.Unmarshal(data, &a.old); err != nil {
		return fault.New("read arrivals", fault.Corrupt, "%s: %v; it can be removed: pannier check finds what it is for, too", path, err)
	}
	return nil
}

// note writes down, durably, that a small file is about to come into a directory. false: its
// record has to come first.
func (a *arrivals) note(root string, dir relpath.Path, now time.Time) bool {
	if a.path == "" {
		return true
	}
	in := arrival{root, dir.String(), now}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.know[[2]string{in.Root, in.Dir}] {
		return true
	}
	if len(a.now) >= mostArrivals || a.write(append(a.now, in)) != nil {
		return false
	}
	a.now, a.know[[2]string{in.Root, in.Dir}] = append(a.now, in), true
	return true
}

// settled forgets what processes before have written down.
func (a *arrivals) settled() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.old = nil
	return a.write(a.now)
}

func (a *arrivals) write(now []arrival) error {
	data, err := json.Marshal(append(append([]arrival{}, a.old...), now...))
	if err != nil {
		return err
	}
	return statefile.Write(a.path, append(data, '\n'))
}

// tidy removes what processes before have left of small files in the directories that they have written
// down; known are the names that requests go on with. It is work.
func (e *Engine) tidy(known map[string]bool) {
	defer e.work.Done()
	if len(e.arrivals.old) == 0 {
		return
	}
	for _, dir := range e.arrivals.old {
		err := e.tidyDir(dir, known)
		if e.ctx.Err() != nil {
			return
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			e.log.Warn("what a process before may have left in a directory stays; pannier check finds it", "root", dir.Root, "directory", dir.Dir, "error", err)
		}
	}
	if err := e.arrivals.settled(); err != nil {
		e.log.Warn("directories are looked through again after the next start", "error", err)
	}
}

func (e *Engine) tidyDir(dir arrival, known map[string]bool) error {
	root, err := openRoot(dir.Root)
	if err == nil && dir.Dir != "" && dir.Dir != "." {
		root, err = sideeffect.Descend(root, dir.Dir, sideeffect.OpenReal)
	}
	if err != nil {
		return err
	}
	defer root.Close()
	d, err := root.Open(".")
	if err != nil {
		return err
	}
	defer d.Close()
	for e.ctx.Err() == nil {
		entries, err := d.ReadDir(1000)
		for _, entry := range entries {
			name := entry.Name()
			if !sideeffect.IsKeyed(name) || known[name] {
				continue
			}
			fi, err := entry.Info()
			if err != nil || !fi.Mode().IsRegular() || !comesAtOnce(fi.Size()) || !fi.ModTime().Before(e.opened) || fi.ModTime().Before(dir.Since.Add(-slack)) || !isOurs(fi) {
				continue // it is gone, or another's
			}
			gone, err := sideeffect.DiscardUnknown(root, name)
			if gone || err != nil {
				e.log.Info("a small file that a killed process has begun is removed", "root", dir.Root, "directory", dir.Dir, "file", name, "removed", gone, "error", err)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// isOurs reports whether a file is of the user that this process is.
func isOurs(fi fs.FileInfo) bool {
	is, ok := fi.Sys().(*syscall.Stat_t)
	return !ok || int(is.Uid) == os.Geteuid()
}

// partialOf is the name, in its directory, of what a request of ours keeps; "" for a sender.
func partialOf(r *lifecycle.Record) string {
	p, err := sideeffect.PartialName(r.Spec.Target, PartialKey(r.Key))
	if r.Side != lifecycle.Receiver || err != nil {
		return ""
	}
	return p.Base()
}
