//go:build !linux

package main

import (
	"context"
	"syscall"

	"github.com/pannier/pannier/engine/node/nodetest"
	"github.com/pannier/pannier/spec/fault"
)

// roleCage is of Linux.
const roleCage = "cage"

// cage is the hold on the system calls of a process; only Linux has such.
type cage struct{}

// caged is a call that waits for an answer.
type caged struct {
	nr   int
	path string
}

var syncCalls, writeCalls []int

func newCage(string, []int, func(caged) syscall.Errno) (*cage, error) {
	return nil, cannot{cageRole(nil)}
}

func (*cage) close() error                                { return nil }
func (*cage) start(context.Context, *nodetest.Node) error { return nil }

func cageRole([]string) error {
	return fault.New("enter cage", fault.Unsupported, "deciding about the calls of a process needs Linux")
}

func (*cage) hold(do func()) { do() }
