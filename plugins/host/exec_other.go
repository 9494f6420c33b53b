//go:build !linux

package host

import "os"

// self is this program.
var self = func() string { p, _ := os.Executable(); return p }()

// selfIsFixed is not so: the path may lead to another file now.
const selfIsFixed = false

// execPath is the path: this system cannot execute what is open.
func execPath(_ uintptr, path string) string { return path }
