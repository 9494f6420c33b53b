package flowtest

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// OpenPTY makes a pseudo-terminal: its master, and the path of its device.
func OpenPTY() (master *os.File, path string, err error) {
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, "", err
	}
	n := 0
	if err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err == nil {
		n, err = unix.IoctlGetInt(fd, unix.TIOCGPTN)
	}
	if err != nil {
		return nil, "", errors.Join(err, unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), "/dev/ptmx"), fmt.Sprint("/dev/pts/", n), nil
}

// NullModem is two pseudo-terminals joined as a cable joins two serial ports: what
// is written to one device is read from the other, and neither learns whether anybody has the
// other one open. Its two goroutines end with Close.
type NullModem struct {
	Near, Far string // paths of the devices

	files []*os.File
	wg    sync.WaitGroup
}

// NewNullModem makes a NullModem.
func NewNullModem() (*NullModem, error) {
	m := &NullModem{}
	var masters [2]*os.File
	for i, path := range []*string{&m.Near, &m.Far} {
		master, name, err := OpenPTY()
		if err != nil {
			return nil, errors.Join(err, m.Close())
		}
		masters[i], *path = master, name
		m.files = append(m.files, master)
		if err := m.hold(name); err != nil {
			return nil, errors.Join(err, m.Close())
		}
	}
	for i := range masters {
		m.wg.Go(func() { _, _ = io.Copy(masters[i], masters[1-i]) })
	}
	return m, nil
}

// hold keeps a device open and raw: reading the master of one that nobody has open fails.
func (m *NullModem) hold(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	m.files = append(m.files, f)
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	cerr := raw.Control(func(fd uintptr) { _, err = term.MakeRaw(int(fd)) })
	return errors.Join(cerr, err)
}

// Close ends the line and waits for its goroutines.
func (m *NullModem) Close() error {
	var err error
	for _, f := range m.files {
		err = errors.Join(err, f.Close())
	}
	m.wg.Wait()
	return err
}
