//go:build !linux

package main

import (
	"context"

	"github.com/pannier/pannier/spec/fault"
)

// image is a file system whose power can be cut; only Linux has such.
type image struct{ at string }

func newImage(context.Context, string, string) (*image, error) {
	return nil, fault.New("make file system", fault.Unsupported, "cutting the power of a file system needs Linux")
}

func (*image) cut() error    { return nil }
func (*image) again() error  { return nil }
func (*image) sync() error   { return nil }
func (*image) remove() error { return nil }

func smallMount(string) (func() error, error) {
	return nil, fault.New("mount a small disk", fault.Unsupported, "it needs Linux")
}
