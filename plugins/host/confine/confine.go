// Package confine starts a program with limits that hold before its first instruction. Go
// cannot set them between fork and exec: this very program is started instead, whose
// init here limits itself, and becomes the other one. Only the standard library is
// imported, so that this comes before all else.
package confine

// Limits are of one process, and of each that it starts. What the host itself has not is
// not given: the smaller of both counts. No process leaves a core.
type Limits struct {
	Memory int64 // bytes of private memory that can be written to; 0: no limit
	Files  int64 // open descriptors; 0: as the host
}

// argument is the first of a process that is to become another.
const argument = "limited-plugin"

// forbidden is the code that one exits with which could not.
const forbidden = 126
