package doctor

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/pannier/pannier/engine/answers"
	"github.com/pannier/pannier/spec/fault"
)

// When there is little room.
const (
	littleRoom  = 1 << 30 // bytes
	noRoom      = 16 << 20
	littleFiles = 10000 // inodes
	noFiles     = 100
	slowSync    = time.Second
	syncs       = 5 // that are measured
)

// volume is a file system.
type volume struct {
	free, size       uint64 // bytes
	files, freeFiles uint64 // inodes; files 0: it makes them as it needs them
	kind             string // "memory", "overlay" or "network"; "": another
}

// disk is the room of the state and of each root, and how long the state's disk takes.
func (e *exam) disk() {
	state := e.Config.Node.State
	if e.room(state) {
		e.kind(state)
		e.sync(state)
	}
	roots := e.rootDirs()
	silent := e.hung(roots)
	for _, root := range roots {
		switch {
		case silent[root]:
			e.skip(root, "its file system does not answer")
		case root != state:
			e.room(root)
		}
	}
}

// there asks the file system of a directory.
var there = answers.To(func(dir string) error {
	_, err := volumeOf(dir)
	return err
})

// hung are those of directories whose file systems do not answer: whoever looks at them waits for ever.
func (e *exam) hung(dirs []string) map[string]bool {
	said, silent := there.Within(answers.Patience, dirs...), map[string]bool{}
	for _, dir := range dirs {
		if _, answered := said[dir]; !answered {
			silent[dir] = true
		}
	}
	return silent
}

// rootDirs are the directories of all rules, each once.
func (e *exam) rootDirs() (all []string) {
	for _, r := range e.Config.Book.Rules {
		if r.Root != "" {
			all = append(all, r.Root)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// room says how much a file system takes. Partial files are in the directory of their
// target, so that there is no other one to look at.
func (e *exam) room(dir string) (looked bool) {
	v, err := volumeOf(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false // another check says so
	case err != nil:
		e.skip(dir, "its file system cannot be looked at: %v", err)
		return false
	}
	o, text := v.room()
	do := "remove what nobody needs, or make the file system larger"
	if o == OK {
		do = ""
	}
	e.say(o, dir, do, "%s", text)
	return true
}

// room judges how much can still be written.
func (v volume) room() (Outcome, string) {
	o := OK
	if few := v.files > 0; v.free < noRoom || few && v.freeFiles < noFiles {
		o = Fail
	} else if v.free < littleRoom || few && v.freeFiles < littleFiles {
		o = Warn
	}
	text := fmt.Sprintf("%s of %s are free", humanize.IBytes(v.free), humanize.IBytes(v.size))
	if v.files > 0 {
		text += fmt.Sprintf(", and %s of %s files", humanize.Comma(int64(v.freeFiles)), humanize.Comma(int64(v.files)))
	}
	return o, text
}

// kind warns of a file system that does not keep what the state has to promise.
func (e *exam) kind(state string) {
	v, err := volumeOf(state)
	why := map[string]string{
		"memory":  "it is in memory: a restart forgets all requests, and the key",
		"overlay": "it is a container's layer: a new container forgets all requests, and the key",
		"network": "it is on the network: locks and syncs are only as good as the server's",
	}[v.kind]
	switch {
	case err != nil:
		e.skip(state, "the kind of its file system is not known: %v", err)
	case why != "":
		e.warn(state, "set node.state to a directory on a local disk, or on a volume", "%s", why)
	default:
		e.ok(state, "its file system is no memory, layer or network that is known here")
	}
}

// sync measures how long a small write takes to be durable.
func (e *exam) sync(dir string) {
	times, err := measureSync(dir)
	if err != nil {
		e.skip(dir, "how long a sync takes could not be measured: %s", fault.Plain(err))
		return
	}
	e.synced(dir, times)
}

// synced judges how long syncs took: what is usual depends on the disk, and is only shown.
func (e *exam) synced(dir string, times []time.Duration) {
	slices.Sort(times)
	median, most := times[len(times)/2].Round(time.Microsecond), times[len(times)-1].Round(time.Microsecond)
	if most > slowSync {
		e.warn(dir, "look what else uses the disk", "a sync took %v, the median is %v: each step of a request waits for one", most, median)
		return
	}
	e.ok(dir, "a sync takes %v, at most %v of %d", median, most, len(times))
}

func measureSync(dir string) (times []time.Duration, err error) {
	f, err := os.CreateTemp(dir, trial)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	block := make([]byte, 4096)
	for range syncs {
		began := time.Now()
		if _, err = f.Write(block); err == nil {
			err = f.Sync()
		}
		if err != nil {
			return nil, err
		}
		times = append(times, time.Since(began))
	}
	return times, nil
}

// trial is the pattern of names of files that are written to try a directory: a name that no
// transfer and no watch folder takes for a file of somebody's.
const trial = ".doctor.pannier-d*"

// tryWrite makes a file, gives it another name, as a file that has arrived gets its own, and
// removes it.
func tryWrite(dir string) error {
	f, err := os.CreateTemp(dir, trial)
	if err != nil {
		return err
	}
	name, to := f.Name(), f.Name()+"r"
	_, err = f.WriteString("written to try this directory, and removed at once\n")
	if err = errors.Join(err, f.Close()); err == nil {
		if err = os.Rename(name, to); err == nil {
			name = to
		}
	}
	return errors.Join(err, os.Remove(name))
}

// tryRead looks at the first names in a directory.
func tryRead(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := os.Stat(filepath.Join(dir, ".")); err != nil { // to list is not yet to open
		return err
	}
	if _, err := f.Readdirnames(1); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}
