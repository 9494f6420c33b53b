//go:build !linux

package flow

// idlers watches nothing here: a goroutine waits for each connection.
var idlers watch

type watch struct{}

func (*watch) watch(*Collection) bool { return false }
func (*watch) forget(*Collection)     {}
