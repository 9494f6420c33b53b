package main

import (
	"errors"
	"io/fs"
	"os"
	"syscall"

	"github.com/pannier/pannier/spec/fault"
)

// asOwner has the rest of a command that writes into a state directory, run as root, be done as
// the directory's owner: what root makes there the node could not read. It is nobody else from
// then on. A directory that is not there, or root's, changes nothing.
func asOwner(state string) error {
	const op = "become the owner of the state directory"
	if os.Geteuid() != 0 {
		return nil
	}
	fi, err := os.Stat(state)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return fault.Wrap(op, state, withoutPath(err))
	}
	owner, ok := fi.Sys().(*syscall.Stat_t)
	if !ok || owner.Uid == 0 {
		return nil
	}
	groups := []int{int(owner.Gid)}
	return fault.Wrap(op, state, errors.Join(syscall.Setgroups(groups), syscall.Setgid(groups[0]), syscall.Setuid(int(owner.Uid))))
}
