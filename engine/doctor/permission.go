package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/backup"
	"github.com/pannier/pannier/engine/folder"
	"github.com/pannier/pannier/engine/node"
	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/shellword"
)

// What the node's user may read and write.

// user compares who runs this with whose the state directory is: what one may do, another
// need not.
func (e *exam) user() {
	state := e.Config.Node.State
	fi, err := os.Stat(state)
	if err != nil {
		e.ok("", "this is looked at as %s", userName(os.Getuid()))
		return
	}
	s, ok := fi.Sys().(*syscall.Stat_t)
	if owner := int(s.Uid); ok && owner != os.Getuid() {
		e.warn("", fmt.Sprintf("run this as %s", userName(owner)), "%s looks, and the state directory is that of %s: what that user may read and write is not seen", userName(os.Getuid()), userName(owner))
		return
	}
	e.ok("", "%s looks, whose the state directory is", userName(os.Getuid()))
}

func userName(uid int) string {
	id := strconv.Itoa(uid)
	if u, err := user.LookupId(id); err == nil {
		return "user " + u.Username
	}
	return "user " + id
}

// state is the state directory, its key, and whether a restore was left half done.
func (e *exam) state() {
	dir := e.Config.Node.State
	fi, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		e.absent(dir)
		return
	case err != nil:
		e.fail(dir, "let the node's user enter it", "%s", fault.Plain(err))
		return
	case !fi.IsDir():
		e.fail(dir, "set node.state to a directory", "it is no directory")
		return
	case fi.Mode().Perm()&0o022 != 0:
		e.fail(dir, "chmod 0700 it, or set node.state to a directory below it, which the node makes", "others may write it: it has mode %04o", fi.Mode().Perm())
	default:
		e.writable(dir, "nothing can be remembered")
	}
	if err := backup.Interrupted(dir); err != nil {
		e.fail(dir, "run pannier restore again with the same backup", "a restore has not come to its end: the node does not start")
	}
	e.foreign(dir)
	id, err := carrier.LoadIdentity(dir)
	key := filepath.Join(dir, "identity.pem")
	switch {
	case errors.Is(err, fault.NotFound):
		e.ok(key, "there is no key yet: the node makes one when it starts")
	case err != nil:
		e.fail(key, "chmod 0600 it, and chown it to the node's user", "%s", fault.Plain(err))
	case e.Daemon != nil && id.Key() != e.Daemon.Key:
		e.fail(key, "restart the daemon, or put its key back", "the daemon has another key, %s: partners would refuse this one", e.Daemon.Key)
	default:
		e.ok(key, "the key is %s", id.Key())
	}
}

// foreign are files in the state directory that the node's user may not read, as those that
// root has made there.
func (e *exam) foreign(dir string) {
	names, err := node.Foreign(dir)
	if err != nil || len(names) == 0 {
		return // whether it can be read was looked at before
	}
	owner, err := node.OwnerOf(dir)
	if err != nil {
		return
	}
	command, err := node.Reclaim(dir)
	if err != nil {
		return
	}
	for _, name := range names {
		path, do := filepath.Join(dir, name), "as root: "+command
		if fi, err := os.Lstat(path); err == nil && !fi.IsDir() && fi.Sys().(*syscall.Stat_t).Nlink > 1 {
			do = "see what it is, as root: find / -xdev -samefile " + shellword.Quote(path) + ": whoever is given it has its other name, too; then remove it here"
		}
		e.fail(path, do, "it is not of %s, whose the directory is: the node may not use it", userName(owner))
	}
}

// absent is a state directory that the node would have to make.
func (e *exam) absent(dir string) {
	up := dir
	for {
		up = filepath.Dir(up)
		if _, err := os.Stat(up); err == nil || up == "/" {
			break
		}
	}
	made, err := os.MkdirTemp(up, trial)
	if err == nil {
		err = os.Remove(made)
	}
	if err != nil {
		e.fail(dir, "make it for the node's user, with mode 0700", "it is not there, and %s cannot make it in %s: %s", userName(os.Getuid()), up, fault.WithoutPath(err))
		return
	}
	e.ok(dir, "it is not there yet: the node makes it when it starts")
}

// toWrite is what is to be done about a directory that could not be written.
func toWrite(err error) string {
	if fault.KindOf(err) == fault.NoSpace {
		return "make room on its file system"
	}
	return letWrite
}

func (e *exam) writable(dir, meaning string) {
	if err := tryWrite(dir); err != nil {
		e.fail(dir, toWrite(err), "%s: %s", meaning, fault.Plain(err))
		return
	}
	e.ok(dir, "it can be written")
}

