package channel

import (
	"errors"
	"io"
	"net"

	"golang.org/x/sys/unix"

	"github.com/pannier/pannier/spec/fault"
)

// Shares says whether this system has memory that can be shared.
const Shares = true

// offer makes memory, and hands it over; if there is none to be had, it says that.
func offer(conn *net.UnixConn) ([]byte, error) {
	var b []byte
	var rights []byte
	if fd, err := sealed(); err == nil {
		defer unix.Close(fd)
		if b, err = mapped(fd); err == nil {
			rights = unix.UnixRights(fd)
		}
	}
	_, _, err := conn.WriteMsgUnix([]byte{0}, rights, nil)
	if errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) { // the bytes that came were all
		err = nil
	}
	return b, err
}

// sealed makes the memory. Nobody makes it smaller any more, which would end every process that
// reads it; and it is there, so that to touch it does not fail.
func sealed() (int, error) {
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate("pannier channel", flags|unix.MFD_NOEXEC_SEAL)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3
		fd, err = unix.MemfdCreate("pannier channel", flags)
	}
	if err != nil {
		return -1, err
	}
	if err = unix.Fallocate(fd, 0, 0, Size); err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func mapped(fd int) ([]byte, error) {
	return unix.Mmap(fd, 0, Size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
}

func unmap(b []byte) { _ = unix.Munmap(b) }

// accept takes memory that comes next on the connection.
func accept(conn *net.UnixConn) ([]byte, error) {
	var one [1]byte
	rights := make([]byte, unix.CmsgSpace(4))
	n, oobn, _, _, err := conn.ReadMsgUnix(one[:], rights)
	switch {
	case err != nil:
		return nil, ended(err)
	case n == 0:
		return nil, io.EOF
	case oobn == 0:
		return nil, nil
	}
	fds, err := descriptors(rights[:oobn])
	for _, fd := range fds {
		defer unix.Close(fd)
	}
	var s unix.Stat_t
	switch {
	case err != nil:
		return nil, err
	case len(fds) != 1 || unix.Fstat(fds[0], &s) != nil || s.Size != Size:
		return nil, fault.New("channel", fault.Protocol, "what has come is no memory of %d bytes", Size)
	}
	return mapped(fds[0])
}

func descriptors(rights []byte) (fds []int, err error) {
	messages, err := unix.ParseSocketControlMessage(rights)
	for _, m := range messages {
		more, _ := unix.ParseUnixRights(&m)
		fds = append(fds, more...)
	}
	return fds, err
}
