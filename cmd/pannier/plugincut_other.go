//go:build !linux

package main

import "github.com/pannier/pannier/plugins/plugintest"

// cutConnections is for systems that have pidfd_getfd.
func cutConnections(int) error {
	return plugintest.Skip("this system does not let one process end another's connections")
}
