//go:build !linux

package disks

import (
	"context"

	"github.com/pannier/pannier/spec/fault"
)

// A Disk is a file system whose power can be cut; only Linux has such.
type Disk struct{ At string }

func New(context.Context, string, string) (*Disk, error) {
	return nil, fault.New("make file system", fault.Unsupported, "cutting the power of a file system needs Linux")
}

func (*Disk) Cut() error    { return nil }
func (*Disk) Again() error  { return nil }
func (*Disk) Sync() error   { return nil }
func (*Disk) Remove() error { return nil }

func Small(string, int) (func() error, error) {
	return nil, fault.New("mount a small disk", fault.Unsupported, "it needs Linux")
}