// roots are the directories of rules: what is asked for here has to be read where the rule
// sends, and written where it receives. The other way round it is partners that ask.
func (e *exam) roots() {
	rules := e.Config.Book.Rules
	silent := e.hung(e.rootDirs())
	for _, name := range slices.Sorted(maps.Keys(rules)) {
		switch root := rules[name].Root; {
		case silent[root]:
			e.fail("rule "+name, reachServer, "the file system of %s does not answer: its requests wait for it", root)
		case root != "":
			e.root(name, rules[name])
		}
	}
}

const reachServer = "see why: if it is a network's, whether its server is reached"

func (e *exam) root(name string, r *engine.Rule) {
	sealed := ""
	if e.Daemon != nil {
		sealed = e.Daemon.Unwritable[name]
	}
	fi, err := os.Stat(r.Root)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		e.fail("rule "+name, shellword.Line("mkdir", "-p", r.Root)+", for the node's user", "there is no directory %s: its requests fail", r.Root)
		return
	case err != nil:
		e.fail("rule "+name, "let the node's user enter it", "%s: its requests fail", fault.Plain(err))
		return
	case !fi.IsDir():
		e.fail("rule "+name, "set root to a directory", "%s is no directory: its requests fail", r.Root)
		return
	}
	read, write := tryRead(r.Root), tryWrite(r.Root)
	const letRead = "let the node's user read it"
	sends := r.Direction == engine.Send
	switch {
	case read != nil && sends:
		e.fail("rule "+name, letRead, "nothing can be sent from %s: %s", r.Root, fault.WithoutPath(read))
	case write != nil && !sends:
		e.fail("rule "+name, letWrite, "nothing can be received in %s: %s", r.Root, fault.WithoutPath(write))
	case read != nil:
		e.warn("rule "+name, letRead+", unless partners fetch nothing", "partners can fetch nothing from %s: %s", r.Root, fault.WithoutPath(read))
	case write != nil:
		e.warn("rule "+name, letWrite+", unless partners send nothing", "partners can send nothing to %s: %s", r.Root, fault.WithoutPath(write))
	case sealed == engine.SilentRoot:
		e.warn("rule "+name, reachServer, "whether the daemon can write %s is not known: %s", r.Root, sealed)
	case sealed != "" && !sends: // from where the daemon is it looks otherwise
		e.fail("rule "+name, engine.Unseal, "nothing can be received in %s: it can be written from here, but not by the daemon: %s", r.Root, sealed)
	case sealed != "":
		e.warn("rule "+name, "unless partners send nothing: "+engine.Unseal, "partners can send nothing to %s: it can be written from here, but not by the daemon: %s", r.Root, sealed)
	default:
		e.ok("rule "+name, "%s can be read and written, and files in it renamed", r.Root)
	}
}

// folders have to be read, and written where files are moved or deleted.
func (e *exam) folders() {
	dirs := map[string]string{} // by the names of folders
	for name, f := range e.Config.Folders {
		dirs[name] = filepath.Join(f.Root, f.Dir.String())
	}
	silent := e.hung(slices.Collect(maps.Values(dirs)))
	for _, name := range slices.Sorted(maps.Keys(dirs)) {
		f, dir, subject := e.Config.Folders[name], dirs[name], name
		if silent[dir] {
			e.fail(subject, reachServer, "nothing is found in %s: its file system does not answer", dir)
			continue
		}
		if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
			continue // the configuration's warnings say so
		}
		if err := tryRead(dir); err != nil {
			e.fail(subject, "let the node's user read it", "nothing is found in %s: %s", dir, fault.WithoutPath(err))
			continue
		}
		if why := e.stays(name); why != "" {
			e.fail(subject, "let the node's user do it; each rescan tries again", "%s", why)
		}
		if problem, do := disposes(e.ctx, &f, dir); problem != "" {
			e.fail(subject, do, "%s", problem)
			continue
		}
		if by := e.unclosed(&f, dir); by != "" {
			e.warn(subject, fmt.Sprintf("give the node CAP_LEASE, in its unit by systemctl edit (packaging.md), or lower stable, which is %v", f.Stable),
				"closed = true is of no use for files of other users, of which the kernel tells the node nothing: they wait until they have stayed the same; %s", by)
			continue
		}
		e.ok(subject, "%s can be looked at", dir)
	}
}

