//go:build !linux

package carrier

import "github.com/pannier/pannier/spec/fault"

func openTTY(a Address) (*fileConn, error) {
	return nil, fault.New("open tty", fault.Unsupported, "terminal devices are set up on Linux only; set %s raw and use fifo://%s", a.Path, a.Path)
}
