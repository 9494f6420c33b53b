package notefile

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Lock waits, at most so long, until no process has the file, as bbolt has it: false, it is in use. It is let
// go of when f is closed.
func Lock(f *os.File, wait time.Duration) (bool, error) {
	for end := time.Now().Add(wait); ; time.Sleep(wait / 20) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil || err != unix.EWOULDBLOCK && err != unix.EINTR {
			return err == nil, err
		}
		if time.Now().After(end) {
			return false, nil
		}
	}
}
