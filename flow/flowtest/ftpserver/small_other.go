//go:build !linux

package ftpserver

import "errors"

func mount(string, int64, bool) error { return errors.ErrUnsupported }
func unmount(string) error            { return errors.ErrUnsupported }
