package carrier

import (
	"errors"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/pannier/pannier/spec/fault"
)

// bauds are the speeds that Linux has a name for.
var bauds = map[int]uint32{
	1200: unix.B1200, 2400: unix.B2400, 4800: unix.B4800, 9600: unix.B9600, 19200: unix.B19200, 38400: unix.B38400,
	57600: unix.B57600, 115200: unix.B115200, 230400: unix.B230400, 460800: unix.B460800, 500000: unix.B500000,
	576000: unix.B576000, 921600: unix.B921600, 1000000: unix.B1000000, 1152000: unix.B1152000, 1500000: unix.B1500000,
	2000000: unix.B2000000, 2500000: unix.B2500000, 3000000: unix.B3000000, 3500000: unix.B3500000, 4000000: unix.B4000000,
}

// openTTY opens a terminal device for this connection alone and makes it raw:
// every byte passes, none is a signal or a line end. What is in its queues is thrown
// away. Close sets it as it was.
func openTTY(a Address) (*fileConn, error) {
	f, err := openFile(a.Path, unix.O_RDWR, unix.S_IFCHR, true)
	if err != nil {
		return nil, err
	}
	var before *unix.Termios
	err = control(f, func(fd int) error {
		if before, err = unix.IoctlGetTermios(fd, unix.TCGETS); err != nil {
			return fault.New("open tty", fault.Invalid, "%s is not a terminal device: %w", a.Path, err)
		}
		return setRaw(fd, a.Baud)
	})
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	c, err := newFileConn(f, f, a)
	if err == nil {
		c.restore = func() error { return restoreTTY(f, before) }
	}
	return c, err
}

func restoreTTY(f *os.File, before *unix.Termios) error {
	return control(f, func(fd int) error {
		err := unix.IoctlSetTermios(fd, unix.TCSETS, before)
		if errors.Is(err, unix.EIO) {
			return nil // the other end of a pseudo-terminal has gone, and its settings with it
		}
		return err
	})
}

func setRaw(fd, baud int) error {
	if _, err := term.MakeRaw(fd); err != nil {
		return err
	}
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return err
	}
	t.Cflag |= unix.CLOCAL | unix.CREAD // no modem's leave is asked
	if baud != 0 {
		b, ok := bauds[baud]
		if !ok {
			return fault.New("open tty", fault.Invalid, "this system does not know %s bits a second; usual are 9600, 115200 and 921600", strconv.Itoa(baud))
		}
		t.Cflag = t.Cflag&^unix.CBAUD | b
	}
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, t); err != nil {
		return err
	}
	return unix.IoctlSetInt(fd, unix.TCFLSH, unix.TCIOFLUSH)
}
