//go:build !linux

package flowtest

import "errors"

// SmallMount is of Linux.
func SmallMount(string, int64) error { return errors.ErrUnsupported }

// ResizeSmall is of Linux.
func ResizeSmall(string, int64) error { return errors.ErrUnsupported }

// ReadOnlySmall is of Linux.
func ReadOnlySmall(string, int64) error { return errors.ErrUnsupported }

// Unmount is of Linux.
func Unmount(string) error { return errors.ErrUnsupported }
