//go:build darwin || freebsd || netbsd

package sideeffect

import "syscall"

// modified and changed are times of an inode, in ns since 1970.
func modified(st *syscall.Stat_t) int64 { return st.Mtimespec.Nano() }
func changed(st *syscall.Stat_t) int64  { return st.Ctimespec.Nano() }
