package main

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pannier/pannier/plugins/plugintest"
	"github.com/pannier/pannier/spec/fault"
)

// cutConnections ends the connections over a network that a process has, as if its server had gone
// away: each of its sockets is taken over for a moment and shut down.
func cutConnections(pid int) error {
	process, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return fault.Wrap("cut connections", strconv.Itoa(pid), err)
	}
	defer unix.Close(process)
	entries, err := os.ReadDir("/proc/" + strconv.Itoa(pid) + "/fd")
	if err != nil {
		return fault.Wrap("cut connections", strconv.Itoa(pid), err)
	}
	cut := 0
	for _, e := range entries {
		number, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		link, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/fd/" + e.Name())
		if err != nil || !strings.HasPrefix(link, "socket:") { // closed meanwhile, or another thing
			continue
		}
		switch shut, err := shutTCP(process, number); {
		case err == unix.EPERM || err == unix.ENOSYS:
			return plugintest.Skip("this system does not let one process end another's connections: " + err.Error())
		case shut:
			cut++
		}
	}
	if cut == 0 {
		return plugintest.Skip("the plugin's process has no connections over a network")
	}
	return nil
}

// shutTCP shuts down the socket that another process has by that number, if it is a connection of
// TCP.
func shutTCP(process, number int) (shut bool, err error) {
	fd, err := unix.PidfdGetfd(process, number, 0)
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil || domain != unix.AF_INET && domain != unix.AF_INET6 {
		return false, err
	}
	return unix.Shutdown(fd, unix.SHUT_RDWR) == nil, nil // one that listens, or is not connected, has no other end
}
