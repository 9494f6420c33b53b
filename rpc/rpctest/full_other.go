//go:build !linux

package rpctest

import "golang.org/x/sys/unix"

func mountTmpfs(string) error { return unix.ENOTSUP }
