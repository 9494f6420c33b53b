package rpctest

import "golang.org/x/sys/unix"

// tmpfsSize is the room of the file system that FaultFull fills, in bytes.
const tmpfsSize = "size=8m"

func mountTmpfs(dir string) error { return unix.Mount("tmpfs", dir, "tmpfs", 0, tmpfsSize) }
