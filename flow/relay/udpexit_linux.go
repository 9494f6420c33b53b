package relay

import "syscall"

func init() { earlier = append(earlier, syscall.ENONET) }