// unclosed says that a folder has files of users of which the node is not told whether they are closed, or may have;
// "": it has not.
func (e *exam) unclosed(f *folder.Folder, dir string) (by string) {
	pid := 0
	if e.Daemon != nil {
		pid = e.Daemon.PID
	}
	uid, others, err := leaseOf(pid)
	if !f.Closed || others || err != nil {
		return ""
	}
	n := 0
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if n++; n > mostDirs || e.ctx.Err() != nil || by != "" {
			return fs.SkipAll
		}
		if err != nil || !d.IsDir() && !d.Type().IsRegular() {
			return nil
		}
		if d.IsDir() && path != dir && !f.Recursive {
			return fs.SkipDir
		}
		fi, err := d.Info()
		if err != nil {
			return nil
		}
		switch s, ok := fi.Sys().(*syscall.Stat_t); {
		case ok && int(s.Uid) != uid:
			by = fmt.Sprintf("%s is of %s", path, userName(int(s.Uid)))
		case d.IsDir() && fi.Mode().Perm()&0o022 != 0:
			by = fmt.Sprintf("others may write in %s", path)
		}
		return nil
	})
	return by
}

// stays is what the daemon says of files of a folder that are to go; "": nothing.
func (e *exam) stays(name string) string {
	if e.Daemon == nil {
		return ""
	}
	return e.Daemon.Stays[name]
}

const letWrite = "let the node's user write it"

// disposes says why files cannot be dealt with after they were sent, and what to do; "": they can.
func disposes(ctx context.Context, f *folder.Folder, dir string) (problem, do string) {
	if f.After == folder.Keep && f.Failed == folder.Keep {
		return "", ""
	}
	if err := tryWrite(dir); err != nil {
		return fmt.Sprintf("what was sent cannot be taken away from %s: %s", dir, fault.WithoutPath(err)), toWrite(err)
	}
	for _, m := range []struct {
		does folder.Action
		to   string
	}{{f.After, f.To.String()}, {f.Failed, f.FailedTo.String()}} {
		if m.does != folder.Move {
			continue
		}
		if problem, do = moves(dir, filepath.Join(f.Root, m.to)); problem != "" {
			return problem, do
		}
	}
	return takes(ctx, f, dir)
}

// moves tries to move a file from one directory to another. One that is not there yet is made below the nearest that is.
func moves(from, to string) (problem, do string) {
	into := to
	for _, err := os.Stat(into); errors.Is(err, fs.ErrNotExist) && into != "/"; _, err = os.Stat(into) {
		into = filepath.Dir(into)
	}
	err := tryMove(from, into)
	switch {
	case errors.Is(err, syscall.EXDEV):
		return fmt.Sprintf("%s is on another file system than %s: files cannot be renamed into it", to, from), "let both be on one file system"
	case errors.Is(err, errors.ErrUnsupported) && protectsLinks():
		return fmt.Sprintf("the file system of %s has no renames that replace nothing, and the kernel allows no second name for what others own: their files stay", from), "let the node's user own the files, or set sysctl fs.protected_hardlinks=0"
	case err != nil && !errors.Is(err, errors.ErrUnsupported):
		return fmt.Sprintf("files cannot be moved to %s: %s", to, fault.WithoutPath(err)), toWrite(err)
	}
	return "", ""
}

// tryMove makes a file, moves it, and removes it.
func tryMove(from, to string) error {
	f, err := os.CreateTemp(from, trial)
	if err != nil {
		return err
	}
	at := f.Name()
	if err = f.Close(); err == nil {
		if err = folder.TryMove(from, to, filepath.Base(at)); err == nil {
			at = filepath.Join(to, filepath.Base(at))
		}
	}
	return errors.Join(err, os.Remove(at))
}

// takes looks for directories out of which the node's user takes no files: not its own, or not those of others.
func takes(ctx context.Context, f *folder.Folder, dir string) (problem, do string) {
	n := 0
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if n++; n > mostDirs || ctx.Err() != nil || problem != "" {
			return fs.SkipAll
		}
		if err != nil || !d.IsDir() {
			return nil // what cannot be looked at is not found either
		}
		if path != dir && !f.Recursive {
			return fs.SkipDir
		}
		fi, err := d.Info()
		if err != nil {
			return nil
		}
		if err := unix.Access(path, unix.W_OK|unix.X_OK); err != nil {
			problem, do = fmt.Sprintf("what was sent cannot be taken away from %s: %s", path, fault.WithoutPath(err)), letWrite
		} else if s, ok := fi.Sys().(*syscall.Stat_t); ok && fi.Mode()&fs.ModeSticky != 0 && os.Geteuid() != 0 && int(s.Uid) != os.Geteuid() {
			problem, do = fmt.Sprintf("files of others stay in %s: it is sticky, and not the node's user's", path), shellword.Line("chmod", "-t", path)+", or give it to the node's user"
		}
		return nil
	})
	return problem, do
}
