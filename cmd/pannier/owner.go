package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/spec/fault"
)

// asOwner has the rest of a command that writes into a state directory, run as root, be done as
// the directory's owner: what root makes there the node could not read. It is nobody else from
// then on, and has none of the groups of root. A directory that is root's changes nothing; of one
// that is not there the nearest above it decides.
func asOwner(state string) error {
	const op = "become the owner of the state directory"
	if os.Geteuid() != 0 {
		return nil
	}
	uid, gid, err := whoOwns(state)
	if err != nil {
		return fault.Wrap(op, state, withoutPath(err))
	}
	if uid == 0 {
		return nil
	}
	group := groupOf(uid, gid)
	return fault.Wrap(op, state, errors.Join(syscall.Setgroups(groupsOf(uid, group)), syscall.Setgid(group), syscall.Setuid(uid)))
}

// mostLinks is how many links a path may go through, as in the kernel.
const mostLinks = 40

// whoOwns is the user and group of a directory, or of the nearest above it that is there. A link on
// the way is one of root's, or of the user to whose directory it leads: any other would have
// root work where somebody else wants it to.
func whoOwns(dir string) (uid, gid int, err error) {
	dir, err = filepath.Abs(dir)
	if err != nil {
		return 0, 0, err
	}
	at, rest, through := "/", dir, 0
	links := map[int]string{} // by who has made them, but for root
	for rest != "" {
		var name string
		name, rest, _ = strings.Cut(strings.TrimLeft(rest, "/"), "/")
		next := filepath.Join(at, name)
		there, err := os.Lstat(next)
		if errors.Is(err, fs.ErrNotExist) {
			break
		} else if err != nil {
			return 0, 0, err
		}
		if there.Mode()&fs.ModeSymlink == 0 {
			at = next
			continue
		}
		if through++; through > mostLinks {
			return 0, 0, syscall.ELOOP
		}
		if by := int(there.Sys().(*syscall.Stat_t).Uid); by != 0 {
			links[by] = next
		}
		to, err := os.Readlink(next)
		if err != nil {
			return 0, 0, err
		}
		if filepath.IsAbs(to) {
			at = "/"
		}
		rest = to + "/" + rest
	}
	fi, err := os.Lstat(at)
	if err != nil {
		return 0, 0, err
	}
	is := fi.Sys().(*syscall.Stat_t)
	for by, link := range links {
		if by != int(is.Uid) {
			return 0, 0, command.Suggest(fault.New("follow link", fault.Permission, "%s is a link that user %d has made, and leads to %s, which is user %d's", link, by, at, is.Uid),
				"Write the directory itself as node.state, or run this as the node's user.")
		}
	}
	return int(is.Uid), int(is.Gid), nil
}

// groupsOf are a user's groups, with the one in which they work, and those that the service has beside: a file may be
// theirs to read by another.
func groupsOf(uid, group int) []int {
	all := []int{group}
	u, err := user.LookupId(strconv.Itoa(uid))
	if err != nil {
		u = &user.User{Uid: strconv.Itoa(uid)}
	}
	names, _ := u.GroupIds()
	for _, name := range append(names, unitGroups(u)...) {
		if _, err := strconv.Atoi(name); err != nil {
			if g, err := user.LookupGroup(name); err == nil {
				name = g.Gid
			}
		}
		if id, err := strconv.Atoi(name); err == nil && !slices.Contains(all, id) {
			all = append(all, id)
		}
	}
	return all
}

// The node as a service of systemd.
const (
	unitName    = "pannier"
	serviceWait = 2 * time.Second // for what systemd says of it
)

// unitGroups are the groups, by name or number, that the service gives its node; none where systemd knows of no
// service of that user.
func unitGroups(u *user.User) []string {
	ctx, cancel := context.WithTimeout(context.Background(), serviceWait)
	defer cancel()
	out, err := exec.CommandContext(ctx, "systemctl", "show", "--property=User,Group,SupplementaryGroups", unitName).Output()
	if err != nil {
		return nil
	}
	unit := map[string]string{}
	for line := range strings.Lines(string(out)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		unit[key] = value
	}
	if is := unit["User"]; is == "" || is != u.Username && is != u.Uid {
		return nil
	}
	return append(strings.Fields(unit["Group"]), strings.Fields(unit["SupplementaryGroups"])...)
}

// groupOf is the group in which a user works: their own. Of a user without a name it is the directory's,
// if that is not root's.
func groupOf(uid, gid int) int {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		if own, err := strconv.Atoi(u.Gid); err == nil {
			return own
		}
	}
	if gid == 0 {
		return uid
	}
	return gid
}
